"""Density matrices in the compiled library against Kraus operators by hand and the network."""

from __future__ import annotations

import channel_cases as cases
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.library import iSwapGate
from qiskit.quantum_info import Operator, SparsePauliOp, random_unitary

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.exact.density.estimate import carries_strings, padded
from qhybrid.engines.exact.density.forms import forms_of, permutation_of
from qhybrid.engines.exact.density.plan import plan_density, tables
from qhybrid.engines.exact.light_cone import pauli_terms
from qhybrid.engines.exact.native import library
from qhybrid.engines.gates.pauli_transfer import transfer_matrix
from qhybrid.engines.lowering import lower
from qhybrid.errors import EngineError
from qhybrid.noise import ChannelNoise, NoiseProfile

pytestmark = pytest.mark.skipif(
    library.kernels().library is None, reason=f"no compiled kernels: {library.kernels().reason}"
)
F64 = torch.float64
PROFILES = {
    "depolarizing": NoiseProfile(p_1q=0.02, p_2q=0.05),
    "relaxation": NoiseProfile(
        p_1q=0.01, p_2q=0.03, t1_us=20.0, t2_us=15.0, gate_1q_ns=400.0, gate_2q_ns=900.0
    ),
    "read-out": NoiseProfile(p_1q=0.01, p_2q=0.02, readout_p01=0.04, readout_p10=0.01),
}
LETTERS = ["X", "Y", "Z"]


def random_spec(seed: int, qubits: int, upload: bool) -> CircuitSpec:
    """Layers of all kinds of gates with one form or another; data in front, or everywhere."""
    rng = np.random.default_rng(seed)
    x, w = ParameterVector("x", qubits), ParameterVector("w", 4)
    circuit = QuantumCircuit(qubits)
    for qubit in range(qubits):
        circuit.ry(x[qubit], qubit)
    for layer in range(3):
        for qubit in range(qubits):
            angle = x[qubit] * x[0] if upload and rng.random() < 0.5 else 2 * w[int(rng.integers(4))] - 0.3
            getattr(circuit, str(rng.choice(["rx", "ry", "rz"])))(angle, qubit)
        for _ in range(qubits):
            first, second = (int(q) for q in rng.choice(qubits, 2, replace=False))
            kind = str(rng.choice(["cx", "cz", "ecr", "swap", "rzz", "rxx", "rzx", "iswap", "unitary"]))
            if kind == "iswap":
                circuit.append(iSwapGate(), [first, second])
            elif kind == "unitary":
                circuit.unitary(random_unitary(4, seed=seed + layer), [first, second])
            elif kind.startswith("r"):
                getattr(circuit, kind)(w[layer], first, second)
            else:
                getattr(circuit, kind)(first, second)
    observables = [
        SparsePauliOp.from_sparse_list([(str(rng.choice(LETTERS)), [q], 1.0)], qubits) for q in range(qubits)
    ]
    observables.append(SparsePauliOp.from_sparse_list([("XZ", [0, 1], 0.5), ("", [], 2.0)], qubits))
    return CircuitSpec.from_circuit(circuit, list(x), list(w), observables)


def arguments(spec: CircuitSpec, batch: int, dtype=F64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(batch, spec.num_inputs, dtype=F64, generator=generator)
    return [inputs.to(dtype), torch.randn(spec.num_weights, dtype=F64, generator=generator).to(dtype)]


def value_and_gradients(spec, noise, method, batch, dtype=F64):
    leaves = [one.requires_grad_() for one in arguments(spec, batch, dtype)]
    engine = make_engine("exact", noise=noise, method=method)
    values = engine.expectations(spec, *leaves)
    factors = torch.linspace(0.3, 1.7, values.numel(), dtype=dtype).reshape(values.shape)
    return values.detach(), *torch.autograd.grad(
        (values * factors).sum(), leaves, allow_unused=True, materialize_grads=True
    )


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(2, 4), st.booleans(), st.integers(1, 11), st.sampled_from([*PROFILES])
)
def test_any_circuit_has_the_networks_values_and_gradients(seed, qubits, upload, batch, profile):
    spec = random_spec(seed, qubits, upload)
    noise = PROFILES[profile]
    wanted = value_and_gradients(spec, noise, "network", batch)
    for found, right in zip(value_and_gradients(spec, noise, "density", batch), wanted):
        torch.testing.assert_close(found, right, atol=1e-10, rtol=1e-10)


def fixed_gates(turn):
    """Two layers of gates, of which one depends on a weight or on data that no value may depend on."""
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(3)
    for qubit in range(3):
        circuit.h(qubit)
    circuit.cx(0, 1)
    circuit.ry(0.3, 1)
    circuit.ry({"none": 0.2, "weight": w, "input": x}[turn], 0)
    circuit.cx(1, 2)
    circuit.cx(0, 1)
    return CircuitSpec.from_circuit(circuit, [x], [w], ["ZII", "IXX", "ZZI"])


