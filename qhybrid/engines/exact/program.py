"""A program: the stacks of a graph with all operand lookups resolved, ready to be executed for any batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qhybrid.engines.exact.graph import Graph, Node, Pattern, Tensor
from qhybrid.engines.exact.schedule import Place, Stack, schedule
from qhybrid.engines.gates.expression import Angle

BATCHED_FEATURES, FREE_FEATURES, SINGLE_CHANNELS, DOUBLE_CHANNELS = 0, 1, 2, 3
FIRST_STACK = 4


@dataclass(frozen=True)
class Gather:
    """How an operand is taken from registers.

    Attributes:
        constant: Its values if it is constant, shape (n, *dims), else None.
        pieces: Slices (register, start, stop, step) that are concatenated along the stack axis.
        index: Positions that are then picked from the concatenation, or None for all.
    """

    constant: Tensor | None = None
    pieces: tuple[tuple[int, int, int, int], ...] = ()
    index: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Instruction:
    """One batched operation; its result is the next register, shape (n * heads, *dims[, B]).

    Attributes:
        kind: "contract" or "select".
        operands: One or two gathers.
        dims: Shapes of one member of each operand.
        batched: Whether each operand has a batch axis.
        pattern: Index labels, see `Node`.
        axis: Of "select".
        size: Units of the stack.
        heads: Nodes a unit.
        out_dims: Shape of one member of the result.
    """

    kind: str
    operands: tuple[Gather, ...]
    dims: tuple[tuple[int, ...], ...]
    batched: tuple[bool, ...]
    pattern: Pattern
    axis: int
    size: int
    heads: int
    out_dims: tuple[int, ...]


@dataclass(frozen=True)
class Root:
    """Where a wanted tensor is found after execution.

    Attributes:
        constant: Its values if it is constant, else None.
        register: Register that holds it.
        position: Place along that register's stack axis.
        batched: Whether it has a batch axis.
        dims: Its shape without stack and batch axes.
    """

    constant: Tensor | None
    register: int
    position: int
    batched: bool
    dims: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of its entries, a sample."""
        return int(np.prod(self.dims, dtype=int))


@dataclass(frozen=True)
class Program:
    """Everything the executor needs.

    Attributes:
        batched_angles: Angles of register 0 (one feature vector a sample).
        free_angles: Angles of register 1 (features without batch axis).
        instructions: Executed in order; instruction i writes register i + 4.
        roots: The wanted tensors, in the order in which they were asked for.
        channels: Leaves of registers 2 and 3 (channels on one and on two qubits, where rates are given).
    """

    batched_angles: tuple[Angle, ...]
    free_angles: tuple[Angle, ...]
    instructions: tuple[Instruction, ...]
    roots: tuple[Root, ...]
    channels: tuple[tuple[tuple[str, int], ...], ...] = ((), ())

    @property
    def entries(self) -> int:
        """Number of entries of all registers that instructions write, for one sample."""
        return sum(one.size * one.heads * int(np.prod(one.out_dims, dtype=int)) for one in self.instructions)


@dataclass(frozen=True)
class Wanted:
    """Nodes of a graph that a method computes; their program is compiled when it is asked for.

    Attributes:
        graph: The graph.
        roots: The nodes.
    """

    graph: Graph
    roots: tuple[int, ...]

    @cached_property
    def program(self) -> Program:
        """The program."""
        return compile_program(self.graph, self.roots)


def compile_program(graph: Graph, roots: Sequence[int]) -> Program:
    """Schedule a graph.

    Args:
        graph: The expression graph.
        roots: The nodes that are wanted.
    """
    stacks = schedule(graph, roots)
    place: dict[int, Place] = {}
    given: list[list[int]] = [[] for _ in range(FIRST_STACK)]
    for node in _given(graph, stacks, roots):
        register = _register(graph.nodes[node])
        place[node] = (register, len(given[register]))
        given[register].append(graph.nodes[node].payload)
    for number, stack in enumerate(stacks):
        for position, node in enumerate(stack.members):
            place[node] = (FIRST_STACK + number, position)
    sizes = [*map(len, given), *(len(stack.members) for stack in stacks)]
    instructions = tuple(_instruction(graph, stack, place, sizes) for stack in stacks)
    found = tuple(_root(graph, root, place) for root in roots)
    batched, free = (tuple(graph.angles[payload] for payload in some) for some in given[:SINGLE_CHANNELS])
    channels = tuple(tuple(graph.leaves[payload] for payload in some) for some in given[SINGLE_CHANNELS:])
    return Program(batched, free, instructions, found, channels)


