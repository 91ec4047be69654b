"""Grids of images and masks: whether they are the same, and the mask pixel nearest to each image pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform as transform_points

from qhybrid.data.footprints import footprint
from qhybrid.data.raster import RasterInfo, Window
from qhybrid.data.raster_file import GDAL_ERRORS
from qhybrid.errors import DataError

_TOLERANCE_PIXELS = 0.1
"""Corners of image and mask may lie this far apart: rounding of coordinates in files, far below a pixel."""
_STEP = 8
"""Between CRS every eighth pixel is transformed, at the same places for every window; the others are
interpolated. A map projection bends by less than 0.01 pixels over 8 pixels, for pixels below a kilometre."""
_POLAR = 85.0
"""Degrees of latitude above which every pixel is transformed to a mask in longitudes."""
_NUDGE = 1e-6
"""Pixel centres on the border of two mask pixels belong to the right and lower one, whatever the rounding."""
_SAMPLES = 64

Floats = NDArray[np.float64]


def _in_crs_of(target: RasterInfo, source: RasterInfo, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Transform coordinates between CRS; two are the same where one is not known."""
    if source.crs is None or target.crs is None or source.crs == target.crs:
        return x, y
    try:
        found = transform_points(source.crs, target.crs, x.ravel().tolist(), y.ravel().tolist())
    except GDAL_ERRORS as error:
        raise DataError(
            f"{source.path} and {target.path} must be in one CRS, but theirs cannot be compared ({error})."
        ) from error
    return np.reshape(found[0], x.shape), np.reshape(found[1], x.shape)


def grid_difference(image: RasterInfo, mask: RasterInfo) -> str | None:
    """Return how the grids of an image and its mask differ, as a sentence; None where they are the same.

    A file without georeference is taken to lie where the other one does. Two ways to write the same CRS are
    equal when they put the corners at the same place.

    Raises:
        DataError: If their CRS cannot be compared, or control points place them elsewhere.
    """
    if image.shape != mask.shape:
        turned = "" if image.turn == mask.turn else f" EXIF says that {image.path} is to be shown turned."
        return (
            f"Image and mask must have the same size, but {image.path} has {image.height} x {image.width} "
            f"pixels and {mask.path} has {mask.height} x {mask.width} (rows x columns).{turned}"
        )
    if image.irregular and mask.irregular:
        _check_control_points(image, mask)
    if image.transform.is_identity or mask.transform.is_identity:
        return None
    pixel = max(abs(image.transform.determinant) ** 0.5, 1e-12)
    corners = mask.corners()
    there = np.stack(_in_crs_of(image, mask, corners[:, 0], corners[:, 1]), axis=1)
    apart = np.abs(image.corners() - there).max() / pixel
    if apart <= _TOLERANCE_PIXELS:
        return None
    return (
        f"Image and mask must lie at the same place, but {image.path} has transform {image.transform[:6]} "
        f"({image.crs}) and {mask.path} has {mask.transform[:6]} ({mask.crs}): {apart:.1f} pixels apart."
    )


def _check_control_points(image: RasterInfo, mask: RasterInfo) -> None:
    """Check that control points or RPCs of both, where they can be compared, place them on the same ground.

    Raises:
        DataError: If they are more than a pixel apart.
    """
    here, there = footprint(image), footprint(mask)
    if here.crs != there.crs or not (here.placed and there.placed):
        return
    sides = np.abs(np.diff(here.corners[[1, 0, 3]], axis=0)).max(axis=1) / (image.width, image.height)
    apart = float(np.abs(here.corners - there.corners).max() / max(sides.max(), 1e-12))
    if apart > 1:
        raise DataError(
            f"Image and mask must lie at the same place, but the {image.irregular} of {image.path} and the "
            f"{mask.irregular} of {mask.path} place them {apart:.1f} pixels apart. Fix: check which mask is "
            "that of the image; where only the pixels count, remove these from one file."
        )


