from __future__ import annotations

import math
import pickle

import engine_cases as cases
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.library import RXXGate, UnitaryGate
from qiskit.quantum_info import SparsePauliOp, random_unitary

from qhybrid.circuits import CircuitSpec
from qhybrid.config import EngineConfig
from qhybrid.engines import make_engine
from qhybrid.engines.exact.mps import execute as execute_module
from qhybrid.engines.exact.mps import readout as readout_module
from qhybrid.engines.exact.mps.plan import plan_chain
from qhybrid.errors import EngineError
from qhybrid.layers import QuantumLayer
from qhybrid.noise import NoiseProfile

F64 = torch.float64


def mps(**options):
    return make_engine("exact", method="mps", **options)


def pauli(letters, qubits, size, factor=1.0):
    return SparsePauliOp.from_sparse_list([(letters, list(qubits), factor)], num_qubits=size)


def leaves(spec, batch=3, seed=0, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(batch, spec.num_inputs, dtype=dtype, generator=generator)
    weights = torch.randn(spec.num_weights, dtype=dtype, generator=generator)
    return inputs.requires_grad_(), weights.requires_grad_()


def gradients(values, arguments):
    direction = torch.linspace(1, 2, values.numel(), dtype=F64).reshape(values.shape)
    return torch.autograd.grad(
        (values.to(F64) * direction).sum(), arguments, allow_unused=True, materialize_grads=True
    )


def layered(size, layers, observables, ring=False, places=None):
    """RY(x), then layers of RY, RZ and a chain or ring of CX, with qubits in the order of `places`."""
    places = range(size) if places is None else places
    x, w = ParameterVector("x", size), ParameterVector("w", 2 * size * layers)
    circuit, angles = QuantumCircuit(size), iter(w)
    for qubit in range(size):
        circuit.ry(x[qubit], qubit)
    for _ in range(layers):
        for qubit in range(size):
            circuit.ry(next(angles), qubit)
            circuit.rz(next(angles), qubit)
        for step in range(size - 1 + ring):
            circuit.cx(places[step], places[(step + 1) % size])
    return CircuitSpec.from_circuit(circuit, list(x), list(w), observables)


def ising(size, steps, observables):
    """Trotter steps of the transverse Ising model with two trained angles."""
    a, b = Parameter("a"), Parameter("b")
    circuit = QuantumCircuit(size)
    for _ in range(steps):
        for qubit in range(size - 1):
            circuit.rzz(a, qubit, qubit + 1)
        circuit.rx(b, range(size))
    return CircuitSpec.from_circuit(circuit, [], [a, b], observables)


@settings(deadline=None, max_examples=15)
@given(spec=cases.specs(), seed=st.integers(0, 99))
def test_agrees_with_qiskit_and_its_gradient_with_the_network(spec, seed):
    arguments = leaves(spec, seed=seed)
    engine = mps()
    values = engine.expectations(spec, *arguments)
    reference = cases.statevector_values(spec, *(one.detach().numpy() for one in arguments))
    np.testing.assert_allclose(values.detach().numpy(), reference, atol=1e-10)
    assert engine.explain(spec).reason.startswith("exact")
    assert engine.last_error_bound.abs().max() == 0
    other = make_engine("exact", method="network").expectations(spec, *arguments)
    for found, expected in zip(gradients(values, arguments), gradients(other, arguments)):
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


@settings(deadline=None, max_examples=25)
@given(spec=cases.specs(max_qubits=6, max_gates=20), seed=st.integers(0, 99), bond=st.integers(1, 3))
def test_the_bound_holds_whatever_is_truncated(spec, seed, bond):
    inputs, weights = (one.detach() for one in leaves(spec, seed=seed))
    engine = mps(bond=bond, tolerance=1e9)
    values = engine.expectations(spec, inputs, weights).numpy()
    reference = cases.statevector_values(spec, inputs.numpy(), weights.numpy())
    bound = engine.last_error_bound.numpy()
    assert bound.shape == reference.shape
    assert (np.abs(values - reference) <= bound + 1e-9).all()


def test_truncation_is_noticed_and_bounded_closely():
    wide = layered(4, 3, [pauli("ZZZZ", range(4), 4)])
    inputs, weights = (one.detach() for one in leaves(wide))
    engine = mps(bond=2, tolerance=1e9)
    engine.expectations(wide, inputs, weights)
    assert (engine.last_error_bound > 1e-3).all()
    with pytest.raises(EngineError, match=r"tolerance=1e-06, but truncation to bond=2 gives .* .4 is surely"):
        mps(bond=2).expectations(wide, inputs, weights)


@pytest.mark.parametrize("size", [50, 101, 127])
def test_ghz_states_with_an_angle(size):
    """cos(t/2)|0..0> + sin(t/2)|1..1>: closed forms of value and gradient."""
    t = Parameter("t")
    circuit = QuantumCircuit(size)
    circuit.ry(t, 0)
    for qubit in range(size - 1):
        circuit.cx(qubit, qubit + 1)
    observables = [
        pauli("Z" * size, range(size), size),
        pauli("X" * size, range(size), size),
        pauli("ZZ", [0, size - 1], size),
        pauli("Y" * 2 + "X" * (size - 2), range(size), size),
        pauli("X", [3], size),
    ]
    spec = CircuitSpec.from_circuit(circuit, [t], [], observables)
    angle = torch.tensor([[0.4], [1.9]], dtype=F64, requires_grad=True)
    values = mps(bond=2).expectations(spec, angle, torch.zeros(0, dtype=F64))
    z = angle.cos() if size % 2 else torch.ones_like(angle)
    expected = torch.cat([z, angle.sin(), torch.ones_like(angle), -angle.sin(), 0 * angle], 1)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(gradients(values, [angle]), gradients(expected, [angle]))


def test_cluster_states_by_their_stabilizers():
    size = 100
    circuit = QuantumCircuit(size)
    circuit.h(range(size))
    for qubit in [*range(0, size - 1, 2), *range(1, size - 1, 2)]:
        circuit.cz(qubit, qubit + 1)
    stabilizers = [pauli("ZXZ", [q - 1, q, q + 1], size) for q in range(1, size - 1)]
    product = stabilizers[0]
    for one in stabilizers[3::3]:
        product = (product @ one).simplify()
    others = [pauli("Z" * size, range(size), size), pauli("X", [7], size)]
    spec = CircuitSpec.from_circuit(circuit, [], [], [*stabilizers, product, *others])
    values = mps(bond=2).expectations(spec, torch.zeros(1, 0, dtype=F64), torch.zeros(0, dtype=F64))
    expected = torch.tensor([[1.0] * (len(stabilizers) + 1) + [0.0, 0.0]], dtype=F64)
    torch.testing.assert_close(values, expected)


def test_read_out_errors_on_wide_strings_stay_a_product():
    size, p01, p10 = 60, 0.03, 0.01
    x = ParameterVector("x", size)
    circuit = QuantumCircuit(size)
    for qubit in range(size):
        circuit.ry(x[qubit], qubit)
    spec = CircuitSpec.from_circuit(circuit, list(x), [], [pauli("Z" * size, range(size), size)])
    angles = (0.3 * torch.rand(2, size, dtype=F64)).requires_grad_()
    noise = NoiseProfile(readout_p01=p01, readout_p10=p10)
    values = mps(noise=noise).expectations(spec, angles, torch.zeros(0, dtype=F64))
    expected = ((1 - p01 - p10) * angles.cos() + p01 - p10).prod(1, keepdim=True)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(gradients(values, [angles]), gradients(expected, [angles]))


def test_read_out_errors_agree_with_the_network():
    spec = layered(4, 2, [pauli("XYZ", [0, 2, 3], 4), pauli("ZZ", [1, 2], 4, -0.5)])
    noise = NoiseProfile(readout_p01=0.03, readout_p10=0.01)
    arguments = leaves(spec)
    expected = make_engine("exact", noise=noise, method="network").expectations(spec, *arguments)
    torch.testing.assert_close(mps(noise=noise).expectations(spec, *arguments), expected)


def test_transverse_ising_light_cones():
    size = 60
    spec = ising(size, 2, [pauli("Z", [30], size), pauli("ZZ", [11, 12], size), pauli("YX", [0, 1], size)])
    _, weights = leaves(spec)
    inputs = torch.zeros(1, 0, dtype=F64)
    values = mps().expectations(spec, inputs, weights)
    expected = make_engine("exact", method="network").expectations(spec, inputs, weights)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(gradients(values, [weights]), gradients(expected, [weights]))


@pytest.mark.parametrize("ring", [False, True])
def test_wide_observables_on_50_qubits_agree_with_aer(ring):
    size = 50
    even = list(range(0, size, 2))
    observables = [
        pauli("Z" * size, range(size), size),
        pauli("X" * len(even), even, size),
        pauli("ZZ", [0, size - 1], size) + pauli("Y", [9], size, -2.0) + pauli("", [], size, 0.25),
    ]
    spec = layered(size, 2, observables, ring)
    # Small angles, so that wide strings are far from 0.
    inputs, weights = (0.2 * one.detach() for one in leaves(spec, batch=1))
    inputs.requires_grad_()
    values = mps().expectations(spec, inputs, weights)
    expected = make_engine("aer", method="matrix_product_state").expectations(spec, inputs.detach(), weights)
    torch.testing.assert_close(values.detach(), expected, atol=1e-9, rtol=0)
    assert values.detach().abs().min() > 1e-3
    (slope,) = gradients(values, [inputs])
    shift = torch.zeros_like(inputs)
    shift[0, 17] = 1e-5
    with torch.no_grad():
        up, down = (mps().expectations(spec, inputs + sign * shift, weights) for sign in (1, -1))
    difference = ((up - down) / 2e-5 * torch.linspace(1, 2, 3, dtype=F64)).sum()
    torch.testing.assert_close(slope[0, 17], difference, atol=1e-7, rtol=1e-5)


def test_order_of_qubits_follows_the_circuit():
    size = 24
    places = np.random.default_rng(0).permutation(size).tolist()
    spec = layered(size, 3, [pauli("Z" * size, range(size), size)], places=places)
    plan = plan_chain(spec, None, 64)
    assert plan.rank_bound == 8
    assert plan.exact
    arguments = leaves(spec)
    straight = layered(size, 3, [pauli("Z" * size, range(size), size)])
    inputs, weights = (one.detach() for one in arguments)
    mixed = torch.empty_like(weights).reshape(3, size, 2)
    mixed[:, places] = weights.reshape(3, size, 2)
    moved = torch.empty_like(inputs)
    moved[:, places] = inputs
    torch.testing.assert_close(
        mps().expectations(spec, moved, mixed.flatten()), mps().expectations(straight, inputs, weights)
    )


@pytest.mark.parametrize(
    ("gates", "rank"),
    [
        (lambda c, t: c.cx(0, 1), 2),
        (lambda c, t: (c.cx(0, 1), c.rz(t, 1), c.cx(0, 1)), 2),
        (lambda c, t: (c.rzz(t, 0, 1), c.rx(2 * t, 0), c.rzz(0.3, 0, 1)), 2),
        (lambda c, t: (c.cz(1, 0), c.h(0), c.h(1), c.cz(0, 1)), 4),
        (lambda c, t: (c.cx(0, 1), c.cx(0, 1)), 1),
        (lambda c, t: c.unitary(random_unitary(4, seed=0), [1, 0]), 4),
        (lambda c, t: c.swap(0, 1), 1),
    ],
)
def test_bonds_grow_by_the_smallest_number_of_products(gates, rank):
    t = Parameter("t")
    circuit = QuantumCircuit(4)
    for pair in ([0, 1], [2, 3]):
        part = QuantumCircuit(2)
        part.h([0, 1])
        gates(part, t)
        circuit.compose(part, pair, inplace=True)
    spec = CircuitSpec.from_circuit(circuit, [t], [], [pauli("ZZZZ", range(4), 4)])
    plan = plan_chain(spec, None, 64)
    ranks = [operation.rank for operation in plan.operations if hasattr(operation, "rank")]
    assert ranks in ([rank, rank], [] if rank == 1 else [rank, rank])


def test_a_gradient_that_raises_the_rank_is_not_lost():
    """At angle 0 a truncated state is a product, but its derivative is not; nothing may be dropped of it."""
    a, b = Parameter("a"), Parameter("b")
    circuit = QuantumCircuit(6)
    for angle in (a, b):
        for qubit in range(5):
            circuit.append(RXXGate(angle), [qubit, qubit + 1])
        circuit.append(RXXGate(angle), [0, 5])
    spec = CircuitSpec.from_circuit(circuit, [a], [b], [pauli("XY", [0, 1], 6), pauli("XY", [5, 0], 6)])
    arguments = (
        torch.zeros(2, 1, dtype=F64, requires_grad=True),
        torch.zeros(1, dtype=F64, requires_grad=True),
    )
    engine = mps(bond=2)
    values = engine.expectations(spec, *arguments)
    assert "not exact" in engine.explain(spec).reason
    expected = make_engine("exact", method="statevector").expectations(spec, *arguments)
    found = gradients(values, arguments)
    assert found[1].abs().item() > 1
    for one, other in zip(found, gradients(expected, arguments)):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_low_entanglement_at_great_depth_agrees_with_aer():
    size = 40
    spec = ising(size, 8, [pauli("Z" * size, range(size), size), pauli("ZZ", [3, 30], size)])
    inputs, weights = torch.zeros(1, 0, dtype=F64), torch.tensor([0.15, 0.1], dtype=F64)
    engine = mps(bond=24)
    values = engine.expectations(spec, inputs, weights)
    assert engine.last_error_bound.max() < 1e-6
    expected = make_engine("aer", method="matrix_product_state").expectations(spec, inputs, weights)
    torch.testing.assert_close(values, expected, atol=1e-7, rtol=0)
    assert values.abs().min() > 1e-4


def test_gradients_of_truncated_states_by_the_adjoint_state():
    """Single letters, pairs that cross, wide strings and identities; truncated forwards and backwards."""
    size = 12
    observables = [pauli("Z", [qubit], size) for qubit in range(size)]
    observables += [pauli("XY", [a, b], size, 0.7) for a in range(0, 5) for b in range(5, 12, 3)]
    observables += [pauli("Z" * size, range(size), size) + pauli("", [], size) + pauli("YY", [3, 4], size)]
    features, x = ParameterVector("x", size), ising(size, 6, observables)
    circuit = QuantumCircuit(size)
    for qubit in range(size):
        circuit.ry(features[qubit], qubit)
    circuit.compose(x.circuit, inplace=True)
    spec = CircuitSpec.from_circuit(circuit, list(features), list(x.weight_params), observables)
    generator = torch.Generator().manual_seed(1)
    inputs = (0.3 * torch.randn(2, size, dtype=F64, generator=generator)).requires_grad_()
    weights = torch.tensor([0.12, 0.1], dtype=F64, requires_grad=True)
    engine = mps(bond=16)
    values = engine.expectations(spec, inputs, weights)
    assert engine.explain(spec).reason.startswith("not exact")
    expected = make_engine("exact", method="statevector").expectations(spec, inputs, weights)
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)
    found = gradients(values, [inputs, weights])
    for one, other in zip(found, gradients(expected, [inputs, weights])):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert found[1].abs().min() > 1e-2


