"""Raster files: opening them, and their metadata."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from qhybrid.data.locations import as_location, cannot_open, check_present, gdal_name
from qhybrid.errors import DataError

# GDAL's fast path for whole PNG files gives arbitrary pixels, and no error, when the file is truncated. It
# is off only if it is off both when the file is opened and when it is read.
SAFE_PNG = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}

LEAST_CACHE_MB = 16
"""What GDAL's cache may hold at least while a scene is read."""
GDAL_ERRORS = (RasterioError, CPLE_BaseError, CRSError)
"""What rasterio raises; some of its functions (copies, transformers) let GDAL's own errors through."""


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


Color = tuple[int, int, int, int]
"""Red, green, blue and alpha of an entry of a colour table, 0 to 255."""

_STRUCTURE = "IMAGE_STRUCTURE"
"""GDAL's name of what it says of the encoding of pixels."""

_DEGREE_METRES = 111_319.49
"""Length of a degree at the equator of WGS 84."""


@dataclass(frozen=True)
class BandInfo:
    """What a file says of one band.

    Attributes:
        description: Its name; empty if it has none.
        color: Its colour interpretation, as GDAL calls it in small letters (`red`, `gray`, `undefined`).
        dtype: Number type, as NumPy calls it.
        scale: Physical value = number in the file * scale + offset.
        offset: See `scale`.
        nodata: Value that means "no data", or None.
        inverted: 0 is white and the largest number black (TIFF's photometric interpretation MINISWHITE).
        bits: Bits of a number, where they are fewer than those of its type; else None.
    """

    description: str = ""
    color: str = "undefined"
    dtype: str = "uint8"
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    inverted: bool = False
    bits: int | None = None

    @property
    def largest(self) -> int | None:
        """The largest number that the band can hold; None where it may be negative or no integer."""
        kind = np.dtype(self.dtype)
        return None if kind.kind != "u" else 2 ** (self.bits or 8 * kind.itemsize) - 1


@dataclass(frozen=True)
class RasterInfo:
    """Metadata of a raster file.

    Attributes:
        path: The file.
        height: Rows.
        width: Columns.
        count: Bands, alpha included.
        dtype: Type of the pixel values, as NumPy calls it; where bands differ, one that holds them all.
        crs: Coordinate reference system (`rasterio.crs.CRS`), or None.
        transform: Affine map from (column, row) to coordinates; the identity where the file has none.
        nodata: Value that means "no data" in the first band, or None.
        alpha: 1-based numbers of alpha bands.
        driver: GDAL's name of the file format.
        mask_of_file: The file has a validity mask of its own (alpha band, internal mask or .msk file).
        gcps: Ground control points and their CRS, (points, crs), of a file that has them in place of a
            transform; else None.
        rpcs: Rational polynomial coefficients (`rasterio.rpc.RPC`) of a file without a transform; else None.
        bands: What the file says of each band.
        palette: The colours that the numbers of the first band stand for, by number; None if they stand for
            themselves.
        pages: Pages of this size that a TIFF has; only the first is read.
        turn: How pixels are to be shown, as EXIF says it: 1 as they are, 2 to 8 mirrored or turned. They are
            read as they are.
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
    bands: tuple[BandInfo, ...] = ()
    palette: tuple[Color, ...] | None = None
    gcps: Any = field(default=None, compare=False)
    rpcs: Any = field(default=None, compare=False)
    pages: int = 1
    turn: int = 1

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

    @property
    def pixel_sides(self) -> tuple[float, float] | None:
        """Height and width of a pixel on the ground in metres, at the raster's middle; None: unknown."""
        if not self.georeferenced:
            return None
        a, b, _, d, e, _ = self.transform[:6]
        height, width = float(np.hypot(b, e)), float(np.hypot(a, d))
        latitude = 0.0
        if self.crs.is_geographic:
            latitude = float(self.corners()[:, 1].mean())
            height *= _DEGREE_METRES
            width *= _DEGREE_METRES * np.cos(np.radians(latitude))
            return height, float(width)
        try:
            metres = float(self.crs.units_factor[1])  # also of the local system of a site
        except GDAL_ERRORS:
            return None
        if self.crs.to_dict().get("proj") == "geocent":  # coordinates are no places on a map
            return None
        if self.crs.to_dict().get("proj") in ("merc", "webmerc"):  # its metres are some at the equator alone
            northing = float(self.corners()[:, 1].mean()) * metres
            metres *= 1 / float(np.cosh(northing / (np.degrees(1) * _DEGREE_METRES)))
        return height * metres, width * metres

    @property
    def pixel_size(self) -> float | None:
        """Side of a square of a pixel's area, in metres; None if the file does not say where it lies."""
        sides = self.pixel_sides
        return None if sides is None else float(np.sqrt(sides[0] * sides[1]))

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


