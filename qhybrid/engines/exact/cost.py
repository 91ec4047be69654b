"""Predicted cost of graphs and statevectors, and how much memory there is; `constants` has the seconds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch

from qhybrid.engines.exact.constants import Counts, seconds_of
from qhybrid.engines.exact.graph import Graph, Node, Work
from qhybrid.engines.exact.sample_product import LARGEST_ELEMENTWISE
from qhybrid.engines.gates.expression import Tree
from qhybrid.engines.gates.expression_groups import operators_of

GRADIENT_FACTOR = 3
"""Value and gradient take about three times the operations of the value."""
NEAR_QUBITS, FURTHEST = 18, 4
"""Qubits up to which state and gradient stay near the core in float32, and the qubits beyond that matter."""
SHARE_OF_A_RUN = 0.25
"""Part of a compiled call's fixed time that every further statevector takes."""


@dataclass(frozen=True)
class Cost:
    """What one batch takes.

    Attributes:
        flops: Multiply-adds of the value, a sample (data-free parts shared out over the batch).
        entries: Numbers that are written for the value, a sample.
        widest: Entries of the widest intermediate of a sample.
        seconds: Predicted time of value and gradient of the whole batch.
        overhead: Part of the time that does not depend on the number of samples.
        call: Units of work of a call, whatever its batch; see `constants`.
        sample: Units of work of each sample.
    """

    flops: float
    entries: float
    widest: int
    seconds: float
    overhead: float
    call: Counts = ()
    sample: Counts = ()

    @classmethod
    def of(
        cls, flops: float, entries: float, widest: int, call: Counts, sample: Counts, batch: float
    ) -> Cost:
        """Return the cost of a batch from its units of work."""
        overhead = seconds_of(call)
        return cls(flops, entries, widest, overhead + batch * seconds_of(sample), overhead, call, sample)

    def scaled(self, batch: float) -> Cost:
        """Return the cost of another batch; a sample in float64 counts twice."""
        return Cost.of(self.flops, self.entries, self.widest, self.call, self.sample, batch)

    def plus(self, batch: float, call: Counts = (), sample: Counts = ()) -> Cost:
        """Return the cost with more units of work, for a batch."""
        sums = (*self.call, *call), (*self.sample, *sample)
        return Cost.of(self.flops, self.entries, self.widest, *sums, batch)

    def times(self, factor: float, batch: float) -> Cost:
        """Return the cost of several such computations, for a batch."""
        call, sample = (
            tuple((name, factor * number) for name, number in some) for some in (self.call, self.sample)
        )
        return Cost.of(factor * self.flops, factor * self.entries, self.widest, call, sample, batch)

    def counts(self, batch: float) -> Counts:
        """Return the units of work of a batch."""
        return (*self.call, *((name, batch * number) for name, number in self.sample))


def network_cost(graph: Graph, roots: Iterable[int], batch: int, instructions: int = 0) -> Cost:
    """Return the cost of computing nodes of a graph; its data-free part is done once a call."""
    flops = {True: 0.0, False: 0.0}
    entries = {True: 0.0, False: 0.0}
    copied = {"network.copied_entry": 0.0, "network.sample_entry": 0.0}
    widest = 1
    for index in graph.reachable(list(roots)):
        if index not in graph.works:
            graph.works[index] = _node_work(graph, graph.nodes[index])
        work = graph.works[index]
        if work is None:
            continue
        batched, size, contracted, name, number = work
        widest = max(widest, size) if batched else widest
        entries[batched] += size
        flops[batched] += contracted
        copied[name] += number
    units, free = (
        (("network.multiply_add", GRADIENT_FACTOR * flops[batched]), ("network.entry", entries[batched]))
        for batched in (True, False)
    )
    sample = (*units, *copied.items())
    call = (("network.instruction", float(instructions)), *free)
    total, written = (some[True] + some[False] / batch for some in (flops, entries))
    return Cost.of(total, written, widest, call, sample, batch)


