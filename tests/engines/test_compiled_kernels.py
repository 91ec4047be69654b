"""The compiled statevector against Statevector, its torch twin, and itself divided in other ways."""

import multiprocessing
import re
import threading
from unittest import mock

import numpy as np
import pytest
import torch
from engine_cases import specs, statevector_values
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Gate, ParameterVector
from qiskit.quantum_info import SparsePauliOp, random_unitary

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.exact.native import division, execute, library
from qhybrid.engines.exact.native.constants import constant_gate, matrix_of
from qhybrid.engines.exact.native.execute import NativeExecutor
from qhybrid.engines.exact.plan import plan_circuit
from qhybrid.engines.exact.statevector.execute import StateExecutor
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

compiled = pytest.mark.skipif(
    library.kernels().library is None, reason=f"no compiled kernels: {library.kernels().reason}"
)


def layered(qubits, layers=2):
    """RY(x), then layers of RY, RZ and a ring of CRY; Z of every qubit and a sum with X and Y."""
    x, w = ParameterVector("x", qubits), ParameterVector("w", 3 * qubits * layers)
    circuit, angles = QuantumCircuit(qubits), iter(w)
    for qubit in range(qubits):
        circuit.ry(x[qubit], qubit)
    for _ in range(layers):
        for qubit in range(qubits):
            circuit.ry(next(angles), qubit)
            circuit.rz(next(angles), qubit)
        for qubit in range(qubits):
            circuit.cry(next(angles), qubit, (qubit + 1) % qubits)
    observables = [SparsePauliOp.from_sparse_list([("Z", [q], 1.0)], qubits) for q in range(qubits)]
    observables.append(SparsePauliOp.from_sparse_list([("XY", [0, 1], 0.5), ("", [], 2.0)], qubits))
    return CircuitSpec.from_circuit(circuit, list(x), list(w), observables)


def arguments(spec, batch, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, spec.num_inputs, generator=generator, dtype=dtype)
    return inputs, torch.randn(spec.num_weights, generator=generator, dtype=dtype)


def both(spec, inputs, weights, kernel):
    """Return values, and the gradients of a weighted sum of them."""
    leaves = [inputs.clone().requires_grad_(), weights.clone().requires_grad_()]
    values = make_engine("exact", method="statevector", kernel=kernel).expectations(spec, *leaves)
    factors = torch.linspace(0.3, 1.7, values.numel(), dtype=values.dtype).reshape(values.shape)
    return values.detach(), *torch.autograd.grad(
        (values * factors).sum(), leaves, allow_unused=True, materialize_grads=True
    )


def assert_same(found, wanted, tolerance=1e-10):
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@compiled
@settings(max_examples=60, deadline=None)
@given(specs(), st.integers(1, 10), st.sampled_from([0, 2, 8]))
def test_any_circuit_has_the_twins_values_and_gradients(spec, batch, singles):
    """`singles`: samples in the lanes of a vector, left-over ones with amplitudes there, or all of them."""
    inputs, weights = arguments(spec, batch)
    wanted = both(spec, inputs, weights, "torch")
    np.testing.assert_allclose(
        wanted[0], statevector_values(spec, inputs.numpy(), weights.numpy()), atol=1e-9
    )
    with mock.patch.object(division, "singles_up_to", return_value=singles):
        assert_same(both(spec, inputs, weights, "compiled"), wanted)