@contextmanager
def bounded_cache(path: Path, rows: int) -> Iterator[None]:
    """Keep no more of a file in GDAL's cache than windows of some rows need that come from top to bottom.

    Its default, a twentieth of the machine's memory, would keep whole scenes.

    Args:
        path: The raster file.
        rows: Rows of its pixels that a window has.

    Raises:
        DataError: If the file cannot be opened.
    """
    with open_raster(path) as handle:
        tile = max(shape[0] for shape in handle.block_shapes)
        pixel = sum(np.dtype(dtype).itemsize for dtype in handle.dtypes) + 1  # and a mask
        needed = (-(-rows // tile) + 1) * tile * handle.width * pixel
    with rasterio.Env(GDAL_CACHEMAX=max(LEAST_CACHE_MB, math.ceil(1.25 * needed / 2**20))):
        yield


def read_info(path: Path, handle: Any) -> RasterInfo:
    """Return the metadata of an open raster; see `raster_info`."""
    dtype = _common_type(path, handle.dtypes)
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
        bands=_read_bands(handle),
        palette=_read_palette(handle),
        pages=_count_pages(handle),
        turn=_read_turn(handle),
    )


def _count_pages(handle: Any) -> int:
    """Return how many pages of the first one's size a TIFF has: others are thumbnails, perhaps."""
    if handle.driver != "GTiff":
        return 1
    said = [text for key, text in handle.tags(ns="SUBDATASETS").items() if key.endswith("_DESC")]
    return max(1, sum(f"({handle.width}P x {handle.height}L " in text for text in said))


def _read_turn(handle: Any) -> int:
    """Return the orientation that EXIF says; 1 where it says none."""
    said = handle.tags().get("EXIF_Orientation", "1").strip()
    return int(said) if said in set("12345678") else 1


def several_pages(info: RasterInfo) -> str | None:
    """Return what to say of a file of whose pages only the first is read; None of others."""
    if info.pages == 1:
        return None
    name = info.path.name
    return (
        f"{info.path}: it has {info.pages} pages of one size, and the first alone is read. Fix: if pages are "
        f"bands, stack them (gdalbuildvrt -separate stack.vrt GTIFF_DIR:1:{name} GTIFF_DIR:2:{name} ...); "
        "else write the wanted one to a file of its own."
    )


def _common_type(path: Path, dtypes: Sequence[str]) -> str:
    """Return a number type that holds the values of all bands exactly."""
    kinds = {np.dtype(name) for name in dtypes if name in np.sctypeDict}
    real = len(kinds) == len(set(dtypes)) > 0 and all(kind.kind in "uif" for kind in kinds)
    if real and len(kinds) == 1:
        return str(dtypes[0])
    common = np.result_type(*kinds) if real else None
    # NumPy calls 64-bit integers as 64-bit floating-point numbers safe, but these hold 53 bits.
    if common is None or (common.kind == "f" and any(k.kind in "ui" and k.itemsize == 8 for k in kinds)):
        raise DataError(
            f"{path}: bands must have a real number type, or types that one holds exactly, but have "
            f"{sorted(set(dtypes))}. Fix: convert them (gdal_translate -ot)."
        )
    return str(common)


def _read_bands(handle: Any) -> tuple[BandInfo, ...]:
    bands = tuple(
        BandInfo(
            description=(description or "").strip(),
            color=kind.name.lower(),
            dtype=dtype,
            scale=float(scale),
            offset=float(offset),
            nodata=None if nodata is None else float(nodata),
        )
        for description, kind, dtype, scale, offset, nodata in zip(
            handle.descriptions,
            handle.colorinterp,
            handle.dtypes,
            handle.scales,
            handle.offsets,
            handle.nodatavals,
            strict=True,
        )
    )
    if not bands:
        return bands
    inverted = handle.tags(ns=_STRUCTURE).get("MINISWHITE") == "YES"  # of one band, beside alpha perhaps
    bits = handle.tags(1, ns=_STRUCTURE).get("NBITS")
    return (replace(bands[0], inverted=inverted, bits=None if bits is None else int(bits)), *bands[1:])


def _read_palette(handle: Any) -> tuple[Color, ...] | None:
    """Return the colour table of the first band; None without one, or where it only repeats grey values."""
    if not handle.count or handle.colorinterp[0] != ColorInterp.palette:
        return None
    try:
        entries = handle.colormap(1)
    except ValueError:  # called a palette, but has none
        return None
    table = [entries.get(number, (0, 0, 0, 0)) for number in range(max(entries) + 1)]
    grey = all(entry[:3] == (number,) * 3 for number, entry in enumerate(table))
    return None if grey else tuple((int(r), int(g), int(b), int(a)) for r, g, b, a in table)


def as_picture(info: RasterInfo) -> RasterInfo:
    """Return what a file offers as an image: a colour table is expanded to bands of red, green and blue.

    The numbers of bands are then those of the picture: 1 to 3 for the colours, from 4 on for further bands.
    """
    if info.palette is None:
        return info
    colors = tuple(BandInfo(color=color) for color in ("red", "green", "blue"))
    bands = (*colors, *info.bands[1:])
    types = {np.dtype(band.dtype) for band in bands}
    return replace(
        info,
        count=len(bands),
        dtype=str(np.result_type(*types)),
        nodata=None,
        alpha=tuple(number + 2 for number in info.alpha),
        bands=bands,
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
