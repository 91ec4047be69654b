"""Record the torch calls of a program: the value's at once, the gradient's when the value's are complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qhybrid.engines.exact.graph import Tensor
from qhybrid.engines.exact.tape.rows import (
    BATCHED,
    FREE,
    FREE_GRADIENT,
    SCRATCH,
    Rows,
    View,
    affine,
    contiguous,
    grouped,
)

LARGEST_ALIGNMENT = 256
MOST_SINGLES = 2**14
"""Data-free entries up to which a copy looks each of them up."""


@dataclass(frozen=True)
class Step:
    """One torch call.

    Attributes:
        kind: Its name, see `bound`.
        out: What it writes or adds to.
        operands: What it reads.
        index: Of "take" and "put": numbers of groups of rows.
        dims: Of "sum": axes that are summed over and kept with size 1.
        free: Whether it serves gradients of data-free tensors only.
    """

    kind: str
    out: View
    operands: tuple[View, ...] = ()
    index: Rows | None = None
    dims: tuple[int, ...] = ()
    free: bool = False


@dataclass(frozen=True)
class Operand:
    """A tensor that an instruction reads as a strided view.

    Attributes:
        arena: FREE or BATCHED.
        table: Its rows; the first axis runs over units, or has size 1 where all units share it.
        view: The same as a view.
        constant: Whether it has no gradient.
    """

    arena: int
    table: Rows
    view: View
    constant: bool

    def spread(self, units: int, merged: bool = False) -> View:
        """Return the view for that many units."""
        view = replace(self.view, merged=merged)
        if self.view.sizes[0] == units:
            return view
        return replace(view, sizes=(units, *view.sizes[1:]), strides=(0, *view.strides[1:]))


class Recorder:
    """Collects steps and hands out rows.

    Attributes:
        forward: Steps of the value.
        backward: Steps of the gradient, in order of execution, after `unwind`.
        rows: Rows of the data-free and of the batched arena.
        scratch: Rows of the scratch arena.
        constants: Pairs (first row, values) of the data-free arena.
        unset: For both arenas: rows of the gradient that must start at zero.
    """

    def __init__(self) -> None:
        self.forward: list[Step] = []
        self.backward: list[Step] = []
        self.rows = [0, 0]
        self.scratch = 0
        self.constants: list[tuple[int, Tensor]] = []
        self.unset: list[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] = []
        self._written: list[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] = []
        self._reverses: list[Callable[[], None]] = []
        self._scratch_used = 0

    def allocate(self, arena: int, sizes: tuple[int, ...], align: int = 1) -> Rows:
        """Return the table of a new block, which starts at a multiple of `align`."""
        start = -(-self.rows[arena] // align) * align
        count = int(np.prod(sizes, dtype=int))
        self.rows[arena] = start + count
        return np.arange(start, start + count).reshape(sizes)

    def constant(self, values: Tensor) -> Rows:
        """Return the table of constants."""
        table = self.allocate(FREE, values.shape)
        if values.size:
            self.constants.append((int(table.flat[0]), values))
        return table

    def add(self, step: Step, reverse: Callable[[], None]) -> None:
        """Record a step of the value and what its gradient takes."""
        self.forward.append(step)
        self._reverses.append(reverse)
        self._scratch_used = 0

    def gather(self, arena: int, tables: Sequence[Rows]) -> list[Rows]:
        """Copy tables to new blocks, all in one step, and return the blocks' tables."""
        index = np.concatenate([table.ravel() for table in tables])
        blocks = [self.allocate(arena, tables[0].shape, alignment(tables[0][0].size))]
        blocks += [self.allocate(arena, table.shape) for table in tables[1:]]
        start = int(blocks[0].flat[0])
        # Single numbers are copied faster one by one than in short groups.
        size, groups = grouped(index, 1 if arena == FREE and len(index) <= MOST_SINGLES else 256)
        # What is read ends where the copies start, so that memory of source and copy never overlap.
        source = contiguous(arena, 0, (start // size, size)[: 1 + (size > 1)], merged=size > 1)
        copy = contiguous(arena, start, (len(groups), size)[: 1 + (size > 1)], merged=size > 1)
        free = arena == FREE

        def reverse() -> None:
            self.settle(copy)
            fresh = not self._written[arena][index].any() and len(np.unique(index)) == len(index)
            if not fresh:
                self._need(arena, index)
            self._written[arena][index] = True
            kind = "place" if fresh else "put"
            self.backward.append(Step(kind, source.gradient, (copy.gradient,), groups, free=free))

        self.add(Step("take", copy, (source,), groups), reverse)
        return blocks

    def unwind(self, results: Rows) -> None:
        """Record all steps of the gradient; that of the result is added to some rows before all steps."""
        self.unset = [np.zeros(count, dtype=bool) for count in self.rows]
        self._written = [np.zeros(count, dtype=bool) for count in self.rows]
        self._need(BATCHED, results)
        self._written[BATCHED][results] = True
        for reverse in reversed(self._reverses):
            self._scratch_used = 0
            reverse()

    def settle(self, view: View) -> None:
        """Note that gradients of a block are read: what no step wrote before must be zero."""
        self._need(view.arena, np.arange(view.offset, view.offset + view.size))

    def add_gradient(
        self, kind: str, target: Operand, operands: tuple[View, View], out: View, dims: tuple[int, ...]
    ) -> None:
        """Add a product of two views to the gradient of an operand.

        Args:
            kind: "bmm", "mul" or "sample_bmm".
            target: The operand; nothing happens if it is constant.
            operands: The factors.
            out: View of the operand's values with the shape of the product, summed axes kept with size 1.
            dims: Axes of the product to sum over, with their sizes as the product has them.
        """
        free = target.arena == FREE
        first = self._claim(target)
        gradient = out.gradient
        if not dims and (kind == "mul" or gradient.dense):
            self.backward.append(Step(kind if first else f"add_{kind}", gradient, operands, free=free))
            return
        whole = self._temporary(free, _product_shape(kind, operands), gradient.merged)
        self.backward.append(Step(kind, whole, operands, free=free))
        if not dims:
            # Matrix products into memory with gaps take a detour of their own, a slow one.
            self.backward.append(Step("copy" if first else "add", gradient, (whole,), free=free))
            return
        if first:
            self.backward.append(Step("sum", gradient, (whole,), dims=dims, free=free))
            return
        partial = self._temporary(free, gradient.sizes, gradient.merged)
        self.backward.append(Step("sum", partial, (whole,), dims=dims, free=free))
        self.backward.append(Step("add", gradient, (partial,), free=free))

    def add_samples(self, target: Operand, samples: View) -> None:
        """Add the sum over samples to the gradient of a data-free operand."""
        first, gradient = self._claim(target), target.view.gradient
        if first:
            self.backward.append(Step("sum_samples", gradient, (samples,), free=True))
            return
        partial = self._temporary(True, gradient.sizes, False)
        self.backward.append(Step("sum_samples", partial, (samples,), free=True))
        self.backward.append(Step("add", gradient, (partial,), free=True))

    def temporary(self, sizes: tuple[int, ...], merged: bool = False) -> View:
        """Return scratch memory with samples, valid within one step of the value or its reverse."""
        return self._temporary(False, sizes, merged)

    def _temporary(self, free: bool, sizes: tuple[int, ...], merged: bool) -> View:
        count = int(np.prod(sizes, dtype=int))
        if free:
            # Rows of gradients beyond those of values: few, so that they are not shared.
            return contiguous(FREE_GRADIENT, self._free_tail(count), sizes)
        start = self._scratch_used
        self._scratch_used += count
        self.scratch = max(self.scratch, self._scratch_used)
        return contiguous(SCRATCH, start, sizes, merged)

    def _free_tail(self, count: int) -> int:
        start = self.rows[FREE]
        self.rows[FREE] += count
        return start

    def _claim(self, target: Operand) -> bool:
        """Note a contribution to an operand's gradient; return whether it is the first to all its rows."""
        rows = target.table.ravel()
        written = self._written[target.arena][rows]
        first = not written.any()
        if not first:
            self._need(target.arena, rows)
        self._written[target.arena][rows] = True
        return bool(first)

    def _need(self, arena: int, rows: Rows) -> None:
        missing = rows[~self._written[arena][rows]]
        self.unset[arena][missing] = True


def alignment(size: int) -> int:
    """Return the largest power of two, up to a bound, that divides the size of a member of a block."""
    return min(max(size, 1) & -max(size, 1), LARGEST_ALIGNMENT)


def _product_shape(kind: str, operands: tuple[View, View]) -> tuple[int, ...]:
    shapes = [
        (*view.sizes[:-2], view.sizes[-1], view.sizes[-2]) if view.transposed else view.sizes
        for view in operands
    ]
    if kind == "mul":
        return tuple(max(pair) for pair in zip(*shapes))
    return (shapes[0][0], shapes[0][1], shapes[1][2])


def operand(arena: int, table: Rows, constant: bool = False) -> Operand | None:
    """Return an operand if its table is a strided view."""
    found = affine(table)
    return (
        None
        if found is None
        else Operand(arena, table, View(arena, found[0], table.shape, found[1]), constant)
    )
