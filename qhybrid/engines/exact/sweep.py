"""Sweeps: carry Pauli vectors of clusters of qubits, merge them at gates, trace out or close legs early.

A qubit that no remaining gate of the cone needs ends at the very gate that touches it last: only the identity
row of that gate's output is computed, or its product with the vector that closes the leg. A sweep whose legs
are all closed may also go backward, from the observable to the start state (the Heisenberg picture).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qhybrid.engines.exact.fusion import FusedGate
from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.light_cone import UNIT_ROWS, ReadOut, Row
from qhybrid.engines.exact.order import SweepOrder, gate_counts

IDENTITY_ROW = UNIT_ROWS[0]
ZERO_ROW: Row = (1.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Cluster:
    """The tensor of some qubits.

    Attributes:
        qubits: Its wires, in the order of the axes of `node`.
        node: Node of its Pauli vector.
        gates: Set of all gates that went into it, as bits.
        marks: Vectors of the observable that went into it, other than the identity's: pairs (wire, vector).
    """

    qubits: tuple[int, ...]
    node: int
    gates: int
    marks: frozenset[tuple[int, Row]] = frozenset()


@dataclass
class _Ends:
    """Where the legs of one sweep start and end.

    Attributes:
        backward: Whether the sweep starts from the observable.
        closing: The observable's vectors, by wire.
        keep: Wires that stay open.
    """

    backward: bool
    closing: Mapping[int, Row]
    keep: frozenset[int]

    def start(self, qubit: int) -> Row:
        """Return the vector of a wire before the first gate of the sweep."""
        return self.closing.get(qubit, IDENTITY_ROW) if self.backward else ZERO_ROW

    def end(self, qubit: int) -> Row:
        """Return the vector that closes a wire behind its last gate."""
        return ZERO_ROW if self.backward else self.closing.get(qubit, IDENTITY_ROW)

    def marks(self, started: Sequence[int], ended: Sequence[int]) -> frozenset[tuple[int, Row]]:
        """Return the observable's vectors that a gate takes in."""
        wires = started if self.backward else ended
        return frozenset((qubit, self.closing[qubit]) for qubit in wires if qubit in self.closing)


@dataclass
class Sweep:
    """Builds the nodes of sweeps; clusters that hold the same gates, vectors and qubits are built once."""

    graph: Graph
    gates: Sequence[FusedGate]
    _known: dict[object, Cluster] = field(default_factory=dict)

    def run(self, read_out: ReadOut, order: SweepOrder) -> list[Cluster]:
        """Return the clusters at the end.

        For an open read-out they hold the qubits of its support, untouched qubits are in none; for a closed
        one they are numbers, and the read-out is their product.
        """
        uses = gate_counts(self.gates, order.gates)
        closing = dict(zip(read_out.support, read_out.closing))
        ends = _Ends(order.backward, closing, frozenset(() if closing else read_out.support))
        cluster_of: dict[int, Cluster] = {}
        numbers: list[Cluster] = []
        for index in order.gates:
            gate = self.gates[index]
            for qubit in gate.qubits:
                uses[qubit] -= 1
            gone = {qubit for qubit in gate.qubits if uses[qubit] == 0 and qubit not in ends.keep}
            cluster = self._apply(index, cluster_of, gone, ends)
            for qubit in cluster.qubits:
                cluster_of[qubit] = cluster
            for qubit in gone:
                cluster_of.pop(qubit, None)
            if closing and not cluster.qubits:
                numbers.append(cluster)
        if closing:
            return numbers
        open_wires = [qubit for qubit in read_out.support if qubit in cluster_of]
        return list({id(cluster_of[qubit]): cluster_of[qubit] for qubit in open_wires}.values())

    def _apply(self, index: int, cluster_of: dict[int, Cluster], gone: set[int], ends: _Ends) -> Cluster:
        gate = self.gates[index]
        parts = list({id(c): c for c in (cluster_of.get(q) for q in gate.qubits) if c is not None}.values())
        mask = 1 << index
        started = [qubit for qubit in gate.qubits if qubit not in cluster_of]
        marks = ends.marks(started, sorted(gone)).union(*(part.marks for part in parts))
        for part in parts:
            mask |= part.gates
        old = tuple(qubit for part in parts for qubit in part.qubits)
        kept = tuple(sorted({*old, *gate.qubits} - gone))
        key = (mask, kept, marks, ends.backward)
        if key not in self._known:
            qubits, node = self._build(gate, parts, gone, ends)
            self._known[key] = Cluster(qubits, node, mask, marks)
        return self._known[key]

    def _build(
        self, gate: FusedGate, parts: list[Cluster], gone: set[int], ends: _Ends
    ) -> tuple[tuple[int, ...], int]:
        """Contract one gate with the clusters it touches. Label q is the clusters' leg of wire q."""
        graph, width = self.graph, 1 + max(gate.qubits + tuple(q for part in parts for q in part.qubits))
        after, behind = [width + q for q in gate.qubits], list(gate.qubits)
        tensor, labels = gate.tensor, behind + after if ends.backward else after + behind
        if gate.feature is not None:
            labels.append(2 * width)
        held = {qubit for part in parts for qubit in part.qubits}
        for qubit in gate.qubits:
            if qubit in gone:
                tensor = self._closed(tensor, labels, width + qubit, ends.end(qubit))
            if qubit not in held:
                tensor = self._closed(tensor, labels, qubit, ends.start(qubit))
        state, legs = self._joined(gate, parts)
        if gate.feature is not None:
            if state is None:
                state, legs = gate.feature, [2 * width]
            else:
                state = graph.contract(gate.feature, (2 * width,), state, legs, [2 * width, *legs])
                legs = [2 * width, *legs]
        outputs = [label for label in labels if label not in legs]
        if state is not None:
            rest = [leg for leg in legs if leg not in labels]
            tensor = graph.contract(tensor, labels, state, legs, outputs + rest)
            outputs = outputs + rest
        return tuple(label % width for label in outputs), tensor

    def _closed(self, tensor: int, labels: list[int], label: int, vector: Row) -> int:
        """Return a tensor with one leg multiplied with a vector; the leg's label is removed."""
        axis = labels.index(label)
        rest = [other for other in labels if other != label]
        if vector == IDENTITY_ROW:
            tensor = self.graph.select(tensor, axis)
        else:
            tensor = self.graph.contract(
                tensor, labels, self.graph.constant(np.array(vector)), (label,), rest
            )
        labels[:] = rest
        return tensor

    def _joined(self, gate: FusedGate, parts: list[Cluster]) -> tuple[int | None, list[int]]:
        """Return the product state of the clusters, the gate's own qubits first where that costs nothing."""
        if not parts:
            return None, []
        state, legs = parts[0].node, list(parts[0].qubits)
        for part in parts[1:]:
            joined = legs + list(part.qubits)
            state = self.graph.contract(state, legs, part.node, part.qubits, joined)
            legs = joined
        return state, legs
