"""Modified operations (`AnnotatedOperation`): inverse, control and power of what an operation means.

A standard gate becomes the standard gate that it is then, where there is one (a controlled `x` is `cx`). Any
other operation is taken apart into standard gates and matrices first, global phase included, since under a
control that is a phase like any other; so the inverse of an evolution is the inverse of its definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import (
    AnnotatedOperation,
    CircuitInstruction,
    ControlModifier,
    Gate,
    InverseModifier,
    PowerModifier,
)
from qiskit.circuit.library import UnitaryGate
from qiskit.quantum_info import Operator

from qhybrid.circuits.meanings import meaning
from qhybrid.circuits.standard_gates import is_standard_gate
from qhybrid.errors import CircuitError


def modified(operation: Any, modifiers: Sequence[Any]) -> Any:
    """Return an operation with modifiers as a gate.

    Args:
        operation: What is modified, with a truthful name.
        modifiers: Qiskit's, applied one after the other; the qubits of a control come first.

    Raises:
        CircuitError: If it holds what is no gate, or a power is fractional and its parameters are free.
    """
    for modifier in modifiers:
        if isinstance(modifier, InverseModifier):
            operation = _inverse(operation)
        elif isinstance(modifier, ControlModifier):
            operation = _controlled(operation, modifier.num_ctrl_qubits, modifier.ctrl_state)
        elif isinstance(modifier, PowerModifier):
            operation = _power(operation, modifier.power)
        else:
            raise CircuitError(
                f"Operation `{operation.name}` has a modifier that is not known: {modifier!r}."
            )
    return operation


def as_matrices(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return a circuit with matrices for its modified operations, as plans of earlier versions hold them."""
    result = circuit.copy()
    for index, one in enumerate(circuit.data):
        if not one.is_standard_gate() and isinstance(one.operation, AnnotatedOperation):
            matrix = UnitaryGate(Operator(one.operation))
            result.data[index] = CircuitInstruction(matrix, one.qubits, one.clbits)
    return result


def means_its_matrix(circuit: QuantumCircuit) -> bool:
    """Return whether the modified operations of a circuit do what their matrices say.

    Those of evolutions do not: the matrix is that of the exponential, not of its product formula.
    """
    for one in circuit.data:
        operation = None if one.is_standard_gate() else one.operation
        if not isinstance(operation, AnnotatedOperation):
            continue
        found = flattened(modified(operation.base_op, operation.modifiers))
        if not Operator(found).equiv(Operator(operation)):
            return False
    return True


def flattened(operation: Any) -> QuantumCircuit:
    """Return an operation as a circuit of standard gates and matrices, with its global phase.

    Raises:
        CircuitError: If it holds what is no gate.
    """
    result = QuantumCircuit(operation.num_qubits)
    _flatten(operation, result.qubits, result)
    return result


def _flatten(operation: Any, qubits: Sequence[Any], result: QuantumCircuit) -> None:
    if operation.name == "barrier":
        return
    if is_standard_gate(operation) or isinstance(operation, UnitaryGate):
        result.append(operation, qubits)
        return
    if isinstance(operation, AnnotatedOperation):
        _flatten(modified(operation.base_op, operation.modifiers), qubits, result)
        return
    if not isinstance(operation, Gate) and getattr(operation, "definition", None) is None:
        raise CircuitError(
            f"Only gates can be inverted, controlled or raised to a power, but one holds `{operation.name}`."
        )
    inner = meaning(operation)
    result.global_phase += inner.global_phase
    for one in inner.data:
        _flatten(one.operation, [qubits[inner.find_bit(bit).index] for bit in one.qubits], result)


def _is_simple(operation: Any) -> bool:
    return is_standard_gate(operation) or isinstance(operation, UnitaryGate)


def _gate(name: str, definition: QuantumCircuit) -> Gate:
    parameters = sorted(definition.parameters, key=lambda one: one.name)
    gate = Gate(name, definition.num_qubits, parameters)
    gate.definition = definition
    return gate


def _inverse(operation: Any) -> Any:
    if _is_simple(operation):
        return operation.inverse(annotated=False)
    return _gate(f"inverse_{operation.name}", flattened(operation).inverse())


def _controlled(operation: Any, count: int, state: int) -> Any:
    if _is_simple(operation):
        return operation.control(count, ctrl_state=state, annotated=False)
    base = flattened(operation).to_gate()
    definition = base.control(count, ctrl_state=state, annotated=False).definition
    return _gate(f"controlled_{operation.name}", definition)


def _power(operation: Any, exponent: float) -> Any:
    """Return a power: of a rotation by its angle, a whole one by repetition, any other by the matrix.

    Raises:
        CircuitError: If a power is fractional, and parameters of the operation are free.
    """
    if is_standard_gate(operation) and operation.params:
        try:
            found = operation.power(exponent, annotated=False)
        except (TypeError, ValueError):  # it would be a matrix, which has no free parameters
            found = None
        if found is not None and is_standard_gate(found):
            return found
    flat = flattened(operation)
    if float(exponent).is_integer():
        once = flat.inverse() if exponent < 0 else flat
        result = QuantumCircuit(flat.num_qubits)
        for _ in range(abs(int(exponent))):
            result.compose(once, inplace=True)
        return _gate(f"power_{operation.name}", result)
    if flat.parameters:
        free = ", ".join(one.name for one in flat.parameters)
        raise CircuitError(
            f"Operation `{operation.name}` must have no free parameters to be raised to the power "
            f"{exponent:g}, but has {free}. Fix: a whole power, or bind them."
        )
    return UnitaryGate(Operator(flat).power(exponent))
