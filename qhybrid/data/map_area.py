"""The part of a scene that is wanted: a box of coordinates as a window of pixels, and the grid of a part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from qhybrid.data.raster_file import GDAL_ERRORS, RasterInfo, Window
from qhybrid.errors import ConfigError, DataError


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Return the numbers of `left,bottom,right,top`.

    Raises:
        ConfigError: If they are no box.
    """
    try:
        left, bottom, right, top = (float(part) for part in text.split(","))
    except ValueError:
        left = bottom = right = top = math.nan
    if not (left < right and bottom < top and math.isfinite(left + bottom + right + top)):
        raise ConfigError(
            f"Option --bbox must be left,bottom,right,top with left < right and bottom < top, but is {text}. "
            "Fix: for example --bbox 500000,200000,501000,201000."
        )
    return left, bottom, right, top


def box_window(info: RasterInfo, box: Sequence[float], crs: str | None = None) -> Window:
    """Return the smallest window of whole pixels that holds all of a box that lies in the scene.

    Args:
        info: The scene.
        box: Left, bottom, right, top.
        crs: Coordinate system of the box, such as EPSG:4326; the scene's if absent. In a scene without
            coordinates the box counts columns and rows.

    Raises:
        ConfigError: If the coordinate system is unknown, or needed and the scene has none.
        DataError: If the scene is not on a regular grid, or the box lies outside of it.
    """
    if info.irregular is not None:
        raise DataError(
            f"{info.path}: a box needs a scene on a regular grid, but this one is placed by "
            f"{info.irregular}. Fix: map it whole, or warp it first (gdalwarp)."
        )
    left, bottom, right, top = _in_crs_of(info, box, crs)
    corners = [~info.transform * (x, y) for x in (left, right) for y in (bottom, top)]
    # Coordinates of pixel edges are not exact in floating point: 1e-6 of a pixel is no pixel more.
    cols, rows = (np.array(axis) for axis in zip(*corners))
    first_col, first_row = (max(math.floor(axis.min() + 1e-6), 0) for axis in (cols, rows))
    last_col = min(math.ceil(cols.max() - 1e-6), info.width)
    last_row = min(math.ceil(rows.max() - 1e-6), info.height)
    if first_col >= last_col or first_row >= last_row:
        ends = info.corners().min(axis=0), info.corners().max(axis=0)
        low, high = (",".join(f"{value:.10g}" for value in end) for end in ends)
        raise DataError(
            f"{info.path}: the box {','.join(f'{value:.10g}' for value in (left, bottom, right, top))} must "
            f"overlap the scene, which reaches from {low} to {high}"
            f"{'' if info.crs is None else f' in {info.crs.to_string()}'}. Fix: check its order (left,bottom,"
            "right,top) and its coordinate system (--bbox-crs)."
        )
    return Window(first_row, first_col, last_row - first_row, last_col - first_col)


def _in_crs_of(info: RasterInfo, box: Sequence[float], crs: str | None) -> Sequence[float]:
    if crs is None:
        return box
    if info.crs is None:
        raise ConfigError(
            f"{info.path}: option --bbox-crs needs a scene with a coordinate system, but it has none. Fix: "
            "leave it away; the box then counts columns and rows."
        )
    try:
        source = CRS.from_user_input(crs)
    except (*GDAL_ERRORS, ValueError) as error:
        raise ConfigError(
            f"Option --bbox-crs must be a coordinate system such as EPSG:4326, but is {crs} ({error})."
        ) from error
    try:
        found: Sequence[float] = transform_bounds(source, info.crs, *box, densify_pts=21)
    except GDAL_ERRORS as error:
        raise DataError(
            f"{info.path}: the box must lie where {info.crs.to_string()} is defined, but: {error}."
        ) from error
    if not np.isfinite(found).all():
        raise DataError(
            f"{info.path}: the box {','.join(f'{value:.10g}' for value in box)} in {crs} must lie where "
            f"{info.crs.to_string()} is defined, but reaches beyond. Fix: choose a smaller one."
        )
    if found[0] > found[2]:
        raise DataError(
            f"{info.path}: the box {','.join(f'{value:.10g}' for value in box)} in {crs} must not cross the "
            "antimeridian. Fix: map the two sides one after the other."
        )
    return found


def part_of(info: RasterInfo, window: Window) -> RasterInfo:
    """Return the metadata of a window of a raster as of a file of its own.

    Ground control points and rational polynomials count pixels from the first one of the part.
    """
    row, col, height, width = window
    if (row, col, height, width) == (0, 0, info.height, info.width):
        return info
    offset = rasterio.windows.Window(col, row, width, height)
    transform = info.transform
    if not transform.is_identity:
        transform = rasterio.windows.transform(offset, transform)
    return replace(
        info,
        height=height,
        width=width,
        transform=transform,
        gcps=_shifted_points(info.gcps, row, col),
        rpcs=_shifted_polynomials(info.rpcs, row, col),
    )


def _shifted_points(gcps: Any, row: int, col: int) -> Any:
    if gcps is None:
        return None
    points, crs = gcps
    moved = (
        GroundControlPoint(p.row - row, p.col - col, p.x, p.y, p.z, id=p.id, info=p.info) for p in points
    )
    return tuple(moved), crs


def _shifted_polynomials(rpcs: Any, row: int, col: int) -> Any:
    if rpcs is None:
        return None
    content = rpcs.to_dict()
    content["line_off"] -= row
    content["samp_off"] -= col
    return type(rpcs)(**content)
