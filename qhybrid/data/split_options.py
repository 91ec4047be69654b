"""How scenes without a split of their own are split: by fractions of locations or blocks, by lists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Self

from pydantic import Field, field_validator, model_validator

from qhybrid.config import StrictModel
from qhybrid.data.blocks import divide
from qhybrid.data.scenes import SPLITS, Scene
from qhybrid.data.splits import assign_splits, locations_of
from qhybrid.errors import ConfigError, DataError


class SplitOptions(StrictModel):
    """How scenes are split: by fractions of their locations or of their blocks, or by lists of names.

    Attributes:
        fractions: Shares of train, val and test.
        seed: Seed of the split by fractions.
        location: Regular expression whose first group is the location in a scene's name; absent: scenes with
            overlapping footprints are one location.
        blocks: Divide the scenes into blocks of at least this side in pixels, and split these by fractions.
        margin: Unused pixels between blocks of different splits.
        train: Scene names (file names without suffix).
        val: Scene names.
        test: Scene names.
    """

    fractions: dict[str, float] | None = None
    seed: int = 0
    location: str | None = None
    blocks: int | None = Field(None, ge=16)
    margin: int = Field(64, ge=0)
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

    @model_validator(mode="after")
    def _blocks_fit(self) -> Self:
        if self.blocks is None:
            if "margin" in self.model_fields_set:
                raise ValueError("`margin` is for blocks: give `blocks`, the side of one in pixels")
            return self
        if self.by_lists or self.location is not None:
            raise ValueError("`blocks` are split by `fractions`, without `location` and lists of names")
        if self.margin >= self.blocks:
            raise ValueError(f"`margin` ({self.margin}) must be less than `blocks` ({self.blocks})")
        return self

    @property
    def by_lists(self) -> bool:
        """Whether the split is given as lists of names."""
        return self.fractions is None

    def names(self, split: str) -> tuple[str, ...]:
        """Return the names listed for a split."""
        return {"train": self.train, "val": self.val, "test": self.test}[split] or ()

    def check_patches(self, patch_size: int) -> None:
        """Check that training patches fit into blocks.

        Raises:
            ConfigError: If they do not.
        """
        if self.blocks is not None and self.blocks - self.margin < patch_size:
            raise ConfigError(
                f"Keys `data.options.split`: `blocks` ({self.blocks}) less `margin` ({self.margin}) must be "
                f"at least `data.patch_size` ({patch_size}), but is {self.blocks - self.margin}. Fix: set "
                f"`blocks` to {patch_size + self.margin} or more."
            )


def split_by_fractions(
    scenes: Sequence[Scene], options: SplitOptions, locations: Sequence[str] | None = None
) -> dict[str, tuple[Scene, ...]]:
    """Split scenes by fractions of their locations, or of their blocks.

    Args:
        scenes: All scenes; their attribute `location` is not looked at.
        options: With `fractions`.
        locations: Known locations of the scenes; absent: by `options.location`, else by overlap.

    Returns:
        The scenes of each split that has some, in the order given, with their locations.

    Raises:
        ConfigError: If the fractions are not shares of 1.
        DataError: If there are fewer locations than splits, a pattern does not match a name, or scenes that
            are divided into blocks overlap.
    """
    if not scenes:
        return {}
    if options.blocks is not None:
        return divide(scenes, options.blocks, options.margin, partial(_assign_blocks, options, scenes))
    if options.location is not None:
        locations = name_locations(scenes, options.location)
    elif locations is None:
        locations = locations_of(scenes)
    chosen = assign_splits(Counter(locations), options.fractions or {}, options.seed)
    found: dict[str, list[Scene]] = {}
    for scene, location in zip(scenes, locations):
        found.setdefault(chosen[location], []).append(replace(scene, location=location))
    return {split: tuple(part) for split, part in found.items()}


def split_by_names(
    known: Mapping[str, Scene], options: SplitOptions, source: str
) -> dict[str, tuple[Scene, ...]]:
    """Split scenes by lists of names; their location is the split.

    Args:
        known: Scenes by name.
        options: With the lists.
        source: Where the scenes are from, for messages.

    Raises:
        DataError: If a name is not known.
    """
    found = {}
    for split in SPLITS:
        listed = set(options.names(split))
        unknown = sorted(listed - set(known))
        if unknown:
            raise DataError(
                f"{source}: scene(s) {', '.join(unknown[:5])} of `data.options.split.{split}` must be there, "
                "but are not. Fix: correct the list."
            )
        found[split] = tuple(
            replace(scene, location=split) for name, scene in known.items() if name in listed
        )
    return found


def _assign_blocks(
    options: SplitOptions, scenes: Sequence[Scene], sizes: Mapping[str, int]
) -> dict[str, str]:
    fractions = options.fractions or {}
    wanted = [split for split, share in fractions.items() if share > 0]
    if len(sizes) < len(wanted):
        raise DataError(
            f"{scenes[0].image}: there must be a block for each of {', '.join(wanted)}, but "
            f"{len(scenes)} scene(s) have {len(sizes)} of {options.blocks} x {options.blocks} pixels or "
            "more. Fix: set a smaller `data.options.split.blocks`."
        )
    return assign_splits(sizes, fractions, options.seed)


def name_locations(scenes: Sequence[Scene], pattern: str) -> list[str]:
    """Return the locations that a pattern finds in the names of scenes.

    Raises:
        DataError: If it does not match a name.
    """
    matches = [re.search(pattern, scene.id) for scene in scenes]
    for scene, match in zip(scenes, matches):
        if match is None or match.group(1) is None:
            raise DataError(
                f"{scene.image}: `data.options.split.location` ({pattern}) must match every name, but does "
                f"not match {scene.id}."
            )
    return [match.group(1) for match in matches if match is not None]
