"""Where on the Earth rasters lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import RPCTransformer, from_gcps
from rasterio.warp import transform as transform_points

from qhybrid.data.locations import local_file
from qhybrid.data.raster import RasterInfo, Window, raster_info
from qhybrid.data.raster_file import GDAL_ERRORS

Bounds = tuple[float, float, float, float]
Points = NDArray[np.float64]

LON_LAT = "EPSG:4326"
_EDGE_POINTS = 32
"""Points an edge is bent with between two CRS: 0.5 m of error on an edge of 100 km in UTM."""


@dataclass(frozen=True, eq=False)
class Footprint:
    """Where a raster, or a window of it, lies.

    Attributes:
        source: What tells its file from others; absent for a place without a file.
        window: The pixels of the file.
        crs: Coordinate reference system; None where the file does not say.
        corners: Coordinates of the corners, shape (4, 2), around the raster from the first pixel; NaN where
            the file does not say.
    """

    source: str | None
    window: Window
    crs: Any
    corners: Points

    @classmethod
    def of_box(cls, bounds: Bounds, crs: Any = None) -> Footprint:
        """Return the footprint of a box (left, bottom, right, top)."""
        left, bottom, right, top = bounds
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)
        return cls(None, Window(0, 0, 1, 1), crs, corners)

    @property
    def placed(self) -> bool:
        """Whether the file says where it lies."""
        return bool(np.isfinite(self.corners).all())

    @cached_property
    def bounds(self) -> Bounds:
        """Left, bottom, right and top of the corners; NaN where the place is not known."""
        low, high = self.corners.min(axis=0), self.corners.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @cached_property
    def upright(self) -> bool:
        """Whether the raster is its bounding box: it is not rotated or sheared."""
        across, down = self.corners[1] - self.corners[0], self.corners[3] - self.corners[0]
        return bool((across * down == 0).all() and min(np.abs(across).max(), np.abs(down).max()) > 0)

    @property
    def geographic(self) -> bool:
        """Whether coordinates are longitudes and latitudes in degrees."""
        return bool(self.crs is not None and self.crs.is_geographic)

    def points(self, columns: Points, rows: Points) -> Points:
        """Return coordinates of points given as fractions of width and height, shape (N, 2)."""
        first = self.corners[0]
        across, down = self.corners[1] - first, self.corners[3] - first
        return np.asarray(first + columns[:, None] * across + rows[:, None] * down)

    @cached_property
    def outline(self) -> Points | None:
        """The edges in longitude and latitude, in degrees, shape (N, 2); None where that is not known."""
        steps = np.arange(_EDGE_POINTS) / _EDGE_POINTS
        zeros, ones = np.zeros(_EDGE_POINTS), np.ones(_EDGE_POINTS)
        columns = np.concatenate([steps, ones, 1 - steps, zeros])
        rows = np.concatenate([zeros, steps, ones, 1 - steps])
        return transformed(self.crs, LON_LAT, self.points(columns, rows))

    @cached_property
    def cap(self) -> tuple[Points, float] | None:
        """Centre (unit vector) and angular radius of a circle on the sphere around it; None if not known."""
        if not self.placed or self.crs is None:
            return None
        fractions = np.linspace(0, 1, 5)
        columns, rows = (part.ravel() for part in np.meshgrid(fractions, fractions))
        lon_lat = transformed(self.crs, LON_LAT, self.points(columns, rows))
        if lon_lat is None:
            return None
        vectors = unit_vectors(lon_lat)
        mean = vectors.mean(axis=0)
        length = float(np.linalg.norm(mean))
        if length < 0.5:  # more than half of the globe
            return np.array([0.0, 0.0, 1.0]), np.pi
        # The edges bend between the points that are looked at.
        radius = float(np.arccos(np.clip(vectors @ (mean / length), -1, 1)).max())
        return mean / length, min(1.2 * radius, np.pi)


def footprint(info: RasterInfo, window: Window | None = None) -> Footprint:
    """Return where a raster, or a window of it, lies."""
    file = local_file(info.path)
    source = str(info.path) if file is None or file != info.path else os.path.realpath(file)
    shown = window or Window(0, 0, info.height, info.width)
    if info.irregular:
        return Footprint(source, shown, *_irregular_corners(info, shown))
    # The transform alone says where a raster lies among others that have no CRS either.
    corners = np.full((4, 2), np.nan) if info.transform.is_identity else info.corners(window)
    return Footprint(source, shown, info.crs, corners)


def _irregular_corners(info: RasterInfo, window: Window) -> tuple[Any, Points]:
    """Return CRS and corners of a raster that ground control points or RPCs place: near enough for overlaps.

    Control points are fitted by an affine map; RPCs are taken at their mean height.
    """
    top, left, height, width = window
    rows, cols = [top, top, top + height, top + height], [left, left + width, left + width, left]
    try:
        if info.gcps is not None:
            points, crs = info.gcps
            if len(points) < 3:  # say nothing of one of the directions
                return None, np.full((4, 2), np.nan)
            fitted = from_gcps(points)
            return crs or None, np.array([fitted * place for place in zip(cols, rows)])
        with RPCTransformer(info.rpcs) as transformer:
            x, y = transformer.xy(rows, cols, zs=[info.rpcs.height_off] * 4, offset="ul")
        return CRS.from_string(LON_LAT), np.stack([x, y], axis=1)
    except GDAL_ERRORS:
        return None, np.full((4, 2), np.nan)


def footprints(images: Sequence[Path]) -> list[Footprint]:
    """Return where rasters lie; see `trusted`."""
    return trusted([footprint(raster_info(image)) for image in images])


def trusted(places: Sequence[Footprint]) -> list[Footprint]:
    """Return footprints without places that say nothing.

    Files without a CRS that all start at the same point were given a transform by a program, not by a map.
    """
    loose = [place for place in places if place.crs is None and place.placed]
    starts = {tuple(place.corners[0]) for place in loose}
    sources = {place.source for place in loose}
    if len(sources) < 2 or len(starts) > 1:
        return list(places)
    return [
        replace(place, corners=np.full((4, 2), np.nan)) if place.crs is None else place for place in places
    ]


def transformed(source: Any, target: Any, points: Points) -> Points | None:
    """Return points (N, 2) of one CRS in another; None where one of them is not known there."""
    try:
        x, y = transform_points(source, target, points[:, 0].tolist(), points[:, 1].tolist())
    except GDAL_ERRORS:
        return None
    found = np.stack([x, y], axis=1)
    return found if np.isfinite(found).all() else None


def unit_vectors(lon_lat: Points) -> Points:
    """Return longitudes and latitudes in degrees as points of the unit sphere, shape (N, 3)."""
    lon, lat = np.radians(lon_lat).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
