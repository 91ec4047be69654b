"""Which images of two splits are near-copies of each other, by the correlation of small grey copies.

An image is reduced to the mean of its bands on a grid of `SIDE` x `SIDE` cells; two images are near-copies
when these grids correlate above a limit. So copies are found that were resized, compressed anew, or changed
in brightness, contrast, number type or number of bands. Not found: crops, shifts, rotations and mirrored
copies, and images without structure (one value all over), of which any two would be alike. Images of few
pixels that show one simple thing (digits, clothes) may be alike without being copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

SIDE = 32
ALIKE = 0.99
"""Correlation of near-copies. Different aerial tiles stay below 0.9, photographs of skin below 0.975."""
ALIKE_SMALL = 0.997
"""The same for images below `SMALL` pixels: different handwritten digits reach 0.99, clothes 0.995."""
SMALL = 64
_COARSE = 8
_COARSE_ALIKE = 0.98
_BLOCK = 2048
_FLAT = 1e-3
"""An image has no structure when its cells deviate less than this fraction of their largest value."""


class SmallCopy:
    """The small grey copy of an image that is read in blocks of whole rows."""

    def __init__(self, height: int, width: int) -> None:
        """Start the copy of an image of this size, in pixels."""
        self._sums = np.zeros((SIDE, SIDE))
        self._counts = np.zeros((SIDE, SIDE))
        self._rows = self._cells(height)
        self._cols = self._cells(width)

    @staticmethod
    def _cells(size: int) -> NDArray[np.float64]:
        """Return how much of each pixel lies in each cell along one side, shape (SIDE, size)."""
        edges = np.arange(size + 1) * (SIDE / size)
        low = np.maximum(edges[:-1], np.arange(SIDE)[:, None])
        high = np.minimum(edges[1:], np.arange(1, SIDE + 1)[:, None])
        return np.asarray(np.clip(high - low, 0, None))

    def add(self, row: int, raw: NDArray[np.generic], valid: NDArray[np.bool_] | None = None) -> None:
        """Add rows of the image.

        Args:
            row: The first of them.
            raw: Values, shape (C, h, W).
            valid: Which pixels hold data, shape (h, W); None: all.
        """
        grey = raw.mean(axis=0, dtype=np.float64)
        seen = np.ones(grey.shape) if valid is None else valid.astype(np.float64)
        rows = self._rows[:, row : row + len(grey)]
        self._sums += rows @ np.where(seen > 0, grey, 0.0) @ self._cols.T
        self._counts += rows @ seen @ self._cols.T

    def finish(self) -> NDArray[np.float32] | None:
        """Return the copy with mean 0 and length 1, shape (SIDE * SIDE,); None without structure."""
        known = self._counts > 1e-9
        if not known.any():
            return None
        cells = np.divide(self._sums, self._counts, out=np.zeros_like(self._sums), where=known)
        cells[~known] = cells[known].mean()
        centred = (cells - cells.mean()).ravel()
        length = float(np.linalg.norm(centred))
        if not length / SIDE > _FLAT * max(float(np.abs(cells).max()), 1e-12):
            return None
        return np.asarray(centred / length, dtype=np.float32)


def small_copy(image: NDArray[np.generic]) -> NDArray[np.float32] | None:
    """Return the small grey copy of a whole image, shape (C, H, W); see `SmallCopy.finish`."""
    copy = SmallCopy(*image.shape[1:])
    copy.add(0, image)
    return copy.finish()


def near_copies(
    first: Sequence[NDArray[np.float32] | None],
    second: Sequence[NDArray[np.float32] | None],
    alike: float = ALIKE,
) -> list[tuple[int, int]]:
    """Return which small copies of two lists belong to near-copies: pairs of positions.

    Args:
        first: Small copies of one split's images; None is like nothing.
        second: Those of another split.
        alike: Correlation above which two are near-copies; `ALIKE_SMALL` for small images.
    """
    places = [
        np.array([i for i, one in enumerate(part) if one is not None], dtype=np.int64)
        for part in (first, second)
    ]
    if not all(len(place) for place in places):
        return []
    fine = [np.stack([one for one in part if one is not None]) for part in (first, second)]
    found = [(int(places[0][i]), int(places[1][j])) for i, j in _alike(fine[0], fine[1], alike)]
    return sorted(found)


def _coarse(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return copies on a coarser grid, with mean 0 and length 1 again."""
    step = SIDE // _COARSE
    cells = fine.reshape(-1, _COARSE, step, _COARSE, step).mean(axis=(2, 4)).reshape(len(fine), -1)
    return np.asarray(cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-12))


def _alike(
    first: NDArray[np.float32], second: NDArray[np.float32], alike: float
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows that correlate; a coarse grid tells most of the others apart quickly."""
    coarse = _coarse(first), _coarse(second)
    for start in range(0, len(first), _BLOCK):
        part = slice(start, start + _BLOCK)
        rows, cols = np.nonzero(coarse[0][part] @ coarse[1].T > _COARSE_ALIKE)
        for begin in range(0, len(rows), _BLOCK * 8):
            some = slice(begin, begin + _BLOCK * 8)
            i, j = rows[some] + start, cols[some]
            close = np.einsum("nc,nc->n", first[i], second[j]) > alike
            yield from zip(i[close].tolist(), j[close].tolist())
