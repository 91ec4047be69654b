"""Circuits that compute something else have another fingerprint, however they are wrapped."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import (
    AnnotatedOperation,
    Gate,
    InverseModifier,
    Parameter,
    ParameterVector,
    PowerModifier,
)
from qiskit.circuit.library import (
    CXGate,
    DiagonalGate,
    HamiltonianGate,
    PauliEvolutionGate,
    RVGate,
    RXGate,
    RZGate,
    UnitaryGate,
    real_amplitudes,
)
from qiskit.quantum_info import Operator, SparsePauliOp, random_unitary

from qhybrid.circuits import CircuitSpec
from qhybrid.circuits.fingerprint import circuit_fingerprint
from qhybrid.engines import make_engine

T = Parameter("t")


def spec_of(operation, parameters=()):
    """Put one operation between layers that make every difference seen."""
    circuit = QuantumCircuit(operation.num_qubits)
    circuit.h(range(operation.num_qubits))
    circuit.append(operation, range(operation.num_qubits))
    circuit.ry(0.3, range(operation.num_qubits))
    observables = [SparsePauliOp("I" * (operation.num_qubits - 1) + "Z")]
    return CircuitSpec.from_circuit(circuit, list(parameters), [], observables)


def wrapped(gates, name="block"):
    circuit = QuantumCircuit(2, name=name)
    for gate, places in gates:
        getattr(circuit, gate)(*places)
    return circuit.to_gate()


class MatrixGate(Gate):
    """A gate that has a matrix and nothing else."""

    def __init__(self, angle):
        """Rotate about Z."""
        super().__init__("mine", 1, [])
        self._angle = angle

    def __array__(self, dtype=None, copy=None):
        """Return the matrix."""
        return np.diag(np.exp([-0.5j * self._angle, 0.5j * self._angle]))


def feature_map(reps, entanglement=None):
    x = ParameterVector("x", 3)
    circuit = QuantumCircuit(3, name="features")
    for layer in range(reps):
        for qubit in range(3):
            circuit.h(qubit)
            circuit.rz(2 * x[qubit], qubit)
        pairs = [(0, 1), (1, 2)] if entanglement == "linear" else [(0, 1), (1, 2), (0, 2)]
        for a, b in pairs:
            circuit.rzz((layer + 1) * x[a] * x[b], a, b)
    return circuit.to_instruction(), tuple(x)


def large_unitaries():
    """Return two of 32 x 32 that differ where numpy's repr leaves values out."""
    first = np.eye(32, dtype=complex)
    second = first.copy()
    second[16, 16] = -1
    return first, second


PAIRS = {
    "wrapped blocks of one name": (
        lambda: spec_of(wrapped([("rx", (0.2, 0))])),
        lambda: spec_of(wrapped([("ry", (0.2, 0))])),
    ),
    "wrapped blocks on other qubits": (
        lambda: spec_of(wrapped([("cry", (0.4, 0, 1))])),
        lambda: spec_of(wrapped([("cry", (0.4, 1, 0))])),
    ),
    "repetitions of a wrapped feature map": (
        lambda: spec_of(*feature_map(1)),
        lambda: spec_of(*feature_map(2)),
    ),
    "entanglement of a wrapped feature map": (
        lambda: spec_of(*feature_map(2, "linear")),
        lambda: spec_of(*feature_map(2)),
    ),
    "operators of an evolution": (
        lambda: spec_of(PauliEvolutionGate(SparsePauliOp("ZX"), T), [T]),
        lambda: spec_of(PauliEvolutionGate(SparsePauliOp("XZ"), T), [T]),
    ),
    "large matrices": (
        lambda: spec_of(UnitaryGate(large_unitaries()[0])),
        lambda: spec_of(UnitaryGate(large_unitaries()[1])),
    ),
    "labels of matrices, by which their noise goes": (
        lambda: spec_of(UnitaryGate(np.eye(2), label="a")),
        lambda: spec_of(UnitaryGate(np.eye(2), label="b")),
    ),
    "a gate of ours that is called like one of Qiskit's": (
        lambda: spec_of(wrapped([("h", (0,)), ("cx", (0, 1))], name="cx")),
        lambda: spec_of(CXGate()),
    ),
    "states of a control": (lambda: spec_of(CXGate(ctrl_state=0)), lambda: spec_of(CXGate())),
    "controlled blocks": (
        lambda: spec_of(wrapped([("rx", (0.2, 0))]).control(1)),
        lambda: spec_of(wrapped([("ry", (0.2, 0))]).control(1)),
    ),
    "blocks in blocks": (
        lambda: spec_of(nested("rx")),
        lambda: spec_of(nested("ry")),
    ),
    "matrices of gates without definition": (
        lambda: spec_of(MatrixGate(0.1)),
        lambda: spec_of(MatrixGate(0.2)),
    ),
    "modifiers of a rotation": (
        lambda: spec_of(AnnotatedOperation(RZGate(T), InverseModifier()), [T]),
        lambda: spec_of(AnnotatedOperation(RZGate(T), PowerModifier(2)), [T]),
    ),
    "what is modified": (
        lambda: spec_of(AnnotatedOperation(RZGate(T), InverseModifier()), [T]),
        lambda: spec_of(AnnotatedOperation(RXGate(T), InverseModifier()), [T]),
    ),
    "diagonals, whose definition has a nameless circuit": (
        lambda: spec_of(DiagonalGate([1, 1, 1, -1])),
        lambda: spec_of(DiagonalGate([1, 1, -1, -1])),
    ),
    "nameless blocks": (
        lambda: spec_of(wrapped([("rx", (0.2, 0))], name=None)),
        lambda: spec_of(wrapped([("ry", (0.2, 0))], name=None)),
    ),
    "nameless blocks, controlled": (
        lambda: spec_of(wrapped([("rx", (0.2, 0))], name=None).control(1)),
        lambda: spec_of(wrapped([("ry", (0.2, 0))], name=None).control(1)),
    ),
    "times of an evolution by a matrix": (
        lambda: spec_of(HamiltonianGate(np.diag([1.0, 2.0]), 0.1)),
        lambda: spec_of(HamiltonianGate(np.diag([1.0, 2.0]), 0.2)),
    ),
    "units of delays": (lambda: delayed("ns"), lambda: delayed("us")),
}


