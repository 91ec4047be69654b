"""Delays: pauses of a circuit, and of the gates that it is made of. QPY files keep no units of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from qiskit import QuantumCircuit


def delays_in(circuit: QuantumCircuit) -> Iterator[Any]:
    """Return the delays of a circuit, those in definitions of its gates too."""
    for instruction in circuit.data:
        if instruction.is_standard_gate():
            continue
        if instruction.operation.name == "delay":
            yield instruction.operation
        elif (inner := _definition(instruction.operation)) is not None:
            yield from delays_in(inner)


def has_delays(circuit: QuantumCircuit) -> bool:
    """Return whether a circuit has delays, in definitions of its gates too."""
    return next(delays_in(circuit), None) is not None


def without_delays(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return a circuit without its delays, which does the same; gates that have some become their parts."""
    if not has_delays(circuit):
        return circuit
    result = circuit.copy_empty_like()
    for instruction in circuit.data:
        if not instruction.is_standard_gate():
            if instruction.operation.name == "delay":
                continue
            inner = _definition(instruction.operation)
            if inner is not None and has_delays(inner):
                result.compose(without_delays(inner), instruction.qubits, instruction.clbits, inplace=True)
                continue
        result.append(instruction)
    return result


def _definition(operation: Any) -> QuantumCircuit | None:
    with suppress(Exception):  # anything may go wrong in gates of others
        return getattr(operation, "definition", None)
    return None
