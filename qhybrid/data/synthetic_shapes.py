"""Shapes of synthetic scenes in pixel coordinates: points are (x, y), y downwards, shape (n, 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Road:
    """A road: centre line (n, 2) and width in pixels."""

    line: Points
    width: float


@dataclass(frozen=True)
class Building:
    """A rectangular building, in pixels: centre, direction of the ridge, length along it, depth across it."""

    center: Points
    along: Points
    length: float
    depth: float

    def outline(self, margin: float = 0.0) -> Points:
        """Return the corners (4, 2) of the rectangle, widened by a margin in pixels."""
        half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
        half *= np.array([self.length, self.depth]) / 2 + margin
        across = np.array([-self.along[1], self.along[0]])
        return np.asarray(self.center + half[:, :1] * self.along + half[:, 1:] * across)


def polygon_mask(polygon: Points, height: int, width: int) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Say which pixel centres lie in a polygon.

    Returns:
        The polygon's bounding box in an array of `height` x `width`, and a mask of that box's shape.
    """
    left, top = np.maximum(np.floor(polygon.min(axis=0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(polygon.max(axis=0)).astype(int) + 1, [width, height])
    if right <= left or bottom <= top:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), dtype=bool)
    shape = {"type": "Polygon", "coordinates": [[*polygon.tolist(), polygon[0].tolist()]]}
    size = (bottom - top, right - left)
    inside = rasterize([(shape, 1)], out_shape=size, transform=Affine.translation(left, top), dtype="uint8")
    return (slice(top, bottom), slice(left, right)), inside == 1


def burn(target: NDArray[Any], polygon: Points, value: float) -> None:
    """Write a value where pixel centres lie in a polygon."""
    place, inside = polygon_mask(polygon, *target.shape)
    target[place][inside] = value


def ribbon(line: Points, width: float | NDArray[np.float64]) -> Points:
    """Return the outline of a band of a width along a line."""
    tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) * np.reshape(np.asarray(width) / 2, (-1, 1))
    return np.concatenate([line + side, (line - side)[::-1]])


def smooth_noise(random: np.random.Generator, size: int, cell: float) -> NDArray[np.float32]:
    """Return noise of mean 0 and standard deviation 1 whose features are about `cell` pixels wide."""
    nodes = int(np.ceil(size / cell)) + 2
    grid = random.standard_normal((nodes, nodes), dtype=np.float32)
    position = (np.arange(size, dtype=np.float32) / cell) + np.float32(random.random())
    low = np.minimum(position.astype(np.int64), nodes - 2)
    part = position - low
    part = part * part * (3 - 2 * part)
    rows = grid[low] * (1 - part[:, None]) + grid[low + 1] * part[:, None]
    noise = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    noise -= noise.mean()
    return np.asarray(noise / max(float(noise.std()), 1e-6), dtype=np.float32)
