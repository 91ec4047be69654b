"""Data set `open_earth_map`: aerial scenes of 44 countries with eight classes, in the official splits.

J. Xia et al., OpenEarthMap, WACV 2023 (arXiv 2210.10732), https://open-earth-map.org.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from qhybrid.config import ClassConfig, DataConfig, StrictModel, validated
from qhybrid.data.classes import ClassMap
from qhybrid.data.scenes import SPLITS, Scene, SceneDataset, check_pairs, check_split
from qhybrid.errors import DatasetNotFoundError, EmptySplitError

_NAMES = ("bareland", "rangeland", "developed", "road", "tree", "water", "agriculture", "building")
_COLORS = ("#800000", "#00ff24", "#949494", "#ffffff", "#226126", "#0045ff", "#4bb549", "#de1f07")
OPEN_EARTH_MAP_CLASSES = tuple(
    ClassConfig(name=name, values=(number, color), color=color)
    for number, (name, color) in enumerate(zip(_NAMES, _COLORS, strict=True), start=1)
)
"""Official numbers, from 1, and the colours of pictures of labels."""
NO_DATA = (0, "#000000")


class OpenEarthMapOptions(StrictModel):
    """Keys of `data.options`.

    Attributes:
        images: Where images are below the root; `{region}` is what stands before the last `_` of `{name}`.
        masks: Where labels are.
        lists: The official list of names of each split; of some releases they have other names.
        names: Names of the scenes of each split, in place of the lists.
    """

    images: str = "{region}/images/{name}.tif"
    masks: str = "{region}/labels/{name}.tif"
    lists: dict[str, str] = Field(default_factory=lambda: {split: f"{split}.txt" for split in SPLITS})
    names: dict[str, tuple[str, ...]] | None = None

    @field_validator("images", "masks")
    @classmethod
    def _has_a_name(cls, pattern: str) -> str:
        if "{name}" not in pattern:
            raise ValueError("must hold {name}")
        return pattern

    @model_validator(mode="after")
    def _names_are_in_one_split(self) -> Self:
        unknown = sorted({*self.lists, *(self.names or {})} - set(SPLITS))
        if unknown:
            raise ValueError(f"splits are {', '.join(SPLITS)}, but `{unknown[0]}` is given")
        names = [name for part in (self.names or {}).values() for name in part]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"`names` must name each scene once, but {', '.join(twice)} is there twice")
        return self


class OpenEarthMap(SceneDataset):
    """Scenes as the official lists name them; neighbouring scenes of a region may be in two splits there."""

    name: ClassVar[str] = "open_earth_map"
    description: ClassVar[str] = "OpenEarthMap: aerial RGB of 44 countries, eight classes, official lists"
    Options: ClassVar[type[StrictModel]] = OpenEarthMapOptions

    def __init__(self, root: Path, options: OpenEarthMapOptions, classes: ClassMap) -> None:
        self.root, self.options, self.classes = root, options, classes
        self._found: dict[str, tuple[Scene, ...]] = {}
        self._checked: set[str] = set()

    @classmethod
    def from_config(cls, config: DataConfig, root: Path) -> Self:
        """Build the data set of a recipe, with the official classes unless the recipe has its own.

        Raises:
            ConfigError: If an option is wrong.
        """
        options = validated(OpenEarthMapOptions, config.options, "data.options")
        ignored = config.ignore_values or (() if config.classes else NO_DATA)
        classes = ClassMap.from_config(config.classes or OPEN_EARTH_MAP_CLASSES, ignored)
        return cls(root, options, classes.read_as(config))

    def scenes(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes of a split in the order of its list; see `SceneDataset.scenes`."""
        found = self.candidates(split)
        if not found:
            raise EmptySplitError(
                f"{self.root}: split {split} must have scenes, but its list is empty. Fix: change "
                "`data.options`."
            )
        if split not in self._checked:
            check_pairs(found, self.classes)
            self._checked.add(split)
        return found

    def candidates(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes of a split whether their masks fit or not; see `SceneDataset.candidates`."""
        check_split(split)
        if split not in self._found:
            self._found[split] = tuple(self._scene(name, split) for name in self._listed(split))
        return self._found[split]

    def _listed(self, split: str) -> tuple[str, ...]:
        if self.options.names is not None:
            return self.options.names.get(split, ())
        file = self.root / self.options.lists.get(split, f"{split}.txt")
        try:
            lines = file.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetNotFoundError(
                f"{file}: must be the official list of {split} scenes, but cannot be read ({error}). Fix: "
                "get OpenEarthMap from https://open-earth-map.org, check --data-root and `data.root`, or "
                "name the scenes under `data.options.names`."
            ) from error
        return tuple(dict.fromkeys(line.removesuffix(".tif") for line in lines))

    def _scene(self, name: str, split: str) -> Scene:
        region = name.rpartition("_")[0] or name
        image, mask = (
            self.root / pattern.format(region=region, name=name)
            for pattern in (self.options.images, self.options.masks)
        )
        missing = next((file for file in (image, mask) if not file.is_file()), None)
        if missing is not None:
            raise DatasetNotFoundError(
                f"{missing}: is missing, though split {split} names {name}. Images of xBD come from its own "
                "site, and labels of the official test list are not public. Fix: add the file, or give "
                "`data.options.lists` other lists (for example test: val.txt)."
            )
        return Scene(name, image, mask, location=name)
