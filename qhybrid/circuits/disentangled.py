"""A circuit without its gates on two or more qubits: what its parts do, each for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import (
    AnnotatedOperation,
    Barrier,
    ControlFlowOp,
    ControlledGate,
    Delay,
    Measure,
    Reset,
)
from qiskit.circuit.library import UnitaryGate

from qhybrid.circuits.meanings import meaning
from qhybrid.circuits.modifiers import modified
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.circuits.standard_gates import is_standard_gate
from qhybrid.errors import CircuitError


def disentangled(spec: CircuitSpec) -> CircuitSpec:
    """Return a circuit without its gates on two or more qubits.

    The state is a product of one-qubit states for all angles, so that <P (x) Q> = <P> <Q> for Pauli strings
    P and Q on different qubits. Composite instructions are taken apart as their definitions say. A gate is
    what Qiskit's library has as one (`swap` and `crx` are gates, and go whole), a controlled gate, or a
    matrix, even where that matrix happens to be a product.

    Inputs, weights and observables stay the same, in the same order, so that the weights of a trained circuit
    fit. Angles that only removed gates had stand in no gate any more.

    Args:
        spec: The circuit; it is not changed.

    Raises:
        CircuitError: If the circuit measures, resets or branches.
    """
    circuit = spec.circuit.copy_empty_like()
    circuit._layout = spec.circuit.layout
    for instruction in spec.circuit.data:
        places = [spec.circuit.find_bit(bit).index for bit in instruction.qubits]
        _write(instruction.operation, [circuit.qubits[place] for place in places], circuit)
    return replace(spec, name=f"{spec.name}_disentangled", circuit=circuit)


def entangling_gates(spec: CircuitSpec) -> int:
    """Return the number of gates on two or more qubits, which `disentangled` leaves out."""
    return sum(
        _removed(instruction.operation) for instruction in spec.circuit.data if len(instruction.qubits) > 1
    )


def _write(operation: Any, qubits: Sequence[Any], result: QuantumCircuit) -> None:
    """Append what is left of an operation."""
    _check_unitary(operation)
    if len(qubits) == 1 or isinstance(operation, (Barrier, Delay)):
        result.append(operation, qubits)
    elif not _is_gate(operation):
        inner = _opened(operation)
        for one in inner.data:
            _write(one.operation, [qubits[inner.find_bit(bit).index] for bit in one.qubits], result)


def _removed(operation: Any) -> int:
    """Return how many gates on two or more qubits an operation on two or more qubits holds."""
    if isinstance(operation, (Barrier, Delay)):
        return 0
    if _is_gate(operation):
        return 1
    return sum(_removed(one.operation) for one in _opened(operation).data if len(one.qubits) > 1)


def _is_gate(operation: Any) -> bool:
    return is_standard_gate(operation) or isinstance(operation, (UnitaryGate, ControlledGate))


def _opened(operation: Any) -> QuantumCircuit:
    if isinstance(operation, AnnotatedOperation):  # inside of a definition of Qiskit's
        return _alone(modified(operation.base_op, operation.modifiers))
    return meaning(operation)


def _alone(operation: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(operation.num_qubits)
    circuit.append(operation, circuit.qubits)
    return circuit


def _check_unitary(operation: Any) -> None:
    if isinstance(operation, (ControlFlowOp, Measure, Reset)):
        raise CircuitError(
            f"Circuits must be unitary to be disentangled, but one holds `{operation.name}`. Fix: take "
            "measurements, resets and branches out."
        )
