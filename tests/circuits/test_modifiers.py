"""Modified and controlled gates are what the definition of their base says, global phase included."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import (
    AnnotatedOperation,
    ControlModifier,
    Gate,
    InverseModifier,
    Parameter,
    PowerModifier,
)
from qiskit.circuit.library import (
    CXGate,
    CZGate,
    GlobalPhaseGate,
    MCMTGate,
    PauliEvolutionGate,
    RXGate,
    RYGate,
    SwapGate,
    UGate,
    UnitaryGate,
    XGate,
)
from qiskit.quantum_info import Clifford, Operator, SparsePauliOp, random_unitary
from scipy.linalg import fractional_matrix_power

from qhybrid.circuits import CircuitSpec
from qhybrid.circuits.modifiers import as_matrices, flattened, means_its_matrix, modified
from qhybrid.circuits.standard_gates import is_standard_gate
from qhybrid.errors import CircuitError

A = Parameter("a")
TERMS = SparsePauliOp(["XI", "ZZ", "IY"], [0.7, 1.1, 0.4])


def lying(name, angle=0.4):
    """A gate called like another one: RY with a global phase."""
    definition = QuantumCircuit(1, global_phase=0.9)
    definition.ry(angle, 0)
    gate = Gate(name, 1, list(definition.parameters))
    gate.definition = definition
    return gate


def nested(name):
    definition = QuantumCircuit(2, global_phase=-0.3)
    definition.append(lying(name), [1])
    definition.cx(0, 1)
    gate = Gate("outer", 2, [])
    gate.definition = definition
    return gate


def product_formula(time):
    """exp(-i t c P) for each term, the first one first."""
    matrix = np.eye(4)
    for pauli, factor in zip(TERMS.paulis, TERMS.coeffs.real):
        term = np.cos(time * factor) * np.eye(4) - 1j * np.sin(time * factor) * pauli.to_matrix()
        matrix = term @ matrix
    return matrix


RY = np.exp(0.9j) * RYGate(0.4).to_matrix()
UNITARY = random_unitary(4, seed=3).data
BASES = {
    "lying": (lying("x"), RY),
    "nested": (nested("rz"), np.exp(-0.3j) * CXGate().to_matrix() @ np.kron(RY, np.eye(2))),
    "evolution": (PauliEvolutionGate(TERMS, 0.8), product_formula(0.8)),
    "standard": (UGate(0.3, 0.4, 0.5), UGate(0.3, 0.4, 0.5).to_matrix()),
    "matrix": (UnitaryGate(UNITARY), UNITARY),
    "clifford": (Clifford(SwapGate()), SwapGate().to_matrix()),
    "phase": (GlobalPhaseGate(0.6), np.exp([[0.6j]])),
}


def controlled(matrix, state=1):
    """The control is the first qubit, the least significant bit."""
    result = np.eye(2 * len(matrix), dtype=complex)
    places = 2 * np.arange(len(matrix)) + state
    result[np.ix_(places, places)] = matrix
    return result


MODIFIERS = {
    "inverse": ([InverseModifier()], lambda m: m.conj().T),
    "control": ([ControlModifier(1)], controlled),
    "open control": ([ControlModifier(1, ctrl_state=0)], lambda m: controlled(m, 0)),
    "two controls": ([ControlModifier(1), ControlModifier(1, 0)], lambda m: controlled(controlled(m), 0)),
    "power": ([PowerModifier(3)], lambda m: m @ m @ m),
    "negative power": ([PowerModifier(-2)], lambda m: (m @ m).conj().T),
    "nothing": ([PowerModifier(0)], lambda m: np.eye(len(m))),
    "root": ([PowerModifier(0.5)], lambda m: fractional_matrix_power(m, 0.5)),
    "in a row": (
        [InverseModifier(), PowerModifier(2), ControlModifier(1)],
        lambda m: controlled((m @ m).conj().T),
    ),
}


@pytest.mark.parametrize("kind", MODIFIERS)
@pytest.mark.parametrize("base", BASES)
def test_modified_operations(base, kind):
    operation, matrix = BASES[base]
    modifiers, change = MODIFIERS[kind]
    if base == "phase" and "control" not in kind:
        pytest.skip("a gate on no qubits")
    circuit = QuantumCircuit(
        operation.num_qubits + sum(getattr(one, "num_ctrl_qubits", 0) for one in modifiers)
    )
    circuit.append(AnnotatedOperation(operation, modifiers), circuit.qubits)
    found = CircuitSpec.from_circuit(circuit, [], [], []).circuit
    assert not any(isinstance(one.operation, AnnotatedOperation) for one in found.data)
    assert Operator(found).equiv(Operator(change(matrix)))


@pytest.mark.parametrize("name", ["x", "id", "rz", "barrier", "mine"])
@pytest.mark.parametrize("state", [0, 1])
def test_controls_that_qiskit_made_by_name(name, state):
    try:
        gate = nested(name).control(1, ctrl_state=state, annotated=False)
    except Exception:  # Qiskit falls over some names by itself
        gate = nested(name).control(1, ctrl_state=state, annotated=True)
    circuit = QuantumCircuit(3)
    circuit.append(gate, [0, 1, 2])
    found = CircuitSpec.from_circuit(circuit, [], [], []).circuit
    assert Operator(found).equiv(Operator(controlled(BASES["nested"][1], state)))


def test_angles_stay_free():
    for gate in (PauliEvolutionGate(TERMS, A), lying("rx", 2 * A), UGate(A, 0.2, A), RXGate(A)):
        for modifiers, _ in (MODIFIERS[kind] for kind in ("inverse", "control", "power", "in a row")):
            found = modified(gate, modifiers)
            circuit, bound = QuantumCircuit(found.num_qubits), QuantumCircuit(found.num_qubits)
            circuit.append(found, circuit.qubits)
            fixed = QuantumCircuit(gate.num_qubits)
            fixed.append(gate, fixed.qubits)
            fixed = fixed.assign_parameters({A: 0.8})
            bound.append(modified(fixed.data[0].operation, modifiers), bound.qubits)
            assert Operator(circuit.assign_parameters({A: 0.8})).equiv(Operator(bound))


def test_standard_gates_stay_standard():
    assert modified(XGate(), [ControlModifier(1)]).base_class is CXGate
    assert modified(RXGate(A), [PowerModifier(0.5)]).params == [A * 0.5]
    assert is_standard_gate(modified(RXGate(0.3), [InverseModifier()]))


def test_roots_of_free_angles_are_refused():
    with pytest.raises(CircuitError, match=r"must have no free parameters.*power 0.5, but has a\. Fix"):
        modified(UGate(A, 0.1, 0.2), [PowerModifier(0.5)])


def test_what_is_no_gate_is_refused():
    inner = QuantumCircuit(1, 1, name="measures")
    inner.measure(0, 0)
    with pytest.raises(CircuitError, match="Only gates can be inverted.*holds `measure`"):
        flattened(inner.to_instruction())


def test_other_classes_of_controls_are_refused():
    circuit = QuantumCircuit(2)
    circuit.append(MCMTGate(lying("x"), 1, 1), [0, 1])
    with pytest.raises(CircuitError, match=r"\(MCMTGate\) controls `own_x`"):
        CircuitSpec.from_circuit(circuit, [], [], [])
    circuit = QuantumCircuit(2)
    circuit.append(MCMTGate(XGate(), 1, 1), [0, 1])
    assert Operator(CircuitSpec.from_circuit(circuit, [], [], []).circuit).equiv(CXGate())


def test_matrices_of_modified_operations():
    for gate, says in ((CZGate(), True), (lying("mine"), True), (PauliEvolutionGate(TERMS, 0.8), False)):
        circuit = QuantumCircuit(gate.num_qubits + 1)
        circuit.append(AnnotatedOperation(gate, ControlModifier(1)), circuit.qubits)
        assert means_its_matrix(circuit) is says
        assert Operator(as_matrices(circuit)) == Operator(circuit.data[0].operation)
