"""In which order a sweep applies the gates of a light cone, and in which direction it goes.

A sweep's cost grows as 4 to the number of qubits that it carries at once. Two kinds of order are tried:
always the gate whose joined cluster is smallest, and wires finished one after another, which runs along a
chain as a matrix-product state does. A sweep whose legs are all closed may also start from the observable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

from qhybrid.engines.exact.fusion import FusedGate
from qhybrid.engines.exact.light_cone import light_cone

ENTRY_WORK = 4.0
"""Multiply-adds that take as long as writing one number."""
Strategy = tuple[bool, str]
"""Whether to start from the observable, and the kind of order."""
KINDS = ("greedy", "ascending", "descending", "banded", "banded back")
STRATEGIES: tuple[Strategy, ...] = tuple((backward, kind) for backward in (False, True) for kind in KINDS)


@dataclass(frozen=True)
class SweepOrder:
    """The order in which a cone's gates are applied.

    Attributes:
        gates: Gate indices.
        widest: Largest number of qubits of a cluster on the way, before any is traced out or closed.
        work: Estimated multiply-adds a sample.
        backward: Whether the sweep starts from the observable.
    """

    gates: tuple[int, ...]
    widest: int
    work: float = 0.0
    backward: bool = False


def sweep_order(gates: Sequence[FusedGate], support: Sequence[int], widest_allowed: int) -> SweepOrder | None:
    """Choose an order greedily: always the gate whose joined cluster is smallest; the state stays open.

    Returns:
        The order, or None if a cluster would have more than `widest_allowed` qubits.
    """
    return _followed(gates, light_cone(gates, support), set(support), "greedy", widest_allowed)


def closed_order(
    gates: Sequence[FusedGate],
    support: Sequence[int],
    widest_allowed: int,
    strategies: Iterable[Strategy] = STRATEGIES,
) -> tuple[SweepOrder, Strategy] | None:
    """Choose the cheapest order for a read-out all of whose legs are closed, in either direction.

    Returns:
        The order and what it came from, or None if each carries more than `widest_allowed` qubits.
    """
    cone = light_cone(gates, support)
    best: tuple[SweepOrder, Strategy] | None = None
    for backward, kind in strategies:
        found = _followed(gates, cone[::-1] if backward else cone, set(), kind, widest_allowed)
        if found is not None and (best is None or found.work < best[0].work):
            best = SweepOrder(found.gates, found.widest, found.work, backward), (backward, kind)
    return best


def gate_counts(gates: Sequence[FusedGate], cone: Iterable[int]) -> dict[int, int]:
    """Return for every wire how many of the gates act on it."""
    counts: dict[int, int] = {}
    for index in cone:
        for qubit in gates[index].qubits:
            counts[qubit] = counts.get(qubit, 0) + 1
    return counts


def _followed(
    gates: Sequence[FusedGate], cone: Sequence[int], keep: set[int], kind: str, widest_allowed: int
) -> SweepOrder | None:
    """Return an order of that kind with its cost, None where it is too wide; `cone` is in sweep order."""
    clusters = _Clusters(gates, cone, keep)
    order = _greedy(clusters, cone) if kind == "greedy" else iter(_by_wires(gates, cone, kind))
    taken, widest = [], 0
    for index in order:
        widest = max(widest, clusters.take(index))
        if widest > widest_allowed:
            return None
        taken.append(index)
    return SweepOrder(tuple(taken), widest, clusters.work)


class _Clusters:
    """Which qubits are joined to one tensor, gate after gate.

    Args:
        gates: All gates.
        cone: The gates to take.
        keep: Qubits that stay open at the end.
    """

    def __init__(self, gates: Sequence[FusedGate], cone: Sequence[int], keep: set[int]) -> None:
        self.gates, self.keep = gates, keep
        self.uses = gate_counts(gates, cone)
        self.of: dict[int, frozenset[int]] = {}
        self.work = 0.0
        self.changed: frozenset[int] = frozenset()

    def joined(self, index: int) -> frozenset[int]:
        """Return the qubits of the cluster that a gate would make."""
        qubits = self.gates[index].qubits
        return frozenset(qubits).union(*(self.of[qubit] for qubit in qubits if qubit in self.of))

    def score(self, index: int) -> tuple[int, int, int]:
        """Return a gate's cost: qubits of the joined cluster, minus those that end there, index."""
        ending = sum(1 for q in self.gates[index].qubits if self.uses[q] == 1 and q not in self.keep)
        return len(self.joined(index)), -ending, index

    def take(self, index: int) -> int:
        """Apply a gate and return how many qubits its cluster had."""
        qubits, joined = self.gates[index].qubits, self.joined(index)
        fresh = sum(1 for qubit in qubits if qubit not in self.of)
        for qubit in qubits:
            self.uses[qubit] -= 1
        kept = frozenset(qubit for qubit in joined if self.uses[qubit] > 0 or qubit in self.keep)
        outputs = sum(1 for qubit in qubits if qubit in kept)
        self.work += 4.0 ** (len(joined) - fresh + outputs) + ENTRY_WORK * 4.0 ** len(kept)
        for qubit in joined:
            self.of[qubit] = kept
        self.changed = joined
        return len(joined)


