"""Reading the image of a scene as a model wants it: its bands in order, converted, on one pixel size.

`Reading` says how; `InputContract` (in `contract.py`) finds it for a file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine

from qhybrid.data.raster import RasterInfo, RasterReader, Window
from qhybrid.errors import DataError

Weights = NDArray[np.float64]

_SAME_PIXEL = 0.02
"""Fraction by which a pixel size may miss `data.resolution` and is left as it is."""


@dataclass(frozen=True)
class Reading:
    """How the image of one file is read.

    Attributes:
        bands: 1-based numbers of the file's bands, in the model's order; None: all that hold data.
        nodata: Value that means "no data" in every band; None: what the file says of each.
        gain: What each band is multiplied with, or None: the numbers stay as they are in the file.
        shift: What is then added to each band.
        picture: Expand a colour table to red, green and blue.
        size: Rows and columns to resample the whole image to, or None: those of the file.
    """

    bands: tuple[int, ...] | None = None
    nodata: float | None = None
    gain: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None
    picture: bool = True
    size: tuple[int, int] | None = None

    @property
    def converts(self) -> bool:
        """Whether numbers are changed."""
        return self.gain is not None


class ImageReader:
    """The image of a scene kept open for many windows, read as a `Reading` says.

    Attributes:
        info: What is read: the file's metadata with the size, transform and number type after reading.
        bands: 1-based numbers of the bands read, in order.
    """

    def __init__(self, path: str | Path, reading: Reading | None = None) -> None:
        """Open a file.

        Args:
            path: The raster file.
            reading: How to read it; absent: all bands that hold data, as they are.

        Raises:
            DataError: If the file cannot be opened or lacks a band.
        """
        self.reading = reading or Reading()
        self._file = RasterReader(path, self.reading.bands, self.reading.nodata, picture=self.reading.picture)
        self.path = self._file.path
        self.bands = self._file.bands
        dtype = "float32" if self.reading.converts else self._file.dtype
        self.info = replace(self._file.info, dtype=dtype)
        self._rows = self._cols = 1.0
        if self.reading.size is not None:
            height, width = self.reading.size
            self._rows, self._cols = self.info.height / height, self.info.width / width
            transform = self.info.transform * Affine.scale(self._cols, self._rows)
            self.info = replace(self.info, height=height, width=width, transform=transform)

    @property
    def file_info(self) -> RasterInfo:
        """The metadata of the file itself."""
        return self._file.info

    @property
    def resamples(self) -> bool:
        """Whether pixels are others than those of the file."""
        return self.reading.size is not None

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        self._file.close()

    def from_file(self, window: Window) -> Window:
        """Return the window that shows a rectangle of the file; side by side stays side by side."""
        if not self.resamples:
            return window
        rows = _scaled(window.row, window.height, self._rows, self.info.height)
        cols = _scaled(window.col, window.width, self._cols, self.info.width)
        return Window(rows[0], cols[0], rows[1], cols[1])

    def nearest(self, window: Window) -> tuple[Window, NDArray[np.intp], NDArray[np.intp]]:
        """Return what of a file on the same grid to read, and the rows and columns of it nearest to pixels.

        Args:
            window: A rectangle inside the image.
        """
        rows = ((np.arange(window.height) + window.row + 0.5) * self._rows).astype(np.intp)
        cols = ((np.arange(window.width) + window.col + 0.5) * self._cols).astype(np.intp)
        rows = rows.clip(0, self._file.info.height - 1)
        cols = cols.clip(0, self._file.info.width - 1)
        part = Window(int(rows[0]), int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1)
        return part, rows - part.row, cols - part.col

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window inside the image: values (C, h, w) and where they are valid (h, w).

        Raises:
            DataError: If the file is damaged where the window lies.
        """
        if self.resamples:
            data, valid = self._resampled(window)
        else:
            data, valid = self._file.read(window)
        if self.reading.gain is None:
            return data, valid
        gain = np.array(self.reading.gain)[:, None, None]
        shift = np.array(self.reading.shift or (0.0,) * len(gain))[:, None, None]
        # In double precision first: 257 / 257 is 1, not a little less.
        return (data * gain + shift).astype(np.float32), valid

    def _resampled(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Average pixels, or interpolate between them; those without data do not count.

        GDAL's warper would need one nodata value or one mask for all bands, and files have others.
        """
        height, width = self._file.info.shape
        first_row, rows = _weights(window.row, window.height, self._rows, height)
        first_col, cols = _weights(window.col, window.width, self._cols, width)
        source = Window(first_row, first_col, rows.shape[1], cols.shape[1])
        data, valid = self._file.read(source)
        weight = rows @ valid.astype(np.float64) @ cols.T
        filled = np.where(valid, data, 0).astype(np.float64)
        sums = rows @ filled @ cols.T
        result = sums / np.maximum(weight, 1e-12)
        inside = weight > 0.5 - 1e-9  # at least half of the pixel has data
        if data.dtype.kind in "ui":
            bounds = np.iinfo(data.dtype)
            result = np.rint(result).clip(bounds.min, bounds.max)
        return (result * inside).astype(data.dtype), inside


def _scaled(start: int, count: int, factor: float, length: int) -> tuple[int, int]:
    """Return first pixel and number of pixels, at least one, of a stretch of the file in the result."""
    first = min(round(start / factor), length - 1)
    return first, max(1, min(round((start + count) / factor), length) - first)


def _weights(start: int, count: int, factor: float, length: int) -> tuple[int, Weights]:
    """Return how much of each pixel of the file is in each pixel of a window, along one axis.

    Args:
        start: First pixel of the window, counted in pixels of the result.
        count: Pixels of the window.
        factor: Pixels of the file in one pixel of the result: their mean is taken above 1; below 1 values
            are interpolated between the centres of neighbours.
        length: Pixels of the file.

    Returns:
        The first pixel of the file that counts, and weights of shape (count, n), whose rows add up to 1.
    """
    places = np.arange(start, start + count)
    if factor >= 1:
        low, high = places * factor, np.minimum((places + 1) * factor, length)
        pixels = np.arange(int(low[0]), min(int(np.ceil(high[-1])), length))
        overlap = np.minimum(high[:, None], pixels + 1) - np.maximum(low[:, None], pixels)
        weights = overlap.clip(0)
    else:
        centres = ((places + 0.5) * factor - 0.5).clip(0, length - 1)
        pixels = np.arange(int(centres[0]), min(int(np.ceil(centres[-1])) + 1, length))
        weights = (1 - np.abs(centres[:, None] - pixels)).clip(0)
    return int(pixels[0]), weights / weights.sum(axis=1, keepdims=True)


def resampled_size(info: RasterInfo, resolution: float | None) -> tuple[int, int] | None:
    """Return rows and columns of an image with pixels of some metres; None if it has them already.

    Raises:
        DataError: If the file does not say how large its pixels are.
    """
    if resolution is None:
        return None
    sides = info.pixel_sides
    if sides is None:
        has = f"{info.irregular} alone" if info.irregular else "no CRS or no transform"
        remedy = "warp it to a grid (gdalwarp)" if info.irregular else "georeference it (gdal_edit.py)"
        raise DataError(
            f"{info.path}: `data.resolution` needs images that say how large their pixels are, but this one "
            f"has {has}. Fix: {remedy}, or use a model that was trained without `data.resolution`."
        )
    if all(abs(side / resolution - 1) <= _SAME_PIXEL for side in sides):
        return None
    height, width = (max(1, round(n * side / resolution)) for n, side in zip(info.shape, sides))
    return height, width