@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 999),
    bond=st.integers(1, 5),
    scale=st.sampled_from([0.05, 0.3, 1.0]),
    label=st.text("IXYZ", min_size=5, max_size=5).map("Z{}".format),
)
def test_the_bound_of_gradients_holds_whatever_is_truncated(seed, bond, scale, label):
    """Each angle is in one gate; the bound is d + 2 sqrt(2) S e, see `adjoint`."""
    spec = layered(6, 4, [SparsePauliOp(label, 1.5)])
    inputs, weights = leaves(spec, batch=2, seed=seed)
    arguments = [inputs, (scale * weights.detach()).expand(2, -1).clone().requires_grad_()]
    chains = mps(bond=bond, tolerance=1e9)._chains
    lost = []
    for row in range(2):
        own = [inputs[row : row + 1], arguments[1][row]]
        values = chains.values(spec, own[0].t(), own[1])
        (executor,) = chains._executors.values()
        original = type(executor._adjoint).slopes.__get__(executor._adjoint)
        executor._adjoint.slopes = lambda *given, run=original: lost.append(run(*given)) or lost[-1]
        found = torch.autograd.grad(values.sum(), own, materialize_grads=True, allow_unused=True)
        exact = make_engine("exact", method="statevector").expectations(spec, *own)
        expected = torch.autograd.grad(exact.sum(), own, materialize_grads=True, allow_unused=True)
        bound = math.sqrt(2) * float(chains.error_bound.max()) + (float(lost[-1][1].max()) if lost else 0.0)
        for one, other in zip(found, expected):
            assert (one - other).abs().max() <= bound + 1e-9