@pytest.mark.parametrize("turn", ["none", "weight", "input"])
@pytest.mark.parametrize("p_2q", [0.02, 1.0])
@pytest.mark.parametrize("batch", [1, 12])
def test_parameters_that_no_value_depends_on_have_slopes_of_zero(turn, p_2q, batch):
    """Depolarizing with p = 1 leaves nothing of a qubit's state."""
    spec, noise = fixed_gates(turn), NoiseProfile(p_2q=p_2q)
    wanted = value_and_gradients(spec, noise, "network", batch)
    for found, right in zip(value_and_gradients(spec, noise, "density", batch), wanted, strict=True):
        torch.testing.assert_close(found, right, atol=1e-12, rtol=0)
    inputs, weights = (one.requires_grad_() for one in arguments(spec, batch))
    make_engine("exact", noise=noise, method="density").expectations(spec, inputs, weights).sum().backward()
    assert inputs.grad is not None
    assert weights.grad is not None
    assert (turn == "none") <= (float(inputs.grad.abs().max()) == float(weights.grad.abs().max()) == 0.0)


@pytest.mark.parametrize(
    "channel", [one for _, one in cases.all_examples()], ids=[name for name, _ in cases.all_examples()]
)
def test_every_kind_of_channel_against_its_kraus_operators(channel):
    """Channels that mix strings of two qubits are refused, and only these."""
    spec = cases.small_spec()
    noise = NoiseProfile(channels=[ChannelNoise(channel=channel)], readout_p01=0.03, readout_p10=0.01)
    inputs, weights = arguments(spec, 3)
    wanted = [cases.by_hand(cases.bound(spec, row, weights), cases.LABELS, noise) for row in inputs]
    engine = make_engine("exact", noise=noise, method="density")
    mixes = 2 in channel.sizes and permutation_of(transfer_matrix(channel.kraus(2))) is None
    if mixes and 1 not in channel.sizes:
        with pytest.raises(EngineError, match="no channel on two qubits that mixes"):
            engine.expectations(spec, inputs, weights)
        return
    np.testing.assert_allclose(engine.expectations(spec, inputs, weights), wanted, atol=1e-10)


def ring(qubits: int, layers: int, upload: bool = False) -> CircuitSpec:
    x, w = ParameterVector("x", qubits), ParameterVector("w", 2 * qubits * layers)
    circuit, free = QuantumCircuit(qubits), iter(w)
    for layer in range(layers):
        for qubit in range(qubits):
            if upload or not layer:
                circuit.ry(x[qubit], qubit)
            circuit.ry(next(free), qubit)
            circuit.rz(next(free), qubit)
        for qubit in range(qubits):
            circuit.cx(qubit, (qubit + 1) % qubits)
    observables = [SparsePauliOp.from_sparse_list([("Z", [q], 1.0)], qubits) for q in range(qubits)]
    return CircuitSpec.from_circuit(circuit, list(x), list(w), observables)


@pytest.mark.parametrize("upload", [False, True])
def test_several_tiles_in_both_types(upload):
    """7 qubits: maps of a layer lie in two tiles."""
    spec, noise = ring(7, 2, upload), PROFILES["depolarizing"]
    wanted = value_and_gradients(spec, noise, "network", 5)
    for dtype, tolerance in ((F64, 1e-10), (torch.float32, 2e-5)):
        for found, right in zip(value_and_gradients(spec, noise, "density", 5, dtype), wanted):
            torch.testing.assert_close(found.to(F64), right, atol=tolerance, rtol=tolerance)


def test_wide_strings_under_readout_errors_and_idle_qubits():
    """The string of 7 letters is kept as a product of rows; qubits 7 and 8 have no gates."""
    spec = ring(7, 2)
    circuit = QuantumCircuit(9)
    circuit.compose(spec.circuit, range(7), inplace=True)
    strings = [
        ("Z" * 7, [*range(7)], 0.7),
        ("XZ", [2, 7], 1.5),
        ("Z", [8], -2.0),
        ("YX", [1, 8], 1.0),
        ("", [], 3.0),
    ]
    observables = [SparsePauliOp.from_sparse_list([string], 9) for string in strings]
    observables.append(SparsePauliOp.from_sparse_list(strings, 9))
    wide = CircuitSpec.from_circuit(circuit, spec.input_params, spec.weight_params, observables)
    for noise in PROFILES.values():
        wanted = value_and_gradients(wide, noise, "network", 3)
        for found, right in zip(value_and_gradients(wide, noise, "density", 3), wanted):
            torch.testing.assert_close(found, right, atol=1e-10, rtol=1e-10)


