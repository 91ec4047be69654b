"""Noise rates as tensors: values against fixed profiles, gradients against closed forms and differences."""

from __future__ import annotations

import engine_cases as cases
import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError, EngineError
from qhybrid.noise import NoiseProfile

F64 = torch.float64
FULL = NoiseProfile(
    p_1q=0.02,
    p_2q=0.05,
    t1_us=50,
    gate_1q_ns=3000,
    gate_2q_ns=9000,
    readout_p01=0.08,
    readout_p10=0.03,
    qubits={1: {"p_1q": 0.1, "t1_us": 20, "t2_us": 10, "readout_p01": 0.2}},
    gates={"rz": {"p": 0.0, "ns": 0.0}, "cx": {"p": 0.2}, "cx 0 1": {"p": 0.3}},
)
NAMES = (
    "p_1q",
    "p_2q",
    "t1_us",
    "readout_p01",
    "readout_p10",
    "qubits.1.p_1q",
    "qubits.1.t1_us",
    "qubits.1.t2_us",
    "gates.cx.p",
    "gates.cx 0 1.p",
)


def value_of(profile, name):
    section, _, rest = name.partition(".")
    key, _, field = rest.rpartition(".")
    if not rest:
        return getattr(profile, name)
    return getattr(getattr(profile, section)[int(key) if key.isdecimal() else key], field)


def with_value(profile, name, value):
    section, _, rest = name.partition(".")
    key, _, field = rest.rpartition(".")
    content = profile.model_dump(exclude_unset=True)
    place = content if not rest else content[section][int(key) if key.isdecimal() else key]
    place[field or name] = value
    return NoiseProfile(**content)


def rates_of(profile, names):
    return {name: torch.tensor(value_of(profile, name), dtype=F64, requires_grad=True) for name in names}


def arguments(spec, batch=2):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(batch, spec.num_inputs, dtype=F64, generator=generator)
    return inputs, torch.randn(spec.num_weights, dtype=F64, generator=generator)


@settings(deadline=None, max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(spec=cases.specs(max_qubits=3, max_gates=8, flat=True))
def test_rates_at_the_profiles_values_change_nothing(spec):
    inputs, weights = arguments(spec)
    names = [name for name in NAMES if "cx 0" not in name or spec.num_qubits > 1]
    engine = make_engine("exact", noise=FULL)
    found = engine.expectations(spec, inputs, weights, rates=rates_of(FULL, names))
    torch.testing.assert_close(found, engine.expectations(spec, inputs, weights), atol=1e-12, rtol=0)


@pytest.mark.parametrize("p", [0.0, 0.1, 1.0])
def test_closed_form_of_depolarizing_noise(p):
    """x gates on |0>: <Z> = -(1 - p), then (1 - p)^2, so the slopes are 1 and -2 (1 - p)."""
    for count, value, slope in ((1, -(1 - p), 1.0), (2, (1 - p) ** 2, -2 * (1 - p))):
        circuit = QuantumCircuit(1)
        for _ in range(count):
            circuit.x(0)
        spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("Z"))
        rates = {"p_1q": torch.tensor(p, dtype=F64, requires_grad=True)}
        engine = make_engine("exact", noise=NoiseProfile())
        found = engine.expectations(spec, torch.zeros(1, 0, dtype=F64), torch.zeros(0), rates=rates)
        assert found.item() == pytest.approx(value, abs=1e-12)
        found.sum().backward()
        assert rates["p_1q"].grad.item() == pytest.approx(slope, abs=1e-12)


def test_closed_form_of_relaxation_and_read_out():
    """After x and t = 3 us: <Z> = 1 - 2 exp(-t / T1), read as (1 - p01 - p10) <Z> + p01 - p10."""
    circuit = QuantumCircuit(1)
    circuit.x(0)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("Z"))
    profile = NoiseProfile(t1_us=7.0, gate_1q_ns=3000, readout_p01=0.1, readout_p10=0.05)
    rates = rates_of(profile, ["t1_us", "readout_p01", "readout_p10"])
    found = make_engine("exact", noise=profile).expectations(
        spec, torch.zeros(1, 0, dtype=F64), torch.zeros(0), rates=rates
    )
    z = 1 - 2 * np.exp(-3 / 7)
    assert found.item() == pytest.approx(0.85 * z + 0.05)
    found.sum().backward()
    assert rates["t1_us"].grad.item() == pytest.approx(0.85 * -2 * np.exp(-3 / 7) * 3 / 49)
    assert rates["readout_p01"].grad.item() == pytest.approx(1 - z)
    assert rates["readout_p10"].grad.item() == pytest.approx(-1 - z)


def small_circuit():
    """Two qubits, gates of all kinds that the profile knows, read in X, Y and Z."""
    circuit = QuantumCircuit(2)
    circuit.rx(0.7, 0)
    circuit.ry(1.1, 1)
    circuit.cx(0, 1)
    circuit.rz(0.4, 1)
    circuit.cz(0, 1)
    circuit.cx(1, 0)
    observables = [SparsePauliOp("ZI"), SparsePauliOp(["XY", "IZ"], [0.5, 2.0])]
    return CircuitSpec.from_circuit(circuit, [], [], observables)