def test_where_the_adjoint_state_needs_larger_bonds_gradients_are_refused():
    """Layers and their inverse leave a product state; what is observed afterwards needs bonds of 16."""
    size = 8
    observable = pauli("XYZXYZXY", range(size), size)
    there, after = layered(size, 3, [observable]), layered(size, 3, [observable])
    weights = ParameterVector("v", len(after.weight_params))
    tail = after.circuit.assign_parameters(dict(zip(after.weight_params, weights)))
    u = ParameterVector("u", size)
    tail = tail.assign_parameters(dict(zip(after.input_params, u)))
    circuit = there.circuit.compose(there.circuit.inverse()).compose(tail)
    parameters = [*there.weight_params, *weights, *u]
    spec = CircuitSpec.from_circuit(circuit, list(there.input_params), parameters, [observable])
    arguments = leaves(spec, batch=2)
    engine = mps(bond=8)
    values = engine.expectations(spec, *arguments)
    expected = make_engine("exact", method="statevector").expectations(spec, *arguments)
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)
    with pytest.raises(EngineError, match="adjoint state .* bond=8 gives .* .16 is surely exact"):
        gradients(values, arguments)
    values = mps(bond=16).expectations(spec, *arguments)
    for one, other in zip(gradients(values, arguments), gradients(expected, arguments)):
        torch.testing.assert_close(one, other)