@compiled
@pytest.mark.parametrize("qubits", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("batch", [1, 3, 8, 17])
def test_entangled_layers_in_both_precisions(qubits, batch):
    spec = layered(max(qubits, 2))
    inputs, weights = arguments(spec, batch)
    wanted = both(spec, inputs, weights, "torch")
    assert_same(both(spec, inputs, weights, "compiled"), wanted)
    single = both(spec, inputs.float(), weights.float(), "compiled")
    assert_same(single, [each.float() for each in wanted], 2e-4)


@compiled
@pytest.mark.parametrize("qubits", [4, 9, 13])
def test_many_phases_and_many_strings_share_a_transform(qubits):
    """An Ising ring with all pairs: one operation of many phases; ZZ, XX and YY are read on every pair."""
    x, w = ParameterVector("x", qubits), ParameterVector("w", 2)
    circuit = QuantumCircuit(qubits)
    pairs = [(a, b) for a in range(qubits) for b in range(a)]
    circuit.h(range(qubits))
    for a, b in pairs:
        circuit.rzz(w[0] * (1 + a), a, b)
    for qubit in range(qubits):
        circuit.rx(w[1] + x[qubit], qubit)
    strings = [(letters, list(pair), 0.1) for pair in pairs[:9] for letters in ("ZZ", "XX", "YY", "XY")]
    spec = CircuitSpec.from_circuit(
        circuit, list(x), list(w), [SparsePauliOp.from_sparse_list(strings, qubits)]
    )
    rotations = plan_circuit(spec).states.rotations
    assert len(rotations[0].operations) <= 2 * qubits + 1
    inputs, weights = arguments(spec, 3)
    assert_same(both(spec, inputs, weights, "compiled"), both(spec, inputs, weights, "torch"))


@compiled
def test_a_layer_of_rotations_and_controlled_rotations_is_one_pass_a_qubit():
    """RY, RZ and CRY of one qubit are one operation; permutations are none at all."""
    (run,) = plan_circuit(layered(8, 3)).states.rotations
    assert len(run.operations) <= 26


@compiled
def test_division_does_not_change_results(monkeypatch):
    spec = layered(5)
    inputs, weights = arguments(spec, 21)
    wanted = both(spec, inputs, weights, "compiled")
    monkeypatch.setattr(division, "threads_for", lambda work: 3)
    assert_same(both(spec, inputs, weights, "compiled"), wanted, 1e-13)
    monkeypatch.setattr(division, "SAVED_BYTES", 0)  # final states are computed again
    assert_same(both(spec, inputs, weights, "compiled"), wanted, 1e-13)


@compiled
def test_the_build_for_any_processor_gives_the_same(monkeypatch):
    spec = layered(5)
    inputs, weights = arguments(spec, 9)
    wanted = both(spec, inputs, weights, "compiled")
    monkeypatch.setenv(library.VARIABLE, "baseline")
    found = library.kernels()
    if found.library is None:
        pytest.skip(f"no baseline build: {found.reason}")
    assert found.build == "baseline"
    assert_same(both(spec, inputs, weights, "compiled"), wanted, 1e-12)


@compiled
def test_large_angles_keep_their_precision():
    """Sine and cosine of the kernels reduce their arguments themselves."""
    circuit, x, w = QuantumCircuit(1), ParameterVector("x", 1), ParameterVector("w", 1)
    circuit.ry(x[0], 0)
    circuit.ry(w[0], 0)
    spec = CircuitSpec.from_circuit(circuit, list(x), list(w), [SparsePauliOp("Z")])
    engine = make_engine("exact", method="statevector", kernel="compiled")
    angles = torch.logspace(-8, 7, 61, dtype=torch.float64)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-6)):
        rows = torch.cat([angles, -angles])[:, None].to(dtype)
        found = engine.expectations(spec, rows, torch.zeros(1, dtype=dtype))
        torch.testing.assert_close(found.double(), rows.double().cos(), atol=tolerance, rtol=0.0)


@compiled
def test_all_ways_of_differentiating():
    spec = layered(3, 1)
    inputs, weights = arguments(spec, 2)
    engine = make_engine("exact", method="statevector", kernel="compiled")

    def function(vector):
        return engine.expectations(spec, inputs, vector)

    wanted = torch.autograd.functional.jacobian(
        lambda vector: make_engine("exact", method="network").expectations(spec, inputs, vector), weights
    )
    for found in (
        torch.autograd.functional.jacobian(function, weights),
        torch.autograd.functional.jacobian(function, weights, vectorize=True),
        torch.autograd.functional.jacobian(function, weights, vectorize=True, strategy="forward-mode"),
        torch.func.jacrev(function)(weights),
        torch.func.jacfwd(function)(weights),
    ):
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0.0)
    assert torch.autograd.gradgradcheck(function, weights.requires_grad_())


