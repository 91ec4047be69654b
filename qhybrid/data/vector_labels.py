"""Labels from polygons, drawn window by window on the grid of the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform as transform_points

from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.footprints import transformed
from qhybrid.data.label_sources import LabelSource
from qhybrid.data.raster import RasterInfo, Window
from qhybrid.data.raster_file import GDAL_ERRORS
from qhybrid.data.vector_files import Box, open_layer
from qhybrid.errors import DataError

_EDGE_POINTS = 65
"""Points on each side of an image that its bounding box in the CRS of the polygons is taken from."""
_SEGMENTS = 256
"""Edges are cut to this fraction of the image's extent before they are transformed: straight lines bend."""
_MARGIN = 0.02
"""Of the box that polygons are cut to, as a fraction of its sides: no cut shows inside the image."""

Floats = NDArray[np.float64]


class VectorLabels(LabelSource):
    """Polygons as classes: read once for an image, with a spatial index, then drawn by windows.

    A pixel has the class of the polygon that its centre is in; where several overlap, of the last one in the
    file.
    """

    def __init__(self, path: str | Path, classes: ClassMap, like: RasterInfo | None, fit: bool) -> None:
        """Look at the layer; no feature is read yet. See `OpenLabels`; `fit` means nothing for polygons.

        Raises:
            DataError: If `data.vector` is missing or does not fit the file, the image is not georeferenced,
                or the polygons lie elsewhere.
        """
        if like is None or like.transform.is_identity:
            raise DataError(
                f"{path}: polygons need an image with coordinates, but "
                f"{'there is none' if like is None else f'{like.path} has none'}. Fix: georeference it."
            )
        vector = classes.vector
        self._layer = open_layer(path, None if vector is None else vector.layer, "data.vector.layer")
        if vector is None:
            raise DataError(
                f"{path}: `data.vector` must say which attribute of the polygons is their class, but is "
                f"absent. There are: {', '.join(self._layer.attributes) or 'none'}. Fix: set "
                "`data.vector: {attribute: NAME}`, or `{polygons: CLASS}` where all are of one class."
            )
        if vector.attribute is not None:
            self._layer.check_attribute(vector.attribute, "data.vector.attribute")
        self._classes, self._vector, self._like = classes, vector, like
        self._outside = IGNORE_INDEX if vector.background is None else classes.names.index(vector.background)
        self._drawn: tuple[NDArray[Any], NDArray[np.uint8], Any] | None = None
        self._boxes = list(self._boxes_of_image())
        self._check_place()

    @property
    def any_grid(self) -> bool:
        """Polygons have no pixels of their own."""
        return True

    def close(self) -> None:
        """Forget the polygons; reading again reads them again."""
        self._drawn = None

    def read(self, window: Window) -> NDArray[Any]:
        """Draw a window; see `LabelSource.read`."""
        if self._drawn is None:
            self._drawn = self._read_polygons()
        polygons, indices, tree = self._drawn
        right, bottom = window.col + window.width, window.row + window.height
        near = np.sort(tree.query(shapely.box(window.col, window.row, right, bottom)))
        if not len(near):
            return np.full((window.height, window.width), self._outside, dtype=np.uint8)
        return np.asarray(
            rasterize(
                zip(polygons[near], indices[near].tolist()),
                out_shape=(window.height, window.width),
                fill=self._outside,
                transform=Affine.translation(window.col, window.row),
                dtype="uint8",
            )
        )

    def _check_place(self) -> None:
        layer, source = self._layer, f"{self._layer.path}, layer {self._layer.name}"
        if layer.bounds is None:
            if self._vector.background is None:
                raise DataError(
                    f"{source}: must have polygons, but has none, and ground outside of them has no class. "
                    "Fix: name its class in `data.vector.background`."
                )
            return
        if not self._boxes:
            raise DataError(
                f"{source}: polygons must lie where their image does, but they lie in {_shown(layer.bounds)} "
                f"({layer.crs}) and {self._like.path} in {_shown(_bounds(self._like.corners()))} "
                f"({self._like.crs}). Fix: check the CRS of both; where ground without polygons is labelled "
                "ground, add a polygon there that says so, or leave the image out."
            )

    def _boxes_of_image(self) -> Iterator[tuple[Box, float]]:
        """Yield the image's box in the CRS of the polygons, where it meets their bounds.

        With it comes by how many degrees the box was moved: longitudes may be counted from 0 or from -180,
        and an image may lie across the 180th meridian.
        """
        layer = self._layer
        steps = np.linspace(0, 1, _EDGE_POINTS)
        corners = self._like.corners()
        edges = [corners[i] + steps[:, None] * (corners[(i + 1) % 4] - corners[i]) for i in range(4)]
        outline = _transformed(np.concatenate(edges), self._like, layer.crs, layer.path)
        shifts: tuple[float, ...] = (0.0,)
        if layer.crs is not None and layer.crs.is_geographic:
            outline[:, 0] = np.unwrap(outline[:, 0], period=360)
            shifts = (0.0, 360.0, -360.0)
        left, bottom, right, top = _bounds(outline)
        if layer.crs is not None and layer.crs.is_geographic:
            south, north = (_shows(self._like, layer.crs, latitude) for latitude in (-90.0, 90.0))
            if south or north:  # all longitudes meet inside the image, where its outline is not
                left, right = -180.0, 180.0
                bottom, top = -90.0 if south else bottom, 90.0 if north else top
        wide, high = _MARGIN * (right - left), _MARGIN * (top - bottom)
        for shift in shifts:
            box = (left - wide + shift, bottom - high, right + wide + shift, top + high)
            plain = (left + shift, bottom, right + shift, top)
            if layer.bounds is not None and _meet(plain, layer.bounds):
                yield box, shift

    def _read_polygons(self) -> tuple[NDArray[Any], NDArray[np.uint8], Any]:
        """Return polygons in pixels of the image, the class of each, and their spatial index."""
        found, indices = [], []
        for box, shift in self._boxes:
            geometries, values = self._layer.read(self._vector.attribute, box)
            present = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
            geometries = geometries[present]
            classes = self._class_indices(len(geometries), None if values is None else values[present])
            parts, owner = _polygons(geometries, f"{self._layer.path}, layer {self._layer.name}")
            pixels, kept = self._in_pixels(parts, box, shift)
            found.append(pixels)
            indices.append(classes[owner[kept]])
        polygons = np.concatenate(found) if found else np.empty(0, dtype=object)
        return polygons, np.concatenate(indices or [np.empty(0, np.uint8)]), shapely.STRtree(polygons)

    def _class_indices(self, count: int, values: NDArray[Any] | None) -> NDArray[np.uint8]:
        vector, names = self._vector, self._classes.names
        if values is None or vector.attribute is None:
            return np.full(count, names.index(str(vector.polygons)), dtype=np.uint8)
        found = [_index_of(self._classes, value) for value in values.tolist()]
        unknown = Counter(repr(value) for value, index in zip(values.tolist(), found) if index is None)
        if unknown:
            shown = ", ".join(f"{value}: {number}" for value, number in unknown.most_common(10))
            classes = ", ".join(f"{name}: {list(own)}" for name, own in zip(names, self._classes.values))
            raise DataError(
                f"{self._layer.path}, layer {self._layer.name}: every value of attribute {vector.attribute} "
                f"must be in the class map, but these are not (polygons): {shown} (the map has {classes}; "
                f"ignored: {list(self._classes.ignore_values)}). Fix: add them to a class under "
                "`data.classes`, or to `data.ignore_values`."
            )
        return np.array(found, dtype=np.uint8)

    def _in_pixels(
        self, polygons: NDArray[Any], box: Box, shift: float
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Cut polygons to a box, and bring them to the image's pixels; also return which input each is of."""
        layer, like = self._layer, self._like
        same = layer.crs is None or like.crs is None or layer.crs == like.crs
        # Outlines that cross themselves are cut wrongly; made valid they are what is drawn of them.
        crossed = ~shapely.is_valid(polygons)
        polygons = polygons.copy()
        polygons[crossed] = shapely.make_valid(polygons[crossed])
        cut = shapely.clip_by_rect(polygons, *box)
        parts, owner = shapely.get_parts(cut, return_index=True)
        inner, again = shapely.get_parts(parts, return_index=True)  # a collection may hold multi-polygons
        kept = (shapely.get_type_id(inner) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(inner)
        inner, owner = inner[kept], owner[again[kept]]
        if not same:
            inner = shapely.segmentize(inner, max(box[2] - box[0], box[3] - box[1]) / _SEGMENTS)

        def to_pixels(points: Floats) -> Floats:
            points = points - [shift, 0.0]
            if not same:
                points = _points_between(points, layer.crs, like.crs, layer.path)
            a, b, c, d, e, f = (~like.transform)[:6]
            x, y = points[:, 0], points[:, 1]
            return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

        return np.asarray(shapely.transform(inner, to_pixels), dtype=object), owner


def _index_of(classes: ClassMap, value: Any) -> int | None:
    """Return the class of an attribute's value; None if it is unknown. No value is no class."""
    if value is None or value != value:
        return IGNORE_INDEX
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, str):
        return classes.tables.texts.get(value)
    if isinstance(value, int | float):
        return classes.tables.of_number(value)
    return classes.tables.texts.get(str(value))


def _polygons(geometries: NDArray[Any], source: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the single polygons of features, and which feature each is of."""
    parts, owner = shapely.get_parts(geometries, return_index=True)
    parts, again = shapely.get_parts(parts, return_index=True)
    kinds = shapely.get_type_id(parts)
    other = kinds != shapely.GeometryType.POLYGON
    if other.any():
        names = Counter(geometry.geom_type for geometry in parts[other])
        raise DataError(
            f"{source}: labels must be polygons, but some are not ("
            f"{', '.join(f'{name}: {number}' for name, number in names.items())}). Fix: give lines and "
            "points a width (a buffer in a GIS), or name another layer in `data.vector.layer`."
        )
    return parts, owner[again]


def _transformed(points: Floats, source: RasterInfo, crs: Any, path: str) -> Floats:
    """Transform points of an image to a CRS; where one is not known it is taken to be the other."""
    if source.crs is None or crs is None or source.crs == crs:
        return points.copy()
    return _points_between(points, source.crs, crs, path)


def _shows(image: RasterInfo, crs: Any, latitude: float) -> bool:
    """Return whether a pole of a CRS in degrees lies in an image that has another CRS."""
    if image.crs is None or image.crs.is_geographic:
        return False
    found = transformed(crs, image.crs, np.array([[0.0, latitude]]))
    if found is None:
        return False
    col, row = ~image.transform * tuple(found[0])
    return bool(0 <= col <= image.width and 0 <= row <= image.height)


def _points_between(points: Floats, source: Any, target: Any, path: str) -> Floats:
    try:
        x, y = transform_points(source, target, points[:, 0].tolist(), points[:, 1].tolist())
    except GDAL_ERRORS as error:
        raise DataError(f"{path}: its CRS cannot be compared with the image's ({error}).") from error
    found = np.stack([x, y], axis=1)
    if not np.isfinite(found).all():
        raise DataError(
            f"{path}: coordinates must exist in the CRS of both polygons and image, but some cannot be "
            f"brought from {source} to {target}. Fix: check the CRS of both."
        )
    return found


def _bounds(points: Floats) -> Box:
    left, bottom, right, top = map(float, [*points.min(axis=0), *points.max(axis=0)])
    return left, bottom, right, top


def _meet(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _shown(box: Box) -> str:
    return f"({', '.join(f'{value:.6g}' for value in box)})"
