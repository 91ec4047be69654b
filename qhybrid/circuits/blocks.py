"""Boxes, loops of a fixed range, and resets of fresh qubits: what a unitary circuit can be written without.

A qubit is fresh until something acts on it; barriers do not. It is in |0> then, so that a reset is nothing,
and `initialize` is its state preparation.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import (
    Barrier,
    BoxOp,
    BreakLoopOp,
    ContinueLoopOp,
    ControlFlowOp,
    ForLoopOp,
    Instruction,
    Parameter,
    Reset,
)
from qiskit.circuit.library import Initialize

from qhybrid.errors import CircuitError


def without_blocks(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return a circuit with its boxes, loops, and resets of fresh qubits taken apart.

    Instructions whose definition holds one of these are taken apart, too.

    Args:
        circuit: Any circuit; it is not changed.

    Returns:
        The circuit itself if it has none of them. Whatever is not unitary (resets of used qubits,
        measurements, branches) stays where it is: the engines refuse it.

    Raises:
        CircuitError: If a box, a loop or a definition holds a branch, or leaves a loop before its end.

    Warns:
        UserWarning: If a box has a duration, which is not used.
    """
    if not any(_has_blocks(instruction) for instruction in circuit.data):
        return circuit
    result = circuit.copy_empty_like()
    result._layout = circuit.layout
    _Writer(result).write(circuit, result.qubits, result.clbits, inside="")
    return result


def _has_blocks(instruction: Any) -> bool:
    if instruction.is_standard_gate():
        return False
    operation = instruction.operation
    if _is_block(operation) or _is(operation, Reset) or _is(operation, Initialize):
        return True
    return any(_has_blocks(one) for one in _inner(operation))


def _is(operation: Any, kind: type) -> bool:
    return getattr(operation, "base_class", None) is kind


def _is_block(operation: Any) -> bool:
    return isinstance(operation, (BoxOp, ForLoopOp))


def _inner(operation: Any) -> Sequence[Any]:
    """Return the instructions of the definition of what is no gate; a gate's definition holds gates alone."""
    if isinstance(operation, ControlFlowOp) or type(operation) is not Instruction:
        return ()
    definition = operation.definition
    return () if definition is None else definition.data


class _Writer:
    """Appends instructions to a circuit, and knows which of its qubits are fresh."""

    def __init__(self, result: QuantumCircuit) -> None:
        self._result = result
        self._used: set[Any] = set()

    def write(
        self, source: QuantumCircuit, qubits: Sequence[Any], clbits: Sequence[Any], inside: str
    ) -> None:
        """Append a circuit on some bits of the result; `inside` is the block that holds it, for messages."""
        for instruction in source.data:
            places = [qubits[source.find_bit(bit).index] for bit in instruction.qubits]
            bits = [clbits[source.find_bit(bit).index] for bit in instruction.clbits]
            self._one(instruction, places, bits, inside)

    def _one(self, instruction: Any, qubits: list[Any], clbits: list[Any], inside: str) -> None:
        operation = instruction.operation
        fresh = self._used.isdisjoint(qubits)
        if isinstance(operation, BoxOp):
            self._box(operation, qubits, clbits)
        elif isinstance(operation, ForLoopOp):
            for body in _passes(operation):
                self.write(body, qubits, clbits, operation.name)
        elif (fresh and _is(operation, Initialize)) or any(_has_blocks(one) for one in _inner(operation)):
            self.write(operation.definition, qubits, clbits, operation.name)
        elif not (fresh and _is(operation, Reset)):
            if inside and isinstance(operation, (ControlFlowOp, BreakLoopOp, ContinueLoopOp)):
                raise CircuitError(
                    f"Circuits must be unitary, but a `{inside}` holds `{operation.name}`. Fix: loops with a "
                    "fixed range, and no branches."
                )
            self._result.append(operation, qubits, clbits)
            if not _is(operation, Barrier):
                self._used.update(qubits)

    def _box(self, box: Any, qubits: list[Any], clbits: list[Any]) -> None:
        """Append what a box holds, between barriers: its qubits wait for each other."""
        if box.duration is not None:
            warnings.warn(
                f"The duration of a box ({box.duration} {box.unit}) is not used. Fix: delays inside of it.",
                stacklevel=1,  # the same place for all callers: Python shows a line once
            )
        self._result.barrier(qubits)
        self.write(box.blocks[0], qubits, clbits, box.name)
        self._result.barrier(qubits)


def _passes(loop: Any) -> list[QuantumCircuit]:
    """Return the body of a loop for each pass, with the loop's parameter as a number.

    Raises:
        CircuitError: If the range is not fixed.
    """
    indices, parameter, body = loop.params
    try:
        values = [int(value) for value in indices]
    except TypeError as error:
        raise CircuitError(
            f"A `for_loop` must have a fixed range of integers, but has {indices!r}. Fix: "
            "range(n) or a tuple."
        ) from error
    if not isinstance(parameter, Parameter) or parameter not in body.parameters:
        if parameter is not None and not isinstance(parameter, Parameter):
            raise CircuitError(
                f"The variable of a `for_loop` must be a Parameter, but is {parameter!r}. Fix: "
                "circuit.for_loop(range(n), Parameter('i'))."
            )
        return [body] * len(values)
    return [body.assign_parameters({parameter: value}) for value in values]
