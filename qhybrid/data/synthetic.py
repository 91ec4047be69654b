"""Data set `synthetic`: generated aerial scenes with the five LandCover.ai classes, for trying things out.

Colours of the classes overlap (see `synthetic_paint`), so that texture, shape and context must be learned.
No real place is shown; coordinates are EPSG:2180, pixels 0.5 m.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from pydantic import Field
from rasterio.transform import from_origin

from qhybrid.config import DataConfig, StrictModel, validated
from qhybrid.data.classes import ClassMap
from qhybrid.data.landcover_ai import LANDCOVER_CLASSES
from qhybrid.data.scenes import SPLITS, Scene, SceneDataset, check_split
from qhybrid.data.synthetic_layout import make_layout
from qhybrid.data.synthetic_paint import paint
from qhybrid.errors import EmptySplitError, WorkspaceError
from qhybrid.seeding import numpy_generator
from qhybrid.workspace import atomic_folder, cache_dir

CRS = "EPSG:2180"
PIXEL_M = 0.5
_VERSION = 1
"""Part of the cache key: raise it when the generator draws other scenes."""
_MANIFEST = "manifest.json"


class SyntheticOptions(StrictModel):
    """Keys of `data.options`.

    Attributes:
        train: Number of training scenes.
        val: Number of validation scenes.
        test: Number of test scenes.
        size: Side of the scenes in pixels.
        seed: Seed of the generator; the first scenes of a split are the same whatever their number.
    """

    train: int = Field(6, ge=0)
    val: int = Field(2, ge=0)
    test: int = Field(2, ge=0)
    size: int = Field(512, ge=64, le=8192)
    seed: int = Field(0, ge=0)

    def count(self, split: str) -> int:
        """Return the number of scenes of a split."""
        return {"train": self.train, "val": self.val, "test": self.test}[split]


def render_scene(
    seed: int, split: str, number: int, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one scene.

    Args:
        seed: Seed of the data set.
        split: Its split.
        number: Its number in the split.
        size: Side in pixels.

    Returns:
        The image, red, green and blue, shape (3, size, size), and class indices, shape (size, size).
    """
    random = numpy_generator(seed, "synthetic", split, number, size)
    layout = make_layout(random, size)
    return paint(random, layout), layout.labels


def _write(path: Path, bands: NDArray[np.uint8], transform: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": "uint8"}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    with rasterio.open(path, "w", crs=CRS, transform=transform, **profile, **layout) as file:
        file.write(bands)


def write_scenes(options: SyntheticOptions, output: str | Path) -> Path:
    """Draw all scenes into a folder that the data set `geotiff_folder` reads with its default options.

    Args:
        options: What to draw.
        output: The folder; it appears whole or not at all, with `manifest.json` beside the splits' folders.

    Returns:
        The folder.

    Raises:
        WorkspaceError: If the folder is in use or cannot be written.
    """
    # Scenes stand apart by their own size; splits lie in rows of their own, so that none overlap.
    step = 2 * options.size * PIXEL_M
    with atomic_folder(output) as folder:
        for row, split in enumerate(SPLITS):
            for number in range(options.count(split)):
                image, labels = render_scene(options.seed, split, number, options.size)
                transform = from_origin(500_000 + number * step, 500_000 - row * step, PIXEL_M, PIXEL_M)
                _write(folder / split / "images" / f"{split}_{number}.tif", image, transform)
                _write(folder / split / "masks" / f"{split}_{number}.tif", labels[None], transform)
        content = {"version": _VERSION, **options.model_dump()}
        (folder / _MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return Path(output)


class SyntheticScenes(SceneDataset):
    """Scenes drawn on first use and kept in the cache folder."""

    name: ClassVar[str] = "synthetic"
    description: ClassVar[str] = "generated aerial scenes with LandCover.ai's classes (no download)"
    Options: ClassVar[type[StrictModel]] = SyntheticOptions

    def __init__(self, options: SyntheticOptions, classes: ClassMap, cache: Path | None = None) -> None:
        """Describe the data set; scenes are drawn when `scenes` is first called.

        Args:
            options: What to draw.
            classes: The label map; masks hold LandCover.ai's values 0 to 4.
            cache: Folder to keep scenes in; absent: the user's cache (QHYBRID_CACHE).
        """
        self.options = options
        self.classes = classes
        key = hashlib.sha256(json.dumps([_VERSION, options.model_dump()]).encode()).hexdigest()[:16]
        self.root = (cache_dir() if cache is None else cache) / "synthetic" / key

    @classmethod
    def from_config(cls, config: DataConfig, root: Path) -> Self:
        """Build the data set of a recipe; `root` is not used.

        Raises:
            ConfigError: If an option is wrong.
        """
        options = validated(SyntheticOptions, config.options, "data.options")
        return cls(options, ClassMap.from_config(config.classes or LANDCOVER_CLASSES, config.ignore_values))

    def _files(self, split: str) -> list[tuple[Path, Path]]:
        names = [f"{split}_{number}.tif" for number in range(self.options.count(split))]
        return [(self.root / split / "images" / name, self.root / split / "masks" / name) for name in names]

    def _complete(self) -> bool:
        files = [file for split in SPLITS for pair in self._files(split) for file in pair]
        return (self.root / _MANIFEST).is_file() and all(file.is_file() for file in files)

    def prepare(self) -> Path:
        """Draw the scenes unless they are in the cache, and return their folder.

        Raises:
            WorkspaceError: If the cache folder cannot be written.
        """
        if self._complete():
            return self.root
        if self.root.exists():  # some files were removed: it is ours, and made again
            shutil.rmtree(self.root)
        try:
            write_scenes(self.options, self.root)
        except OSError as error:
            if not self._complete():  # else another process has drawn the same scenes at the same time
                if isinstance(error, WorkspaceError):
                    raise
                raise WorkspaceError(f"{self.root}: scenes cannot be written ({error}).") from error
        return self.root

    def scenes(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes of a split; see `SceneDataset.scenes`."""
        check_split(split)
        if self.options.count(split) == 0:
            raise EmptySplitError(
                f"Split {split} must have scenes, but `data.options.{split}` is 0. Fix: set it to 1 or more."
            )
        self.prepare()
        return tuple(
            Scene(image.stem, image, mask, location=image.stem) for image, mask in self._files(split)
        )
