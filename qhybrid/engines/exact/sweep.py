"""Forward sweep: carry Pauli vectors of clusters of qubits, merge them at gates, trace out early.

A qubit that no remaining gate of the cone needs is traced out by the very gate that touches it last: only the
identity row of that gate's output is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qhybrid.engines.exact.fusion import FusedGate
from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.light_cone import light_cone
from qhybrid.engines.gates.pauli_transfer import ZERO_STATE


@dataclass(frozen=True)
class Cluster:
    """The reduced state of some qubits.

    Attributes:
        qubits: Its wires, in the order of the axes of `node`.
        node: Node of its Pauli vector.
        gates: Set of all gates that went into it, as bits.
    """

    qubits: tuple[int, ...]
    node: int
    gates: int


@dataclass
class SweepOrder:
    """The order in which a cone's gates are applied.

    Attributes:
        gates: Gate indices.
        widest: Largest number of qubits of a cluster on the way, before tracing out.
    """

    gates: list[int]
    widest: int


def sweep_order(gates: Sequence[FusedGate], support: Sequence[int], widest_allowed: int) -> SweepOrder | None:
    """Choose an order greedily: always the gate whose joined cluster is smallest.

    Returns:
        The order, or None if a cluster would have more than `widest_allowed` qubits.
    """
    cone = light_cone(gates, support)
    uses, keep = _uses(gates, cone), set(support)
    cluster_of: dict[int, frozenset[int]] = {}
    front = _Front(gates, cone)
    order, widest = [], 0
    while front.ready:
        score, joined = min(_score(gates[i].qubits, i, cluster_of, uses, keep) for i in front.ready)
        index = score[2]
        front.take(index)
        order.append(index)
        widest = max(widest, score[0])
        if widest > widest_allowed:
            return None
        for qubit in gates[index].qubits:
            uses[qubit] -= 1
        kept = frozenset(qubit for qubit in joined if uses[qubit] > 0 or qubit in keep)
        for qubit in kept:
            cluster_of[qubit] = kept
    return SweepOrder(order, widest)


def _score(
    qubits: tuple[int, ...],
    index: int,
    cluster_of: dict[int, frozenset[int]],
    uses: dict[int, int],
    keep: set[int],
) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Return a gate's cost (qubits of the joined cluster, minus those traced out, index) and that cluster."""
    joined = frozenset(qubits).union(*(cluster_of.get(qubit, frozenset()) for qubit in qubits))
    done = sum(1 for qubit in qubits if uses[qubit] == 1 and qubit not in keep)
    return (len(joined), -done, index), tuple(sorted(joined))


class _Front:
    """The gates of a cone all of whose predecessors have been taken."""

    def __init__(self, gates: Sequence[FusedGate], cone: Sequence[int]) -> None:
        self._gates = gates
        self._queues: dict[int, list[int]] = {}
        for index in reversed(cone):
            for qubit in gates[index].qubits:
                self._queues.setdefault(qubit, []).append(index)
        self.ready = {index for index in cone if self._is_first(index)}

    def take(self, index: int) -> None:
        """Remove a gate; its successors may become ready."""
        self.ready.remove(index)
        for qubit in self._gates[index].qubits:
            self._queues[qubit].pop()
        for qubit in self._gates[index].qubits:
            queue = self._queues[qubit]
            if queue and self._is_first(queue[-1]):
                self.ready.add(queue[-1])

    def _is_first(self, index: int) -> bool:
        return all(self._queues[qubit][-1] == index for qubit in self._gates[index].qubits)


def _uses(gates: Sequence[FusedGate], cone: Sequence[int]) -> dict[int, int]:
    uses: dict[int, int] = {}
    for index in cone:
        for qubit in gates[index].qubits:
            uses[qubit] = uses.get(qubit, 0) + 1
    return uses


@dataclass
class ForwardSweep:
    """Builds the nodes of sweeps; clusters that hold the same gates and qubits are built once."""

    graph: Graph
    gates: Sequence[FusedGate]
    _known: dict[tuple[int, tuple[int, ...]], Cluster] = field(default_factory=dict)

    def run(self, support: Sequence[int], order: SweepOrder) -> list[Cluster]:
        """Return the clusters that hold the qubits of `support` at the end; untouched qubits are in none."""
        uses = _uses(self.gates, order.gates)
        keep = set(support)
        cluster_of: dict[int, Cluster] = {}
        for index in order.gates:
            gate = self.gates[index]
            for qubit in gate.qubits:
                uses[qubit] -= 1
            gone = {qubit for qubit in gate.qubits if uses[qubit] == 0 and qubit not in keep}
            cluster = self._apply(index, cluster_of, gone)
            for qubit in cluster.qubits:
                cluster_of[qubit] = cluster
            for qubit in gate.qubits:
                if qubit in gone:
                    cluster_of.pop(qubit, None)
        final = {id(cluster_of[qubit]): cluster_of[qubit] for qubit in support if qubit in cluster_of}
        return list(final.values())

    def _apply(self, index: int, cluster_of: dict[int, Cluster], gone: set[int]) -> Cluster:
        gate = self.gates[index]
        parts = list({id(c): c for c in (cluster_of.get(q) for q in gate.qubits) if c is not None}.values())
        mask = 1 << index
        for part in parts:
            mask |= part.gates
        old = tuple(qubit for part in parts for qubit in part.qubits)
        kept = tuple(sorted({*old, *gate.qubits} - gone))
        key = (mask, kept)
        if key not in self._known:
            self._known[key] = self._build(gate, parts, gone, mask)
        return self._known[key]

    def _build(self, gate: FusedGate, parts: list[Cluster], gone: set[int], mask: int) -> Cluster:
        """Contract one gate with the clusters it touches. Label q is the clusters' leg of wire q."""
        graph, width = self.graph, 1 + max(gate.qubits + tuple(q for part in parts for q in part.qubits))
        tensor, labels = gate.tensor, [width + q for q in gate.qubits] + list(gate.qubits)
        if gate.feature is not None:
            labels.append(2 * width)
        held = {qubit for part in parts for qubit in part.qubits}
        for qubit in gate.qubits:
            if qubit in gone:
                axis = labels.index(width + qubit)
                tensor = graph.select(tensor, axis)
                del labels[axis]
            if qubit not in held:
                fresh = graph.constant(ZERO_STATE)
                rest = [label for label in labels if label != qubit]
                tensor = graph.contract(tensor, labels, fresh, (qubit,), rest)
                labels = rest
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
        return Cluster(tuple(label % width for label in outputs), tensor, mask)

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
