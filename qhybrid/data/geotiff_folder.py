"""Data set `geotiff_folder`: any folders, patterns or lists of images and masks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from qhybrid.config import DataConfig, StrictModel, validated
from qhybrid.data.blocks import divide
from qhybrid.data.classes import ClassMap
from qhybrid.data.file_patterns import RASTER_SUFFIXES, check_pattern, find_files, is_file_name, pair_files
from qhybrid.data.locations import join_location
from qhybrid.data.pair_list import PairList, read_pairs
from qhybrid.data.scenes import SPLITS, Assign, Scene, SceneDataset, check_pairs, check_split
from qhybrid.data.split_options import SplitOptions, split_by_fractions, split_by_names
from qhybrid.errors import ConfigError, DataError, EmptySplitError


class GeoTiffFolderOptions(StrictModel):
    """Keys of `data.options`.

    Attributes:
        images: Folder of the images below the data set's root, or a pattern of file names such as
            `images/{name}.jpg` or `**/{name}_sat.*`; `{split}` stands for train, val and test, `*` for any
            part of a file or folder name, `**` for any folders, which a scene's name then starts with
            (`FOLDER_NAME`).
        masks: Folder or pattern of the masks, which have the images' names (the suffix may differ), as in
            `masks/{name}_gt.png`; or one file with the labels of all images.
        split_names: What stands for {split} where folders are called otherwise, as in `{val: valid}`.
        pairs: A CSV file instead of both: columns `image`, `mask`, `split`, and if wanted `location` and
            `window` (row, column, height, width). Paths are relative to it.
        split: How to split when neither folders nor list say so.
    """

    images: str = Field("{split}/images", min_length=1)
    masks: str = Field("{split}/masks", min_length=1)
    split_names: dict[Literal["train", "val", "test"], str] = Field(default_factory=dict)
    pairs: str | None = Field(None, min_length=1)
    split: SplitOptions | None = None

    @field_validator("images", "masks")
    @classmethod
    def _pattern_has_a_name(cls, pattern: str) -> str:
        check_pattern(pattern)
        return pattern

    @model_validator(mode="after")
    def _split_is_given_once(self) -> Self:
        if self.pairs is not None:
            other = sorted({"images", "split_names"} & self.model_fields_set)
            if other:
                raise ValueError(f"`pairs` lists the images: leave out `{other[0]}`")
            return self
        placeholders = ["{split}" in self.images, "{split}" in self.masks]
        if placeholders[0] != placeholders[1] and not (placeholders[0] and is_file_name(self.masks)):
            raise ValueError("`images` and `masks` must both have {split} in them, or neither")
        if self.split_names and not placeholders[0]:
            raise ValueError("`split_names` is for folders with {split} in their names")
        if placeholders[0] == (self.split is not None):
            raise ValueError(
                "give `split` exactly when the folders `images` and `masks` have no {split} in them"
            )
        return self

    def patterns(self, split: str) -> tuple[str, str]:
        """Return the folders or patterns of images and of masks of a split."""
        name = next((own for known, own in self.split_names.items() if known == split), split)
        return self.images.replace("{split}", name), self.masks.replace("{split}", name)


class GeoTiffFolder(SceneDataset):
    """Scenes from folders, patterns or lists of images and masks."""

    name: ClassVar[str] = "geotiff_folder"
    description: ClassVar[str] = "any folders of images and masks with the same file names"
    Options: ClassVar[type[StrictModel]] = GeoTiffFolderOptions

    def __init__(self, root: Path, options: GeoTiffFolderOptions, classes: ClassMap) -> None:
        """Describe the data set; files are looked at when `scenes` is called.

        Args:
            root: Folder that `options.images` and `options.masks` are in, or a `/vsi...` name of one.
            options: Where files are and how they are split.
            classes: The label map.
        """
        self.root = root
        self.options = options
        self.classes = classes
        self._found: dict[str, tuple[Scene, ...]] = {}
        self._checked: dict[str, tuple[Scene, ...]] = {}
        self._lonely_masks: dict[str, tuple[Path, ...]] = {}

    @classmethod
    def from_config(cls, config: DataConfig, root: Path) -> Self:
        """Build the data set of a recipe.

        Raises:
            ConfigError: If an option is wrong or the label map is missing.
        """
        options = validated(GeoTiffFolderOptions, config.options, "data.options")
        if options.split is not None:
            options.split.check_patches(config.patch_size)
        return cls(root, options, ClassMap.of_recipe(config))

    def scenes(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes of a split, sorted by name; see `SceneDataset.scenes`."""
        check_split(split)
        if split not in self._checked:
            found = self.candidates(split)
            check_pairs(found, self.classes)
            self._checked[split] = found
        if not self._checked[split]:
            where = self.options.pairs or self.options.patterns(split)[0]
            raise EmptySplitError(
                f"{join_location(self.root, where)}: split {split} must have "
                f"scenes, but is empty. Fix: put rasters ({', '.join(RASTER_SUFFIXES)}) there, or change "
                f"`data.options`."
            )
        return self._checked[split]

    def divided(self, assign: Assign) -> dict[str, tuple[Scene, ...]] | None:
        """Return the blocks of all scenes for other parts than splits; see `SceneDataset.divided`."""
        options = self.options.split
        if options is None or options.blocks is None:
            return None
        listed = self._list()
        scenes = self._pairs("", "") if listed is None else listed.scenes
        found = divide(scenes, options.blocks, options.margin, assign)
        check_pairs([scene for part in found.values() for scene in part], self.classes)
        return found

    def masks_without_image(self) -> tuple[Path, ...]:
        """Return the masks that no image was found for, in the splits whose scenes were asked for."""
        return tuple(path for part in self._lonely_masks.values() for path in part)

    def candidates(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes of a split whether their masks fit or not; see `SceneDataset.candidates`."""
        options = self.options.split
        if self.options.pairs is None and options is None:
            return self._pairs(split, split)
        if not self._found:
            listed = self._list()
            self._found = self._split_folder() if listed is None else self._split_list(listed)
        return self._found.get(split, ())

    def _list(self) -> PairList | None:
        """Return what the CSV file says; None where there is none."""
        if self.options.pairs is None:
            return None
        own = "masks" in self.options.model_fields_set
        for_all = join_location(self.root, self.options.masks) if own else None
        return read_pairs(join_location(self.root, self.options.pairs), for_all)

    def _split_list(self, listed: PairList) -> dict[str, tuple[Scene, ...]]:
        """Split the scenes of a CSV file by what it says, else by `split`."""
        options = self.options.split
        if (listed.splits is None) == (options is None):
            said = "has no column split" if options is None else "has a column split"
            raise ConfigError(
                "Key `data.options.split` must be given exactly when the list has no column split, but "
                f"{self.options.pairs} {said}. Fix: give one of them."
            )
        if listed.splits is not None:
            splits = listed.splits
            return {
                split: tuple(scene for scene, own in zip(listed.scenes, splits) if own == split)
                for split in SPLITS
            }
        if options is None or options.by_lists:
            return self._by_names({scene.id: scene for scene in listed.scenes})
        return split_by_fractions(listed.scenes, options, listed.locations)

    def _split_folder(self) -> dict[str, tuple[Scene, ...]]:
        """Split what lies in one pair of folders by `split`."""
        options = self.options.split
        if options is None or options.by_lists:
            listed = None if options is None else {name for split in SPLITS for name in options.names(split)}
            return self._by_names({scene.id: scene for scene in self._pairs("", "", listed)})
        return split_by_fractions(self._pairs("", ""), options)

    def _by_names(self, known: dict[str, Scene]) -> dict[str, tuple[Scene, ...]]:
        source = str(join_location(self.root, self.options.pairs or self.options.images))
        return split_by_names(known, self.options.split, source) if self.options.split is not None else {}

    def _pairs(self, split: str, location: str, listed: set[str] | None = None) -> tuple[Scene, ...]:
        """Return images with their masks: all, or those of some names."""
        remedy = (
            "Fix: check --data-root (or QHYBRID_DATA), `data.root` and `data.options`; folders are "
            f"{self.options.images} and {self.options.masks} below {self.root}."
        )
        patterns = self.options.patterns(split)
        images = find_files(self.root, patterns[0], remedy)
        for_all = join_location(self.root, patterns[1])
        if is_file_name(patterns[1]) and not for_all.is_dir():
            pairs, lonely = pair_files(images, (), patterns)
            pairs |= {name: (image, for_all) for name, (image, _) in pairs.items()}
        else:
            masks = find_files(self.root, patterns[1], remedy, labels=True)
            pairs, lonely = pair_files(images, masks, patterns)
        if listed is not None:
            pairs = {name: pair for name, pair in pairs.items() if name in listed}
        self._check_complete(split, pairs, lonely, patterns)
        return tuple(Scene(name, image, mask, location or name) for name, (image, mask) in pairs.items())

    def _check_complete(
        self,
        split: str,
        pairs: dict[str, tuple[Path, Path | None]],
        lonely: list[Path],
        patterns: tuple[str, str],
    ) -> None:
        """Name images without a mask in an error, and masks without an image in a warning."""
        missing = [name for name, (_, mask) in pairs.items() if mask is None]
        if missing:
            raise DataError(
                f"{pairs[missing[0]][0]}: each image must have a mask of the same name, but {len(missing)} "
                f"have none in {join_location(self.root, patterns[1])} "
                f"({', '.join(missing[:5])}). Fix: add the masks or move the images away."
            )
        self._lonely_masks[split] = tuple(lonely)
        if lonely:
            names = ", ".join(path.name for path in lonely[:5])
            warnings.warn(
                f"{lonely[0]}: {len(lonely)} mask(s) have no image in "
                f"{join_location(self.root, patterns[0])} ({names}) and are left out.",
                stacklevel=2,
            )
