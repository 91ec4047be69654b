"""A circuit as a plain list of gates, for simulators other than ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qhybrid.circuits import CircuitSpec
from qhybrid.engines.gates.expression import Angle, AngleReader


@dataclass(frozen=True)
class Gate:
    """One gate.

    Attributes:
        name: rx, ry, rz, h, cx or cz.
        qubits: Its qubits, control first.
        angle: Of a rotation, else None.
    """

    name: str
    qubits: tuple[int, ...]
    angle: Angle | None = None

    def radians(self, inputs: Any, weights: Any) -> Any:
        """Return the angle for inputs with the parameter on the last axis, in the caller's array type."""
        assert self.angle is not None
        result: Any = self.angle.offset
        for index, factor in self.angle.inputs:
            result = result + factor * inputs[..., index]
        for index, factor in self.angle.weights:
            result = result + factor * weights[index]
        return result


def gates_of(spec: CircuitSpec) -> list[Gate]:
    """Return the gates of a flat circuit of rotations by affine angles, H, CX and CZ."""
    reader, gates = AngleReader.of(spec), []
    for instruction in spec.circuit.data:
        name = instruction.operation.name
        qubits = tuple(spec.circuit.find_bit(qubit).index for qubit in instruction.qubits)
        if name in ("rx", "ry", "rz"):
            gates.append(Gate(name, qubits, reader.read(instruction.operation.params[0])))
        elif name in ("h", "cx", "cz"):
            gates.append(Gate(name, qubits))
        elif name != "barrier":
            raise ValueError(f"No peer is told how to run `{name}`.")
    return gates


def letters_of(spec: CircuitSpec) -> list[tuple[str, int]]:
    """Return (letter, qubit) of every observable, each one Pauli letter on one qubit."""
    found = []
    for observable in spec.observables:
        ((letter, (qubit,), _),) = observable.to_sparse_list()
        found.append((letter, qubit))
    return found


def check_parity(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], tolerance: float) -> float:
    """Return the largest difference of values and gradients, over the largest of each or 1.

    Raises:
        ValueError: If it is above the tolerance: then a comparison of times would mean nothing.
    """
    difference = max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in zip(ours, theirs))
    if not difference <= tolerance:
        raise ValueError(f"Both sides must agree within {tolerance:g}, but differ by {difference:.2e}.")
    return difference
