"""Contract a light cone along a searched path: for cones in which a forward sweep would carry too much.

The cone is written as one tensor network - gates, feature vectors, start states - and cotengra looks for the
order of pairwise contractions with the fewest operations (a sweep from the read-out's side is one of the
orders it may find). Data-free parts are contracted once for the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cotengra
import numpy as np

from qhybrid.engines.exact.fusion import FusedGate
from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.light_cone import UNIT_ROWS, ReadOut, Row, light_cone
from qhybrid.engines.gates.pauli_transfer import ZERO_STATE

SsaPath = tuple[tuple[int, int], ...]
"""Pairs of tensors to contract; results are numbered on after the network's own tensors."""
_ONE = np.ones(())
KEPT_PATHS = 2048
"""Orders that a process keeps, by the form of their network."""


@dataclass
class ConeNetwork:
    """The tensors of one light cone.

    Attributes:
        nodes: Graph nodes.
        labels: Index labels of each node.
        output: Labels that stay open: one for each wire of `qubits`.
        qubits: The read-out's wires that a gate touches; none of a closed read-out, which ends in a number.
    """

    nodes: list[int]
    labels: list[list[int]]
    output: list[int]
    qubits: tuple[int, ...]


def cone_network(graph: Graph, gates: Sequence[FusedGate], read_out: ReadOut) -> ConeNetwork:
    """Return the tensor network of a read-out.

    Wires that end without being read are traced out; a closed read-out's wires end in its vectors. All
    closed read-outs of one support have networks of one form.
    """
    support = read_out.support
    closing = dict(zip(support, read_out.closing))
    cone = light_cone(gates, support)
    last_use = {qubit: index for index in cone for qubit in gates[index].qubits}
    nodes: list[int] = []
    labels: list[list[int]] = []
    wire: dict[int, int] = {}
    count = 0
    for index in cone:
        gate = gates[index]
        size = len(gate.qubits)
        tensor = gate.tensor
        outs = list(range(count, count + size))
        count += size
        own = [*outs, *(-2 - qubit for qubit in gate.qubits)]
        if gate.feature is not None:
            own.append(count)
            nodes.append(gate.feature)
            labels.append([count])
            count += 1
        for place, qubit in enumerate(gate.qubits):
            leg = -2 - qubit
            if qubit in wire:
                own[own.index(leg)] = wire[qubit]
            else:
                rest = [label for label in own if label != leg]
                tensor = graph.contract(tensor, own, graph.constant(ZERO_STATE), (leg,), rest)
                own = rest
            if last_use[qubit] == index and (qubit in closing or qubit not in support):
                tensor = _ended(graph, tensor, own, outs[place], closing.get(qubit, UNIT_ROWS[0]))
            wire[qubit] = outs[place]
        nodes.append(tensor)
        labels.append(own)
        if size == 1:
            _merge_small(graph, nodes, labels)
    touched = tuple(qubit for qubit in support if qubit in wire and qubit not in closing)
    return ConeNetwork(nodes, labels, [wire[qubit] for qubit in touched], touched)


def _ended(graph: Graph, tensor: int, own: list[int], leg: int, vector: Row) -> int:
    """Return a tensor with one leg multiplied with a vector, the identity's component for a trace."""
    rest = [label for label in own if label != leg]
    if vector == UNIT_ROWS[0]:
        tensor = graph.select(tensor, own.index(leg))
    else:
        tensor = graph.contract(tensor, own, graph.constant(np.array(vector)), (leg,), rest)
    own[:] = rest
    return tensor


def _merge_small(graph: Graph, nodes: list[int], labels: list[list[int]]) -> None:
    """Contract the last tensor with all vectors it touches if that leaves a vector: less to search."""
    vectors = [i for i in range(len(nodes) - 1) if len(labels[i]) == 1 and labels[i][0] in labels[-1]]
    if len(labels[-1]) - len(vectors) > 1:
        return
    tensor, own = nodes.pop(), labels.pop()
    for place in reversed(vectors):
        vector, (label,) = nodes.pop(place), labels.pop(place)
        rest = [other for other in own if other != label]
        tensor, own = graph.contract(tensor, own, vector, (label,), rest), rest
    nodes.append(tensor)
    labels.append(own)


