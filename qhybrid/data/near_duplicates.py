"""Near-duplicates among whole images: pairs whose pixels correlate, also flipped and rotated, in groups.

Two images of one size with pixel values x and y (the mean of the bands) are near-duplicates when Pearson's
correlation of x and y, over all pixels, is above a limit. All pairs are decided exactly, yet few are computed
in full: with block means c as an orthonormal projection of the standardised pixels, and r the length of what
it leaves, correlation <= c . c' + r r' (Cauchy and Schwarz), which rules out nearly all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CORRELATION = 0.98
"""Correlation above which two images are near-duplicates."""
CORRELATION_SMALL = 0.997
"""The same for images below `SMALL` pixels: different handwritten digits reach 0.99, clothes 0.995."""
SMALL = 64
COMPARED_SIDE = 128
"""Side in pixels that pictures of different sizes are brought to before they are compared."""
_COARSE = 16
_ROWS = 512
_GATHERED = 2**24
"""Values that are compared at once."""
_FLAT = 1e-3
"""An image has no structure when its pixels deviate less than this fraction of their largest value."""
_ROUNDING = 1e-5


class Pair(NamedTuple):
    """Two near-duplicates: their positions, and the correlation."""

    first: int
    second: int
    correlation: float


def limit_for(shape: Sequence[int]) -> float:
    """Return the correlation above which images of a size (H, W) are near-duplicates."""
    return CORRELATION_SMALL if min(shape) < SMALL else CORRELATION


def near_duplicates(
    first: NDArray[Any],
    second: NDArray[Any] | None = None,
    limit: float = CORRELATION,
    *,
    turned: bool = True,
) -> list[Pair]:
    """Return the pairs of images that correlate above a limit, each pair once with its largest correlation.

    Args:
        first: Grey images, shape (N, H, W), of any number type.
        second: Others of the same size, shape (M, H, W); absent: pairs within `first`, the smaller position
            first.
        limit: Correlation in [0, 1).
        turned: Whether mirrored and rotated copies count: all eight orientations of square images, four of
            others.

    Returns:
        Pairs in order. Images without structure (one value all over) are like nothing.
    """
    one = _Standardised(first)
    other = one if second is None else _Standardised(second)
    if not len(first) or not len(other.raw):
        return []
    found: dict[tuple[int, int], float] = {}
    for turn in _orientations(first.shape[1:]) if turned else (_same,):
        for rows, columns in _candidates(one, other, turn, limit, within=second is None):
            values = one.correlations(other, rows, columns, turn)
            for i, j, value in zip(*(part[values > limit].tolist() for part in (rows, columns, values))):
                found[i, j] = max(value, found.get((i, j), -1.0))
    return [Pair(*places, found[places]) for places in sorted(found)]


def duplicate_groups(count: int, pairs: Sequence[Pair]) -> list[int]:
    """Return the group of each image: the smallest position that it is tied to, also through others."""
    group = list(range(count))

    def root(index: int) -> int:
        while group[index] != index:
            group[index] = group[group[index]]
            index = group[index]
        return index

    for pair in pairs:
        low, high = sorted((root(pair.first), root(pair.second)))
        group[high] = low
    return [root(index) for index in range(count)]


def grey(images: NDArray[Any]) -> Floats:
    """Return the mean of the bands of images (N, C, H, W), shape (N, H, W)."""
    return np.asarray(images.mean(axis=1), dtype=np.float32)


def _same(images: NDArray[Any]) -> NDArray[Any]:
    return images


def _orientations(shape: Sequence[int]) -> list[Any]:
    """Return what turns images (..., H, W) into each orientation that keeps their size."""
    turns = [
        _same,
        lambda images: images[..., ::-1],
        lambda images: images[..., ::-1, :],
        lambda images: images[..., ::-1, ::-1],
    ]
    if shape[0] == shape[1]:
        turns += [_transposed(turn) for turn in tuple(turns)]
    return turns


def _transposed(turn: Any) -> Any:
    return lambda images: turn(images.swapaxes(-1, -2))


class _Standardised:
    """Images with mean 0 and length 1, in full only where they are asked for; their block means."""

    def __init__(self, raw: NDArray[Any]) -> None:
        self.raw = raw
        count, height, width = raw.shape
        self.mean = np.zeros(count)
        self.scale = np.zeros(count)
        steps = [max(step for step in range(1, _COARSE + 1) if side % step == 0) for side in (height, width)]
        self.coarse = np.zeros((count, *steps), dtype=np.float32)
        cells = (height // steps[0], width // steps[1])
        for start in range(0, count, _ROWS):
            part = slice(start, start + _ROWS)
            values = raw[part].astype(np.float64)
            self.mean[part] = values.mean(axis=(1, 2))
            values -= self.mean[part, None, None]
            length = np.sqrt((values**2).sum(axis=(1, 2)))
            largest = np.maximum(np.abs(raw[part]).max(axis=(1, 2)), 1e-12)
            structured = length / np.sqrt(height * width) > _FLAT * largest
            self.scale[part] = np.where(structured, 1 / np.where(structured, length, 1), 0)
            means = values.reshape(len(values), steps[0], cells[0], steps[1], cells[1]).sum(axis=(2, 4))
            means *= self.scale[part, None, None] / np.sqrt(cells[0] * cells[1])
            self.coarse[part] = means
        kept = (self.coarse.astype(np.float64) ** 2).sum(axis=(1, 2))
        self.rest = np.sqrt(np.clip((self.scale > 0) - kept, 0, None)).astype(np.float32)

    def full(self, places: NDArray[np.int64]) -> Floats:
        """Return standardised pixels, shape (n, H, W)."""
        values = self.raw[places].astype(np.float32)
        values -= self.mean[places, None, None].astype(np.float32)
        values *= self.scale[places, None, None].astype(np.float32)
        return values

    def correlations(
        self, other: _Standardised, rows: NDArray[np.int64], columns: NDArray[np.int64], turn: Any
    ) -> NDArray[np.float64]:
        """Return the correlation of each pair, the second one turned."""
        size = self.raw[0].size
        step = max(1, _GATHERED // size)
        found = [np.zeros(0)]
        for start in range(0, len(rows), step):
            some = slice(start, start + step)
            one = self.full(rows[some]).reshape(-1, size)
            two = turn(other.full(columns[some])).reshape(-1, size)
            found.append(np.einsum("nd,nd->n", one, two).astype(np.float64))
        return np.concatenate(found)


def _candidates(
    one: _Standardised, other: _Standardised, turn: Any, limit: float, *, within: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the positions of pairs that may correlate above the limit, block by block."""
    turned = np.ascontiguousarray(turn(other.coarse)).reshape(len(other.raw), -1)
    for start in range(0, len(one.raw), _ROWS):
        part = slice(start, start + _ROWS)
        bound = one.coarse[part].reshape(len(one.raw[part]), -1) @ turned.T
        bound += one.rest[part, None] * other.rest
        near = bound > limit - _ROUNDING
        if within:
            near &= np.arange(len(other.raw)) > start + np.arange(len(near))[:, None]
        rows, columns = np.nonzero(near)
        yield rows + start, columns