def _register(node: Node) -> int:
    """Return the register that holds a node which is given rather than computed."""
    if node.kind == "channel":
        return SINGLE_CHANNELS if len(node.dims) == 2 else DOUBLE_CHANNELS
    return BATCHED_FEATURES if node.batched else FREE_FEATURES


def _given(graph: Graph, stacks: Sequence[Stack], roots: Sequence[int]) -> list[int]:
    """Return all features and channels in the order in which they are read."""
    ordered = [
        operand
        for stack in stacks
        for which in range(len(stack.example.operands))
        for operand in stack.operand(graph, which)
    ]
    wanted = ("feature", "channel")
    return list(dict.fromkeys(node for node in [*ordered, *roots] if graph.nodes[node].kind in wanted))


def _root(graph: Graph, node: int, place: dict[int, Place]) -> Root:
    found = graph.nodes[node]
    if found.kind == "constant":
        return Root(graph.constants[found.payload], -1, -1, False, found.dims)
    return Root(None, *place[node], found.batched, found.dims)


def _instruction(graph: Graph, stack: Stack, place: dict[int, Place], sizes: Sequence[int]) -> Instruction:
    nodes = [graph.nodes[operand] for operand in stack.example.operands]
    return Instruction(
        kind=stack.kind,
        operands=tuple(
            _gather(graph, stack.operand(graph, which), place, sizes, stack.heads if not node.batched else 1)
            for which, node in enumerate(nodes)
        ),
        dims=tuple(node.dims for node in nodes),
        batched=tuple(node.batched for node in nodes),
        pattern=stack.example.pattern,
        axis=stack.example.axis,
        size=len(stack.units),
        heads=stack.heads,
        out_dims=stack.example.dims,
    )


def _gather(
    graph: Graph, operands: Sequence[int], place: dict[int, Place], sizes: Sequence[int], heads: int
) -> Gather:
    """Resolve an operand; if all units share it, it is taken once."""
    if all(operands[start : start + heads] == operands[:heads] for start in range(0, len(operands), heads)):
        operands = operands[:heads]
    nodes: list[Node] = [graph.nodes[operand] for operand in operands]
    if all(node.kind == "constant" for node in nodes):
        return Gather(np.stack([graph.constants[node.payload] for node in nodes]))
    if any(node.kind == "constant" for node in nodes):
        return _mixed(graph, operands, place)
    places = [place[operand] for operand in operands]
    pieces = _runs(places)
    registers = list(dict.fromkeys(register for register, _ in places))
    if len(pieces) <= max(1, 2 * len(registers) - 1):
        return Gather(pieces=tuple(pieces))
    start: dict[int, int] = {}
    for register in registers:
        start[register] = sum(sizes[other] for other in start)
    index = tuple(start[register] + position for register, position in places)
    return Gather(pieces=tuple((register, 0, sizes[register], 1) for register in registers), index=index)


def _mixed(graph: Graph, operands: Sequence[int], place: dict[int, Place]) -> Gather:
    """Some members are constants: keep those as a block in front, and pick from both."""
    constants = [operand for operand in operands if graph.nodes[operand].kind == "constant"]
    unique = list(dict.fromkeys(constants))
    pieces: list[tuple[int, int, int, int]] = []
    index: list[int] = []
    for operand in operands:
        if operand in unique:
            index.append(unique.index(operand))
        else:
            register, position = place[operand]
            index.append(len(unique) + len(pieces))
            pieces.append((register, position, position + 1, 1))
    block = np.stack([graph.constants[graph.nodes[operand].payload] for operand in unique])
    return Gather(block, tuple(pieces), tuple(index))


def _runs(places: Sequence[Place]) -> list[tuple[int, int, int, int]]:
    """Cut places into slices with a constant positive step within one register."""
    runs: list[tuple[int, int, int, int]] = []
    for register, position in places:
        if runs:
            last_register, start, stop, step = runs[-1]
            count = 1 + (stop - 1 - start) // step
            gap = position - (stop - 1)
            if register == last_register and gap > 0 and (count == 1 or gap == step):
                runs[-1] = (register, start, position + 1, gap)
                continue
        runs.append((register, position, position + 1, 1))
    return runs
