"""Splits by location: scenes whose footprints overlap stay together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from qhybrid.data.footprints import Footprint, footprint, footprints, trusted
from qhybrid.data.overlaps import overlap_groups, overlapping, unrelated
from qhybrid.data.raster import RasterInfo, raster_info
from qhybrid.data.scenes import SPLITS, Scene, SceneDataset
from qhybrid.errors import ConfigError, DataError, EmptySplitError
from qhybrid.seeding import numpy_generator

__all__ = [
    "assign_splits",
    "count_scenes",
    "find_leaks",
    "footprint",
    "footprints",
    "locations_of",
    "overlap_groups",
    "places_of",
]

_OWN_PLACES = (
    "Fix: a pattern `location` that finds the place in the names keeps neighbours together, as do lists of "
    "names or folders train, val and test."
)


def locations_of(scenes: Sequence[Scene]) -> list[str]:
    """Return the location of each scene: the id of the first one that it overlaps, directly or by others.

    Scenes that do not say where they lie are locations of their own, with one warning: whether they overlap
    cannot be known.

    Args:
        scenes: Scenes of one data set; their attribute `location` is not looked at.

    Raises:
        DataError: If the CRS of one cannot be related to that of the others.
    """
    places = places_of(scenes)
    lost = [scene for scene, place in zip(scenes, places) if not place.placed]
    if lost:
        warnings.warn(
            f"{len(lost)} of {len(scenes)} scene(s) have no georeference, for example {lost[0].image}: each "
            f"is taken for a location of its own, and neighbours cannot be recognised. {_OWN_PLACES}",
            stacklevel=2,
        )
    return [scenes[group].id for group in overlap_groups(places)]


def places_of(scenes: Sequence[Scene]) -> list[Footprint]:
    """Return where scenes lie, as far as their files say.

    Raises:
        DataError: If the CRS of one cannot be related to that of the others.
    """
    infos = _infos(scenes)
    places = trusted([footprint(infos[scene.image], scene.window) for scene in scenes])
    strange = {place.source for place in unrelated(places)}
    for scene, place in zip(scenes, places):
        if place.source in strange:
            raise DataError(
                f"{scene.image}: a split by location needs scenes whose places can be compared, but its CRS "
                f"{place.crs} cannot be related to those of the others. {_OWN_PLACES}"
            )
    return places


def _infos(scenes: Sequence[Scene]) -> dict[Path, RasterInfo]:
    return {image: raster_info(image) for image in dict.fromkeys(scene.image for scene in scenes)}


def count_scenes(dataset: SceneDataset) -> dict[str, int]:
    """Return the number of scenes of each split; 0 where it is empty."""
    found = {}
    for split in SPLITS:
        try:
            found[split] = len(dataset.scenes(split))
        except EmptySplitError:
            found[split] = 0
    return found


def find_leaks(dataset: SceneDataset, splits: Sequence[str] = SPLITS) -> list[tuple[Scene, Scene]]:
    """Find scenes of different splits that show the same ground, or share pixels of one file.

    Args:
        dataset: The data set. Scenes without georeference are compared with scenes of the same file alone;
            one whose CRS cannot be related to the others' is named in a warning.
        splits: The splits to compare, each with each; empty ones are passed over.

    Returns:
        Pairs of overlapping scenes; empty for a split by location.
    """
    placed: list[tuple[str, Scene]] = []
    for split in splits:
        try:
            placed += [(split, scene) for scene in dataset.scenes(split)]
        except EmptySplitError:
            continue
    infos = _infos([scene for _, scene in placed])
    places = trusted([footprint(infos[scene.image], scene.window) for _, scene in placed])
    strange = unrelated(places)
    if strange:
        warnings.warn(
            f"{len(strange)} scene(s) have a CRS that cannot be related to that of the others, for example "
            f"{strange[0].source} ({strange[0].crs}): whether they overlap is not known.",
            stacklevel=2,
        )
    pairs = overlapping(places)
    return [(placed[i][1], placed[j][1]) for i, j in pairs if placed[i][0] != placed[j][0]]


def assign_splits(sizes: Mapping[str, int], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Give each location to one split.

    Locations come in a random order that depends on the seed and their names alone; each goes to the split
    that is furthest below its share. A split with a share above 0 gets at least one location.

    Args:
        sizes: Number of scenes (or pixels) at each location.
        fractions: Share of each of train, val and test; they must add up to 1.
        seed: Seed of the split.

    Returns:
        The split of each location.

    Raises:
        ConfigError: If the fractions are not shares of 1.
        DataError: If there are fewer locations than splits with a share.
    """
    if set(fractions) - set(SPLITS) or abs(sum(fractions.values()) - 1) > 1e-6 or min(fractions.values()) < 0:
        raise ConfigError(
            f"Split fractions must be shares of {', '.join(SPLITS)} that add up to 1, but are "
            f"{dict(fractions)}."
        )
    wanted = [name for name in SPLITS if fractions.get(name, 0) > 0]
    if len(sizes) < len(wanted):
        raise DataError(
            f"A split by location needs at least {len(wanted)} separate locations for {', '.join(wanted)}, "
            f"but there are {len(sizes)}: overlapping scenes are one location. Fix: set a fraction to 0, or "
            f"add scenes elsewhere."
        )
    names = sorted(sizes)
    order = [names[i] for i in numpy_generator(seed, "split").permutation(len(names))]
    order.sort(
        key=lambda name: -sizes[name]
    )  # stable: large locations first, so that small ones even out the shares
    total = sum(sizes.values())
    filled = dict.fromkeys(wanted, 0)
    result = {}
    for position, name in enumerate(order):
        empty = [split for split in wanted if filled[split] == 0]
        candidates = empty if len(empty) == len(order) - position else wanted
        chosen = max(candidates, key=lambda split: fractions[split] * total - filled[split])
        result[name] = chosen
        filled[chosen] += sizes[name]
    return result
