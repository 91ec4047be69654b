"""Raster files: opening them, and their metadata."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from qhybrid.data.locations import as_location, cannot_open, check_present, gdal_name
from qhybrid.errors import DataError

# GDAL's fast path for whole PNG files gives arbitrary pixels, and no error, when the file is truncated. It
# is off only if it is off both when the file is opened and when it is read.
SAFE_PNG = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}


class Window(NamedTuple):
    """A rectangle of pixels; it may overhang the scene on any side.

    Attributes:
        row: First row.
        col: First column.
        height: Number of rows.
        width: Number of columns.
    """

    row: int
    col: int
    height: int
    width: int


@dataclass(frozen=True)
class RasterInfo:
    """Metadata of a raster file.

    Attributes:
        path: The file.
        height: Rows.
        width: Columns.
        count: Bands, alpha included.
        dtype: Type of the pixel values, as NumPy calls it.
        crs: Coordinate reference system (`rasterio.crs.CRS`), or None.
        transform: Affine map from (column, row) to coordinates; the identity where the file has none.
        nodata: Value that means "no data", or None.
        alpha: 1-based numbers of alpha bands.
        driver: GDAL's name of the file format.
        mask_of_file: The file has a validity mask of its own (alpha band, internal mask or .msk file).
        gcps: Ground control points and their CRS, (points, crs), of a file that has them in place of a
            transform; else None.
        rpcs: Rational polynomial coefficients (`rasterio.rpc.RPC`) of a file without a transform; else None.
    """

    path: Path
    height: int
    width: int
    count: int
    dtype: str
    crs: Any
    transform: Any
    nodata: float | None
    alpha: tuple[int, ...]
    driver: str
    mask_of_file: bool
    gcps: Any = field(default=None, compare=False)
    rpcs: Any = field(default=None, compare=False)

    @property
    def irregular(self) -> str | None:
        """In words what places the pixels if not a transform; None if a transform does, or nothing."""
        if self.gcps is not None:
            return "ground control points"
        return None if self.rpcs is None else "rational polynomial coefficients (RPC)"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def georeferenced(self) -> bool:
        """Whether the file has a CRS and a transform."""
        return self.crs is not None and not self.transform.is_identity

    def corners(self, window: Window | None = None) -> NDArray[np.float64]:
        """Return the coordinates of the corners of the raster or a window, shape (4, 2): x and y."""
        top, left, height, width = window or Window(0, 0, self.height, self.width)
        a, b, c, d, e, f = self.transform[:6]
        cols, rows = left + np.array([0.0, width, width, 0]), top + np.array([0.0, 0, height, height])
        return np.stack([a * cols + b * rows + c, d * cols + e * rows + f], axis=1)

    def data_bands(self) -> tuple[int, ...]:
        """Return the 1-based numbers of all bands that are not alpha."""
        return tuple(band for band in range(1, self.count + 1) if band not in self.alpha)


def open_raster(path: Path) -> Any:
    """Open a raster file for reading.

    Raises:
        DataError: If the file is missing, no raster, or damaged, or a server does not answer in time.
    """
    check_present(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # plain PNG tiles are welcome
            with rasterio.Env(**SAFE_PNG):
                return rasterio.open(gdal_name(path))
    except RasterioError as error:
        raise cannot_open(path, error) from error


def read_info(path: Path, handle: Any) -> RasterInfo:
    """Return the metadata of an open raster; see `raster_info`."""
    dtypes = set(handle.dtypes)
    dtype = handle.dtypes[0] if handle.dtypes else "none"
    if len(dtypes) != 1 or np.dtype(dtype).kind not in "uif":
        raise DataError(f"{path}: all bands must have one real number type, but have {sorted(dtypes)}.")
    alpha = tuple(i + 1 for i, kind in enumerate(handle.colorinterp) if kind == ColorInterp.alpha)
    points, points_crs = handle.gcps
    free = handle.transform.is_identity
    masked = any(MaskFlags.per_dataset in flags for flags in handle.mask_flag_enums)
    return RasterInfo(
        path=path,
        height=handle.height,
        width=handle.width,
        count=handle.count,
        dtype=str(dtype),
        crs=handle.crs if handle.crs else None,
        transform=handle.transform,
        nodata=None if handle.nodata is None else float(handle.nodata),
        alpha=alpha,
        driver=handle.driver,
        mask_of_file=masked,
        gcps=(tuple(points), points_crs) if points and free else None,
        rpcs=handle.rpcs if free else None,
    )


def raster_info(path: str | Path) -> RasterInfo:
    """Return the metadata of a raster file.

    Raises:
        DataError: If the file is missing, no raster, or of complex or mixed number types.
    """
    file = as_location(path)
    with open_raster(file) as handle:
        return read_info(file, handle)


def check_bands(info: RasterInfo, bands: Sequence[int] | None) -> tuple[int, ...]:
    """Return the bands to read: the given ones, or all that hold data.

    Raises:
        DataError: If the file does not have a given band, or if none are given and it is not sure which hold
            data: GDAL marks the fourth band of any 8-bit GeoTIFF as alpha by default, infrared or not.
    """
    if bands is None and info.alpha and info.driver != "PNG":
        data = list(info.data_bands())
        raise DataError(
            f"{info.path}: `data.bands` must be given, because band {info.alpha[0]} is marked as alpha and "
            f"may be a mask or data. Fix: set `data.bands` to {data} if it is a mask, or to "
            f"{sorted([*data, *info.alpha])} if it is data."
        )
    chosen = tuple(info.data_bands() if bands is None else bands)
    wrong = sorted({band for band in chosen if not 1 <= band <= info.count})
    if wrong or not chosen:
        asked = ", ".join(map(str, wrong)) or "at least one"
        raise DataError(
            f"{info.path}: band {asked} is needed, but the file has {info.count} band(s). "
            "Fix: set `data.bands` to 1-based numbers of bands that every scene has."
        )
    return chosen