def test_second_derivatives_of_truncated_values_are_refused():
    spec = ising(6, 4, [pauli("Z" * 6, range(6), 6)])
    weights = torch.tensor([0.1, 0.1], dtype=F64, requires_grad=True)
    values = mps(bond=4, tolerance=1.0).expectations(spec, torch.zeros(1, 0, dtype=F64), weights)
    (slope,) = torch.autograd.grad(values.sum(), weights, create_graph=True)
    with pytest.raises(EngineError, match="second derivatives"):
        (values.sum() + slope.square().sum()).backward()


def test_second_derivatives_and_functional_transforms():
    spec = layered(3, 1, [pauli("ZXZ", range(3), 3), pauli("Z", [1], 3)])
    inputs, weights = leaves(spec, batch=2)
    engine = mps()
    assert torch.autograd.gradgradcheck(
        lambda *both: engine.expectations(spec, *both), (inputs, weights), atol=1e-6
    )
    slopes = torch.func.jacrev(lambda w: engine.expectations(spec, inputs.detach(), w))(weights.detach())
    other = torch.autograd.functional.jacobian(lambda w: engine.expectations(spec, inputs, w), weights)
    torch.testing.assert_close(slopes, other)
    forward = torch.func.jacfwd(lambda w: engine.expectations(spec, inputs.detach(), w))(weights.detach())
    torch.testing.assert_close(forward, other)


