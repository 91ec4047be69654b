"""Fuse primitives: what does not depend on the data melts into few tensors without batch dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.gates.pauli_transfer import Array, rotation_tensor, transfer_matrix
from qhybrid.engines.lowering import Lowered, Primitive


@dataclass
class FusedGate:
    """A gate of the network.

    Attributes:
        qubits: Wires it acts on.
        tensor: Node without batch dimension; axes are the outputs of all wires, then their inputs, then, for
            a rotation by a data-dependent angle, the three features.
        feature: Node of the features (1, cos t, sin t) of the data-dependent angle, or None.
    """

    qubits: tuple[int, ...]
    tensor: int
    feature: int | None = None


def fuse(lowered: Lowered, graph: Graph) -> list[FusedGate]:
    """Return the fused gates of a circuit in time order.

    Gates without data-dependent angle are absorbed by the gate before them if that has none either and acts
    on all their wires; runs of one-qubit gates that find no such gate are absorbed by the gate after them.
    """
    builder = _Fuser(graph, lowered.num_qubits)
    for primitive in lowered.primitives:
        builder.add(primitive)
    return builder.finish()


class _Fuser:
    def __init__(self, graph: Graph, num_qubits: int) -> None:
        self._graph = graph
        self._gates: list[FusedGate] = []
        self._last: list[int | None] = [None] * num_qubits
        self._pending: list[int | None] = [None] * num_qubits

    def add(self, primitive: Primitive) -> None:
        qubits = primitive.qubits
        tensor, feature = self._tensor(primitive)
        previous = self._last[qubits[0]]
        if feature is None and previous is not None:
            before = self._gates[previous]
            same = all(self._last[qubit] == previous and self._pending[qubit] is None for qubit in qubits)
            if same and before.feature is None:
                self._absorb_after(before, qubits, tensor)
                return
        if feature is None and len(qubits) == 1:
            earlier = self._pending[qubits[0]]
            joined = tensor if earlier is None else self._product(tensor, earlier)
            self._pending[qubits[0]] = joined
            return
        self._emit(qubits, tensor, feature)

    def finish(self) -> list[FusedGate]:
        for qubit, tensor in enumerate(self._pending):
            if tensor is None:
                continue
            self._pending[qubit] = None
            last = self._last[qubit]
            if last is None:
                self._gates.append(FusedGate((qubit,), tensor))
            else:
                self._absorb_after(self._gates[last], (qubit,), tensor)
        return self._gates

    def _tensor(self, primitive: Primitive) -> tuple[int, int | None]:
        """Return the gate's node, outputs then inputs, and the node of its data-dependent features."""
        legs = (4,) * (2 * len(primitive.qubits))
        angle = primitive.angle
        if angle is None:
            assert primitive.matrix is not None
            return self._graph.constant(
                _after(transfer_matrix(primitive.matrix), primitive).reshape(legs)
            ), None
        rotation = _after(rotation_tensor(primitive.pauli), primitive).reshape(*legs, 3)
        if angle.constant:
            features = np.array([1.0, np.cos(angle.offset), np.sin(angle.offset)])
            return self._graph.constant(rotation @ features), None
        node, feature = self._graph.constant(rotation), self._graph.feature(angle)
        if angle.batched:
            return node, feature
        labels = tuple(range(len(legs)))
        return self._graph.contract(node, (*labels, len(legs)), feature, (len(legs),), labels), None

    def _product(self, later: int, earlier: int) -> int:
        return self._graph.contract(later, (0, 1), earlier, (1, 2), (0, 2))

    def _emit(self, qubits: tuple[int, ...], tensor: int, feature: int | None) -> None:
        size = len(qubits)
        labels = list(range(2 * size + (feature is not None)))
        for place, qubit in enumerate(qubits):
            pending = self._pending[qubit]
            if pending is not None:
                inner = [*labels]
                inner[size + place] = 99
                tensor = self._graph.contract(tensor, inner, pending, (99, size + place), labels)
                self._pending[qubit] = None
        for qubit in qubits:
            self._last[qubit] = len(self._gates)
        self._gates.append(FusedGate(qubits, tensor, feature))

    def _absorb_after(self, gate: FusedGate, qubits: Sequence[int], tensor: int) -> None:
        """Replace a gate by `tensor` (on some of its wires) after it."""
        labels = list(range(2 * len(gate.qubits) + (gate.feature is not None)))
        inner = [*labels]
        places = [gate.qubits.index(qubit) for qubit in qubits]
        for place in places:
            inner[place] = 99 + place
        outer = [*places, *(99 + place for place in places)]
        gate.tensor = self._graph.contract(tensor, outer, gate.tensor, inner, labels)


def _after(tensor: Array, primitive: Primitive) -> Array:
    """Return a gate's tensor with its noise behind it."""
    return tensor if primitive.channel is None else np.tensordot(primitive.channel, tensor, axes=(1, 0))
