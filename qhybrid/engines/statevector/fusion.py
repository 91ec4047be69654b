"""Fuse primitives for a statevector: small complex matrices, and Pauli rotations by data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.gates.pauli_transfer import ComplexArray, pauli_matrix
from qhybrid.engines.lowering import Primitive


@dataclass
class StateGate:
    """One step on the state.

    Attributes:
        qubits: Wires it acts on.
        tensor: Node of its matrix, output legs then input legs of size 2; or, for a rotation, of the features
            (1, cos t/2, sin t/2) of its angle t.
        pauli: For a rotation exp(-i t P / 2) by a data-dependent angle on several qubits: P's letters; else
            "".
    """

    qubits: tuple[int, ...]
    tensor: int
    pauli: str = ""


def fuse_state_gates(primitives: Sequence[Primitive], num_qubits: int, graph: Graph) -> list[StateGate]:
    """Return the fused steps in time order.

    Runs of one-qubit gates become one matrix (one a sample where data enter); data-free ones melt into a
    neighbouring data-free gate; consecutive data-free gates on the same wires become one.
    """
    builder = _StateFuser(graph, num_qubits)
    for primitive in primitives:
        builder.add(primitive)
    return builder.finish()


class _StateFuser:
    def __init__(self, graph: Graph, num_qubits: int) -> None:
        self._graph = graph
        self._gates: list[StateGate] = []
        self._last: list[int | None] = [None] * num_qubits
        self._pending: list[int | None] = [None] * num_qubits

    def add(self, primitive: Primitive) -> None:
        """Take the next primitive."""
        qubits = primitive.qubits
        if len(qubits) > 1 and primitive.angle is not None and primitive.angle.batched:
            self._emit(qubits, self._graph.feature(primitive.angle.scaled(0.5)), primitive.pauli)
            return
        tensor = self._tensor(primitive)
        if not self._graph.nodes[tensor].batched and self._absorbed(qubits, tensor):
            return
        if len(qubits) == 1:
            earlier = self._pending[qubits[0]]
            joined = (
                tensor if earlier is None else self._graph.contract(tensor, (0, 1), earlier, (1, 2), (0, 2))
            )
            self._pending[qubits[0]] = joined
            return
        self._emit(qubits, tensor, "")

    def finish(self) -> list[StateGate]:
        """Return all steps."""
        for qubit in range(len(self._pending)):
            self._flush(qubit)
        return self._gates

    def _tensor(self, primitive: Primitive) -> int:
        size = len(primitive.qubits)
        angle = primitive.angle
        if angle is None:
            assert primitive.matrix is not None
            return self._graph.constant(_first_qubit_first(primitive.matrix))
        pauli = _first_qubit_first(pauli_matrix(primitive.pauli))
        identity = np.eye(2**size, dtype=complex).reshape(pauli.shape)
        if angle.constant:
            half = angle.offset / 2
            return self._graph.constant(np.cos(half) * identity - 1j * np.sin(half) * pauli)
        rotation = self._graph.constant(np.stack([0 * identity, identity, -1j * pauli], axis=-1))
        labels = tuple(range(2 * size))
        feature = self._graph.feature(angle.scaled(0.5))
        return self._graph.contract(rotation, (*labels, 2 * size), feature, (2 * size,), labels)

    def _absorbed(self, qubits: tuple[int, ...], tensor: int) -> bool:
        """Melt a data-free gate into the data-free gate before it, if that acts on all its wires."""
        previous = self._last[qubits[0]]
        if previous is None:
            return False
        gate = self._gates[previous]
        fits = all(self._last[qubit] == previous and self._pending[qubit] is None for qubit in qubits)
        if not fits or gate.pauli or self._graph.nodes[gate.tensor].batched:
            return False
        labels = list(range(2 * len(gate.qubits)))
        inner = [*labels]
        places = [gate.qubits.index(qubit) for qubit in qubits]
        for place in places:
            inner[place] = 99 + place
        outer = [*places, *(99 + place for place in places)]
        gate.tensor = self._graph.contract(tensor, outer, gate.tensor, inner, labels)
        return True

    def _emit(self, qubits: tuple[int, ...], tensor: int, pauli: str) -> None:
        size = len(qubits)
        labels = list(range(2 * size))
        for place, qubit in enumerate(qubits):
            pending = self._pending[qubit]
            if pending is None:
                continue
            if pauli or self._graph.nodes[pending].batched:
                self._flush(qubit)
                continue
            inner = [*labels]
            inner[size + place] = 99
            tensor = self._graph.contract(tensor, inner, pending, (99, size + place), labels)
            self._pending[qubit] = None
        self._append(StateGate(qubits, tensor, pauli))

    def _flush(self, qubit: int) -> None:
        pending = self._pending[qubit]
        if pending is not None:
            self._pending[qubit] = None
            if self._graph.nodes[pending].batched or not self._absorbed((qubit,), pending):
                self._append(StateGate((qubit,), pending))

    def _append(self, gate: StateGate) -> None:
        for qubit in gate.qubits:
            self._last[qubit] = len(self._gates)
        self._gates.append(gate)


def _first_qubit_first(matrix: ComplexArray) -> ComplexArray:
    """Return a gate's matrix with one leg a qubit, outputs then inputs, first qubit first."""
    size = matrix.shape[0].bit_length() - 1
    order = [*range(size - 1, -1, -1), *range(2 * size - 1, size - 1, -1)]
    return np.asarray(matrix, dtype=complex).reshape((2,) * (2 * size)).transpose(order)
