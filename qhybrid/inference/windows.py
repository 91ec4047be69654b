"""Which windows cover a scene: regular, overlapping, and aligned with its last row and column."""

from __future__ import annotations

from itertools import pairwise

from qhybrid.data.raster import Window
from qhybrid.errors import ConfigError


def axis_starts(length: int, size: int, overlap: float) -> tuple[int, ...]:
    """Return where windows start along one axis.

    Neighbours are `round(size * (1 - overlap))` pixels apart, at least 1. The last window is shifted back so
    that it ends with the axis; an axis shorter than a window has one window, which overhangs its end.

    Args:
        length: Pixels along the axis, at least 1.
        size: Pixels of a window, at least 1.
        overlap: Fraction of a window that neighbours share, in [0, 1).

    Returns:
        Strictly increasing starts, the first of them 0.

    Raises:
        ConfigError: If an argument is out of range.
    """
    if length < 1 or size < 1:
        raise ConfigError(f"Scene and window must have pixels, but have {length} and {size} along an axis.")
    if not 0 <= overlap < 1:
        raise ConfigError(f"Argument `overlap` must be in [0, 1), but is {overlap}.")
    last = max(length - size, 0)
    stride = max(1, round(size * (1 - overlap)))
    return (*range(0, last, stride), last)


def window_grid(height: int, width: int, size: int, overlap: float) -> tuple[Window, ...]:
    """Return square windows that cover a scene, row by row from the top, each row from the left.

    Args:
        height: Rows of the scene.
        width: Columns of the scene.
        size: Side of a window in pixels.
        overlap: Fraction of a window that neighbours share, in [0, 1).

    Raises:
        ConfigError: If an argument is out of range.
    """
    columns = axis_starts(width, size, overlap)
    return tuple(
        Window(row, column, size, size) for row in axis_starts(height, size, overlap) for column in columns
    )


def plan_strips(starts: tuple[int, ...], length: int, most: int) -> tuple[tuple[int, int], ...]:
    """Cut an axis into strips of at most `most` pixels where possible.

    Strips end where a window starts: then as few windows as possible lie in two strips (these are predicted
    twice). A strip is never narrower than the distance of two neighbouring windows.

    Args:
        starts: Where windows start along the axis.
        length: Pixels along the axis.
        most: Longest strip wanted, in pixels.

    Returns:
        (begin, end) of each strip; together they cover [0, length) once.
    """
    if length <= most:
        return ((0, length),)
    cuts = [0]
    for begin, following in pairwise((*starts[1:], length)):
        if following - cuts[-1] > most:
            cuts.append(begin)
    return tuple(pairwise((*cuts, length)))
