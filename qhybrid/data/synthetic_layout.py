"""What lies where in a synthetic scene: fields, woodland, water, roads and buildings, in pixel coordinates.

Pixels are 0.5 m wide. Points are (x, y) with x to the right and y downwards, shape (n, 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.synthetic_shapes import Building, Points, Road, burn, ribbon, smooth_noise

BACKGROUND, BUILDING, WOODLAND, WATER, ROAD = range(5)


@dataclass(frozen=True)
class Layout:
    """Everything a scene consists of.

    Attributes:
        size: Side of the scene in pixels.
        labels: Class of each pixel, uint8, shape (size, size).
        parcels: Number of the field at each pixel, 0 between fields, int32, shape (size, size).
        rows: Direction of the crop rows of each field in radians; entry 0 is unused.
        roads: The roads.
        buildings: The buildings.
        yards: Outlines of the yards around buildings.
    """

    size: int
    labels: NDArray[np.uint8]
    parcels: NDArray[np.int32]
    rows: NDArray[np.float64]
    roads: list[Road] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    yards: list[Points] = field(default_factory=list)


def make_layout(random: np.random.Generator, size: int) -> Layout:
    """Draw a scene.

    Args:
        random: The only source of random numbers.
        size: Side of the scene in pixels.

    Returns:
        The layout; all classes occur in it, buildings perhaps not in a small one.
    """
    angle = random.uniform(0, np.pi)
    parcels, rows = _fields(random, size, angle)
    labels = np.zeros((size, size), dtype=np.uint8)
    _woodland(random, labels, parcels)
    _water(random, labels)
    layout = Layout(size, labels, parcels, rows, _roads(random, size, angle))
    occupied = labels != BACKGROUND
    for road in layout.roads:
        burn(labels, ribbon(road.line, road.width), ROAD)
        burn(occupied, ribbon(road.line, road.width + 6), True)
    _buildings(random, layout, occupied)
    for building in layout.buildings:
        burn(labels, building.outline(), BUILDING)
    return layout


def _fields(
    random: np.random.Generator, size: int, angle: float
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Cut the plane into rectangles again and again, in a frame turned by an angle."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    half, boxes, done = 0.75 * size, [], []
    boxes.append((-half, -half, half, half))
    while boxes:
        left, top, right, bottom = boxes.pop()
        width, height = right - left, bottom - top
        if width * height < random.uniform(70, 190) ** 2 or min(width, height) < 45:
            done.append((left, top, right, bottom))
            continue
        cut = random.uniform(0.3, 0.7)
        if width * random.uniform(0.7, 1.4) > height:
            middle = left + cut * width
            boxes += [(left, top, middle, bottom), (middle, top, right, bottom)]
        else:
            middle = top + cut * height
            boxes += [(left, top, right, middle), (left, middle, right, bottom)]
    parcels = np.zeros((size, size), dtype=np.int32)
    rows = np.zeros(len(done) + 1)
    for number, (left, top, right, bottom) in enumerate(done, start=1):
        margin = random.uniform(0.5, 2.5)
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        corners += margin * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        burn(parcels, corners @ turn.T + size / 2, number)
        rows[number] = angle + (np.pi / 2 if bottom - top > right - left else 0.0)
    return parcels, rows


def _woodland(random: np.random.Generator, labels: NDArray[np.uint8], parcels: NDArray[np.int32]) -> None:
    """Cover a part of the scene with irregular woods and some whole fields with straight-edged ones."""
    size = len(labels)
    shape = (
        smooth_noise(random, size, 130)
        + 0.35 * smooth_noise(random, size, 35)
        + 0.06 * smooth_noise(random, size, 9)
    )
    labels[shape > np.quantile(shape, 1 - random.uniform(0.14, 0.26))] = WOODLAND
    numbers = np.unique(parcels)
    planted = numbers[random.random(len(numbers)) < 0.08]
    labels[np.isin(parcels, planted[planted > 0])] = WOODLAND


def _water(random: np.random.Generator, labels: NDArray[np.uint8]) -> None:
    """Add ponds, and in half of the scenes a stream."""
    size = len(labels)
    for _ in range(max(1, round(size**2 / 512**2 * random.uniform(1, 2.4)))):
        turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        radius = random.uniform(28, 68) * min(1.0, size / 400)
        wave = sum(
            random.normal(0, 0.22 / k) * np.cos(k * turn + random.uniform(0, 6.3)) for k in range(1, 6)
        )
        outline = (
            radius
            * (1 + np.asarray(wave))[:, None]
            * np.stack([np.cos(turn), random.uniform(0.5, 1) * np.sin(turn)], 1)
        )
        spin = random.uniform(0, np.pi)
        outline = outline @ np.array([[np.cos(spin), np.sin(spin)], [-np.sin(spin), np.cos(spin)]])
        burn(labels, outline + random.uniform(0.1, 0.9, 2) * size, WATER)
    if random.random() < 0.5:
        line = _curve(random, size, random.uniform(0, np.pi), wander=0.12)
        width = random.uniform(8, 18) * (1 + 0.25 * np.sin(np.linspace(0, random.uniform(8, 20), len(line))))
        burn(labels, ribbon(line, width), WATER)


def _curve(random: np.random.Generator, size: int, angle: float, wander: float) -> Points:
    """Return a smooth line across the whole scene, about in a direction."""
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    position = np.linspace(-0.8 * size, 0.8 * size, max(40, size // 8))
    shift = np.full(len(position), random.uniform(-0.28, 0.28) * size)
    for waves in (1, 2, 3):
        amount = random.normal(0, wander * size / waves**2)
        shift += amount * np.sin(waves * np.pi * position / size + random.uniform(0, 6.3))
    return np.asarray(size / 2 + position[:, None] * along + shift[:, None] * across)


def _roads(random: np.random.Generator, size: int, angle: float) -> list[Road]:
    """Return through roads and side roads that leave them and end beyond the scene's edge."""
    roads = []
    for number in range(max(1, round(size / 512))):
        direction = angle + number * np.pi / 2 + random.normal(0, 0.25)
        roads.append(Road(_curve(random, size, direction, wander=0.05), random.uniform(10, 15)))
    for _ in range(max(1, round(size**2 / 512**2 * random.uniform(1.0, 2.6)))):
        parent = roads[int(random.integers(len(roads)))].line
        inside = np.flatnonzero(((parent > 0.1 * size) & (parent < 0.9 * size)).all(axis=1))
        if len(inside) == 0:
            continue
        start = int(random.choice(inside[:-1])) if len(inside) > 1 else int(inside[0])
        tangent = parent[start + 1] - parent[start]
        heading = np.arctan2(tangent[1], tangent[0]) + random.choice([-1, 1]) * random.uniform(0.9, 2.2)
        bend = random.normal(0, 0.5) / size
        steps = np.arange(0, 1.5 * size, 4.0)
        headings = heading + bend * steps + 0.12 * np.sin(steps / random.uniform(40, 90))
        moves = 4.0 * np.stack([np.cos(headings), np.sin(headings)], axis=1)
        roads.append(Road(parent[start] + np.cumsum(moves, axis=0) - moves[0], random.uniform(6, 11)))
    return roads