class NearestPixels:
    """The mask pixel that is nearest to the centre of each image pixel.

    By coordinates and CRS where both files have them; else the mask is stretched to the size of the image.

    Attributes:
        stretched: The mask is stretched, because coordinates are missing.
    """

    def __init__(self, image: RasterInfo, mask: RasterInfo) -> None:
        """Check that the mask can be brought to the image's grid.

        Raises:
            DataError: If the mask covers nothing of the image; or if it is to be stretched, but its sides
                have another ratio.
        """
        self._image, self._mask = image, mask
        self.stretched = image.transform.is_identity or mask.transform.is_identity
        if self.stretched:
            self._check_ratio()
        elif not (_covers(image, mask) or _covers(mask, image)):
            raise DataError(
                f"{mask.path}: a mask must cover some of its image, but covers nothing of {image.path} (its "
                f"transform is {mask.transform[:6]}, {mask.crs}; the image's is {image.transform[:6]}, "
                f"{image.crs}). Fix: check which mask belongs to the image, and the CRS of both."
            )

    def _check_ratio(self) -> None:
        """One factor must lead from the image's sides to the mask's, up to rounding to whole pixels."""
        sides = list(zip(self._mask.shape, self._image.shape))
        lowest = max((mask - 1) / image for mask, image in sides)
        highest = min((mask + 1) / image for mask, image in sides)
        if lowest >= highest:
            raise DataError(
                f"{self._mask.path}: a mask without coordinates must have the shape of its image to be "
                f"stretched to it, but has {self._mask.height} x {self._mask.width} pixels and "
                f"{self._image.path} has {self._image.height} x {self._image.width} (rows x columns). Fix: "
                "check which mask belongs to the image, or georeference both."
            )

    def find(self, window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return rows and columns in the mask for a window of the image, and where the mask has any.

        Returns:
            Three arrays of shape (h, w); rows and columns are 0 where there is no mask pixel.
        """
        rows = np.arange(window.row, window.row + window.height)
        cols = np.arange(window.col, window.col + window.width)
        if self.stretched:
            # Whole numbers, so that no rounding decides: floor((i + 1/2) * mask / image).
            row, col = (
                (2 * index + 1) * own // (2 * other)
                for index, own, other in zip((rows, cols), self._mask.shape, self._image.shape)
            )
            row, col = np.broadcast_arrays(row[:, None], col[None, :])
        else:
            x, y = self._dense(rows, cols)
            with np.errstate(invalid="ignore"):
                row, col = (np.floor(np.nan_to_num(v + _NUDGE, nan=-1.0, posinf=-1.0)) for v in (y, x))
        inside = (row >= 0) & (row < self._mask.height) & (col >= 0) & (col < self._mask.width)
        return np.where(inside, row, 0).astype(int), np.where(inside, col, 0).astype(int), inside

    def _dense(self, rows: NDArray[Any], cols: NDArray[Any]) -> tuple[Floats, Floats]:
        """Return mask coordinates, in pixels, of the centres of all image pixels of a window."""
        image, mask = self._image, self._mask
        if image.crs is None or mask.crs is None or image.crs == mask.crs:
            return _pixels_of(image, mask, *_centres(cols, rows))
        control = [np.arange(line[0] // _STEP, line[-1] // _STEP + 2) * _STEP for line in (rows, cols)]
        x, y = _map(image.transform, *_centres(control[1], control[0]))
        x, y = _in_crs_of(mask, image, x, y)
        bends = mask.crs.is_geographic and np.abs(y).max() > _POLAR  # meridians meet at the poles
        if bends or not (np.isfinite(x).all() and np.isfinite(y).all()):
            return _pixels_of(image, mask, *_centres(cols, rows))
        if mask.crs.is_geographic:  # longitudes that jump by 360 degrees cannot be interpolated
            x = np.unwrap(np.unwrap(x, period=360, axis=1), period=360, axis=0)
        x, y = (_interpolated(values, control, rows, cols) for values in (x, y))
        return _map(~mask.transform, _near_centre(mask, x), y)


def _covers(first: RasterInfo, second: RasterInfo) -> bool:
    """Return whether any of evenly spread pixels of one raster lies in the other."""
    lines = [np.unique(np.linspace(0, size - 1, _SAMPLES).round()) for size in first.shape]
    x, y = _pixels_of(first, second, *_centres(lines[1], lines[0]))
    return bool(((x >= 0) & (x < second.width) & (y >= 0) & (y < second.height)).any())


def _pixels_of(source: RasterInfo, target: RasterInfo, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Turn pixel coordinates (column, row) of one raster into those of another."""
    x, y = _in_crs_of(target, source, *_map(source.transform, x, y))
    return _map(~target.transform, _near_centre(target, x), y)


def _near_centre(info: RasterInfo, x: Floats) -> Floats:
    """Move longitudes by whole turns to less than half a turn from the middle of a raster."""
    if info.crs is None or not info.crs.is_geographic:
        return x
    middle = float(info.corners()[:, 0].mean())
    with np.errstate(invalid="ignore"):
        return np.asarray(x - 360 * np.floor((x - middle) / 360 + 0.5))


def _centres(cols: NDArray[Any], rows: NDArray[Any]) -> tuple[Floats, Floats]:
    x, y = np.meshgrid(cols + 0.5, rows + 0.5)
    return x, y


def _map(transform: Any, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f


def _interpolated(
    values: Floats, control: list[NDArray[Any]], rows: NDArray[Any], cols: NDArray[Any]
) -> Floats:
    """Interpolate linearly between control rows and columns that are `_STEP` apart."""
    (top, v), (left, u) = (
        ((line - grid[0]) // _STEP, (line - grid[0]) % _STEP / _STEP)
        for line, grid in zip((rows, cols), control)
    )
    across = values[:, left] * (1 - u) + values[:, left + 1] * u
    return np.asarray(across[top] * (1 - v)[:, None] + across[top + 1] * v[:, None])
