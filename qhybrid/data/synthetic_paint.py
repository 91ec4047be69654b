"""How a synthetic scene looks from above: colours that classes share, textures that tell them apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.synthetic_layout import BACKGROUND, ROAD, WATER, WOODLAND, Layout
from qhybrid.data.synthetic_shapes import Building, burn, polygon_mask, ribbon, smooth_noise

Image = NDArray[np.float32]
_Palette = tuple[tuple[int, int, int], ...]

# Each class has colours that another one has too: soil is red as tiles, brown as gravel and dark as water
# or bitumen roofs; maize and meadows are green as woods; yards are grey as roads and roofs.
_FIELDS: _Palette = (
    (188, 168, 122),
    (172, 150, 104),
    (150, 122, 96),
    (158, 108, 86),
    (122, 98, 80),
    (74, 66, 60),
    (58, 62, 62),
    (128, 124, 116),
    (96, 118, 68),
    (72, 94, 54),
    (60, 80, 50),
    (112, 128, 78),
    (62, 82, 66),
    (132, 140, 84),
)
_WOODS: _Palette = ((58, 76, 50), (68, 88, 54), (52, 70, 54), (80, 96, 58))
_WATERS: _Palette = ((48, 62, 64), (60, 74, 60), (74, 74, 62), (44, 54, 68), (66, 84, 78))
_ROADS: _Palette = ((122, 120, 120), (96, 95, 98), (150, 146, 140), (160, 142, 118), (132, 122, 108))
_ROOFS: _Palette = (
    (152, 98, 80),
    (140, 84, 70),
    (128, 124, 122),
    (98, 96, 100),
    (70, 68, 70),
    (158, 152, 146),
    (124, 100, 82),
    (168, 146, 122),
)
_YARDS: _Palette = (
    (140, 134, 126),
    (120, 116, 110),
    (156, 140, 116),
    (104, 120, 76),
    (122, 100, 82),
    (90, 108, 66),
)


def _pick(random: np.random.Generator, palette: _Palette, spread: float = 7.0) -> Image:
    """Draw a colour from a palette and shift it a little."""
    color = np.array(palette[int(random.integers(len(palette)))], dtype=np.float32)
    return color + random.normal(0, spread) + random.normal(0, spread / 3, 3).astype(np.float32)


def _shifted(array: NDArray[Any], down: int, across: int) -> NDArray[Any]:
    """Return a picture moved by some pixels; edge pixels are repeated."""
    rows = np.clip(np.arange(array.shape[0]) - down, 0, array.shape[0] - 1)
    cols = np.clip(np.arange(array.shape[1]) - across, 0, array.shape[1] - 1)
    return np.asarray(array[rows][:, cols])


def paint(random: np.random.Generator, layout: Layout) -> NDArray[np.uint8]:
    """Draw a layout as an aerial image.

    Args:
        random: The only source of random numbers.
        layout: The scene.

    Returns:
        Red, green and blue, uint8, shape (3, size, size).
    """
    image = _paint_fields(random, layout)
    for yard in layout.yards:
        _paint_yard(random, image, layout, yard)
    _paint_water(random, image, layout)
    _paint_roads(random, image, layout)
    crowns = _paint_woodland(random, image, layout)
    sun = random.uniform(0, 2 * np.pi)
    light = np.array([np.cos(sun), np.sin(sun)])
    _cast_shadows(random, image, layout, light, crowns)
    for building in layout.buildings:
        _paint_roof(random, image, building, light)
    return _expose(random, image)


def _paint_fields(random: np.random.Generator, layout: Layout) -> Image:
    """Fill fields with crops: a colour, rows of their direction, and patches of better and worse growth."""
    size = layout.size
    count = len(layout.rows)
    colors = np.stack([_pick(random, _FIELDS) for _ in range(count)])
    colors[0] = (104, 112, 70)  # grass between fields
    contrast = random.uniform(1.5, 8.0, count).astype(np.float32)
    period = random.uniform(4.0, 9.0, count)
    contrast[random.random(count) < 0.3] = 0.8  # meadows and rolled soil show no rows
    y, x = np.mgrid[:size, :size].astype(np.float32)
    wave_x = (np.sin(layout.rows) * 2 * np.pi / period).astype(np.float32)
    wave_y = (-np.cos(layout.rows) * 2 * np.pi / period).astype(np.float32)
    phase = x * wave_x[layout.parcels] + y * wave_y[layout.parcels]
    value = contrast[layout.parcels] * np.sin(phase)
    value += 4.0 * smooth_noise(random, size, 45) + 2.5 * smooth_noise(random, size, 7)
    tint = np.array([1.0, 0.9, 0.75], dtype=np.float32)
    return np.asarray(colors[layout.parcels] + value[..., None] * tint, dtype=np.float32)


def _paint_yard(
    random: np.random.Generator, image: Image, layout: Layout, outline: NDArray[np.float64]
) -> None:
    place, inside = polygon_mask(outline, *layout.labels.shape)
    inside &= layout.labels[place] == BACKGROUND
    image[place][inside] = _pick(random, _YARDS) + random.normal(0, 5, (int(inside.sum()), 1))


def _paint_water(random: np.random.Generator, image: Image, layout: Layout) -> None:
    """Water is smooth: broad changes of depth, faint ripples, and a darker or reedy bank."""
    water = layout.labels == WATER
    value = 3.0 * smooth_noise(random, layout.size, 60) + 1.0 * smooth_noise(random, layout.size, 3)
    image[water] = (_pick(random, _WATERS, 5.0) + value[..., None])[water]


def _paint_roads(random: np.random.Generator, image: Image, layout: Layout) -> None:
    """Roads have a surface of their own each, wheel tracks and paler edges."""
    grain = 3.0 * smooth_noise(random, layout.size, 2) + 3.0 * smooth_noise(random, layout.size, 30)
    for road in reversed(layout.roads):
        color = _pick(random, _ROADS)
        for width, change in (
            (road.width, 8.0),
            (road.width - 2, 0.0),
            (road.width * 0.6, -4.0),
            (road.width * 0.3, 2.0),
        ):
            place, inside = polygon_mask(ribbon(road.line, width), *layout.labels.shape)
            inside &= layout.labels[place] == ROAD
            image[place][inside] = (color + change + grain[place][..., None])[inside]


def _paint_woodland(random: np.random.Generator, image: Image, layout: Layout) -> NDArray[np.bool_]:
    """Woods are crowns: bright and dark blobs of a few metres, of two kinds of trees."""
    size, woods = layout.size, layout.labels == WOODLAND
    crown = random.uniform(5.0, 8.0)
    relief = smooth_noise(random, size, crown) + 0.6 * smooth_noise(random, size, crown / 2)
    # Light from one side: the difference of neighbours gives crowns a bright and a dark flank.
    flank = relief - _shifted(relief, 2, 2)
    kind = smooth_noise(random, size, 70)[..., None] > 0.2
    color = np.where(kind, _pick(random, _WOODS, 5.0), _pick(random, _WOODS, 5.0))
    value = 7.0 * relief + 9.0 * flank
    image[woods] = (color + value[..., None] * np.array([0.9, 1.0, 0.7], dtype=np.float32))[woods]
    return np.asarray(woods)


def _cast_shadows(
    random: np.random.Generator,
    image: Image,
    layout: Layout,
    light: NDArray[np.float64],
    crowns: NDArray[np.bool_],
) -> None:
    """Darken what lies behind buildings and the edges of woods, away from the sun."""
    shadow = np.zeros(layout.labels.shape, dtype=bool)
    for building in layout.buildings:
        height = random.uniform(5, 11)
        for step in np.linspace(0.25, 1.0, 4):
            burn(shadow, building.outline() - light * height * step, True)
    for step in (2, 4, 6):
        across, down = (-light * step).round().astype(int)
        shadow |= _shifted(crowns, down, across) & ~crowns & (layout.labels != WATER)
    image[shadow] = image[shadow] * np.float32(0.55) + np.float32(4.0)


def _paint_roof(
    random: np.random.Generator, image: Image, building: Building, light: NDArray[np.float64]
) -> None:
    """A ridged roof has a lit and a dim half, a flat one is even; both have faint lines of tiles."""
    color = _pick(random, _ROOFS)
    ridged = random.random() < 0.75
    across = np.array([-building.along[1], building.along[0]])
    contrast = 14.0 * float(across @ light) if ridged else 0.0
    place, inside = polygon_mask(building.outline(), *image.shape[:2])
    y, x = np.mgrid[place]
    depth = (x + 0.5 - building.center[0]) * across[0] + (y + 0.5 - building.center[1]) * across[1]
    value = (
        contrast * np.sign(depth)
        + 2.5 * np.sin(depth * random.uniform(1.2, 2.4))
        + random.normal(0, 2, depth.shape)
    )
    image[place][inside] = (color + value[..., None].astype(np.float32))[inside]


def _expose(random: np.random.Generator, image: Image) -> NDArray[np.uint8]:
    """Blur as a lens does, light unevenly, tint, add sensor noise, and round."""
    for axis in (0, 1):
        down, across = (1, 0) if axis == 0 else (0, 1)
        around = _shifted(image, down, across) + _shifted(image, -down, -across)
        image = 0.25 * around + 0.5 * image
    size = len(image)
    gradient = np.linspace(-1, 1, size, dtype=np.float32)
    slope = random.normal(0, 0.03, 2)
    gain = random.normal(1.0, 0.06) + slope[0] * gradient[:, None] + slope[1] * gradient[None]
    tint = random.normal(1.0, 0.03, 3).astype(np.float32)
    result = image * gain[..., None].astype(np.float32) * tint
    result += 2.5 * random.standard_normal(result.shape, dtype=np.float32)
    return np.ascontiguousarray(np.clip(result, 1, 255).round().astype(np.uint8).transpose(2, 0, 1))
