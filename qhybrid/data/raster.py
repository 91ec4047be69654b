"""Reading rasters by windows: any bands, any numeric type, with a mask of the valid pixels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from qhybrid.data.locations import as_location
from qhybrid.data.raster_file import (
    SAFE_PNG,
    RasterInfo,
    Window,
    as_picture,
    check_bands,
    open_raster,
    raster_info,
    read_info,
)
from qhybrid.errors import DataError

__all__ = ["RasterInfo", "RasterReader", "Window", "check_bands", "open_raster", "raster_info", "read_window"]


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
        picture: bool = False,
    ) -> None:
        """Open a raster.

        Args:
            path: The file.
            bands: 1-based band numbers in the order wanted; all that hold data if absent.
            nodata: Value that means "no data"; absent: what the file says of each band. NaN: no value does.
            alpha_is_mask: Without `bands`, take a band that is marked as alpha for a mask in any format.
            picture: Read a colour table as bands of red, green and blue (see `as_picture`); absent: the
                numbers themselves, as of classes.

        Raises:
            DataError: If the file cannot be opened or lacks a band.
        """
        self.path = as_location(path)
        self._handle: Any = open_raster(self.path)
        self._process = os.getpid()
        try:
            info = read_info(self.path, self._handle)
            self.info = as_picture(info) if picture else info
            if bands is None and alpha_is_mask:
                bands = self.info.data_bands()
            self.bands = check_bands(self.info, bands)
        except DataError:
            self.close()
            raise
        self._colors = None
        if picture and info.palette is not None:
            self._colors = np.array(info.palette, dtype=np.uint8)
        # Of each band in the file: a colour table is one band there.
        self._sources = [max(1, band - 2) if self._colors is not None else band for band in self.bands]
        own = [info.bands[source - 1] for source in self._sources]
        given = None if nodata is None else float(nodata)
        self._nodata = [_of_type(band.nodata if nodata is None else given, band.dtype) for band in own]
        self._unsigned = all(np.dtype(band.dtype).kind == "u" for band in own)
        self.dtype = str(np.result_type(*{np.dtype(self.info.bands[band - 1].dtype) for band in self.bands}))
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
            Values of type `dtype`, that of the bands, shape (C, h, w), and which pixels hold data, shape
            (h, w). A pixel holds none where the file's mask or alpha says so, where a band is NaN or
            infinite, where its colour is transparent, and where its value is that band's nodata: in any band
            of a signed or floating-point raster; in all bands of an unsigned one, because there 0 and the
            largest number are also values of single bands (GDAL's dataset mask follows the same thought).

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
        data = np.zeros((len(self.bands), window.height, window.width), dtype=self.dtype)
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
            with rasterio.Env(**SAFE_PNG) if self.info.driver == "PNG" else nullcontext():
                stored = self._read_stored(handle, part)
                valid = (
                    handle.dataset_mask(window=part) > 0
                    if self._use_file_mask
                    else np.ones((bottom - top, right - left), dtype=bool)
                )
        except RasterioError as error:
            raise DataError(
                f"{self.path}: cannot be read at rows {top} to {bottom}, columns {left} to {right} "
                f"({error}). The file is truncated or damaged. Fix: replace it."
            ) from error
        if stored.dtype.kind == "f":
            valid &= np.isfinite(stored).all(axis=0)
        empty = [band == value for band, value in zip(stored, self._nodata) if value is not None]
        if empty and not self._unsigned:
            valid &= ~np.any(empty, axis=0)
        elif empty and len(empty) == len(stored):  # a band without nodata has data everywhere
            valid &= ~np.all(empty, axis=0)
        return self._painted(stored, valid)

    def _read_stored(self, handle: Any, part: Any) -> NDArray[Any]:
        """Read the bands as they lie in the file, in a type that holds them all."""
        if len(set(handle.dtypes)) == 1:
            return np.asarray(handle.read(self._sources, window=part))
        return np.stack([handle.read(source, window=part) for source in self._sources])

    def _painted(
        self, stored: NDArray[Any], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Look colours up in the colour table, if there is one to be used."""
        if self._colors is None or max(self.bands) < 1 or min(self.bands) > 3:
            return stored, valid
        numbers = stored[[band <= 3 for band in self.bands].index(True)]
        if int(numbers[valid].max(initial=0)) >= len(self._colors):
            raise DataError(
                f"{self.path}: its colour table has {len(self._colors)} colours, but a pixel has number "
                f"{int(numbers[valid].max())}. Fix: write the image with three bands (gdal_translate -expand "
                "rgb)."
            )
        colors = self._colors[np.where(valid, numbers, 0)]
        data = stored.astype(self.dtype)
        for index, band in enumerate(self.bands):
            if band <= 3:
                data[index] = colors[..., band - 1]
        return data, valid & (colors[..., 3] > 0)


def _of_type(nodata: float | None, dtype: str) -> Any:
    """Return nodata as a value of a band's own type; None where no value of the band can equal it."""
    kind = np.dtype(dtype)
    if nodata is None or np.isnan(nodata):
        return None
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return kind.type(nodata)  # a 32-bit number is not what its decimal form says
    bounds = np.iinfo(kind)
    return kind.type(int(nodata)) if bounds.min <= nodata <= bounds.max and nodata == int(nodata) else None


def read_window(
    path: str | Path,
    window: Window | tuple[int, int, int, int],
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read one window of a raster; see `RasterReader` for arguments, result and errors."""
    with RasterReader(path, bands, nodata) as reader:
        return reader.read(window)