def search_path(graph: Graph, network: ConeNetwork, trials: int = 0) -> SsaPath:
    """Search for a cheap order of contractions; the same arguments give the same order.

    Args:
        graph: The graph of the network's nodes.
        network: The network.
        trials: Random greedy orders, the best of which is improved by re-ordering its parts; 0 for one greedy
            order as it is, in a fraction of the time.
    """
    if len(network.nodes) < 2:
        return ()
    order = _walk(network)
    number: dict[int, int] = {}
    labels = tuple(
        tuple(number.setdefault(label, len(number)) for label in network.labels[place]) for place in order
    )
    extents = tuple(graph.nodes[network.nodes[place]].dims for place in order)
    output = tuple(number[label] for label in network.output)
    found = _searched(labels, extents, output, trials)
    size = len(order)
    return tuple((order[a] if a < size else a, order[b] if b < size else b) for a, b in found)


def _walk(network: ConeNetwork) -> list[int]:
    """Return the tensors in an order that depends only on how they are joined: depth first from the end."""
    holders: dict[int, list[int]] = {}
    for place, own in enumerate(network.labels):
        for label in own:
            holders.setdefault(label, []).append(place)
    # The last tensor comes first where there is no output; what is joined to nothing comes last.
    ends = [place for label in network.output for place in holders[label]]
    waiting = [*range(len(network.labels)), *reversed(ends)]
    order: dict[int, None] = {}
    while waiting:
        place = waiting.pop()
        if place not in order:
            order[place] = None
            waiting += [other for label in network.labels[place] for other in holders[label]]
    return list(order)


@lru_cache(maxsize=KEPT_PATHS)
def _searched(
    labels: tuple[tuple[int, ...], ...],
    extents: tuple[tuple[int, ...], ...],
    output: tuple[int, ...],
    trials: int,
) -> SsaPath:
    """Return the order for networks of one form: light cones of equal form are numbered alike.

    Layers of equal blocks, strings on qubits that mirror each other, and the same circuit under other noise
    have such cones; the order does not depend on what the tensors hold.
    """
    sizes: dict[int, int] = {}
    for own, dims in zip(labels, extents):
        sizes.update(zip(own, dims))
    greedy = cotengra.RandomGreedyOptimizer(
        max_repeats=max(1, trials), seed=trials, accel=False, parallel=False
    )
    tree = cotengra.array_contract_tree(labels, output, sizes, optimize=greedy)
    if trials:
        tree.subtree_reconfigure_(seed=trials)
    return tuple((int(a), int(b)) for a, b in tree.get_ssa_path())


def is_complete(path: SsaPath, tensors: int) -> bool:
    """Return whether a path contracts that many tensors to one, each used once."""
    used = [place for pair in path for place in pair]
    in_order = all(max(pair) < tensors + step for step, pair in enumerate(path))
    return len(path) == tensors - 1 and len(set(used)) == len(used) and in_order and min(used, default=0) >= 0


def contract_along(graph: Graph, network: ConeNetwork, path: SsaPath) -> int:
    """Return the node of the read-out's reduced state, legs in the order of `network.qubits`."""
    nodes: list[int | None] = list(network.nodes)
    labels: list[list[int]] = [list(own) for own in network.labels]
    uses = dict.fromkeys(network.output, 1)
    for own in labels:
        for label in own:
            uses[label] = uses.get(label, 0) + 1
    for first, second in path:
        a, b = nodes[first], nodes[second]
        assert a is not None
        assert b is not None
        for label in (*labels[first], *labels[second]):
            uses[label] -= 1
        if graph.nodes[a].batched and not graph.nodes[b].batched:
            first, second, a, b = second, first, b, a
        joined = [*labels[first], *(label for label in labels[second] if label not in labels[first])]
        out = [label for label in joined if uses[label]]
        nodes.append(graph.contract(a, labels[first], b, labels[second], out))
        labels.append(out)
        nodes[first] = nodes[second] = None
        for label in out:
            uses[label] += 1
    last, own = nodes[-1], labels[-1]
    assert last is not None
    if own != network.output:
        last = graph.contract(last, own, graph.constant(_ONE), (), network.output)
    return last
