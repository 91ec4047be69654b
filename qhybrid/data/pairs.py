"""Masks that belong to images: whether they fit, and reading them as class indices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points

from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.raster import RasterInfo, RasterReader, Window, raster_info
from qhybrid.errors import DataError

_TOLERANCE_PIXELS = 0.1
"""Corners of image and mask may lie this far apart: rounding of coordinates in files, far below a pixel."""


def _in_crs_of(target: RasterInfo, source: RasterInfo) -> NDArray[np.float64]:
    corners = source.corners()
    if source.crs is None or target.crs is None or source.crs == target.crs:
        return corners
    try:
        x, y = transform_points(source.crs, target.crs, corners[:, 0].tolist(), corners[:, 1].tolist())
    except RasterioError as error:
        raise DataError(
            f"{source.path} and {target.path} must be in one CRS, but theirs cannot be compared ({error})."
        ) from error
    return np.stack([x, y], axis=1)


def check_pair(image: str | Path, mask: str | Path) -> tuple[RasterInfo, RasterInfo]:
    """Check that a mask fits its image pixel by pixel.

    A file without georeference is taken to lie where the other one does. Two ways to write the same CRS are
    equal when they put the corners at the same place.

    Returns:
        What image and mask say about themselves.

    Raises:
        DataError: If size or place differ; the message names both files and both values.
    """
    first, second = raster_info(image), raster_info(mask)
    if first.shape != second.shape:
        raise DataError(
            f"Image and mask must have the same size, but {first.path} has {first.height} x {first.width} "
            f"pixels and {second.path} has {second.height} x {second.width} (rows x columns). Fix: cut or "
            "resample the mask to the image's grid (gdalwarp -r near)."
        )
    if first.transform.is_identity or second.transform.is_identity:
        return first, second
    pixel = max(abs(first.transform.determinant) ** 0.5, 1e-12)
    apart = np.abs(first.corners() - _in_crs_of(first, second)).max() / pixel
    if not apart <= _TOLERANCE_PIXELS:
        raise DataError(
            f"Image and mask must lie at the same place, but {first.path} has transform "
            f"{first.transform[:6]} ({first.crs}) and {second.path} has {second.transform[:6]} "
            f"({second.crs}): {apart:.1f} pixels apart. Fix: resample the mask to the image's grid (gdalwarp "
            f"-r near)."
        )
    return first, second


class MaskReader:
    """A mask file kept open for many windows, read as class indices."""

    def __init__(self, path: str | Path, classes: ClassMap) -> None:
        """Open a mask.

        Args:
            path: The file: one band, or several equal ones (alpha apart).
            classes: The label map.

        Raises:
            DataError: If the file cannot be opened.
        """
        self.classes = classes
        # Nodata is left to the class map, which may give that value a class (0 often is one).
        self._reader = RasterReader(path, nodata=float("nan"), alpha_is_mask=True)

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        self._reader.close()

    def read(self, window: Window | tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Read a window.

        Returns:
            Class indices, shape (h, w); `IGNORE_INDEX` outside the scene and where the mask has no class.

        Raises:
            DataError: If a value is not in the map, the bands differ, or the file is damaged.
        """
        raw, valid = self._reader.read(window)
        band, source = self._one_band(raw), str(self._reader.path)
        if valid.all():
            return self.classes.encode(band, source, self._reader.info.nodata)
        labels = np.full(band.shape, IGNORE_INDEX, dtype=np.uint8)
        labels[valid] = self.classes.encode(band[valid], source, self._reader.info.nodata)
        return labels

    def _one_band(self, raw: NDArray[Any]) -> NDArray[Any]:
        if len(raw) > 1 and (raw[1:] != raw[:1]).any():
            raise DataError(
                f"{self._reader.path}: a mask must have one band or equal ones, but its {len(raw)} bands "
                "differ. Fix: convert the coloured picture to class values in one band."
            )
        return np.asarray(raw[0])