@pytest.mark.parametrize(
    "jacobian",
    [
        lambda values, weights: torch.func.jacrev(values)(weights),
        lambda values, weights: torch.func.vmap(values)(weights.expand(2, -1)),
        lambda values, weights: torch.autograd.functional.jacobian(values, weights, vectorize=True),
    ],
)
def test_functional_transforms_of_truncated_values_are_refused(jacobian):
    spec = ising(6, 4, [pauli("Z" * 6, range(6), 6)])
    weights = torch.tensor([0.1, 0.1], dtype=F64)
    engine = mps(bond=4, tolerance=1.0)
    with pytest.raises(EngineError, match=r"not truncate inside torch\.func"):
        jacobian(lambda w: engine.expectations(spec, torch.zeros(1, 0, dtype=F64), w), weights)


def test_autocast_changes_nothing():
    spec = layered(4, 1, [pauli("ZZ", [0, 3], 4)])
    arguments = leaves(spec, dtype=torch.float32)
    expected = mps().expectations(spec, *arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(mps().expectations(spec, *arguments), expected)


def test_parts_of_the_batch_and_of_the_strings_change_nothing(monkeypatch):
    observables = [pauli(a + b, pair, 5) for a in "XYZ" for b in "XZ" for pair in ([0, 3], [1, 2], [2, 4])]
    spec = layered(5, 2, observables)
    results = []
    for part_bytes, group in ((2**30, 256), (1, 256), (1, 4)):
        monkeypatch.setattr(execute_module, "PART_BYTES", part_bytes)
        monkeypatch.setattr(readout_module, "GROUP_STRINGS", group)
        arguments = leaves(spec, batch=5)
        values = mps().expectations(spec, *arguments)
        results.append((values, *gradients(values, arguments)))
    for other in results[1:]:
        for one, expected in zip(other, results[0]):
            torch.testing.assert_close(one, expected)


def test_many_strings_share_their_environments():
    size = 30
    observables = [pauli("ZZ", [a, b], size) for a in range(size) for b in range(a + 1, size)]
    spec = layered(size, 1, observables)
    inputs, weights = leaves(spec, batch=1)
    values = mps().expectations(spec, inputs, weights)
    single = replace_observables(spec, [observables[77], observables[-1]])
    expected = mps().expectations(single, inputs, weights)
    torch.testing.assert_close(values[:, [77, -1]], expected)


def replace_observables(spec, observables):
    return CircuitSpec.from_circuit(
        spec.circuit, list(spec.input_params), list(spec.weight_params), observables
    )


def test_arithmetic_follows_the_inputs_and_truncation_is_in_float64():
    spec = layered(6, 3, [pauli("Z" * 6, range(6), 6)])
    inputs, weights = leaves(spec, dtype=torch.float32)
    expected = mps().expectations(spec, inputs.double(), weights.double())
    for engine in (mps(), mps(bond=4, tolerance=2.0), mps(dtype=F64)):
        values = engine.expectations(spec, inputs, weights)
        assert values.dtype == torch.float32
    torch.testing.assert_close(
        mps().expectations(spec, inputs, weights).double(), expected, atol=1e-5, rtol=0
    )


def test_constants_empty_batches_and_untouched_qubits():
    circuit = QuantumCircuit(70)
    circuit.x(3)
    observables = [pauli("", [], 70, 0.5), pauli("ZZ", [3, 60], 70), pauli("X", [8], 70)]
    spec = CircuitSpec.from_circuit(circuit, [], [], observables)
    nothing = torch.zeros(0, dtype=F64)
    values = mps().expectations(spec, torch.zeros(2, 0, dtype=F64), nothing)
    torch.testing.assert_close(values, torch.tensor([[0.5, -1.0, 0.0]] * 2, dtype=F64))
    assert mps().expectations(spec, torch.zeros(0, 0, dtype=F64), nothing).shape == (0, 3)
    alone = CircuitSpec.from_circuit(circuit, [], [], [observables[0]])
    torch.testing.assert_close(
        mps().expectations(alone, torch.zeros(1, 0, dtype=F64), nothing), torch.full((1, 1), 0.5, dtype=F64)
    )


def test_noise_on_gates_and_wide_gates_are_refused():
    spec = layered(3, 1, [pauli("Z", [0], 3)])
    arguments = leaves(spec)
    engine = mps(noise=NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02))
    with pytest.raises(EngineError, match="pure state.*Fix: method='network'"):
        engine.expectations(spec, *arguments)
    circuit = QuantumCircuit(3)
    circuit.append(UnitaryGate(random_unitary(8, seed=1)), range(3))
    wide = CircuitSpec.from_circuit(circuit, [], [], [pauli("Z", [0], 3)])
    plain = torch.zeros(1, 0, dtype=F64), torch.zeros(0, dtype=F64)
    expected = make_engine("exact", method="statevector").expectations(wide, *plain)
    torch.testing.assert_close(mps().expectations(wide, *plain), expected)
    with pytest.raises(EngineError, match="method='mps'"):
        mps(noise=NoiseProfile(readout_p01=0.1)).expectations(
            spec, *arguments, rates={"readout_p01": arguments[1][0]}
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mps", "bond": 0}, "`bond` must be an integer of at least 1, but is 0"),
        ({"method": "mps", "bond": 2.5}, "`bond` must be an integer of at least 1, but is 2.5"),
        ({"method": "mps", "bond": True}, "`bond` must be an integer"),
        ({"method": "mps", "tolerance": 0.0}, "`tolerance` must be a finite number above 0, but is 0.0"),
        ({"method": "mps", "tolerance": math.nan}, "`tolerance` must be a finite number above 0"),
        ({"method": "mps", "tolerance": "small"}, "`tolerance` must be a finite number above 0"),
        ({"bond": 8}, "need method='mps', but the method is 'auto'"),
        ({"method": "statevector", "tolerance": 1e-3}, "need method='mps'"),
        ({"method": "tensor"}, "one of auto, network, statevector, density, mps, but is 'tensor'"),
    ],
)
def test_options_are_checked_at_once(options, message):
    with pytest.raises(EngineError, match=message):
        make_engine("exact", **options)


