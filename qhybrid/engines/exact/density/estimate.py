"""Which way a plan of density matrices is carried, and what that takes."""

from __future__ import annotations

from qhybrid.engines.exact.cost import GRADIENT_FACTOR, Cost
from qhybrid.engines.exact.density.plan import DensityPlan
from qhybrid.engines.exact.native.division import LANE_BYTES

TABLE_BYTES = 16
"""Bytes of a permutation's entry: its source, and its factor in both types."""

FIRST_BYTES = 5 * 2**20
"""Bytes that the first call takes besides: tables are made by way of larger ones, which allocators keep."""


def lanes_of(columns: int, itemsize: int) -> int:
    """Return the columns of a vector: as many as fit, or half of them where that leaves fewer empty."""
    half = LANE_BYTES // itemsize // 2
    return half if -(-columns // half) % 2 else 2 * half


def padded(columns: int, itemsize: int) -> int:
    """Return the number of columns, with the last vector filled up."""
    lanes = lanes_of(columns, itemsize)
    return -(-columns // lanes) * lanes


def carries_strings(plan: DensityPlan, batch: int, itemsize: int) -> bool:
    """Return whether strings are carried backward, rather than the samples' states forward."""
    return plan.backward and padded(len(plan.rows), itemsize) <= padded(batch, itemsize)


def density_cost(plan: DensityPlan, batch: int, itemsize: int) -> Cost:
    """Return the cost of a batch; all of it counts as the call's, as vectors of lanes are filled up."""
    transposed = carries_strings(plan, batch, itemsize)
    ends = (len(plan.rows), batch) if transposed else (batch, len(plan.rows))
    columns, strings = padded(ends[0], itemsize), 4**plan.num_qubits
    entries, closing = columns * strings * len(plan.steps(transposed)[0]), columns * ends[1] * strings
    call = (
        ("density.call", 1.0),
        ("density.entry", float(entries)),
        ("density.multiply_add", float(GRADIENT_FACTOR * closing)),
    )
    work = (4.0 * entries + closing) / max(1, batch)
    return Cost.of(work, entries / max(1, batch), strings, call, (), batch)


def density_memory(plan: DensityPlan, batch: int, itemsize: int) -> int:
    """Return the bytes of value and gradient: kept states, scratch memory, permutations and their making."""
    transposed = carries_strings(plan, batch, itemsize)
    columns = len(plan.rows) if transposed else batch
    lanes = lanes_of(columns, itemsize)
    states = padded(columns, itemsize) * (len(plan.steps(transposed)[0]) + 1) + 2 * lanes
    layers = len({permutations for permutations, _ in plan.layers})
    return FIRST_BYTES + int(4**plan.num_qubits) * (itemsize * states + TABLE_BYTES * layers)
