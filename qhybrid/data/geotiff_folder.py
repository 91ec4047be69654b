"""Data set `geotiff_folder`: any folders of images and masks."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from qhybrid.config import DataConfig, StrictModel, validated
from qhybrid.data.classes import ClassMap
from qhybrid.data.pairs import check_pair
from qhybrid.data.scenes import SPLITS, Scene, SceneDataset
from qhybrid.data.splits import assign_splits, locations_of
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError

RASTER_SUFFIXES = (".tif", ".tiff", ".png", ".jp2", ".vrt", ".img", ".bmp")


class SplitOptions(StrictModel):
    """How one pair of folders is split: by fractions of the locations, or by lists of scene names.

    Attributes:
        fractions: Shares of train, val and test.
        seed: Seed of the split by fractions.
        location: Regular expression whose first group is the location in a scene's name; absent: scenes with
            overlapping footprints are one location.
        train: Scene names (file names without suffix).
        val: Scene names.
        test: Scene names.
    """

    fractions: dict[str, float] | None = None
    seed: int = 0
    location: str | None = None
    train: tuple[str, ...] | None = None
    val: tuple[str, ...] | None = None
    test: tuple[str, ...] | None = None

    @field_validator("location")
    @classmethod
    def _pattern_with_a_group(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"is not a regular expression ({error})") from error
            if groups < 1:
                raise ValueError("needs a group in parentheses around the location")
        return pattern

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        lists = [self.train, self.val, self.test]
        if (self.fractions is None) == all(names is None for names in lists):
            raise ValueError("give either `fractions`, or lists of names as `train`, `val` and `test`")
        names = Counter(name for part in lists for name in part or ())
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            raise ValueError(f"scene(s) {', '.join(twice[:5])} are listed more than once")
        return self

    @property
    def by_lists(self) -> bool:
        """Whether the split is given as lists of names."""
        return self.fractions is None

    def names(self, split: str) -> tuple[str, ...]:
        """Return the names listed for a split."""
        return {"train": self.train, "val": self.val, "test": self.test}[split] or ()


class GeoTiffFolderOptions(StrictModel):
    """Keys of `data.options`.

    Attributes:
        images: Folder of the images below the data set's root; `{split}` stands for train, val and test.
        masks: Folder of the masks, which have the images' names (the suffix may differ).
        split: How to split when the folders have no `{split}`.
    """

    images: str = Field("{split}/images", min_length=1)
    masks: str = Field("{split}/masks", min_length=1)
    split: SplitOptions | None = None

    @model_validator(mode="after")
    def _split_is_given_once(self) -> Self:
        placeholders = ["{split}" in self.images, "{split}" in self.masks]
        if placeholders[0] != placeholders[1]:
            raise ValueError("`images` and `masks` must both have {split} in them, or neither")
        if placeholders[0] == (self.split is not None):
            raise ValueError(
                "give `split` exactly when the folders `images` and `masks` have no {split} in them"
            )
        return self


def list_rasters(folder: Path, remedy: str) -> dict[str, Path]:
    """Return the raster files of a folder by their names without suffix.

    Args:
        folder: The folder; hidden files and files of other kinds are passed over.
        remedy: What to tell the user when it is missing.

    Raises:
        DatasetNotFoundError: If there is no such folder.
        DataError: If two files have the same name.
    """
    if not folder.is_dir():
        raise DatasetNotFoundError(f"{folder}: must be a folder of rasters, but is missing. {remedy}")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in RASTER_SUFFIXES or file.name.startswith("."):
            continue
        if file.stem in found:
            raise DataError(
                f"{found[file.stem]} and {file}: names must differ without their suffix. Fix: remove one."
            )
        found[file.stem] = file
    return found


class GeoTiffFolder(SceneDataset):
    """Scenes from folders of images and masks."""

    name: ClassVar[str] = "geotiff_folder"
    description: ClassVar[str] = "any folders of images and masks with the same file names"
    Options: ClassVar[type[StrictModel]] = GeoTiffFolderOptions

    def __init__(self, root: Path, options: GeoTiffFolderOptions, classes: ClassMap) -> None:
        """Describe the data set; files are looked at when `scenes` is called.

        Args:
            root: Folder that `options.images` and `options.masks` are in.
            options: Where files are and how they are split.
            classes: The label map.
        """
        self.root = root
        self.options = options
        self.classes = classes
        self._found: dict[str, tuple[Scene, ...]] = {}

    @classmethod
    def from_config(cls, config: DataConfig, root: Path) -> Self:
        """Build the data set of a recipe.

        Raises:
            ConfigError: If an option is wrong or the label map is missing.
        """
        options = validated(GeoTiffFolderOptions, config.options, "data.options")
        if config.classes is None:
            raise ConfigError(
                "Key `data.classes` is missing: data set geotiff_folder has no label map of its own."
            )
        return cls(root, options, ClassMap.from_config(config.classes, config.ignore_values))

    def scenes(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes of a split, sorted by name; see `SceneDataset.scenes`."""
        if split not in SPLITS:
            raise DataError(f"A split must be one of {', '.join(SPLITS)}, but is {split!r}.")
        if split not in self._found:
            if self.options.split is None:
                found = self._pairs(split, self._folder_rasters(self.options.images, split))
            else:
                found = self._split_one_folder(split, self.options.split)
            for scene in found:
                if scene.mask is not None:
                    check_pair(scene.image, scene.mask)
            self._found[split] = found
        if not self._found[split]:
            raise DataError(
                f"{self.root / self.options.images.replace('{split}', split)}: split {split} must have "
                f"scenes, but is empty. Fix: put rasters ({', '.join(RASTER_SUFFIXES)}) there, or change "
                f"`data.options`."
            )
        return self._found[split]

    def _folder_rasters(self, pattern: str, split: str) -> dict[str, Path]:
        return list_rasters(
            self.root / pattern.replace("{split}", split),
            "Fix: check --data-root (or QHYBRID_DATA), `data.root` and `data.options`; folders are "
            f"{self.options.images} and {self.options.masks} below {self.root}.",
        )

    def _pairs(
        self, split: str, images: dict[str, Path], locations: dict[str, str] | None = None
    ) -> tuple[Scene, ...]:
        masks = self._folder_rasters(self.options.masks, split)
        missing = [name for name in images if name not in masks]
        if missing:
            raise DataError(
                f"{images[missing[0]]}: each image must have a mask of the same name, but {len(missing)} "
                f"have none in {self.root / self.options.masks.replace('{split}', split)} "
                f"({', '.join(missing[:5])}). Fix: add the masks or move the images away."
            )
        return tuple(
            Scene(id=name, image=path, mask=masks[name], location=locations[name] if locations else split)
            for name, path in images.items()
        )

    def _split_one_folder(self, split: str, options: SplitOptions) -> tuple[Scene, ...]:
        images = self._folder_rasters(self.options.images, split)
        if options.by_lists:
            unknown = sorted(set(options.names(split)) - set(images))
            if unknown:
                raise DataError(
                    f"{self.root / self.options.images}: scene(s) {', '.join(unknown[:5])} of "
                    f"`data.options.split."
                    f"{split}` must be there, but are not. Fix: correct the list."
                )
            listed = set(options.names(split))
            return self._pairs(split, {name: path for name, path in images.items() if name in listed})
        if not images:
            return ()
        locations = self._locations(images, options.location)
        chosen = assign_splits(Counter(locations.values()), options.fractions or {}, options.seed)
        mine = {name: path for name, path in images.items() if chosen[locations[name]] == split}
        return self._pairs(split, mine, locations)

    def _locations(self, images: dict[str, Path], pattern: str | None) -> dict[str, str]:
        names = list(images)
        if pattern is None:
            scenes = [Scene(name, image, None, location=name) for name, image in images.items()]
            return dict(zip(names, locations_of(scenes)))
        matches = {name: re.search(pattern, name) for name in names}
        unmatched = [name for name, match in matches.items() if match is None or match.group(1) is None]
        if unmatched:
            raise DataError(
                f"{images[unmatched[0]]}: `data.options.split.location` ({pattern}) must match every name, "
                f"but does not match {unmatched[0]}."
            )
        return {name: match.group(1) for name, match in matches.items() if match is not None}