def test_recipes_pass_its_options_on():
    section = EngineConfig(kind="exact", options={"method": "mps", "bond": 8, "tolerance": "1e-4"})
    described = make_engine(**section.arguments()).describe()
    assert (described["method"], described["bond"], described["tolerance"]) == ("mps", 8, 1e-4)


def test_a_tolerance_from_yaml_is_a_number():
    assert mps(tolerance="1e-4").describe()["tolerance"] == 1e-4


def test_it_is_described_only_where_it_is_used_and_never_chosen():
    assert not {"bond", "tolerance"} & set(make_engine("exact").describe())
    described = mps(bond=8).describe()
    assert (described["method"], described["bond"], described["tolerance"]) == ("mps", 8, 1e-6)
    dense = layered(24, 6, [pauli("Z" * 24, range(24), 24)], ring=True)
    assert make_engine("exact").last_error_bound is None
    assert mps(bond=8).explain(dense).method == "mps"
    assert "not exact: bonds may need up to 4096 and" in mps(bond=8).explain(dense).reason


def test_prediction_grows_with_the_work_and_refuses_what_does_not_fit():
    spec = layered(40, 4, [pauli("Z" * 40, range(40), 40)])
    few, many = (mps().explain(spec, batch) for batch in (1, 8))
    assert few.widest == 4 * 16**2
    assert many.memory_bytes == pytest.approx(8 * few.memory_bytes, rel=1e-3)
    assert few.seconds < many.seconds
    huge = layered(28, 14, [pauli("Z" * 28, range(28), 28)])
    engine = mps(bond=2**14)
    assert engine.explain(huge, 1).method == "refused"
    arguments = leaves(huge, batch=1)
    with pytest.raises(EngineError, match="must fit the memory"):
        engine.expectations(huge, *arguments)


