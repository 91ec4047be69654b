"""Vector files: their layers, and the features of a layer in a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS
from rasterio.errors import CRSError

from qhybrid.errors import DataError
from qhybrid.plugins import near_name

Box = tuple[float, float, float, float]
Features = tuple[NDArray[Any], NDArray[Any] | None]
"""Geometries of shapely, and the values of an attribute if one was asked for; both of shape (n,)."""

_INDEXED = (".gpkg", ".fgb", ".shp")
"""Formats that find the features in a box without reading all; files of others are read once a process."""


@dataclass(frozen=True)
class VectorLayer:
    """A layer of a vector file.

    Attributes:
        path: The file.
        name: Of the layer.
        crs: Coordinate reference system (`rasterio.crs.CRS`), or None.
        attributes: Names of its attributes.
        features: Their number.
        bounds: left, bottom, right, top of all features; None without features.
        version: Changes when the file does, as far as size, times and inode show it; None where they
            are not known.
    """

    path: str
    name: str
    crs: Any
    attributes: tuple[str, ...]
    features: int
    bounds: Box | None
    version: tuple[Any, ...] | None

    def check_attribute(self, attribute: str, key: str) -> None:
        """Check that there is an attribute of a name.

        Args:
            attribute: The name.
            key: The key that names it, for the message.

        Raises:
            DataError: If there is none; the message names those there are.
        """
        if self.features and attribute not in self.attributes:  # GeoJSON without features has none
            raise DataError(
                f"{self.path}: `{key}` must name an attribute of layer {self.name}, but {attribute!r} is "
                f"none. There are: {', '.join(self.attributes) or 'none'}."
                f"{near_name(attribute, self.attributes)}"
            )

    def read(self, attribute: str | None, box: Box) -> Features:
        """Read the features whose bounding box meets a box, in the order of the file.

        Args:
            attribute: Whose values to read too.
            box: left, bottom, right, top in the layer's CRS.

        Raises:
            DataError: If the file is damaged.
        """
        if self.version is None or self.path.lower().endswith(_INDEXED):
            return _read(self.path, self.name, attribute, box)
        geometries, values, tree = _whole(self, attribute)
        chosen = np.sort(tree.query(shapely.box(*box)))
        return geometries[chosen], None if values is None else values[chosen]


def open_layer(path: str | Path, layer: str | None, key: str) -> VectorLayer:
    """Return what there is to know of a layer.

    Args:
        path: The file.
        layer: Name of the layer; absent: the only one with geometries.
        key: The key that chooses it, for messages.

    Raises:
        DataError: If the file is missing or no vector file, or has no such layer or several.
    """
    file, version = str(path), _version(Path(path))
    if version is None and not file.startswith("/vsi") and "://" not in file:
        raise DataError(f"{file}: must be a vector file, but is missing. Fix: check the path.")
    return (_describe if version is not None else _describe.__wrapped__)(file, layer, key, version)


@lru_cache(maxsize=256)
def _describe(path: str, layer: str | None, key: str, version: tuple[Any, ...] | None) -> VectorLayer:
    try:
        names = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        chosen = _choose(path, names, layer, key)
        info = pyogrio.read_info(path, layer=chosen, force_total_bounds=True, force_feature_count=True)
        crs = None if info["crs"] is None else CRS.from_user_input(info["crs"])
    except (DataSourceError, DataLayerError, CRSError) as error:
        raise DataError(f"{path}: cannot be opened as a vector file ({error}). Fix: replace it.") from error
    bounds = info["total_bounds"]
    known = bounds is not None and info["features"] > 0 and bool(np.isfinite(bounds).all())
    attributes = tuple(map(str, info["fields"]))
    box = tuple(map(float, bounds)) if known else None
    return VectorLayer(path, chosen, crs, attributes, int(info["features"]), box, version)  # type: ignore[arg-type]


def _choose(path: str, names: Sequence[str], layer: str | None, key: str) -> str:
    if layer is None and len(names) == 1:
        return names[0]
    if layer is None or layer not in names:
        found = "is absent" if layer is None else f"is {layer!r}"
        hint = "" if layer is None else near_name(layer, names)
        raise DataError(
            f"{path}: `{key}` must name one layer of polygons, but {found}. The file has: "
            f"{', '.join(names) or 'none'}.{hint}"
        )
    return layer


@lru_cache(maxsize=4)
def _whole(layer: VectorLayer, attribute: str | None) -> tuple[NDArray[Any], NDArray[Any] | None, Any]:
    geometries, values = _read(layer.path, layer.name, attribute, None)
    return geometries, values, shapely.STRtree(geometries)


def _read(path: str, layer: str, attribute: str | None, box: Box | None) -> Features:
    columns = [] if attribute is None else [attribute]
    try:
        _, numbers, encoded, fields = pyogrio.raw.read(
            path, layer=layer, columns=columns, bbox=box, force_2d=True, return_fids=True
        )
        geometries = np.asarray(shapely.from_wkb(encoded), dtype=object)
    except (DataSourceError, DataLayerError, shapely.errors.GEOSException, ValueError) as error:
        raise DataError(f"{path}: layer {layer} cannot be read ({error}). Fix: replace the file.") from error
    order = np.argsort(numbers, kind="stable")  # a spatial index gives features in an order of its own
    return geometries[order], fields[0][order] if columns else None


def _version(path: Path) -> tuple[Any, ...] | None:
    """Return sizes, times and inodes of a file and of those that belong to it (a Shapefile is several).

    The time of change is one of them: that of modification can be set back.
    """
    if not path.is_file():
        return None
    parts = [path, *(part for part in (path.with_name(f"{path.name}-wal"),) if part.exists())]
    if path.suffix.lower() == ".shp":
        parts += sorted(path.parent.glob(f"{path.stem}.*"))
    stats = [part.stat() for part in parts]
    return tuple((one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino) for one in stats)
