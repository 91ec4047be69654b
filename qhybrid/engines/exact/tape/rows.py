"""Rows of memory: where the entries of a tensor lie, as tables of row numbers and as strided views.

Every entry of a member of a register is one row of an arena: a number in the data-free arena, B numbers (one
a sample) in the batched one. Slicing, selecting, permuting and stacking are then operations on tables of row
numbers while compiling; only a table that is no strided view costs a copy when it is executed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

FREE, BATCHED, FREE_GRADIENT, BATCHED_GRADIENT, SCRATCH = range(5)
"""Arenas: data-free and batched values, their gradients, and batched scratch memory of the reverse pass."""
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """A strided view of an arena, in rows.

    Attributes:
        arena: One of the arenas.
        offset: First row.
        sizes: Its shape without samples.
        strides: Steps in rows.
        merged: Whether the last axis takes in the samples (of a batched arena) instead of going before them.
        transposed: Whether the last two axes change places.
    """

    arena: int
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    merged: bool = False
    transposed: bool = False

    @property
    def batched(self) -> bool:
        """Whether its arena has samples."""
        return self.arena not in (FREE, FREE_GRADIENT)

    @property
    def size(self) -> int:
        """Number of its rows."""
        return int(np.prod(self.sizes, dtype=int))

    @property
    def dense(self) -> bool:
        """Whether its last two axes are a matrix without gaps."""
        row, column = self.strides[-2:]
        width = self.sizes[-1]
        return (width in (0, 1) and row in (0, 1)) or (column == 1 and row in (0, width))

    @property
    def gradient(self) -> View:
        """The same rows among the gradients."""
        return replace(self, arena=self.arena + FREE_GRADIENT)

    @property
    def turned(self) -> View:
        """The view with its last two axes exchanged."""
        return replace(self, transposed=not self.transposed)


def contiguous(arena: int, offset: int, sizes: tuple[int, ...], merged: bool = False) -> View:
    """Return the view of a block."""
    strides = [1] * len(sizes)
    for axis in range(len(sizes) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * sizes[axis + 1]
    return View(arena, offset, sizes, tuple(strides), merged)


def affine(table: Rows) -> tuple[int, tuple[int, ...]] | None:
    """Return first row and strides of a table, or None if it is no strided view; axes of size 1 get 0."""
    if not table.size:
        return None
    first = table.flat[0]
    strides = []
    expected = np.full((1,) * table.ndim, first)
    for axis, size in enumerate(table.shape):
        place = [0] * table.ndim
        place[axis] = min(1, size - 1)
        step = int(table[tuple(place)] - first)
        strides.append(step)
        shape = [1] * table.ndim
        shape[axis] = size
        expected = expected + step * np.arange(size).reshape(shape)
    if min(strides, default=0) < 0 or not np.array_equal(expected, table):
        return None
    return int(first), tuple(strides)


def grouped(index: Rows, largest: int = 256) -> tuple[int, Rows]:
    """Return the length of the longest groups of neighbours that make up some rows, and their numbers."""
    size = largest
    while size > 1:
        if len(index) % size == 0:
            groups = index.reshape(-1, size)
            if not (groups[:, 0] % size).any() and (groups == groups[:, :1] + np.arange(size)).all():
                return size, groups[:, 0] // size
        size //= 2
    return 1, index


def runs(wanted: npt.NDArray[np.bool_], gap: int = 64) -> list[tuple[int, int]]:
    """Return (start, stop) of the rows that are wanted, joined over small gaps."""
    found: list[tuple[int, int]] = []
    for row in np.flatnonzero(wanted).tolist():
        if found and row - found[-1][1] <= gap:
            found[-1] = (found[-1][0], row + 1)
        else:
            found.append((row, row + 1))
    return found