def test_strings_are_carried_backward_where_they_are_fewer_and_no_angle_between_is_data():
    noise = PROFILES["depolarizing"]
    for upload, batch, backward in ((False, 64, True), (False, 1, False), (True, 64, False)):
        spec = ring(6, 3, upload)
        lowered = lower(spec, noise)
        plan = plan_density(lowered, pauli_terms(spec.observables, lowered.wire_of))
        assert plan is not None
        assert carries_strings(plan, batch, 8) is backward
    assert [padded(columns, 4) for columns in (1, 4, 5, 8, 10, 13)] == [4, 4, 8, 8, 12, 16]


def test_permutations_of_all_strings_are_the_circuits_matrix():
    circuit = QuantumCircuit(3)
    for pair in ((0, 1), (2, 0), (1, 2)):
        circuit.cx(*pair)
    spec = CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp("ZZZ")])
    levels = [form for one in lower(spec).primitives for form in forms_of(one)]
    source, scale = tables(levels, 3, transposed=False)
    wanted = transfer_matrix(Operator(circuit.reverse_bits()).data)  # qubit 0 is the lowest digit
    found = np.zeros((64, 64))
    found[np.arange(64), source] = scale
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    source, scale = tables(levels, 3, transposed=True)
    back = np.zeros((64, 64))
    back[np.arange(64), source] = scale
    np.testing.assert_allclose(back, wanted.T, atol=1e-12)


def test_second_derivatives_and_transforms_are_the_networks():
    spec, noise = ring(4, 2), PROFILES["relaxation"]
    inputs, weights = arguments(spec, 2)
    results = []
    for method in ("density", "network"):
        engine = make_engine("exact", noise=noise, method=method)
        leaf = inputs.clone().requires_grad_()
        (slope,) = torch.autograd.grad(
            engine.expectations(spec, leaf, weights).sum(), leaf, create_graph=True
        )
        (second,) = torch.autograd.grad(slope.square().sum(), leaf)
        jacobian = torch.func.jacrev(lambda w, e=engine: e.expectations(spec, inputs, w))(weights)
        whole = torch.autograd.functional.jacobian(
            lambda w, e=engine: e.expectations(spec, inputs, w), weights, vectorize=True
        )
        results.append((slope.detach(), second, jacobian, whole))
    for found, right in zip(*results):
        torch.testing.assert_close(found, right, atol=1e-9, rtol=1e-9)


def test_two_graphs_at_once_and_a_kept_graph():
    """States of an earlier call are reused only once its graph is gone."""
    spec, noise = ring(4, 3), PROFILES["depolarizing"]
    engine = make_engine("exact", noise=noise, method="density")
    leaf = arguments(spec, 8)[1].requires_grad_()
    inputs = [arguments(spec, 8)[0] + shift for shift in (0.0, 0.5)]
    alone = [torch.autograd.grad(engine.expectations(spec, one, leaf).sum(), leaf)[0] for one in inputs]
    values = [engine.expectations(spec, one, leaf).sum() for one in inputs]
    for value, wanted in zip(values, alone):
        for _ in range(2):
            (found,) = torch.autograd.grad(value, leaf, retain_graph=True)
            torch.testing.assert_close(found, wanted)


def test_it_is_chosen_by_its_cost_and_refused_with_the_reason(monkeypatch):
    noise = PROFILES["depolarizing"]
    dense = make_engine("exact", noise=noise).explain(ring(7, 3), 16)
    assert {name for name, _, _ in dense.alternatives} == {"network", "density"}
    assert dense.seconds == min(seconds for _, seconds, _ in dense.alternatives)
    angle = Parameter("x")
    circuit = QuantumCircuit(2)
    circuit.ry(angle, 0)
    circuit.cx(0, 1)
    simple = CircuitSpec.from_circuit(circuit, [angle], [], [SparsePauliOp("ZI")])
    for profile, kernels in ((noise, "auto"), (None, "auto"), (noise, "torch")):
        monkeypatch.setenv("QHYBRID_KERNEL", kernels)
        engine = make_engine("exact", noise=profile, method="density")
        with pytest.raises(EngineError, match="no density matrix for it"):
            engine.expectations(simple, *arguments(simple, 1))
    monkeypatch.delenv("QHYBRID_KERNEL")
    rated = make_engine("exact", noise=noise, method="density")
    spec = ring(3, 2)
    with pytest.raises(EngineError, match="method='density'"):
        rated.expectations(spec, *arguments(spec, 1), rates={"p_1q": torch.tensor(0.1, dtype=F64)})
