"""Connected places: scenes that overlap or lie side by side show one piece of ground, and are one witness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qhybrid.data.footprints import Footprint, footprint, trusted
from qhybrid.data.overlaps import overlap_groups, unrelated
from qhybrid.data.raster import raster_info
from qhybrid.data.scenes import SPLITS, Scene

_BESIDE = 1.0
"""Pixels that a scene is widened by on each side: neighbours that only touch are one place."""


@dataclass(frozen=True)
class Places:
    """The places that scenes show.

    Attributes:
        of: Number of each scene's place, from 0.
        unknown: Scenes that do not say where they lie: whether they are neighbours of others is not known,
            and neither is the number of places.
    """

    of: tuple[int, ...]
    unknown: int

    @property
    def count(self) -> int | None:
        """How many places there are; None where that is not known."""
        return None if self.unknown else len(set(self.of))


def connected_places(scenes: Sequence[Scene]) -> Places:
    """Return which scenes are one place: they overlap or touch, directly or through others.

    Windows of one file are one place, and so are scenes of one named location, wherever they lie.

    Args:
        scenes: Scenes, of one data set or several.
    """
    infos = {image: raster_info(image) for image in dict.fromkeys(scene.image for scene in scenes)}
    found = trusted([footprint(infos[scene.image], scene.window) for scene in scenes])
    strange = {id(place) for place in unrelated(found)}
    first = overlap_groups([_widened(place) for place in found])
    joined = list(range(len(scenes)))

    def root(index: int) -> int:
        while joined[index] != index:
            index = joined[index]
        return index

    keys: dict[object, int] = {}
    unknown = 0
    for index, (scene, place) in enumerate(zip(scenes, found)):
        named = says_place(scene)
        unknown += not (named or (place.placed and id(place) not in strange))
        same: list[object] = [("overlap", first[index]), ("file", place.source)]
        same += [("name", scene.location)] if named else []
        for key in same:
            other, own = root(keys.setdefault(key, index)), root(index)
            joined[max(other, own)] = min(other, own)
    numbers: dict[int, int] = {}
    of = tuple(numbers.setdefault(root(index), len(numbers)) for index in range(len(scenes)))
    return Places(of, unknown)


def says_place(scene: Scene) -> bool:
    """Return whether a scene's location was named; one that repeats split or own name says nothing."""
    return scene.location not in SPLITS and not scene.id.endswith(scene.location)


def _widened(place: Footprint) -> Footprint:
    """Return a footprint that is wider by `_BESIDE` pixels on each side."""
    if not place.placed:
        return place
    corners = place.corners
    across = (corners[1] - corners[0]) * (_BESIDE / place.window.width)
    down = (corners[3] - corners[0]) * (_BESIDE / place.window.height)
    moved = corners.copy()
    moved[0] += -across - down
    moved[1] += across - down
    moved[2] += across + down
    moved[3] += -across + down
    return replace(place, corners=moved)
