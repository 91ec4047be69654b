"""Labels from raster masks: numbers, colours and palettes, on the image's grid or brought to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.config.label_values import parse_label_value
from qhybrid.data.class_values import color_counts, pack_colors
from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.label_sources import LabelSource
from qhybrid.data.mask_grids import NearestPixels, grid_difference
from qhybrid.data.raster import RasterInfo, RasterReader, Window, open_raster
from qhybrid.errors import DataError

_PIXELS_AT_ONCE = 1 << 24
"""Mask pixels read at once for a window of the image, where the mask is finer than it."""


class RasterLabels(LabelSource):
    """A mask file kept open for many windows.

    Masks have one band of numbers (or of indices into a palette), several equal bands, or red, green and
    blue; alpha, internal masks and nodata are ground without a label.
    """

    def __init__(self, path: str | Path, classes: ClassMap, like: RasterInfo | None, fit: bool) -> None:
        """Open a mask; see `OpenLabels`.

        Raises:
            DataError: If the file cannot be opened, its grid differs from the image's and is not to be
                fitted, or the class map has text values.
        """
        self.classes = classes
        # Nodata is left to the class map, which may give that value a class (0 often is one).
        self._reader = RasterReader(path, nodata=float("nan"), alpha_is_mask=True)
        try:
            self._check_values()
            self._nearest = None if like is None else self._fitted(like, fit)
            self._palette = _read_palette(self._reader.path) if classes.tables.colors else None
        except DataError:
            self._reader.close()
            raise

    @property
    def info(self) -> RasterInfo:
        """What the mask says about itself."""
        return self._reader.info

    @property
    def any_grid(self) -> bool:
        """Whether the mask is placed by coordinates, on a grid of its own."""
        return self._nearest is not None and not self._nearest.stretched

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        self._reader.close()

    def read(self, window: Window) -> NDArray[Any]:
        """Read class indices of a window of the image; see `LabelSource.read`."""
        if self._nearest is None:
            return self._encode(*self._reader.read(window))
        rows, cols, inside = self._nearest.find(window)
        labels = np.full(inside.shape, IGNORE_INDEX, dtype=np.uint8)
        if not inside.any():
            return labels
        box = _bounding_box(rows[inside], cols[inside])
        if box.height * box.width > _PIXELS_AT_ONCE and window.height > 1:
            top = window.height // 2
            parts = (
                window._replace(height=top),
                window._replace(row=window.row + top, height=window.height - top),
            )
            return np.concatenate([self.read(part) for part in parts])
        bands, valid = self._reader.read(box)
        row, col = rows[inside] - box.row, cols[inside] - box.col
        labels[inside] = self._encode(bands[:, row, col], valid[row, col])
        return labels

    def _fitted(self, like: RasterInfo, fit: bool) -> NearestPixels | None:
        difference = grid_difference(like, self.info)
        if difference is None:
            return None
        if not fit:
            raise DataError(
                f"{difference} Fix: set `data.fit_masks: true`, which reads the nearest mask pixel on the "
                "fly, or resample the mask to the image's grid (gdalwarp -r near)."
            )
        return NearestPixels(like, self.info)

    def _check_values(self) -> None:
        for name, values in zip(self.classes.names, self.classes.values):
            text = [value for value in values if isinstance(parse_label_value(value), str)]
            if text:
                raise DataError(
                    f"{self._reader.path}: a raster mask holds numbers or colours, but class {name} stands "
                    f"for {text[0]!r}. Fix: write colours as '#rrggbb' and ranges as '0-127'; other text is "
                    "for vector labels."
                )

    def _encode(self, bands: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Turn pixels (C, ...) into class indices; those that are not valid have no label."""
        if not valid.all():
            labels = np.full(valid.shape, IGNORE_INDEX, dtype=np.uint8)
            labels[valid] = self._encode_valid(bands[:, valid])
            return labels
        return self._encode_valid(bands)

    def _encode_valid(self, bands: NDArray[Any]) -> NDArray[np.uint8]:
        source, nodata = str(self._reader.path), self.info.nodata
        if not self.classes.tables.colors:
            return self.classes.encode(self._one_band(bands), source, nodata)
        if len(bands) == 1 and self._palette is not None:
            return self._encode_palette(bands[0], self._palette, source)
        if len(bands) == 1:
            return self.classes.encode_colors(np.repeat(bands, 3, axis=0), source, nodata, index=bands[0])
        if len(bands) == 4 and np.isin(bands[3], (0, 255)).all() and (bands[1:3] != bands[:2]).any():
            # Transparency that is not called alpha, as many programs write it.
            opaque = bands[3] == 255
            labels = np.full(opaque.shape, IGNORE_INDEX, dtype=np.uint8)
            labels[opaque] = self.classes.encode_colors(bands[:3, opaque], source, nodata)
            return labels
        if len(bands) != 3:
            return self.classes.encode_colors(
                np.repeat(self._one_band(bands)[None], 3, axis=0), source, nodata
            )
        return self.classes.encode_colors(bands, source, nodata)

    def _encode_palette(
        self, index: NDArray[Any], palette: NDArray[np.int64], source: str
    ) -> NDArray[np.uint8]:
        """Look up the colours of a palette, and its indices where the class map has their numbers."""
        known = np.clip(index.astype(np.int64), 0, len(palette) - 1)
        colors = np.where(known == index, np.moveaxis(palette[known], -1, 0), -1)
        _, unknown = self.classes.tables.encode_numbers(index)
        empty = (colors[3] == 0) & unknown  # transparent entries are ground without a label
        labels = np.full(index.shape, IGNORE_INDEX, dtype=np.uint8)
        labels[~empty] = self.classes.encode_colors(
            colors[:3, ~empty], source, self.info.nodata, index=index[~empty]
        )
        return labels

    def _one_band(self, bands: NDArray[Any]) -> NDArray[Any]:
        if len(bands) > 1 and (bands[1:] != bands[:1]).any():
            found = (
                f" (pixels by colour: {color_counts(pack_colors(bands).ravel())})" if len(bands) == 3 else ""
            )
            raise DataError(
                f"{self._reader.path}: a mask must have one band or equal ones, but its {len(bands)} bands "
                f'differ{found}. Fix: give the classes colours under `data.classes` (values: ["#ffff00"]; '
                "they need three bands), or convert the picture to class values in one band."
            )
        return np.asarray(bands[0])


def _bounding_box(rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Window:
    top, left = int(rows.min()), int(cols.min())
    return Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)


def _read_palette(path: Path) -> NDArray[np.int64] | None:
    """Return the palette of a file, shape (n, 4): red, green, blue, alpha; None if it has none."""
    with open_raster(path) as handle:
        try:
            table = handle.colormap(1)
        except ValueError:
            return None
    palette = np.full((max(table) + 1, 4), -1, dtype=np.int64)
    for index, color in table.items():
        palette[index] = color
    return palette