def nested(gate):
    outer = QuantumCircuit(2, name="outer")
    outer.append(wrapped([(gate, (0.7, 0))]), [1, 0])
    return outer.to_instruction()


def delayed(unit):
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.delay(100, 0, unit=unit)
    return CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("X"))


@pytest.mark.parametrize("pair", PAIRS)
def test_other_content_has_another_fingerprint(pair):
    first, second = (make().fingerprint for make in PAIRS[pair])
    assert first != second


@pytest.mark.parametrize("pair", PAIRS)
def test_the_same_content_has_the_same_fingerprint(pair):
    for make in PAIRS[pair]:
        assert make().fingerprint == make().fingerprint


def test_a_process_that_made_other_circuits_gives_the_same_fingerprint():
    code = (
        "from qiskit import QuantumCircuit\nfrom qiskit.circuit.library import DiagonalGate\n"
        "from qiskit.quantum_info import SparsePauliOp\nfrom qhybrid.circuits import CircuitSpec\n"
        "[QuantumCircuit(1) for _ in range(5)]\n"
        "circuit = QuantumCircuit(2)\ncircuit.append(DiagonalGate([1, 1, 1, -1]), [0, 1])\n"
        "print(CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp('IZ')).fingerprint)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    circuit = QuantumCircuit(2)
    circuit.append(DiagonalGate([1, 1, 1, -1]), [0, 1])
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("IZ"))
    assert found.stdout.strip() == spec.fingerprint


@pytest.mark.parametrize("gate", [HamiltonianGate(np.diag([1.0, 2.0]), T), RVGate(T, 0.1, 0.2)])
def test_gates_that_cannot_be_opened_raise_nothing_here(gate):
    circuit = QuantumCircuit(gate.num_qubits)
    circuit.append(gate, range(gate.num_qubits))
    first, second = (circuit_fingerprint(circuit, [T], [], []) for _ in range(2))
    assert first == second


def test_names_of_parameters_do_not_matter_within_blocks():
    def block(name):
        x = ParameterVector(name, 2)
        inner = QuantumCircuit(2, name="block")
        inner.ry(x[0] + 2 * x[1], 0)
        return spec_of(inner.to_instruction(), x)

    assert block("a").fingerprint == block("b").fingerprint


def test_order_of_parameters_matters_within_blocks():
    x = ParameterVector("x", 2)
    inner = QuantumCircuit(2, name="block")
    inner.ry(x[0], 0)
    inner.rx(x[1], 1)
    first, second = (spec_of(inner.to_instruction(), order) for order in (x[:], x[::-1]))
    assert first.fingerprint != second.fingerprint


def test_parameters_set_to_other_values_matter_within_blocks():
    inner = real_amplitudes(2, reps=1)
    specs = []
    for value in (0.1, 0.2):
        circuit = QuantumCircuit(2)
        circuit.append(inner.to_instruction(), [0, 1])
        bound = circuit.assign_parameters([value] * 4)
        specs.append(CircuitSpec.from_circuit(bound, [], [], SparsePauliOp("IZ")))
    assert specs[0].fingerprint != specs[1].fingerprint


@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_one_engine_tells_wrapped_circuits_apart(kind):
    engine = make_engine(kind) if kind == "exact" else make_engine(kind, method="statevector")
    inputs = torch.tensor([[0.3, 0.9, -0.4]], dtype=torch.float64)
    for reps in (1, 2):
        operation, x = feature_map(reps)
        spec = spec_of(operation, x)
        bound = spec.circuit.assign_parameters(dict(zip(x, inputs[0].tolist())))
        truth = expectation(bound, spec.observables[0])
        found = engine.expectations(spec, inputs, torch.zeros(0, dtype=torch.float64))
        assert found.item() == pytest.approx(truth, abs=1e-10)


