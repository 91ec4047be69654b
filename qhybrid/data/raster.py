"""Reading rasters by windows: any bands, any numeric type, with the pixels that hold data told apart."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from qhybrid.errors import DataError

# GDAL's fast path for whole PNG files gives arbitrary pixels, and no error, when the file is truncated. It
# is off only if it is off both when the file is opened and when it is read.
_SAFE_PNG = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}


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
    """What a raster file says about itself.

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

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def georeferenced(self) -> bool:
        """Whether the file says where it lies: it has a CRS and a transform."""
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
        DataError: If the file is missing, no raster, or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path}: must be a raster file, but is missing. Fix: check the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # plain PNG tiles are welcome
            with rasterio.Env(**_SAFE_PNG):
                return rasterio.open(path)
    except RasterioError as error:
        raise DataError(f"{path}: cannot be opened as a raster ({error}). Fix: replace the file.") from error


def _info(path: Path, handle: Any) -> RasterInfo:
    dtypes = set(handle.dtypes)
    dtype = handle.dtypes[0] if handle.dtypes else "none"
    if len(dtypes) != 1 or np.dtype(dtype).kind not in "uif":
        raise DataError(f"{path}: all bands must have one real number type, but have {sorted(dtypes)}.")
    alpha = tuple(i + 1 for i, kind in enumerate(handle.colorinterp) if kind == ColorInterp.alpha)
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
    )


def raster_info(path: str | Path) -> RasterInfo:
    """Return what a raster file says about itself.

    Raises:
        DataError: If the file is missing, no raster, or of complex or mixed number types.
    """
    file = Path(path)
    with open_raster(file) as handle:
        return _info(file, handle)


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


class RasterReader:
    """A raster file kept open for many windows.

    A process that inherits or unpickles a reader opens the file itself: handles must not be shared between
    processes. One reader is for one thread.
    """

    def __init__(
        self,
        path: str | Path,
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
        alpha_is_mask: bool = False,
    ) -> None:
        """Open a raster.

        Args:
            path: The file.
            bands: 1-based band numbers in the order wanted; all that hold data if absent.
            nodata: Value that means "no data"; absent: what the file says. NaN: no value does.
            alpha_is_mask: Without `bands`, take a band that is marked as alpha for a mask in any format.

        Raises:
            DataError: If the file cannot be opened or lacks a band.
        """
        self.path = Path(path)
        self._handle: Any = open_raster(self.path)
        self._process = os.getpid()
        try:
            self.info = _info(self.path, self._handle)
            if bands is None and alpha_is_mask:
                bands = self.info.data_bands()
            self.bands = check_bands(self.info, bands)
        except DataError:
            self.close()
            raise
        self.nodata_given = nodata
        self.nodata = self.info.nodata if nodata is None else float(nodata)
        # An alpha band that is asked for as data is data, as the infrared band of some RGB + NIR files.
        alpha_is_data = bool(set(self.info.alpha) & set(self.bands))
        self._use_file_mask = self.info.mask_of_file and not alpha_is_data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        if self._handle is not None and self._process == os.getpid():
            self._handle.close()
        self._handle = None

    def _open_handle(self) -> Any:
        if self._handle is None or self._process != os.getpid():
            self._handle, self._process = open_raster(self.path), os.getpid()
        return self._handle

    def read(self, window: Window | tuple[int, int, int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window.

        Args:
            window: The rectangle; what lies outside the scene is invalid and 0.

        Returns:
            Values of the file's own type, shape (C, h, w), and which pixels hold data, shape (h, w).
            A pixel holds none where the file's mask or alpha says so, where a band is NaN or infinite, and
            where its value is nodata: in any band of a signed or floating-point raster; in all bands of an
            unsigned one, because there 0 and the largest number are also values of single bands (GDAL's
            dataset mask follows the same thought).

        Raises:
            DataError: If the file is damaged where the window lies.
        """
        window = Window(*window)
        if min(window.height, window.width) < 1:
            raise DataError(f"{self.path}: a window must have pixels, but is {tuple(window)}.")
        top, left = max(window.row, 0), max(window.col, 0)
        bottom = min(window.row + window.height, self.info.height)
        right = min(window.col + window.width, self.info.width)
        if (top, left, bottom, right) == (
            window.row,
            window.col,
            window.row + window.height,
            window.col + window.width,
        ):
            return self._read_inside(top, left, bottom, right)
        data = np.zeros((len(self.bands), window.height, window.width), dtype=self.info.dtype)
        valid = np.zeros((window.height, window.width), dtype=bool)
        if bottom > top and right > left:
            rows = slice(top - window.row, bottom - window.row)
            cols = slice(left - window.col, right - window.col)
            data[:, rows, cols], valid[rows, cols] = self._read_inside(top, left, bottom, right)
        return data, valid

    def _read_inside(
        self, top: int, left: int, bottom: int, right: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        part = rasterio.windows.Window(left, top, right - left, bottom - top)
        handle = self._open_handle()
        try:
            with rasterio.Env(**_SAFE_PNG) if self.info.driver == "PNG" else nullcontext():
                data = handle.read(list(self.bands), window=part)
                valid = (
                    handle.dataset_mask(window=part) > 0
                    if self._use_file_mask
                    else np.ones(data.shape[1:], dtype=bool)
                )
        except RasterioError as error:
            raise DataError(
                f"{self.path}: cannot be read at rows {top} to {bottom}, columns {left} to {right} "
                f"({error}). The file is truncated or damaged. Fix: replace it."
            ) from error
        if data.dtype.kind == "f":
            valid &= np.isfinite(data).all(axis=0)
        if self.nodata is not None and not np.isnan(self.nodata):
            with np.errstate(over="ignore"):
                wanted = data.dtype.type(self.nodata) if data.dtype.kind == "f" else self.nodata
            empty = data == wanted
            valid &= ~(empty.all(axis=0) if data.dtype.kind == "u" else empty.any(axis=0))
        return data, valid


def read_window(
    path: str | Path,
    window: Window | tuple[int, int, int, int],
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read one window of a raster; see `RasterReader` for arguments, result and errors."""
    with RasterReader(path, bands, nodata) as reader:
        return reader.read(window)
