"""A map as a picture: for web maps in Web Mercator, or as it lies in the file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform, reproject

from qhybrid.data.map_bands import MapBands
from qhybrid.data.raster_file import GDAL_ERRORS
from qhybrid.data.raster_writer import CACHE_MB
from qhybrid.errors import DataError

MAX_SIDE = 2048
"""Longest side of the picture in pixels."""
WORLD = 20037508.342789244
"""Half the side of the world in Web Mercator, in its metres."""


@dataclass(frozen=True)
class MapPicture:
    """A coloured map.

    Attributes:
        png: The picture, transparent where there is no data.
        width: Pixels.
        height: Pixels.
        bounds: Left, top, right, bottom in a world that is 1 wide and high, from its top left corner (Web
            Mercator); None for a map without place on the earth.
    """

    png: bytes
    width: int
    height: int
    bounds: tuple[float, float, float, float] | None


def map_picture(path: str | Path, bands: MapBands, max_side: int = MAX_SIDE) -> MapPicture:
    """Return the picture of a map of classes, for a web map where the map has a place on the earth.

    Args:
        path: The map; of one placed by rational polynomials the picture is as it lies in the file.
        bands: Its values and their colours.
        max_side: Longest side of the picture in pixels; larger maps are shown by every n-th pixel.

    Raises:
        DataError: If the map cannot be read.
    """
    try:
        with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                values, bounds = _in_web_mercator(file, bands, max_side) or (
                    file.read(1, out_shape=_reduced(file.height, file.width, max_side)),
                    None,
                )
    except GDAL_ERRORS as error:
        raise DataError(f"{path}: cannot be read ({error}). Fix: map the scene again.") from error
    content = io.BytesIO()
    Image.fromarray(_coloured(values, bands)).save(content, "PNG", optimize=True)
    return MapPicture(content.getvalue(), values.shape[1], values.shape[0], bounds)


def _reduced(height: int, width: int, max_side: int) -> tuple[int, int]:
    factor = min(1.0, max_side / max(height, width))
    return max(round(height * factor), 1), max(round(width * factor), 1)


def _in_web_mercator(
    file: Any, bands: MapBands, max_side: int
) -> tuple[NDArray[Any], tuple[float, float, float, float]] | None:
    """Return the values on the grid of a web map, and bounds there; None for a map without place on earth.

    A map across the antimeridian lies beyond the right side of the world, where web maps go on.
    """
    points, points_crs = file.gcps
    crs = file.crs or points_crs
    if not crs or (file.transform.is_identity and not points):
        return None
    place: dict[str, Any]
    middles: tuple[int, ...]
    if file.transform.is_identity:
        place, middles = {"gcps": points}, (0, 180)
    elif crs.is_geographic:
        # Longitudes may go on beyond 180 degrees, which no projection gives back.
        middles = (180,) if file.bounds.right > 180 else (-180,) if file.bounds.left < -180 else (0,)
        place = dict(zip(_SIDES, file.bounds))
        place |= {side: place[side] - middles[0] for side in ("left", "right")}
    else:
        place, middles = dict(zip(_SIDES, file.bounds)), (0, 180)
    shifted = middles[0] if len(middles) == 1 else 0
    # Of a map across the antimeridian, the world around that one shows less of the rest.
    grids = [_mercator_grid(file, crs, middle - shifted, place, max_side) for middle in middles]
    found = min((grid for grid in grids if grid is not None), key=_breadth, default=None)
    if found is None:
        return None
    mercator, middle, transform, shape = found
    try:
        values = _warped(file, crs, mercator, transform, shape, bands.nodata, shifted)
    except GDAL_ERRORS:
        return None
    left, bottom, right, top = array_bounds(*shape, transform)
    x = [0.5 + (middle + shifted) / 360 + value / (2 * WORLD) for value in (left, right)]
    y = [0.5 - value / (2 * WORLD) for value in (top, bottom)]
    return values, (x[0], y[0], x[1], y[1])


_Grid = tuple[CRS, int, Any, tuple[int, int]]


def _mercator_grid(file: Any, crs: CRS, middle: int, place: Mapping[str, Any], max_side: int) -> _Grid | None:
    """Return a grid of Web Mercator around a meridian: system, meridian, transform, rows and columns."""
    mercator = CRS.from_string(f"+proj=merc +lon_0={middle} +a=6378137 +b=6378137 +units=m +no_defs")
    try:
        transform, width, height = calculate_default_transform(
            crs, mercator, file.width, file.height, **place
        )
    except GDAL_ERRORS:  # a pole, which Web Mercator does not have, or a system not of the earth
        return None
    rows, columns = _reduced(height, width, max_side)
    transform = transform * transform.scale(width / columns, height / rows)
    inside = all(abs(side) <= 1.001 * WORLD for side in array_bounds(rows, columns, transform))
    return (mercator, middle, transform, (rows, columns)) if inside else None


def _breadth(grid: _Grid) -> float:
    """Return the breadth of a grid in whole metres: equal ones differ by rounding."""
    _, _, transform, (_, columns) = grid
    return float(round(transform.a * columns))


def _warped(
    file: Any, crs: CRS, target: CRS, transform: Any, shape: tuple[int, int], nodata: float, shifted: int
) -> NDArray[Any]:
    """Return values on a grid; `shifted`: what longitudes of the file are to be smaller by."""
    points, _ = file.gcps
    if file.transform.is_identity and points:  # WarpedVRT does not look at ground control points
        height, width = _reduced(file.height, file.width, 2 * max(shape))
        up, across = height / file.height, width / file.width
        near = [GroundControlPoint(p.row * up, p.col * across, p.x, p.y, p.z) for p in points]
        values = np.full(shape, nodata, dtype=file.dtypes[0])
        reproject(
            file.read(1, out_shape=(height, width)),
            values,
            gcps=near,
            src_crs=crs,
            dst_crs=target,
            dst_transform=transform,
            src_nodata=nodata,
            dst_nodata=nodata,
        )
        return values
    grid = {"transform": transform, "height": shape[0], "width": shape[1]}
    if shifted:
        grid["src_transform"] = Affine.translation(-shifted, 0) * file.transform
    with WarpedVRT(
        file, src_crs=crs, crs=target, resampling=Resampling.nearest, nodata=nodata, **grid
    ) as warped:
        found: NDArray[Any] = warped.read(1)
    return found


_SIDES = ("left", "bottom", "right", "top")


def _coloured(values: NDArray[Any], bands: MapBands) -> NDArray[np.uint8]:
    picture = np.zeros((*values.shape, 4), dtype=np.uint8)
    for value, _, colour in bands.values:
        picture[values == value] = (*colour, 255)
    return picture
