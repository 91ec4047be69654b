"""Blending of overlapping windows, in memory that does not grow with the height of the scene.

Window a has the weight h(r - r_a) h(c - c_a) at pixel (r, c), with the Hann-like taper h of `taper`. Windows
form a grid, so the sum of all weights at a pixel is a product too, and the normalised weight is the product
of

    u_a(r) = h(r - r_a) / sum_b h(r - r_b)        (rows, and likewise columns).

The u_a sum to 1 at every row: no weights have to be accumulated beside the values, and a strip of columns is
blended exactly as the whole scene would be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def taper(size: int) -> NDArray[np.float64]:
    """Return weights h(i) = sin^2(pi (i + 1/2) / size), shape (size,): smooth, symmetric, never 0."""
    return np.asarray(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2)


def axis_weights(starts: tuple[int, ...], length: int, size: int) -> dict[int, Floats]:
    """Return the normalised weights of each window along one axis.

    Args:
        starts: Where windows start; together they must cover [0, length).
        length: Pixels along the axis.
        size: Pixels of a window.

    Returns:
        For each start the weights of its pixels, shape (size,); 0 where the window overhangs the axis. At
        every pixel of the axis the weights of all windows sum to 1.
    """
    shape = taper(size)
    total = np.zeros(max(length, starts[-1] + size))
    for start in starts:
        total[start : start + size] += shape
    weights = {}
    for start in starts:
        normalised = shape / total[start : start + size]
        normalised[max(length - start, 0) :] = 0
        weights[start] = normalised.astype(np.float32)
    return weights


class BandBlender:
    """Sums weighted windows of one strip of columns; finished rows are taken out from the top.

    Rows are kept in a ring as deep as a window: row r is stored at r modulo its depth.

    Args:
        num_classes: Channels K of the values.
        height: Rows of the scene.
        size: Side of a window in pixels.
        begin: First column of the strip.
        end: One past the strip's last column.
        top: Row that is taken out first; no window begins above it.
    """

    def __init__(self, num_classes: int, height: int, size: int, begin: int, end: int, top: int = 0) -> None:
        self.begin, self.end = begin, end
        self._height = height
        self._top = top
        self._depth = size
        self._values = np.zeros((num_classes, size, end - begin), dtype=np.float32)
        self._valid = np.zeros((size, end - begin), dtype=bool)

    def add(
        self,
        row: int,
        column: int,
        valid: NDArray[np.bool_],
        values: Floats | None,
        weights: tuple[Floats, Floats] | None = None,
        channel: int = 0,
    ) -> None:
        """Add one window.

        Args:
            row: First row of the window; it must not lie above rows that were taken out.
            column: First column of the window, counted in the scene.
            valid: Which pixels hold data, shape (size, size).
            values: Values of the window, shape (k, size, size); None: it has no data and adds nothing.
            weights: Normalised weights of its rows and of its columns, each of shape (size,).
            channel: The first of the k channels that the values belong to.
        """
        rows = np.arange(row, min(row + len(valid), self._height)) % self._depth
        left, right = max(column, self.begin), min(column + valid.shape[1], self.end)
        inside = slice(left - column, right - column)
        columns = slice(left - self.begin, right - self.begin)
        self._valid[rows, columns] = valid[: len(rows), inside]
        if values is not None and weights is not None:
            share = weights[0][: len(rows), None] * weights[1][None, inside]
            channels = slice(channel, channel + len(values))
            self._values[channels, rows, columns] += values[:, : len(rows), inside] * share

    def take(self, until: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Take out all rows above `until`, which no later window may touch.

        Returns:
            Blended values, shape (K, n, end - begin), and which pixels hold data, shape (n, end - begin), for
            the n rows from the first one that was not taken out yet.
        """
        rows = np.arange(self._top, until) % self._depth
        values, valid = self._values[:, rows], self._valid[rows]
        self._values[:, rows] = 0
        self._valid[rows] = False
        self._top = until
        return values, valid
