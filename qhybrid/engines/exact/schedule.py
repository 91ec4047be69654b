"""Stack the nodes of a graph: nodes with the same operation and shapes become one batched operation.

Two steps. Heads: contractions of several data-free tensors with the same data-dependent tensor become one
with more rows. Stacks: among the nodes that are ready, those of the same signature are executed together; the
signature whose open nodes lie least deep goes first, so that equal steps of different cones meet (the agenda
heuristic of Neubig, Goldberg and Dyer, 2017, "On-the-fly operation batching in dynamic computation graphs").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qhybrid.engines.exact.graph import Graph, Node

Place = tuple[int, int]
"""(register, position along its stack axis)."""


@dataclass
class Unit:
    """Nodes that are computed by one matrix product with several heads; mostly a single node."""

    nodes: tuple[int, ...]
    depth: int = 0


@dataclass
class Stack:
    """One instruction: the same operation on several units.

    Attributes:
        kind: "contract" or "select".
        units: Its units; the result's stack axis runs over units, then over a unit's nodes.
        example: A node that shows pattern, dims and flags.
    """

    kind: str
    units: list[Unit]
    example: Node

    @property
    def heads(self) -> int:
        """Nodes a unit."""
        return len(self.units[0].nodes)

    @property
    def members(self) -> list[int]:
        """All nodes in stack order."""
        return [node for unit in self.units for node in unit.nodes]

    def operand(self, graph: Graph, which: int) -> list[int]:
        """Return the nodes of one operand in stack order; the shared operand of heads once a unit."""
        if self.heads > 1 and graph.nodes[graph.nodes[self.units[0].nodes[0]].operands[which]].batched:
            return [graph.nodes[unit.nodes[0]].operands[which] for unit in self.units]
        return [graph.nodes[node].operands[which] for node in self.members]


def schedule(graph: Graph, roots: Sequence[int]) -> list[Stack]:
    """Return the stacks in an order in which they can be executed."""
    wanted = [index for index in graph.reachable(roots) if graph.nodes[index].operands]
    units = _units(graph, wanted)
    unit_of = {node: place for place, unit in enumerate(units) for node in unit.nodes}
    needs = [
        {
            unit_of[operand]
            for node in unit.nodes
            for operand in graph.nodes[node].operands
            if operand in unit_of
        }
        for unit in units
    ]
    _set_depths(units, needs)
    stacks = _agenda(graph, units, needs)
    _sort_members(graph, stacks, roots)
    return stacks


def count_levels(graph: Graph, roots: Sequence[int]) -> int:
    """Return how many stacks there would be if each held the equal nodes of one depth."""
    depth: dict[int, int] = {}
    stacks: set[object] = set()
    for index in graph.reachable(roots):
        node = graph.nodes[index]
        depth[index] = 1 + max((depth[operand] for operand in node.operands), default=-1)
        if node.operands:
            shapes = tuple((graph.nodes[o].dims, graph.nodes[o].batched) for o in node.operands)
            stacks.add((depth[index], node.kind, node.pattern, node.axis, shapes))
    return len(stacks)


def _units(graph: Graph, wanted: Sequence[int]) -> list[Unit]:
    groups: dict[object, list[int]] = {}
    for index in wanted:
        node = graph.nodes[index]
        key: object = index
        if node.kind == "contract":
            first, second = (graph.nodes[operand] for operand in node.operands)
            if second.batched and not first.batched and set(node.pattern[0]) & set(node.pattern[1]):
                key = (node.operands[1], node.pattern, first.dims)
        groups.setdefault(key, []).append(index)
    return [Unit(tuple(nodes)) for nodes in groups.values()]


def _set_depths(units: list[Unit], needs: list[set[int]]) -> None:
    done: dict[int, int] = {}
    waiting = list(range(len(units)))
    while waiting:
        later = []
        for place in waiting:
            if all(need in done for need in needs[place]):
                done[place] = 1 + max((done[need] for need in needs[place]), default=0)
                units[place].depth = done[place]
            else:
                later.append(place)
        waiting = later


def _signature(graph: Graph, unit: Unit) -> object:
    node = graph.nodes[unit.nodes[0]]
    shapes = tuple((graph.nodes[operand].dims, graph.nodes[operand].batched) for operand in node.operands)
    return (node.kind, node.pattern, node.axis, shapes, len(unit.nodes))


def _agenda(graph: Graph, units: list[Unit], needs: list[set[int]]) -> list[Stack]:
    users: list[list[int]] = [[] for _ in units]
    for place, need in enumerate(needs):
        for other in need:
            users[other].append(place)
    open_needs = [len(need) for need in needs]
    signature = [_signature(graph, unit) for unit in units]
    open_of: dict[object, list[int]] = {}
    for place, key in enumerate(signature):
        open_of.setdefault(key, []).append(place)
    ready: dict[object, list[int]] = {}
    for place, count in enumerate(open_needs):
        if count == 0:
            ready.setdefault(signature[place], []).append(place)
    depth_sum = {key: sum(units[place].depth for place in places) for key, places in open_of.items()}
    number = {key: len(places) for key, places in open_of.items()}
    stacks = []
    while ready:
        key = min(ready, key=lambda k: depth_sum[k] / number[k])
        chosen = ready.pop(key)
        stacks.append(
            Stack(
                graph.nodes[units[chosen[0]].nodes[0]].kind,
                [units[p] for p in chosen],
                graph.nodes[units[chosen[0]].nodes[0]],
            )
        )
        for place in chosen:
            depth_sum[key] -= units[place].depth
            number[key] -= 1
            for user in users[place]:
                open_needs[user] -= 1
                if open_needs[user] == 0:
                    ready.setdefault(signature[user], []).append(user)
    return stacks


def _sort_members(graph: Graph, stacks: list[Stack], roots: Sequence[int]) -> None:
    """Order every stack as its first user reads it: most operands are then whole stacks or slices."""
    home = {node: place for place, stack in enumerate(stacks) for node in stack.members}
    first_read: list[dict[int, int]] = [{} for _ in stacks]
    for node in roots:
        if node in home:
            first_read[home[node]].setdefault(node, 10**9 + len(first_read[home[node]]))
    for place in range(len(stacks) - 1, -1, -1):
        stack = stacks[place]
        order = first_read[place]
        stack.units.sort(key=lambda unit: min(order.get(node, 10**10) for node in unit.nodes))
        base = place * 10**5
        for which in range(len(stack.example.operands)):
            for step, operand in enumerate(stack.operand(graph, which)):
                if operand in home:
                    reads_of = first_read[home[operand]]
                    reads_of[operand] = min(reads_of.get(operand, 10**11), base + step)
