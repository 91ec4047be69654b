"""Profiles of devices against Aer's own noise models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ParameterVector
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import SparsePauliOp, SuperOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel
from qiskit_aer.noise.device.models import basic_device_gate_errors
from qiskit_ibm_runtime.fake_provider import FakeManilaV2, FakeNighthawk, FakeTorino

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.noise.aer_model import aer_error, aer_noise_model
from qhybrid.engines.noise.readout import noisy_observable
from qhybrid.errors import ConfigError, EngineError
from qhybrid.noise import NoiseProfile

LETTERS = ("ZIIII", "IXIII", "IIYII", "IZIZI", "XIIIY")


def small_target(target, wanted):
    """The gates of a target on some qubits: Aer's model of a whole device takes many seconds."""
    kept = {}
    for name in ("cz", "sx", "x", "id", "rz"):
        kept[name] = {q: p for q, p in target[name].items() if set(q) <= set(wanted)}
    small = type(target)(num_qubits=target.num_qubits, dt=target.dt, qubit_properties=target.qubit_properties)
    for name, places in kept.items():
        small.add_instruction(target.operation_from_name(name), places, name=name)
    return small


def isa_spec(backend, seed=0, **options):
    """A parametric circuit on 5 qubits, transpiled, with reads in all bases."""
    rng = np.random.default_rng(seed)
    inputs, weights = ParameterVector("x", 3), ParameterVector("w", 2)
    circuit = QuantumCircuit(5)
    for angle, qubit in zip([*inputs, *weights], (0, 1, 2, 3, 4)):
        circuit.ry(angle, qubit)
        circuit.rx(float(rng.normal()), qubit)
    for pair in ((0, 1), (1, 3), (2, 4), (0, 3)):
        circuit.cx(*pair)
        circuit.rz(weights[0] + 0.3, pair[1])
        circuit.sx(pair[1])
    routed = transpile(circuit, backend, seed_transpiler=seed, optimization_level=1, **options)
    observables = [SparsePauliOp(letters).apply_layout(routed.layout) for letters in LETTERS]
    return CircuitSpec.from_circuit(routed, list(inputs), list(weights), observables, layout_applied=True)


def arguments(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, generator=generator, dtype=torch.float64), torch.randn(
        2, generator=generator, dtype=torch.float64
    )


def aers_own(spec, model, observables, inputs, weights):
    """Expectation values of Aer's density matrix under a given noise model."""
    rows = []
    for row in inputs.numpy():
        values = dict(zip([*spec.input_params, *spec.weight_params], [*row, *weights.numpy()]))
        circuit = spec.circuit.assign_parameters(values)
        circuit.save_density_matrix()
        simulator = AerSimulator(method="density_matrix", noise_model=model)
        state = simulator.run(circuit, optimization_level=0).result().data()["density_matrix"]
        rows.append([state.expectation_value(observable).real for observable in observables])
    return np.array(rows)


def test_values_equal_aers_from_backend():
    backend = FakeManilaV2()
    profile, spec, (inputs, weights) = NoiseProfile.from_backend(backend), isa_spec(backend), arguments()
    observables = [noisy_observable(observable, profile) for observable in spec.observables]
    expected = aers_own(spec, NoiseModel.from_backend(backend), observables, inputs, weights)
    for engine in (
        make_engine("exact", noise=profile),
        make_engine("aer", noise=profile, method="density_matrix"),
    ):
        found = engine.expectations(spec, inputs, weights)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)
    ideal = make_engine("exact").expectations(spec, inputs, weights)
    assert np.abs(ideal.numpy() - expected).max() > 1e-2


@pytest.mark.parametrize(
    ("backend", "qubits"),
    [(FakeTorino, (15, 19, 20, 21, 34, 0, 1)), (FakeNighthawk, (0, 1, 2, 10, 11))],
)
def test_every_channel_equals_aers(backend, qubits):
    backend = backend()
    profile = NoiseProfile.from_backend(backend)
    errors = basic_device_gate_errors(target=small_target(backend.target, qubits))
    assert len(errors) > 20
    for name, places, error in errors:
        ours = SuperOp(aer_error(profile.gate_error(name, tuple(places))))
        np.testing.assert_allclose(ours.data, SuperOp(error).data, atol=1e-9, err_msg=f"{name} {places}")
    named = {(name, tuple(places)) for name, places, _ in errors}
    assert not any(name == "rz" for name, _ in named)
    assert profile.gate_error("rz", (qubits[0],)).ideal


