"""Which rasters show the same ground.

Rasters of one CRS are compared in its coordinates. Others are compared on the sphere: their outlines, in
longitude and latitude, are laid into an equal-area plane around the smaller one, so that neither the
antimeridian nor a pole nor a change of UTM zone is a border.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from qhybrid.data.footprints import LON_LAT, Bounds, Footprint, Points, transformed, unit_vectors

_TOUCHING = 1e-6
"""Rounding of coordinates must not join neighbours: an overlap is wider than this fraction of their size."""
_TOUCHING_AREA = 1e-5
"""The same between two CRS, as a fraction of the smaller area."""
_WIDE = np.pi / 4
"""Angular radius from which outlines are no longer laid into a plane: scenes are compared by points."""
_HALF_A_WORLD = 1e7
"""Distance in metres from which places of one CRS may be neighbours across its border."""
_SAMPLES = 65
"""Points a side of that comparison."""


def overlapping(places: Sequence[Footprint]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of footprints that overlap; those that only touch do not.

    Windows of one file are compared by their pixels. A raster with a transform and no CRS is taken to be in
    the CRS of the one that it is compared with. Footprints without a place overlap nothing else, and neither
    do those whose CRS cannot be related to the other's (see `unrelated`).
    """
    if len(places) < 2:
        return
    files = _numbers([place.source or f"#{index}" for index, place in enumerate(places)])
    frames = _numbers([None if place.crs is None else place.crs for place in places])
    windows = np.array([place.window for place in places], dtype=np.int64)
    planar = _PlanarBoxes(places)
    loose = np.array([place.crs is None for place in places])
    spheres = _Caps(places) if len(set(frames[~loose])) > 1 or planar.some_far() else None
    for index in range(len(places) - 1):
        rest = np.arange(index + 1, len(places))
        same_file = files[rest] == files[index]
        found = same_file & _windows_overlap(windows[index], windows[rest])
        one_plane = ~same_file & ((frames[rest] == frames[index]) | loose[rest] | loose[index])
        near = planar.near(index, rest) & one_plane
        for position in np.flatnonzero(near):
            found[position] = _overlap_in_plane(places[index], places[rest[position]])
        if spheres is not None:
            others = ~same_file & ~found & ~loose[rest] & ~loose[index]
            others &= (frames[rest] != frames[index]) | planar.far(index, rest)
            for position in np.flatnonzero(others & spheres.near(index, rest)):
                found[position] = _overlap_on_sphere(places[index], places[rest[position]])
        for other in rest[found]:
            yield index, int(other)


def unrelated(places: Sequence[Footprint]) -> list[Footprint]:
    """Return footprints whose CRS cannot be related to that of others."""
    frames = {id(place): place.crs for place in places if place.placed and place.crs is not None}
    first = next(iter(frames.values()), None)
    if all(crs == first for crs in frames.values()):
        return []
    return [place for place in places if id(place) in frames and place.cap is None]


def overlap_groups(places: Sequence[Footprint | Bounds]) -> list[int]:
    """Number the connected components of overlapping footprints; those that only touch do not overlap.

    Args:
        places: Footprints, or boxes (left, bottom, right, top) of one CRS.

    Returns:
        The component of each: the smallest index in it.
    """
    group = list(range(len(places)))

    def root(index: int) -> int:
        while group[index] != index:
            group[index] = group[group[index]]
            index = group[index]
        return index

    placed = [place if isinstance(place, Footprint) else Footprint.of_box(place) for place in places]
    for first, second in overlapping(placed):
        low, high = sorted((root(first), root(second)))
        group[high] = low
    return [root(index) for index in range(len(places))]


def _numbers(values: Sequence[Any]) -> NDArray[np.int64]:
    """Number values by equality; CRS objects that are written in two ways may be equal."""
    known: list[Any] = []
    by_hash: dict[Any, int] = {}
    result = []
    for value in values:
        key = value if value is None or isinstance(value, str) else value.to_wkt()
        if key not in by_hash:
            matches = [number for number, other in enumerate(known) if other == value]
            by_hash[key] = matches[0] if matches else len(known)
            known += [] if matches else [value]
        result.append(by_hash[key])
    return np.array(result, dtype=np.int64)