def expectation(circuit, observable):
    state = Operator(circuit).data[:, 0]
    return float(np.real(state.conj() @ observable.to_matrix() @ state))


def test_flat_circuits_keep_the_fingerprint_that_ledgers_and_caches_know():
    x = Parameter("x")
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.barrier()
    circuit.rzz(2 * x, 0, 1)
    circuit.cx(0, 1)
    spec = CircuitSpec.from_circuit(circuit, [x], [], SparsePauliOp("ZI"))
    assert spec.fingerprint == "2214c50339db2b64fa5ffb4fb492d1932b318073943708226b81fc2e6fb70272"


def test_random_matrices_are_told_apart():
    prints = {spec_of(UnitaryGate(random_unitary(32, seed=seed))).fingerprint for seed in range(8)}
    assert len(prints) == 8


CHOICES = {
    "name": ["block", "x", "barrier"],
    "gate": ["rx", "rz", "p"],
    "angle": ["0.3", "0.3000001", "x", "2 * x", "x - y", "y - x", "x * y", "x + y / 3"],
    "phase": [0.0, 0.7, -0.7],
    "nested": [False, True],
    "wrapped": ["", "control", "annotated", "inverse", "power", "root"],
    "state": [0, 1],
    "places": [(0, 1), (1, 0)],
    "last": ["ry", "rx"],
    "factor": [1.0, 1.0000001],
    "label": ["XZ", "ZX"],
    "order": [(0, 1), (1, 0)],
}


def spec_from(content):
    """Return a circuit of one wrapped block; every entry decides its values, at least for some others."""
    x, y = Parameter("x"), Parameter("y")
    angle = eval(content["angle"], {"x": x, "y": y})
    block = QuantumCircuit(1, global_phase=content["phase"])
    getattr(block, content["gate"])(angle, 0)
    if content["nested"]:
        outer = QuantumCircuit(1, global_phase=0.2)
        outer.append(block.to_gate(), [0])
        block = outer
    gate = Gate(content["name"], 1, list(block.parameters))
    gate.definition = block
    kind = content["wrapped"]
    if kind == "root" and block.parameters:
        kind = "inverse"  # roots have no free parameters
    modifiers = {"inverse": InverseModifier(), "power": PowerModifier(2), "root": PowerModifier(0.5)}
    if kind in ("control", "annotated"):
        control = {"ctrl_state": content["state"], "annotated": kind == "annotated"}
        honest = gate if kind == "annotated" else block.to_gate()  # Qiskit falls over some names
        gate = honest.control(1, **control)
    elif kind:
        gate = AnnotatedOperation(gate, modifiers[kind])
    circuit = QuantumCircuit(2)
    circuit.ry(0.4, 0)
    circuit.ry(1.1, 1)
    circuit.append(gate, content["places"][: gate.num_qubits])
    getattr(circuit, content["last"])(0.3, [0, 1])
    inputs = [(x, y)[index] for index in content["order"]]
    observable = SparsePauliOp([content["label"], "YI"], [content["factor"], 0.5])
    return CircuitSpec.from_circuit(circuit, inputs, [], observable)


@settings(max_examples=60, derandomize=True)
@given(st.fixed_dictionaries({key: st.sampled_from(several) for key, several in CHOICES.items()}), st.data())
def test_unequal_values_have_unequal_fingerprints(content, data):
    key = data.draw(st.sampled_from(list(CHOICES)))
    other = {**content, key: data.draw(st.sampled_from(CHOICES[key]))}
    first, second = spec_from(content), spec_from(other)
    values = []
    for one in (first, second):
        angles = {p: a for p, a in zip(one.input_params, (0.7, -1.3)) if p in one.circuit.parameters}
        values.append(expectation(one.circuit.assign_parameters(angles), one.observables[0]))
    if abs(values[0] - values[1]) > 1e-12:
        assert first.fingerprint != second.fingerprint
    assert spec_from(content).fingerprint == first.fingerprint


def test_the_hash_of_gates_is_the_same_for_all_observables():
    x, circuit = Parameter("x"), QuantumCircuit(2)
    circuit.ry(x, 0)
    other = circuit.copy()
    other.cz(0, 1)
    specs = [
        CircuitSpec.from_circuit(one, [x], [], observables)
        for one in (circuit, other)
        for observables in (["ZI"], ["ZI", "XX"])
    ]
    gates, whole = ([getattr(spec, name) for spec in specs] for name in ("gates_fingerprint", "fingerprint"))
    assert gates[0] == gates[1] != gates[2] == gates[3]
    assert len(set(whole)) == 4
    assert CircuitSpec.from_circuit(circuit, [], [x], ["ZI"]).gates_fingerprint != gates[0]