def _greedy(clusters: _Clusters, cone: Sequence[int]) -> Iterator[int]:
    """Yield gates whose predecessors have been taken, the smallest cluster first."""
    gates = clusters.gates
    queues: dict[int, list[int]] = {}
    for index in reversed(cone):
        for qubit in gates[index].qubits:
            queues.setdefault(qubit, []).append(index)

    def is_first(index: int) -> bool:
        return all(queues[qubit][-1] == index for qubit in gates[index].qubits)

    scores = {index: clusters.score(index) for index in cone if is_first(index)}
    while scores:
        index = min(scores.values())[2]
        del scores[index]
        yield index
        for qubit in gates[index].qubits:
            queues[qubit].pop()
        for qubit in clusters.changed:
            first = queues[qubit][-1] if queues[qubit] else None
            if first is not None and is_first(first):
                scores[first] = clusters.score(first)


def _by_wires(gates: Sequence[FusedGate], cone: Sequence[int], kind: str) -> list[int]:
    """Return the order that finishes one wire after another, with all that each needs before it."""
    on_wire: dict[int, list[int]] = {}
    before: dict[int, list[int]] = {}
    for index in cone:
        before[index] = [on_wire[qubit][-1] for qubit in gates[index].qubits if on_wire.get(qubit)]
        for qubit in gates[index].qubits:
            on_wire.setdefault(qubit, []).append(index)
    done: set[int] = set()
    order: list[int] = []
    for wire in _wires(gates, cone, sorted(on_wire), kind):
        waiting = on_wire[wire][::-1]
        while waiting:
            index = waiting[-1]
            needs = [other for other in before[index] if other not in done]
            if index in done or not needs:
                waiting.pop()
                if index not in done:
                    done.add(index)
                    order.append(index)
            else:
                waiting += needs
    return order


def _wires(gates: Sequence[FusedGate], cone: Sequence[int], wires: list[int], kind: str) -> list[int]:
    if kind in ("ascending", "descending"):
        return wires if kind == "ascending" else wires[::-1]
    if not wires:
        return []
    place = {wire: i for i, wire in enumerate(wires)}
    pairs = {
        (place[a], place[b])
        for index in cone
        for a in gates[index].qubits
        for b in gates[index].qubits
        if a != b
    }
    if not pairs:
        return wires
    rows, columns = [a for a, _ in pairs], [b for _, b in pairs]
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(wires), len(wires))).tocsr()
    banded = [wires[i] for i in reverse_cuthill_mckee(graph, symmetric_mode=True)]
    return banded if kind == "banded" else banded[::-1]