def test_it_travels_to_other_processes_and_into_layers():
    spec = layered(5, 1, [pauli("Z", [0], 5), pauli("Z" * 5, range(5), 5)])
    arguments = leaves(spec)
    engine = mps(bond=16)
    expected = engine.expectations(spec, *arguments)
    again = pickle.loads(pickle.dumps(engine)).expectations(spec, *arguments)  # noqa: S301
    torch.testing.assert_close(again, expected)
    layer = QuantumLayer(spec, engine)
    layer(torch.rand(4, 5)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_shots_are_drawn_around_its_values():
    spec = layered(5, 1, [pauli("Z" * 5, range(5), 5)])
    inputs, weights = (one.detach() for one in leaves(spec, batch=2))
    drawn = mps(shots=10**6, seed=0).expectations(spec, inputs, weights)
    torch.testing.assert_close(drawn, mps().expectations(spec, inputs, weights), atol=5e-3, rtol=0)


def test_predictions_count_angles_and_the_matrices_of_gates():
    """Products of inputs are computed for every sample, as are the matrices of all rotations."""
    x, found = ParameterVector("x", 2), {}
    for name, angle in (("affine", x[0] + x[1]), ("product", x[0] * x[1])):
        circuit = QuantumCircuit(2)
        circuit.ry(x[0], 0)
        circuit.ry(x[1], 1)
        circuit.rzz(angle, 0, 1)
        circuit.rx(x[0], 0)
        spec = CircuitSpec.from_circuit(circuit, list(x), [], [SparsePauliOp("ZZ")])
        found[name] = [make_engine("exact", method="mps").explain(spec, batch) for batch in (1, 100)]
    for one, many in found.values():
        counts, more = dict(one.counts), dict(many.counts)
        assert more["mps.operator"] == counts["mps.operator"]
        assert more["mps.entry"] == pytest.approx(100 * counts["mps.entry"])
        # In single precision half a number each: three rotations of 4 entries, one of 16, one member of 24.
        assert counts["mps.entry"] >= (2 * (3 * 4 + 16) + 24) / 2
    assert "angle.operator" not in dict(found["affine"][0].counts)
    one, many = (dict(explanation.counts) for explanation in found["product"])
    assert many["angle.operator"] == one["angle.operator"] > 0
    assert many["angle.entry"] == pytest.approx(100 * one["angle.entry"])
    assert found["product"][0].seconds > found["affine"][0].seconds