def _node_work(graph: Graph, node: Node) -> Work | None:
    """Return what computing a node takes, None of a constant."""
    if node.kind == "constant":
        return None
    size = _product(node.dims)
    if node.kind != "contract":
        return node.batched, size, 0, "network.copied_entry", 0
    extents = dict(zip(node.pattern[0], graph.nodes[node.operands[0]].dims))
    extents.update(zip(node.pattern[1], graph.nodes[node.operands[1]].dims))
    contracted = _product(extents.values())
    name, number = _copied(graph, node, contracted) if node.batched else ("network.copied_entry", 0)
    return node.batched, size, contracted, name, number


def _copied(graph: Graph, node: Node, work: int) -> tuple[str, int]:
    """Return the entries with samples that are copied so that a contraction becomes a matrix product.

    Their unit says whether it is one product, with a data-free matrix, or one a sample.
    """
    operands = [(graph.nodes[index], legs) for index, legs in zip(node.operands, node.pattern)]
    sizes = [_product(operand.dims) for operand, _ in operands if operand.batched]
    if len(sizes) == 2:
        by_products = work > LARGEST_ELEMENTWISE * (sum(sizes) + _product(node.dims))
        return "network.sample_entry", sum(sizes) if by_products else 0
    operands.sort(key=lambda one: one[0].batched)
    (_, free), (_, legs) = operands
    shared = tuple(leg for leg in free if leg in legs)
    return "network.copied_entry", sum(sizes) if legs[: len(shared)] != shared else 0


def state_cost(work: int, steps: int, widest: int, batch: int) -> Cost:
    """Return the cost of statevectors.

    Args:
        work: Amplitudes that all steps touch, a sample.
        steps: Number of steps.
        widest: Qubits of the largest state.
        batch: Number of samples.
    """
    call = (("statevector.step", float(steps)),)
    sample = (("statevector.amplitude_step", float(work)),)
    return Cost.of(8.0 * work, 2.0 * work, 2 << widest, call, sample, batch)


def compiled_cost(work: float, operations: int, widest: int, runs: int, batch: int) -> Cost:
    """Return the cost of statevectors in the compiled library.

    Args:
        work: Amplitudes that all operations touch, a sample.
        operations: Their number.
        widest: Qubits of the largest state.
        runs: Number of statevectors.
        batch: Number of samples.
    """
    call = (("compiled.call", 1.0 + SHARE_OF_A_RUN * max(0, runs - 1)),)
    # Each doubling beyond the near memory makes an amplitude dearer by about as much.
    far = min(max(0, widest - NEAR_QUBITS), FURTHEST)
    sample = (
        ("compiled.amplitude", float(work)),
        ("compiled.far_amplitude", float(work * far)),
        ("compiled.operation", float(operations)),
    )
    return Cost.of(8.0 * work, 2.0 * work, 2 << widest, call, sample, batch)


def compiled_angles(trees: Iterable[tuple[Tree, bool]]) -> Counts:
    """Return the units of work of a sample of angles that are not affine, in the compiled library.

    Args:
        trees: The distinct angles' expressions, and whether each depends on inputs.
    """
    nodes = operators_of([tree for tree, batched in trees if batched])[1]
    return (("compiled.angle", float(nodes)),) if nodes else ()


def angle_counts(trees: Iterable[tuple[Tree, bool]]) -> tuple[Counts, Counts]:
    """Return the units of work, of a call and of a sample, of angles that are not affine.

    Args:
        trees: The distinct angles' expressions, and whether each depends on inputs.
    """
    by_kind: dict[bool, list[Tree]] = {True: [], False: []}
    for tree, batched in trees:
        by_kind[batched].append(tree)
    operators, entries = 0, 0
    for batched, own in by_kind.items():
        several, numbers = operators_of(own)
        operators += several
        entries += numbers if batched else 0
    if not operators:
        return (), ()
    return (("angle.operator", float(operators)),), (("angle.entry", float(entries)),)


def _product(sizes: Iterable[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


CUDA_STEP = 2**26
"""Steps in bytes in which the usable memory of a CUDA device is told."""


def memory_limit(device: torch.device) -> int:
    """Return the bytes that an execution may use: 80 percent of what is installed (CPU) or free (CUDA).

    Memory that torch holds without using it is free. Steps of 64 MiB, so that what is known of a circuit is
    not worked out anew after every tensor.
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        usable = int(0.8 * (torch.cuda.mem_get_info(device)[0] + held))
        return usable - usable % CUDA_STEP
    return _installed_share()


@cache
def _installed_share() -> int:
    return int(0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
