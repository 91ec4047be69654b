"""Data set `openearthmap`: aerial scenes with eight classes, as a plugin: no file of qhybrid is touched.

J. Xia et al., OpenEarthMap, WACV 2023, https://open-earth-map.org. Expected below `data.root` are images
`NAME.tif` with masks `NAME_gt.png` beside them, in which colours stand for classes. Masks may have another
size than their images: they are read at the nearest pixel. Files of class numbers on the images' grid are
written to the cache folder once.

    qhybrid --plugin docs/examples/oem/oem_plugin.py train oem.yaml

    data:
      dataset: openearthmap
      root: oem
      options: {train: [austin_29], val: [austin_46], test: [wielkopolskie]}   # scenes, or whole regions
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from pydantic import model_validator

from qhybrid.config import ClassConfig, DataConfig, StrictModel, validated
from qhybrid.data import Scene, SceneDataset, register_dataset
from qhybrid.data.classes import ClassMap
from qhybrid.errors import DataError, DatasetNotFoundError
from qhybrid.workspace import atomic_path, cache_dir

__version__ = "1.0"
MASK = "_gt.png"
NO_DATA = 0
NAMES = ("bareland", "rangeland", "developed", "road", "tree", "water", "agriculture", "building")
COLORS = ("#800000", "#00ff24", "#949494", "#ffffff", "#226126", "#0045ff", "#4bb549", "#de1f07")
CLASSES = tuple(
    ClassConfig(name=name, values=(index,), color=color)
    for index, (name, color) in enumerate(zip(NAMES, COLORS, strict=True), start=1)
)
"""The official classes, numbered from 1; 0 (black) is no data."""
_VERSION = 1
"""Part of the name of converted masks: raise it when they are to be written anew."""


class OpenEarthMapOptions(StrictModel):
    """Keys of `data.options`.

    Attributes:
        train: Scenes, such as `austin_29`, or regions, such as `austin`, for training.
        val: Those for validation.
        test: Those for test.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    @model_validator(mode="after")
    def _nothing_is_in_two_splits(self) -> Self:
        names = [*self.train, *self.val, *self.test]
        several = {name for name in names if names.count(name) > 1}
        inside = {name for name in names if region_of(name) != name and region_of(name) in names}
        if several | inside:
            raise ValueError(
                f"each scene must be listed once, but not so {', '.join(sorted(several | inside))}"
            )
        return self


def region_of(name: str) -> str:
    """Return the region of a scene, `austin` of `austin_29`; a region's own name stays."""
    place, _, number = name.rpartition("_")
    return place if place and number.isdecimal() else name


@register_dataset
class OpenEarthMap(SceneDataset):
    """Images with masks in colours."""

    name: ClassVar[str] = "openearthmap"
    description: ClassVar[str] = "OpenEarthMap: aerial RGB of many countries, eight classes"
    Options: ClassVar[type[StrictModel]] = OpenEarthMapOptions

    def __init__(self, root: Path, options: OpenEarthMapOptions, classes: ClassMap) -> None:
        self.root, self.options, self.classes = root, options, classes

    @classmethod
    def from_config(cls, config: DataConfig, root: Path) -> Self:
        """Build the data set of a recipe, with the official classes unless the recipe has its own."""
        options = validated(OpenEarthMapOptions, config.options, "data.options")
        ignored = config.ignore_values or (NO_DATA,)
        return cls(root, options, ClassMap.from_config(config.classes or CLASSES, ignored))

    def scenes(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes of a split, sorted by name."""
        listed = {"train": self.options.train, "val": self.options.val, "test": self.options.test}[split]
        known = {path.name.removesuffix(MASK): path for path in sorted(self.root.glob(f"*{MASK}"))}
        found = [name for name in known if name in listed or region_of(name) in listed]
        absent = [one for one in listed if one not in known and one not in map(region_of, known)]
        if absent or not found:
            raise DatasetNotFoundError(
                f"{self.root}: must have a scene for each entry of `data.options.{split}`, but has none for "
                f"{', '.join(absent) or 'an empty list'}. Fix: put NAME.tif and NAME{MASK} there, or correct "
                "the list."
            )
        return tuple(self._scene(name, known[name]) for name in found)

    def _scene(self, name: str, picture: Path) -> Scene:
        image = self.root / f"{name}.tif"
        if not image.is_file():
            raise DatasetNotFoundError(f"{image}: is missing, but its mask {picture.name} is there.")
        return Scene(name, image, class_mask(image, picture), location=region_of(name))


def class_mask(image: Path, picture: Path) -> Path:
    """Return a raster of class numbers on an image's grid, written at the first call.

    Args:
        image: The image.
        picture: Its mask in colours, of any size.
    """
    with rasterio.open(image) as file:
        height, width = file.shape
        place = {"crs": file.crs, "transform": file.transform}
    content = picture.read_bytes()
    key = hashlib.sha256(f"{_VERSION} {height} {width} {place}".encode() + content).hexdigest()[:24]
    target = cache_dir() / "openearthmap" / f"{key}.tif"
    if not target.is_file():
        labels = class_numbers(picture)
        rows = (np.arange(height) + 0.5) * labels.shape[0] / height
        columns = (np.arange(width) + 0.5) * labels.shape[1] / width
        resized = labels[rows.astype(int)][:, columns.astype(int)]
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "compress": "deflate", "tiled": True}
        with (
            atomic_path(target) as temporary,
            rasterio.open(temporary, "w", height=height, width=width, **profile, **place) as file,
        ):
            file.write(resized, 1)
    return target


def class_numbers(picture: Path) -> NDArray[np.uint8]:
    """Return the official class numbers of a mask in colours, shape (h, w).

    Raises:
        DataError: If it cannot be read, or has another colour.
    """
    try:
        with Image.open(picture) as file:
            pixels = np.asarray(file.convert("RGB"), dtype=np.int64)
    except OSError as error:
        raise DataError(f"{picture}: must be a picture of classes, but cannot be read ({error}).") from error
    keys = pixels @ np.array([1 << 16, 1 << 8, 1])
    numbers = np.full(keys.shape, 255, dtype=np.uint8)
    for number, color in enumerate(("#000000", *COLORS)):
        numbers[keys == int(color[1:], 16)] = number
    unknown = np.unique(keys[numbers == 255])
    if len(unknown):
        raise DataError(
            f"{picture}: every colour must stand for a class, but #{unknown[0]:06x} does not. Fix: use the "
            "colours of OpenEarthMap."
        )
    return numbers
