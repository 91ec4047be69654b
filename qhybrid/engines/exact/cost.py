"""Predicted cost of graphs and statevectors, and how much memory there is.

The constants are those that `benchmarks/cost_model.py` fitted on two cores of an AMD EPYC (Zen 5), in float32
for value and gradient; only their ratios matter for the choice of method.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch

from qhybrid.engines.exact.graph import Graph

SECONDS_PER_MULTIPLY_ADD = 6e-11
SECONDS_PER_ENTRY = 4e-10
SECONDS_PER_INSTRUCTION = 1.5e-5
SECONDS_PER_AMPLITUDE_STEP = 3.4e-9
SECONDS_PER_STATE_STEP = 1.2e-4
SECONDS_PER_COMPILED_AMPLITUDE = 7e-10
SECONDS_PER_COMPILED_OPERATION = 4e-9
SECONDS_PER_COMPILED_CALL = 1.5e-4
"""Of the compiled statevector, value and gradient: `benchmarks/compiled_kernels.py` on one AMD EPYC core."""
GRADIENT_FACTOR = 3
"""Value and gradient take about three times the operations of the value."""


@dataclass(frozen=True)
class Cost:
    """What one batch takes.

    Attributes:
        flops: Multiply-adds of the value, a sample (data-free parts shared out over the batch).
        entries: Numbers that are written for the value, a sample.
        widest: Entries of the widest intermediate of a sample.
        seconds: Predicted time of value and gradient of the whole batch.
        overhead: Part of the time that does not depend on the number of samples.
    """

    flops: float
    entries: float
    widest: int
    seconds: float
    overhead: float


def network_cost(graph: Graph, roots: Iterable[int], batch: int, instructions: int = 0) -> Cost:
    """Return the cost of computing nodes of a graph."""
    flops = entries = 0.0
    widest = 1
    for index in graph.reachable(list(roots)):
        node = graph.nodes[index]
        if node.kind == "constant":
            continue
        share = 1.0 if node.batched else 1.0 / batch
        size = _product(node.dims)
        widest = max(widest, size) if node.batched else widest
        entries += share * size
        if node.kind == "contract":
            extents = dict(zip(node.pattern[0], graph.nodes[node.operands[0]].dims))
            extents.update(zip(node.pattern[1], graph.nodes[node.operands[1]].dims))
            flops += share * _product(extents.values())
    seconds = batch * (GRADIENT_FACTOR * flops * SECONDS_PER_MULTIPLY_ADD + entries * SECONDS_PER_ENTRY)
    overhead = instructions * SECONDS_PER_INSTRUCTION
    return Cost(flops, entries, widest, seconds + overhead, overhead)


def state_cost(work: int, steps: int, widest: int, batch: int) -> Cost:
    """Return the cost of statevectors.

    Args:
        work: Amplitudes that all steps touch, a sample.
        steps: Number of steps.
        widest: Qubits of the largest state.
        batch: Number of samples.
    """
    overhead = steps * SECONDS_PER_STATE_STEP
    return Cost(
        8.0 * work, 2.0 * work, 2 << widest, batch * work * SECONDS_PER_AMPLITUDE_STEP + overhead, overhead
    )


def compiled_cost(work: float, operations: int, widest: int, runs: int, batch: int) -> Cost:
    """Return the cost of statevectors in the compiled library.

    Args:
        work: Amplitudes that all operations touch, a sample.
        operations: Their number.
        widest: Qubits of the largest state.
        runs: Number of statevectors.
        batch: Number of samples.
    """
    overhead = max(1, runs) * SECONDS_PER_COMPILED_CALL
    sample = work * SECONDS_PER_COMPILED_AMPLITUDE + operations * SECONDS_PER_COMPILED_OPERATION
    return Cost(8.0 * work, 2.0 * work, 2 << widest, batch * sample + overhead, overhead)


def _product(sizes: Iterable[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def memory_limit(device: torch.device) -> int:
    """Return the bytes that an execution may use: 80 percent of what is installed (CPU) or free (CUDA)."""
    if device.type == "cuda":
        return int(0.8 * torch.cuda.mem_get_info(device)[0])
    return _installed_share()


@cache
def _installed_share() -> int:
    return int(0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