def _value(queue):
    spec = layered(4)
    queue.put(make_engine("exact", method="statevector").expectations(spec, *arguments(spec, 9)).numpy())


@compiled
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_fork_after_threads_and_several_python_threads(monkeypatch):
    monkeypatch.setattr(division, "threads_for", lambda work: 2)
    spec = layered(4)
    inputs, weights = arguments(spec, 9)
    engine = make_engine("exact", method="statevector", kernel="compiled")
    wanted = engine.expectations(spec, inputs, weights)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_value, args=(queue,))
    child.start()
    np.testing.assert_allclose(queue.get(timeout=60), wanted, atol=1e-12)
    child.join()
    found = [None] * 4

    def work(place):
        for _ in range(20):
            found[place] = engine.expectations(spec, inputs, weights)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for values in found:
        torch.testing.assert_close(values, wanted, atol=1e-13, rtol=0.0)


def test_the_library_can_be_switched_off(monkeypatch):
    spec = layered(3)
    inputs, weights = arguments(spec, 2)
    monkeypatch.setenv(library.VARIABLE, "torch")
    assert library.kernels().library is None
    engine = make_engine("exact", method="statevector")
    engine.expectations(spec, inputs, weights)
    assert [type(executor) for executor in engine._executors.values()] == [StateExecutor]
    with pytest.raises(EngineError, match="needs the compiled kernels, but QHYBRID_KERNEL=torch"):
        make_engine("exact", kernel="compiled")
    with pytest.raises(EngineError, match="must be one of torch, compiled, but is 'fast'"):
        make_engine("exact", kernel="fast")
    monkeypatch.setenv(library.VARIABLE, "fast")
    with pytest.raises(EngineError, match="QHYBRID_KERNEL.*must be one of auto, torch, baseline"):
        make_engine("exact").expectations(spec, inputs, weights)


@compiled
def test_the_choice_of_kernel():
    spec = layered(3)
    inputs, weights = arguments(spec, 2)
    for kernel, kind in ((None, NativeExecutor), ("compiled", NativeExecutor), ("torch", StateExecutor)):
        engine = make_engine("exact", method="statevector", kernel=kernel)
        engine.expectations(spec, inputs, weights)
        assert [type(executor) for executor in engine._executors.values()] == [kind]
        assert "kernel" not in engine.describe()
    fast = make_engine("exact", method="statevector", kernel="compiled").explain(spec)
    assert fast.seconds < make_engine("exact", method="statevector", kernel="torch").explain(spec).seconds
    for method in ("network", "mps"):
        with pytest.raises(EngineError, match=f"`kernel`.*'{method}', which would ignore it"):
            make_engine("exact", method=method, kernel="torch")


class Opaque(Gate):
    """A gate on three qubits that has a matrix and no definition."""

    def __init__(self):
        super().__init__("opaque", 3, [])

    def __array__(self, dtype=None, copy=None):
        return random_unitary(8, seed=1).data


def with_opaque():
    x = ParameterVector("x", 1)
    circuit = QuantumCircuit(3)
    circuit.ry(x[0], 0)
    circuit.append(Opaque(), [0, 1, 2])
    return CircuitSpec.from_circuit(circuit, list(x), [], [SparsePauliOp("ZZZ")])


def with_wide_reading():
    x = ParameterVector("x", 1)
    circuit = QuantumCircuit(8)
    circuit.ry(x[0], 0)
    circuit.h(range(1, 8))
    circuit.cx(0, 1)
    return CircuitSpec.from_circuit(circuit, list(x), [], [SparsePauliOp("Z" * 8)])