def test_dead_and_slow_gates_stay_physical():
    profile = NoiseProfile.from_backend("fake_torino")
    assert profile.gate_error("cz", (15, 19)).p == pytest.approx(16 / 15, abs=1e-3)
    assert profile.gate_error("cz", (19, 15)).p == profile.gate_error("cz", (15, 19)).p
    assert all(noise.t2_us <= 2 * noise.t1_us for noise in profile.qubits.values())


def test_readout_errors_equal_aers():
    backend = FakeManilaV2()
    own = NoiseProfile.from_backend(backend)
    report = NoiseModel.from_backend_properties(backend.properties())._local_readout_errors
    mean = NoiseModel.from_backend(backend)._local_readout_errors
    symmetric = NoiseProfile.from_backend(backend, symmetric_readout=True)
    for qubit in range(5):
        for profile, model in ((own, report), (symmetric, mean)):
            (_, p10), (p01, _) = model[(qubit,)].probabilities
            assert profile.readout(qubit) == pytest.approx((p01, p10), abs=1e-9)


def test_compiled_model_has_aers_readout():
    profile = NoiseProfile.from_backend("fake_manila").restrict([1, 2])
    circuit = QuantumCircuit(2)
    circuit.sx(0)
    model = aer_noise_model(profile, circuit)
    p01, p10 = profile.readout(1)
    np.testing.assert_allclose(
        model._local_readout_errors[(1,)].probabilities, [[1 - p10, p10], [p01, 1 - p01]]
    )


def test_idle_noise_equals_aers_delays():
    backend = FakeManilaV2()
    plain, (inputs, weights) = isa_spec(backend, seed=3), arguments(3)
    profile = NoiseProfile.from_backend(backend).model_copy(update={"idle": "scheduled"})
    delayed = isa_spec(backend, seed=3, scheduling_method="alap")
    assert "delay" in delayed.circuit.count_ops()
    observables = [noisy_observable(observable, profile) for observable in delayed.observables]
    expected = aers_own(delayed, NoiseModel.from_backend(backend), observables, inputs, weights)
    for engine in (
        make_engine("exact", noise=profile),
        make_engine("aer", noise=profile, method="density_matrix"),
    ):
        found = engine.expectations(plain, inputs, weights)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)
    still = profile.model_copy(update={"idle": "none"})
    without = make_engine("exact", noise=still).expectations(plain, inputs, weights)
    assert np.abs(without.numpy() - expected).max() > 1e-4


def test_devices_with_unlike_one_qubit_gates():
    profile = NoiseProfile.from_backend(GenericBackendV2(3, seed=4))
    backend = GenericBackendV2(3, seed=4)
    for name, places, error in basic_device_gate_errors(target=backend.target):
        if name in ("sx", "x", "cx"):
            ours = SuperOp(aer_error(profile.gate_error(name, tuple(places))))
            np.testing.assert_allclose(ours.data, SuperOp(error).data, atol=1e-9)


@pytest.mark.parametrize(
    ("append", "message"),
    [
        (lambda circuit: circuit.ry(0.1, 0), "gate `ry` on qubit\\(s\\) 0"),
        (lambda circuit: circuit.cx(0, 2), "gate `cx` on qubit\\(s\\) 0, 2"),
        (lambda circuit: circuit.sx(5), "gate `sx` on qubit\\(s\\) 5"),
    ],
)
@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_gates_that_the_device_does_not_have_are_refused(append, message, kind):
    circuit = QuantumCircuit(6)
    append(circuit)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("IIIIIZ"))
    options = {} if kind == "exact" else {"method": "density_matrix"}
    engine = make_engine(kind, noise=NoiseProfile.from_backend("fake_manila"), **options)
    with pytest.raises(EngineError, match=message + ".*transpile"):
        engine.expectations(spec, torch.zeros(1, 0), torch.zeros(0))


def test_reading_a_qubit_that_the_device_does_not_have_is_refused():
    spec = CircuitSpec.from_circuit(QuantumCircuit(6), [], [], SparsePauliOp("ZIIIII"))
    engine = make_engine("exact", noise=NoiseProfile.from_backend("fake_manila"))
    with pytest.raises(EngineError, match="read-out on qubit\\(s\\) 5"):
        engine.expectations(spec, torch.zeros(1, 0), torch.zeros(0))


def test_unknown_devices_are_refused():
    with pytest.raises(ConfigError, match="fake_torino"):
        NoiseProfile.from_backend("fake_torio")
