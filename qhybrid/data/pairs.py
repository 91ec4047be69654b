"""Labels that belong to images: whether they fit, and reading them as class indices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.label_sources import open_labels
from qhybrid.data.raster import RasterInfo, Window, raster_info

_ANY = ClassMap(("any",), ("#000000",), ((0,),))


def check_pair(
    image: str | Path, mask: str | Path, classes: ClassMap | None = None
) -> tuple[RasterInfo, RasterInfo | None]:
    """Check that labels fit their image; no pixel is read.

    A raster must have the image's grid, or be brought to it where the class map says so (`fit_masks`). A file
    without georeference is taken to lie where the other one does. Two ways to write the same CRS are equal
    when they put the corners at the same place.

    Args:
        image: Raster file of the image.
        mask: Label file of any kind.
        classes: The label map; needed for vector labels, and for masks that are to be fitted.

    Returns:
        What image and mask say about themselves; None for vector labels.

    Raises:
        DataError: If they do not fit; the message names both files and both values.
    """
    info = raster_info(image)
    source = open_labels(mask, classes or _ANY, info)
    source.close()
    return info, source.info


class MaskReader:
    """A label file kept open for many windows, read as class indices on the grid of its image."""

    def __init__(
        self,
        path: str | Path,
        classes: ClassMap,
        like: RasterInfo | None = None,
        fit: bool | None = None,
    ) -> None:
        """Open labels.

        Args:
            path: A raster (numbers in one band or in equal ones, a palette, or red, green and blue), or
                polygons.
            classes: The label map.
            like: The image's grid, on which windows are read; absent: that of the mask itself.
            fit: Bring a raster of another grid to the image's, by the nearest pixel; absent: as the label map
                says (`fit_masks`).

        Raises:
            DataError: If the file cannot be opened, or does not fit the image.
        """
        self.classes = classes
        self._source = open_labels(path, classes, like, fit)
        grid = like or self._source.info
        self._shape = None if grid is None else grid.shape

    @property
    def any_grid(self) -> bool:
        """Whether the labels may be read on any grid over the ground of their image."""
        return self._source.any_grid

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        self._source.close()

    def read(self, window: Window | tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Read a window.

        Returns:
            Class indices, shape (h, w); `IGNORE_INDEX` outside the scene and where there is no label.

        Raises:
            DataError: If a value is not in the map, or the file is damaged.
        """
        window = Window(*window)
        labels = np.full((window.height, window.width), IGNORE_INDEX, dtype=np.uint8)
        height, width = self._shape or (window.row + window.height, window.col + window.width)
        top, left = max(window.row, 0), max(window.col, 0)
        bottom, right = min(window.row + window.height, height), min(window.col + window.width, width)
        if top < bottom and left < right:
            rows = slice(top - window.row, bottom - window.row)
            cols = slice(left - window.col, right - window.col)
            labels[rows, cols] = self._source.read(Window(top, left, bottom - top, right - left))
        return labels