@compiled
@pytest.mark.parametrize(
    ("spec", "noise", "named"),
    [
        (with_opaque(), None, "gate `opaque` (instruction 1), a matrix on 3 qubits"),
        (
            with_wide_reading(),
            NoiseProfile(readout_p01=0.1, readout_p10=0.02),
            "a read-out with read-out errors on 8 qubits",
        ),
    ],
)
def test_what_the_library_does_not_know_is_said(spec, noise, named):
    """Asked for by name, torch does not take over in silence; else `explain` says that it does."""
    inputs = torch.zeros(1, 1, dtype=torch.float64)
    found = make_engine("exact", noise=noise, method="statevector").explain(spec)
    assert found.reason.endswith(f"executed by torch, as the compiled kernels do not know {named}")
    engine = make_engine("exact", noise=noise, method="statevector", kernel="compiled")
    with pytest.raises(EngineError, match=re.escape(f"does not know {named}. Fix:")):
        engine.explain(spec)
    with pytest.raises(EngineError, match=re.escape(f"does not know {named}. Fix:")):
        engine.expectations(spec, inputs, torch.zeros(0, dtype=torch.float64))


@compiled
def test_the_explanation_names_the_arithmetic():
    spec = layered(3)
    for kernel, name in (
        (None, "the compiled kernels"),
        ("compiled", "the compiled kernels"),
        ("torch", "torch"),
    ):
        found = make_engine("exact", method="statevector", kernel=kernel).explain(spec)
        assert found.reason.endswith(f"executed by {name}")
    chain = CircuitSpec.from_circuit(QuantumCircuit(1), [], [], [SparsePauliOp("Z")])
    found = make_engine("exact", kernel="compiled").explain(chain)
    assert found.method == "network"
    assert found.reason.endswith("kernel='compiled' is not used, as it executes no networks")


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([2, 4]), st.integers(0, 10**6))
def test_any_small_unitary_is_turns_and_a_permutation(size, seed):
    matrix = random_unitary(size, seed=seed).data
    gate = constant_gate(matrix)
    assert abs(np.vdot(matrix_of(gate), matrix)) / size == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(4)), st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_phases_and_permutations_of_two_qubits_are_no_matrix(images, phases):
    matrix = np.zeros((4, 4), dtype=complex)
    matrix[images, range(4)] = np.exp(1j * np.array(phases))
    gate = constant_gate(matrix)
    assert abs(np.vdot(matrix_of(gate), matrix)) / 4 == pytest.approx(1.0, abs=1e-12)
    assert {turn.letters for turn in gate.turns} <= {"ZI", "IZ", "ZZ"}


@compiled
@pytest.mark.parametrize("qubits", [3, 7])
def test_memory_of_final_states_is_used_again_only_when_nobody_holds_it(qubits):
    """Graphs that live at the same time, also for several backward passes, have states of their own."""
    spec, engine = layered(qubits), make_engine("exact", method="statevector", kernel="compiled")
    first, second = (arguments(spec, 5), [2 * part for part in arguments(spec, 5)])
    wanted = [both(spec, *part, "torch") for part in (first, second)]
    leaves = [[one.clone().requires_grad_() for one in part] for part in (first, second, first)]
    values = [engine.expectations(spec, *part) for part in leaves]
    factors = torch.linspace(0.3, 1.7, values[0].numel(), dtype=torch.float64).reshape(values[0].shape)
    for _ in range(2):
        for place in (2, 0, 1):
            grads = torch.autograd.grad((values[place] * factors).sum(), leaves[place], retain_graph=True)
            assert_same((values[place].detach(), *grads), wanted[place % 2])
    (executor,) = engine._executors.values()
    assert executor._idle == []
    del values
    assert len(executor._idle) == 1
    kept = executor._idle[0].data_ptr()
    value = engine.expectations(spec, *leaves[1])
    assert executor._idle == []
    del value
    assert executor._idle[0].data_ptr() == kept


@compiled
def test_large_memory_of_final_states_is_given_back(monkeypatch):
    monkeypatch.setattr(execute, "LARGEST_IDLE", 100)
    spec, engine = layered(5), make_engine("exact", method="statevector", kernel="compiled")
    inputs, weights = arguments(spec, 4)
    engine.expectations(spec, inputs.requires_grad_(), weights).sum().backward()
    (executor,) = engine._executors.values()
    assert executor._idle == []