def _windows_overlap(window: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    ends, other_ends = window[:2] + window[2:], others[:, :2] + others[:, 2:]
    return np.asarray(((others[:, :2] < ends) & (window[:2] < other_ends)).all(axis=1))


class _PlanarBoxes:
    """Bounding boxes in the coordinates of each CRS."""

    def __init__(self, places: Sequence[Footprint]) -> None:
        self.boxes = np.array([place.bounds for place in places], dtype=np.float64).reshape(-1, 4)
        self.sizes = self.boxes[:, 2:] - self.boxes[:, :2]
        self.margins = _TOUCHING * self.sizes.min(axis=1)
        self.geographic = np.array([place.geographic for place in places])

    def near(self, index: int, rest: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether boxes overlap; longitudes that are 360 degrees apart are the same."""
        left, bottom, right, top = self.boxes[index]
        others = self.boxes[rest]
        slack = np.minimum(self.margins[index], self.margins[rest])
        tall = np.minimum(top, others[:, 3]) - np.maximum(bottom, others[:, 1]) > slack
        wide = np.minimum(right, others[:, 2]) - np.maximum(left, others[:, 0]) > slack
        if self.geographic[index]:
            for turn in (-360.0, 360.0):
                shared = np.minimum(right + turn, others[:, 2]) - np.maximum(left + turn, others[:, 0])
                wide |= shared > slack
        return np.asarray(wide & tall)

    def far(self, index: int, rest: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether boxes are so far apart that they may be the same place across a border of the CRS.

        Only a CRS of the whole world is that wide. Longitudes were compared with their turns already.
        """
        centre = self.boxes[index, :2] + self.boxes[index, 2:]
        apart = np.abs(self.boxes[rest, :2] + self.boxes[rest, 2:] - centre).max(axis=1) / 2
        return np.asarray(apart > _HALF_A_WORLD)

    def some_far(self) -> bool:
        """Return whether any two may be."""
        known = self.boxes[np.isfinite(self.boxes).all(axis=1)]
        return len(known) > 1 and bool(np.ptp(known[:, 0]) > _HALF_A_WORLD / 2)


class _Caps:
    """Circles on the sphere around footprints."""

    def __init__(self, places: Sequence[Footprint]) -> None:
        caps = [place.cap for place in places]
        self.centres = np.array([(np.nan,) * 3 if cap is None else cap[0] for cap in caps])
        self.radii = np.array([np.nan if cap is None else cap[1] for cap in caps])

    def near(self, index: int, rest: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether circles overlap."""
        # From the chord: the cosine of a small angle has no digits left.
        chord = np.linalg.norm(self.centres[rest] - self.centres[index], axis=1)
        angle = 2 * np.arcsin(np.clip(chord / 2, 0, 1))
        return np.asarray(angle < self.radii[rest] + self.radii[index])


def _overlap_in_plane(first: Footprint, second: Footprint) -> bool:
    """Return whether footprints whose boxes overlap do so themselves."""
    if first.upright and second.upright:
        return True
    other = shapely.Polygon(second.corners)
    turns = (0.0, -360.0, 360.0) if first.geographic or second.geographic else (0.0,)
    shifted = [shapely.Polygon(first.corners + np.array([turn, 0.0])) for turn in turns]
    return any(_share(one, other, _TOUCHING) for one in shifted)


def _overlap_on_sphere(first: Footprint, second: Footprint) -> bool:
    """Return whether footprints of any two CRS overlap."""
    if first.cap is None or second.cap is None:
        return False
    line, other_line = first.outline, second.outline
    if max(first.cap[1], second.cap[1]) > _WIDE or line is None or other_line is None:
        return _shares_points(first, second) or _shares_points(second, first)
    centre = min(first.cap, second.cap, key=lambda cap: cap[1])[0]
    one = shapely.make_valid(shapely.Polygon(_equal_area(line, centre)))
    other = shapely.make_valid(shapely.Polygon(_equal_area(other_line, centre)))
    return _share(one, other, _TOUCHING_AREA)


def _share(one: Any, other: Any, least: float) -> bool:
    smaller = min(one.area, other.area)
    return bool(smaller > 0 and one.intersection(other).area > least * smaller)


def _shares_points(first: Footprint, second: Footprint) -> bool:
    """Return whether points of the first, evenly spread over it, lie in the second."""
    fractions = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    columns, rows = (part.ravel() for part in np.meshgrid(fractions, fractions))
    lon_lat = transformed(first.crs, LON_LAT, first.points(columns, rows))
    if lon_lat is None or second.cap is None:
        return False
    centre, radius = second.cap
    # Far from it the other CRS may not be defined.
    lon_lat = lon_lat[unit_vectors(lon_lat) @ centre >= np.cos(radius)]
    points = transformed(LON_LAT, second.crs, lon_lat) if len(lon_lat) else None
    if points is None:
        return False
    edges = np.stack([second.corners[1] - second.corners[0], second.corners[3] - second.corners[0]], axis=1)
    turns = (-720.0, -360.0, 0.0, 360.0, 720.0) if second.geographic else (0.0,)
    for turn in turns:
        inside = np.linalg.solve(edges, (points + [turn, 0.0] - second.corners[0]).T)
        if ((inside > 0) & (inside < 1)).all(axis=0).any():
            return True
    return False


def _equal_area(lon_lat: Points, centre: Points) -> Points:
    """Return Lambert's azimuthal equal-area projection around a unit vector, in radii of the sphere."""
    vectors = unit_vectors(lon_lat)
    pole = np.array([0.0, 0.0, 1.0]) if abs(centre[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    east = np.cross(pole, centre)
    east /= np.linalg.norm(east)
    north = np.cross(centre, east)
    scale = np.sqrt(2 / np.maximum(1 + vectors @ centre, 1e-12))
    return np.stack([vectors @ east * scale, vectors @ north * scale], axis=1)
