"""Splits by location: scenes whose footprints overlap stay together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from qhybrid.data.raster import RasterInfo, Window, raster_info
from qhybrid.data.scenes import SPLITS, Scene, SceneDataset
from qhybrid.errors import ConfigError, DataError
from qhybrid.seeding import numpy_generator

Bounds = tuple[float, float, float, float]


def footprint(info: RasterInfo, crs: object, window: Window | None = None) -> Bounds:
    """Return the bounding box (left, bottom, right, top) of a raster, or of a window of it, in a CRS.

    Raises:
        DataError: If the raster does not say where it lies.
    """
    if not info.georeferenced:
        raise DataError(
            f"{info.path}: a split by location needs georeferenced scenes, but this one has no CRS or no "
            "transform. Fix: give `data.options.split` lists of scene names, or a pattern `location` that "
            "finds the place in the name, or put the scenes into train/, val/ and test/ folders."
        )
    corners = info.corners(window)
    left, bottom, right, top = map(float, [*corners.min(axis=0), *corners.max(axis=0)])
    if info.crs == crs:
        return left, bottom, right, top
    try:
        left, bottom, right, top = transform_bounds(info.crs, crs, left, bottom, right, top, densify_pts=21)
    except RasterioError as error:
        raise DataError(f"{info.path}: its CRS {info.crs} cannot be related to {crs} ({error}).") from error
    return left, bottom, right, top


def footprints(images: Sequence[Path]) -> list[Bounds]:
    """Return the bounding boxes of rasters, all in the CRS of the first one."""
    infos = [raster_info(image) for image in images]
    return [footprint(info, infos[0].crs) for info in infos]


def _overlapping(boxes: Sequence[Bounds]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of overlapping boxes; boxes that only touch do not overlap."""
    array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    # Rounding of coordinates must not join neighbouring tiles: the overlap exceeds a millionth of their size.
    margin = 1e-6 * np.minimum(array[:, 2] - array[:, 0], array[:, 3] - array[:, 1])
    for index, (left, bottom, right, top) in enumerate(array):
        rest = array[index + 1 :]
        slack = np.minimum(margin[index], margin[index + 1 :])
        wide = np.minimum(right, rest[:, 2]) - np.maximum(left, rest[:, 0]) > slack
        tall = np.minimum(top, rest[:, 3]) - np.maximum(bottom, rest[:, 1]) > slack
        for other in np.flatnonzero(wide & tall) + index + 1:
            yield index, int(other)


def overlap_groups(boxes: Sequence[Bounds]) -> list[int]:
    """Number the connected components of overlapping boxes; boxes that only touch do not overlap.

    Args:
        boxes: (left, bottom, right, top).

    Returns:
        The component of each box: the smallest index in it.
    """
    group = list(range(len(boxes)))

    def root(index: int) -> int:
        while group[index] != index:
            group[index] = group[group[index]]
            index = group[index]
        return index

    for first, second in _overlapping(boxes):
        low, high = sorted((root(first), root(second)))
        group[high] = low
    return [root(index) for index in range(len(boxes))]


def find_leaks(dataset: SceneDataset, splits: Sequence[str] = SPLITS) -> list[tuple[Scene, Scene]]:
    """Find scenes of different splits that show the same ground.

    Args:
        dataset: The data set; scenes without georeference are passed over.
        splits: The splits to compare.

    Returns:
        Pairs of overlapping scenes; empty for a split by location.
    """
    infos: dict[Path, RasterInfo] = {}
    placed: list[tuple[str, Scene]] = []
    for split in splits:
        for scene in dataset.scenes(split):
            if scene.image not in infos:
                infos[scene.image] = raster_info(scene.image)
            if infos[scene.image].georeferenced:
                placed.append((split, scene))
    if not placed:
        return []
    crs = infos[placed[0][1].image].crs
    boxes = [footprint(infos[scene.image], crs, scene.window) for _, scene in placed]
    pairs = _overlapping(boxes)
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
