"""Where labels come from: one table of kinds of label files, all read as class indices of an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from qhybrid.data.classes import ClassMap
from qhybrid.data.raster import RasterInfo, Window
from qhybrid.plugins import Registry, resolved


class LabelSource(ABC):
    """The labels of one image, read by windows of that image."""

    @abstractmethod
    def read(self, window: Window) -> NDArray[Any]:
        """Return class indices, shape (h, w), `IGNORE_INDEX` where there is no label; uint8.

        Args:
            window: A rectangle of the image's pixels.

        Raises:
            DataError: If the labels are damaged or not in the class map.
        """

    @property
    def info(self) -> RasterInfo | None:
        """What the file says about itself, if it is a raster."""
        return None

    @property
    def any_grid(self) -> bool:
        """Whether the labels may be read on any grid over the ground of their image."""
        return False

    def close(self) -> None:  # noqa: B027 - not every kind keeps a file open
        """Close the file; reading again opens it again."""


OpenLabels = Callable[[str | Path, ClassMap, RasterInfo | None, bool], LabelSource]
"""Opens (file, classes, the image's grid or None, whether to fit a raster to it), and checks that it fits."""


@dataclass(frozen=True)
class LabelKind:
    """A kind of label file.

    Attributes:
        suffixes: Of its files, in lower case, with the dot; none for the kind that takes all others.
        open: An `OpenLabels`, or where to import it from as `module:name`.
    """

    suffixes: tuple[str, ...]
    open: str | OpenLabels


LABEL_SOURCES: Registry[LabelKind] = Registry("kind of label file")


def register_label_source(
    name: str, suffixes: tuple[str, ...], open_labels: str | OpenLabels, *, replace: bool = False
) -> None:
    """Add a kind of label file.

    Args:
        name: Its name.
        suffixes: Of its files, as `(".gpkg",)`.
        open_labels: Called as `OpenLabels`; or `module:name` of such a thing, imported when it is needed.
        replace: Whether it may take the place of another one.

    Raises:
        PluginError: If the name is taken.
    """
    LABEL_SOURCES.register(name, LabelKind(suffixes, open_labels), replace=replace)


register_label_source("raster", (), "qhybrid.data.raster_labels:RasterLabels")
register_label_source(
    "vector",
    (".geojson", ".json", ".gpkg", ".shp", ".fgb"),
    "qhybrid.data.vector_labels:VectorLabels",
)


def label_kind(path: str | Path) -> str:
    """Return the name of the kind of a label file: by its suffix, else `raster`."""
    suffix = PurePosixPath(str(path).partition("?")[0]).suffix.lower()
    entries = ((name, LABEL_SOURCES.get(name)) for name in LABEL_SOURCES.names())
    return next((name for name, kind in entries if suffix in kind.suffixes), "raster")


def is_vector_file(path: str | Path) -> bool:
    """Return whether a label file has no pixels of its own, so that one may serve many images."""
    return label_kind(path) != "raster"


def label_suffixes() -> tuple[str, ...]:
    """Return the suffixes of label files that are no rasters."""
    return tuple(suffix for name in LABEL_SOURCES.names() for suffix in LABEL_SOURCES.get(name).suffixes)


def open_labels(
    path: str | Path, classes: ClassMap, like: RasterInfo | None = None, fit: bool | None = None
) -> LabelSource:
    """Open a label file of any kind.

    Args:
        path: The file.
        classes: The label map, which says what its values mean and whether a raster may be fitted.
        like: The image's grid; absent: that of the file itself, which must be a raster.
        fit: Bring a raster to the image's grid; absent: as the label map says.

    Raises:
        DataError: If it cannot be opened, or does not fit the image.
    """
    kind: OpenLabels = resolved(LABEL_SOURCES.get(label_kind(path)).open)
    return kind(path, classes, like, classes.fit_masks if fit is None else fit)
