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
    files = _numbers([place.source or f"#{index}" for index, place in enumerate(places)])
    frames = _numbers([None if place.crs is None else place.crs for place in places])
    loose = np.array([place.crs is None for place in places], dtype=bool)
    found = set(_shared_pixels(places, files))
    for first, second in _near_in_plane(places):
        one_plane = frames[first] == frames[second] or loose[first] or loose[second]
        if one_plane and files[first] != files[second] and _overlap_in_plane(places[first], places[second]):
            found.add((first, second))
    for first, second in _near_on_sphere(places, frames, loose):
        open_case = (first, second) not in found and files[first] != files[second]
        if open_case and _overlap_on_sphere(places[first], places[second]):
            found.add((first, second))
    yield from sorted(found)


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


def _box_pairs(boxes: Points, queries: Points) -> Iterator[tuple[int, int]]:
    """Yield (index of the query, index of the box) of boxes that overlap or touch; NaN is nowhere."""
    known, asked = (np.flatnonzero(np.isfinite(part).all(axis=1)) for part in (boxes, queries))
    tree = shapely.STRtree(shapely.box(*boxes[known].T))
    for query, box in tree.query(shapely.box(*queries[asked].T)).T:
        yield int(asked[query]), int(known[box])


def _shared_pixels(places: Sequence[Footprint], files: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of windows of one file that share pixels."""
    for number in np.flatnonzero(np.bincount(files, minlength=1) > 1):
        members = np.flatnonzero(files == number)
        windows = np.array([places[int(index)].window for index in members], dtype=np.float64)
        # Less than half a pixel is left out on each side: windows that touch share none.
        boxes = np.hstack([windows[:, :2] + 0.25, windows[:, :2] + windows[:, 2:] - 0.25])
        for first, second in _box_pairs(boxes, boxes):
            if first < second:
                yield int(members[first]), int(members[second])


def _near_in_plane(places: Sequence[Footprint]) -> Iterator[tuple[int, int]]:
    """Yield the pairs whose bounding boxes overlap; longitudes that are 360 degrees apart are the same."""
    boxes = np.array([place.bounds for place in places], dtype=np.float64).reshape(-1, 4)
    margins = _TOUCHING * (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    geographic = np.array([place.geographic for place in places], dtype=bool)
    turned = boxes.copy()
    turned[~geographic] = np.nan
    for turn in (0.0, -360.0, 360.0):
        queries = (turned if turn else boxes) + np.array([turn, 0.0, turn, 0.0])
        for first, second in _box_pairs(boxes, queries):
            if first >= second:
                continue
            one, other, slack = queries[first], boxes[second], min(margins[first], margins[second])
            shared = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
            if (shared > slack).all():
                yield first, second


def _near_on_sphere(
    places: Sequence[Footprint], frames: NDArray[np.int64], loose: NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Yield the pairs to compare on the sphere: of two CRS, or on two sides of a CRS of the whole world."""
    left = np.array([place.bounds[0] for place in places], dtype=np.float64)
    known = left[np.isfinite(left)]
    wide = len(known) > 1 and bool(np.ptp(known) > _HALF_A_WORLD)
    if len(set(frames[~loose])) < 2 and not wide:
        return
    caps = [place.cap for place in places]
    centres = np.array([(np.nan,) * 3 if cap is None else cap[0] for cap in caps])
    radii = np.array([np.nan if cap is None else cap[1] for cap in caps])
    for index in range(len(places) - 1):
        rest = np.arange(index + 1, len(places))
        # From the chord: the cosine of a small angle has no digits left.
        chord = np.linalg.norm(centres[rest] - centres[index], axis=1)
        near = 2 * np.arcsin(np.clip(chord / 2, 0, 1)) < radii[rest] + radii[index]
        across = (frames[rest] != frames[index]) | (np.abs(left[rest] - left[index]) > _HALF_A_WORLD)
        for other in rest[near & across & ~loose[rest] & ~loose[index]]:
            yield index, int(other)


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
