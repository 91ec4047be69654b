"""Folds by location: any data set of scenes, divided anew for cross-validation."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

from qhybrid.config import DataConfig, StrictModel
from qhybrid.data.classes import ClassMap
from qhybrid.data.datasets import dataset_class
from qhybrid.data.overlaps import overlap_groups
from qhybrid.data.raster import raster_info
from qhybrid.data.scenes import SPLITS, Scene, SceneDataset, check_split, scene_window
from qhybrid.data.splits import places_of
from qhybrid.errors import DataError, DatasetNotFoundError, EmptySplitError
from qhybrid.seeding import numpy_generator

DEFAULT_FOLDS = 5
"""Folds of `qhybrid train --folds` where the recipe does not say how many."""


class FoldedScenes(SceneDataset):
    """The scenes of all splits of a data set, divided into folds by location.

    Scenes that overlap, that have the same location, or that are windows of one file are in one fold. Fold k
    is the test split, the next one the validation split, all others are the training split.
    """

    name: ClassVar[str] = "folds"
    description: ClassVar[str] = "folds by location of another data set"
    Options: ClassVar[type[StrictModel]] = StrictModel

    def __init__(self, dataset: SceneDataset, folds: int, fold: int) -> None:
        """Describe the folds; files are looked at when `scenes` is called.

        Args:
            dataset: Where the scenes come from.
            folds: Number of folds, at least 3.
            fold: Which one is the test split, from 1.
        """
        self.dataset = dataset
        self.name = dataset.name  # type: ignore[misc]
        self.folds = folds
        self.fold = fold
        self._parts: tuple[tuple[Scene, ...], ...] = ()

    @property
    def classes(self) -> ClassMap:
        """The label map."""
        return self.dataset.classes

    @classes.setter
    def classes(self, classes: ClassMap) -> None:
        self.dataset.classes = classes

    @classmethod
    def from_config(cls, config: DataConfig, root: Path) -> Self:
        """Build the folds of a recipe's data set; see `SceneDataset.from_config`."""
        dataset: SceneDataset = dataset_class(config.dataset).from_config(config, root)
        return cls(dataset, config.folds or DEFAULT_FOLDS, config.fold)

    def scenes(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes of a split in the data set's order; see `SceneDataset.scenes`."""
        check_split(split)
        parts = self.parts()
        test, val = (self.fold - 1) % self.folds, self.fold % self.folds
        if split == "train":
            return tuple(
                scene for number, part in enumerate(parts) if number not in (test, val) for scene in part
            )
        return parts[val if split == "val" else test]

    def masks_without_image(self) -> tuple[Path, ...]:
        """Return masks that no image was found for; see `SceneDataset.masks_without_image`."""
        return self.dataset.masks_without_image()

    def parts(self) -> tuple[tuple[Scene, ...], ...]:
        """Return the scenes of each fold; they do not depend on `fold`.

        Raises:
            DataError: If there are fewer locations than folds.
        """
        if not self._parts:
            divided = self.dataset.divided(self._assign)
            if divided is None:
                scenes = _with_own_names(_all_scenes(self.dataset))
                locations = _locations(scenes)
                sizes = dict.fromkeys(locations, 0)
                for scene, location in zip(scenes, locations):
                    _, _, height, width = scene_window(scene, raster_info(scene.image))
                    sizes[location] += height * width
                chosen = self._assign(sizes)
                divided = {str(number): () for number in range(self.folds)}
                for scene, location in zip(scenes, locations):
                    divided[chosen[location]] += (replace(scene, location=location),)
            self._parts = tuple(divided[str(number)] for number in range(self.folds))
        return self._parts

    def _assign(self, sizes: Mapping[str, int]) -> dict[str, str]:
        if len(sizes) < self.folds:
            raise DataError(
                f"{self.folds} folds need as many separate locations, but there are {len(sizes)}: scenes "
                "that overlap, or are windows of one file, are one location. Fix: set a smaller "
                "`data.folds`, or divide large scenes (`data.options.split.blocks`)."
            )
        return {name: str(number) for name, number in assign_folds(sizes, self.folds).items()}


def assign_folds(sizes: Mapping[str, int], folds: int) -> dict[str, int]:
    """Give each location to one fold, so that folds are of nearly equal size.

    Large locations come first, equal ones in a random order that depends on the names alone; each goes to
    the smallest fold so far.

    Args:
        sizes: Number of pixels at each location.
        folds: Number of folds.

    Returns:
        The fold of each location, from 0.
    """
    names = sorted(sizes)
    order = [names[i] for i in numpy_generator(0, "folds").permutation(len(names))]
    order.sort(key=lambda name: -sizes[name])
    filled = [0] * folds
    result = {}
    for name in order:
        result[name] = min(range(folds), key=filled.__getitem__)
        filled[result[name]] += max(sizes[name], 1)
    return result


def _all_scenes(dataset: SceneDataset) -> list[tuple[str, Scene]]:
    """Return all scenes with the split they were in; splits that are empty or missing are passed over."""
    found: list[tuple[str, Scene]] = []
    missing: list[DataError] = []
    with warnings.catch_warnings():
        # It is said of the folds, below, rather than of splits that are not used.
        warnings.filterwarnings("ignore", message=".*have no georeference")
        for split in SPLITS:
            try:
                found += [(split, scene) for scene in dataset.scenes(split)]
            except (EmptySplitError, DatasetNotFoundError) as error:
                missing.append(error)
    if len(missing) == len(SPLITS):
        raise missing[0]
    for absent in missing:
        if isinstance(absent, DatasetNotFoundError):
            warnings.warn(f"Folds are made of the other splits: {absent}", stacklevel=2)
    return found


def _with_own_names(scenes: Sequence[tuple[str, Scene]]) -> list[Scene]:
    """Return each scene once, with a name of its own."""
    once = {(scene.image, scene.window): (split, scene) for split, scene in reversed(scenes)}
    kept = list(reversed(once.values()))
    ids = Counter(scene.id for _, scene in kept)
    return [
        scene if ids[scene.id] == 1 else replace(scene, id=f"{split}_{scene.id}") for split, scene in kept
    ]


def _locations(scenes: Sequence[Scene]) -> list[str]:
    """Return a location of each scene: what it overlaps, names as its place, or shares a file with."""
    places = places_of(scenes)
    # A location that repeats the split or the scene's own name says nothing of others.
    named = [scene.location not in SPLITS and not scene.id.endswith(scene.location) for scene in scenes]
    silent = [not (place.placed or known) for place, known in zip(places, named)]
    lost = [scene for scene, unknown in zip(scenes, silent) if unknown and scene.window is None]
    if lost:
        warnings.warn(
            f"{len(lost)} of {len(scenes)} scene(s) have no georeference, for example {lost[0].image}: each "
            "is taken for a location of its own, and neighbours in other folds cannot be recognised.",
            stacklevel=3,
        )
    first = overlap_groups(places)
    joined = list(range(len(scenes)))

    def root(index: int) -> int:
        while joined[index] != index:
            index = joined[index]
        return index

    keys: dict[object, int] = {}
    for index, (scene, place, known) in enumerate(zip(scenes, places, named)):
        same: list[object] = [("overlap", first[index])]
        same += [("name", scene.location)] if known else [("file", place.source)] if scene.window else []
        for key in same:
            other, own = root(keys.setdefault(key, index)), root(index)
            joined[max(other, own)] = min(other, own)
    return [scenes[root(index)].id for index in range(len(scenes))]
