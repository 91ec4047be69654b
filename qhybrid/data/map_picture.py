"""A map as a picture: for web maps in Web Mercator, or as it lies in the file."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform, reproject

from qhybrid.data.map_bands import MapBands
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
    except RasterioError as error:
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
    points, points_crs = file.gcps
    crs = file.crs or points_crs
    if not crs or (file.transform.is_identity and not points):
        return None
    mercator = CRS.from_epsg(3857)
    place = {"gcps": points} if points and file.transform.is_identity else dict(zip(_SIDES, file.bounds))
    try:
        transform, width, height = calculate_default_transform(
            crs, mercator, file.width, file.height, **place
        )
        rows, columns = _reduced(height, width, max_side)
        transform = transform * transform.scale(width / columns, height / rows)
        values = _warped(file, crs, mercator, transform, (rows, columns), bands.nodata)
    except RasterioError:  # a pole, which Web Mercator does not have, or a system not of the earth
        return None
    left, bottom, right, top = array_bounds(rows, columns, transform)
    if max(abs(left), abs(right), abs(bottom), abs(top)) > 1.001 * WORLD:
        return None
    x, y = ((left, right), (top, bottom))
    scaled = [0.5 + value / (2 * WORLD) for value in x] + [0.5 - value / (2 * WORLD) for value in y]
    return values, (scaled[0], scaled[2], scaled[1], scaled[3])


def _warped(
    file: Any, crs: CRS, target: CRS, transform: Any, shape: tuple[int, int], nodata: float
) -> NDArray[Any]:
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
