"""Tiles of a scene that go through the ViT, and token maps of any window sampled from those of tiles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qhybrid.data.raster import Window

TileMaps = Callable[[int, int], Tensor]
"""Takes row and column of a tile in the grid of tiles, returns its token maps (L, C, h, w)."""


@dataclass(frozen=True)
class TileGrid:
    """Tiles side by side that cover a scene; the last row and column are shifted back to end with it.

    Attributes:
        shape: Rows and columns of the scene in pixels.
        side: Pixels of a tile along each axis; a scene that is shorter is one tile along it.
    """

    shape: tuple[int, int]
    side: int

    def starts(self, axis: int) -> tuple[int, ...]:
        """Return where tiles start along an axis."""
        last = max(self.shape[axis] - self.side, 0)
        return (*range(0, last, self.side), last)

    def window(self, row: int, column: int) -> Window:
        """Return the pixels of a tile."""
        height, width = (min(length, self.side) for length in self.shape)
        return Window(self.starts(0)[row], self.starts(1)[column], height, width)

    def places(self) -> list[tuple[int, int]]:
        """Return row and column of all tiles."""
        return [(r, c) for r in range(len(self.starts(0))) for c in range(len(self.starts(1)))]


def token_count(side: int, pitch: float) -> int:
    """Return how many tokens a window gets along an axis: not fewer than the ViT would give it.

    Args:
        side: Pixels of the window.
        pitch: Pixels from token to token.
    """
    return max(1, math.ceil(side / pitch - 1e-9))


def sample_window(tile_maps: TileMaps, grid: TileGrid, window: Window, pitch: float) -> Tensor:
    """Return token maps of a window, interpolated between those of the tiles that it touches.

    Positions are the centres of equal parts of the window, so that the map of a mirrored window is the
    mirrored map. Each takes its values from the tile in which it is furthest from the border; positions
    outside the scene have those of its edge.

    Args:
        tile_maps: Gives the token maps of a tile.
        grid: The tiles of the scene.
        window: The window; it may overhang the scene.
        pitch: Pixels from token to token.

    Returns:
        Half precision, shape (L, C, token_count(height), token_count(width)).
    """
    rows = _positions(window.row, window.height, pitch, grid.shape[0])
    columns = _positions(window.col, window.width, pitch, grid.shape[1])
    row_tiles, column_tiles = _nearest(rows, grid, 0), _nearest(columns, grid, 1)
    found: Tensor | None = None
    for r in sorted(set(row_tiles.tolist())):
        for c in sorted(set(column_tiles.tolist())):
            maps, at = tile_maps(r, c), grid.window(r, c)
            inside = (row_tiles == r).nonzero().flatten(), (column_tiles == c).nonzero().flatten()
            part = _between(maps, (rows[inside[0]] - at.row) / at.height, -2)
            part = _between(part, (columns[inside[1]] - at.col) / at.width, -1)
            if found is None:
                found = part.new_empty(*maps.shape[:2], len(rows), len(columns))
            found[:, :, inside[0][:, None], inside[1]] = part
    assert found is not None  # a window has at least one position
    return found.half()


def _positions(start: int, side: int, pitch: float, length: int) -> Tensor:
    """Return the centres of a window's tokens along an axis, in pixels of the scene, inside of it."""
    count = token_count(side, pitch)
    centres = start + (torch.arange(count, dtype=torch.float64) + 0.5) * side / count
    return centres.clamp(0, length)


def _nearest(positions: Tensor, grid: TileGrid, axis: int) -> Tensor:
    """Return the number of the tile in which each position is furthest from the border."""
    starts = torch.tensor(grid.starts(axis), dtype=torch.float64)
    side = min(grid.shape[axis], grid.side)
    from_start = positions[:, None] - starts
    return torch.minimum(from_start, side - from_start).argmax(dim=1)


def _between(maps: Tensor, places: Tensor, axis: int) -> Tensor:
    """Interpolate maps along an axis.

    Args:
        maps: Token maps.
        places: Positions as fractions of the tile, from 0 to 1.
        axis: -2 for rows, -1 for columns.
    """
    length = maps.shape[axis]
    at = (places * length - 0.5).clamp(0, length - 1)
    lower = at.floor().long().clamp(max=max(length - 2, 0))
    share = (at - lower).float()
    share = share[:, None] if axis == -2 else share
    low = maps.index_select(axis, lower).float()
    high = maps.index_select(axis, (lower + 1).clamp(max=length - 1)).float()
    return low + (high - low) * share