@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_gradients_agree_with_differences_of_profiles(kind):
    """The reference moves a number in the profile itself; Aer's is the density matrix."""
    options = {"method": "density_matrix"} if kind == "aer" else {}
    spec = small_circuit()
    nothing = torch.zeros(1, 0, dtype=F64), torch.zeros(0, dtype=F64)
    rates = rates_of(FULL, NAMES)
    found = make_engine("exact", noise=FULL).expectations(spec, *nothing, rates=rates)
    slopes = torch.autograd.grad(found.sum(), list(rates.values()))
    assert all(slope != 0.0 for slope in slopes)
    chosen = NAMES if kind == "exact" else ("p_2q", "readout_p01", "qubits.1.t1_us")
    for name, slope in zip(NAMES, slopes):
        if name not in chosen:
            continue
        middle = value_of(FULL, name)
        step = 1e-5 * max(1.0, middle)
        up, down = (
            make_engine(kind, noise=with_value(FULL, name, middle + move), **options)
            .expectations(spec, *nothing)
            .sum()
            for move in (step, -step)
        )
        assert slope.item() == pytest.approx((up - down).item() / (2 * step), rel=1e-5, abs=1e-7), name


def test_inputs_weights_and_rates_have_gradients_together():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = (tensor.requires_grad_() for tensor in arguments(spec))
    rate = torch.tensor(0.05, dtype=F64, requires_grad=True)
    engine = make_engine("exact", noise=NoiseProfile())
    assert torch.autograd.gradcheck(
        lambda x, w, p: engine.expectations(spec, x, w, rates={"p_2q": p})[:, :2], (inputs, weights, rate)
    )
    plain = make_engine("exact", noise=NoiseProfile.depolarizing(p_2q=0.05)).expectations(
        spec, inputs, weights
    )
    found = engine.expectations(spec, inputs, weights, rates={"p_2q": rate})
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), [inputs, weights]) for y in (plain, found))):
        torch.testing.assert_close(a, b)


def test_second_derivatives_and_functional_transforms():
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.cx(0, 1)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("ZI"))
    engine = make_engine("exact", noise=NoiseProfile())
    none = torch.zeros(1, 0, dtype=F64), torch.zeros(0, dtype=F64)

    def value(p):
        return engine.expectations(spec, *none, rates={"p_1q": p[0], "p_2q": p[1]})[0, 0]

    p = torch.tensor([0.1, 0.2], dtype=F64)
    assert value(p).item() == pytest.approx(-0.9 * 0.8)
    torch.testing.assert_close(torch.func.grad(value)(p), torch.tensor([0.8, 0.9], dtype=F64))
    hessian = torch.func.hessian(value)(p)
    torch.testing.assert_close(hessian, torch.tensor([[0.0, -1.0], [-1.0, 0.0]], dtype=F64))
    mapped = torch.func.vmap(value)(torch.stack([p, 2 * p]))
    torch.testing.assert_close(mapped, torch.tensor([-0.72, -0.8 * 0.6], dtype=F64))


def test_rates_without_effect_have_zero_gradient():
    spec = CircuitSpec.from_circuit(QuantumCircuit(1), [], [], SparsePauliOp("Z"))
    rate = torch.tensor(0.1, dtype=F64, requires_grad=True)
    found = make_engine("exact", noise=NoiseProfile()).expectations(
        spec, torch.zeros(2, 0, dtype=F64), torch.zeros(0), rates={"p_2q": rate}
    )
    torch.testing.assert_close(found, torch.ones(2, 1, dtype=F64))
    (slope,) = torch.autograd.grad(found.sum(), rate, allow_unused=True, materialize_grads=True)
    assert slope.item() == 0.0


@pytest.mark.parametrize(
    ("noise", "options", "rates", "error", "message"),
    [
        (None, {}, {"p_1q": 0.1}, EngineError, "has none"),
        (FULL, {"shots": 10}, {"p_1q": 0.1}, EngineError, "exact values"),
        (FULL, {"method": "statevector"}, {"p_1q": 0.1}, EngineError, "statevector"),
        (FULL, {}, {"gate_1q_ns": 0.1}, EngineError, "gate_1q_ns"),
        (FULL, {}, {"qubits.7.p_1q": 0.1}, EngineError, "sections"),
        (FULL, {}, {"gates.cz.p": 0.1}, EngineError, "sections"),
        (FULL, {}, {"name": 0.1}, EngineError, "must name rates"),
        (FULL, {}, {"p_1q": -0.1}, ConfigError, "p_1q"),
        (FULL, {}, {"qubits.1.t2_us": 50.0}, ConfigError, "2 \\* t1_us"),
    ],
)
def test_bad_rates_are_refused(noise, options, rates, error, message):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    engine = make_engine("exact", noise=noise, **options)
    tensors = {name: torch.tensor(value, dtype=F64) for name, value in rates.items()}
    with pytest.raises(error, match=message):
        engine.expectations(spec, *arguments(spec), rates=tensors)


@pytest.mark.parametrize("rate", [0.1, torch.tensor([0.1]), torch.tensor(1)])
def test_rates_must_be_numbers_in_tensors(rate):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    with pytest.raises(EngineError, match="without dimensions"):
        make_engine("exact", noise=FULL).expectations(spec, *arguments(spec), rates={"p_1q": rate})