def _buildings(random: np.random.Generator, layout: Layout, occupied: NDArray[np.bool_]) -> None:
    """Set houses and barns beside the roads, clustered to settlements, where the ground is free."""
    settled = smooth_noise(random, layout.size, 110)
    for road in layout.roads:
        steps = np.linalg.norm(np.diff(road.line, axis=0), axis=1)
        distance = np.concatenate([[0.0], np.cumsum(steps)])
        position = random.uniform(0, 30)
        while position < distance[-1]:
            point = np.array([np.interp(position, distance, road.line[:, axis]) for axis in (0, 1)])
            ahead = np.array([np.interp(position + 4, distance, road.line[:, axis]) for axis in (0, 1)])
            position += random.uniform(22, 46)
            if not (point.min() >= 0 and point.max() < layout.size) or np.allclose(point, ahead):
                continue
            density = float(settled[int(point[1]), int(point[0])])
            for side in (-1.0, 1.0):
                if random.random() < np.clip(0.6 + 0.3 * density, 0.1, 0.95):
                    _place(random, layout, occupied, point, ahead - point, side * road.width / 2)


def _place(
    random: np.random.Generator,
    layout: Layout,
    occupied: NDArray[np.bool_],
    point: Points,
    direction: Points,
    edge: float,
) -> None:
    """Try to set a building, sometimes with a barn behind it, beside a point of a road."""
    tilt = random.normal(0, 0.06) + (np.pi / 2 if random.random() < 0.35 else 0.0)
    heading = np.arctan2(direction[1], direction[0])
    across = np.array([-np.sin(heading), np.cos(heading)]) * np.sign(edge)
    reach = abs(edge)
    for storey in range(2 if random.random() < 0.45 else 1):
        length, depth = random.uniform(17, 40), random.uniform(13, 24)
        if storey:
            length, depth = length * 1.2, depth * 1.1
        along = np.array([np.cos(heading + tilt), np.sin(heading + tilt)])
        extent = max(length * abs(float(along @ across)), depth)
        center = point + across * (reach + random.uniform(7, 18) + extent / 2)
        building = Building(center, along, length, depth)
        if not _free(building, occupied):
            return
        layout.buildings.append(building)
        burn(occupied, building.outline(4), True)
        middle = (point + across * reach + center) / 2
        yard = Building(
            (middle + center) / 2, along, length + random.uniform(8, 30), depth + random.uniform(16, 40)
        )
        layout.yards.append(yard.outline())
        reach += extent + random.uniform(12, 24)


def _free(building: Building, occupied: NDArray[np.bool_]) -> bool:
    """Return whether a building's ground, sampled every few pixels, lies in the scene and is not taken."""
    corners = building.outline(3)
    a, b = np.meshgrid(np.linspace(0, 1, 12), np.linspace(0, 1, 8))
    points = (
        corners[0]
        + a.reshape(-1, 1) * (corners[1] - corners[0])
        + b.reshape(-1, 1) * (corners[3] - corners[0])
    )
    x, y = points.astype(np.int64).T
    inside = (
        (x >= 0) & (y >= 0) & (x < occupied.shape[1]) & (y < occupied.shape[0]) & (points >= 0).all(axis=1)
    )
    return bool(inside.mean() > 0.5 and not occupied[y[inside], x[inside]].any())
