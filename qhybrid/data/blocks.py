"""Large scenes divided into blocks, with unused pixels between blocks of different splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qhybrid.data.footprints import Footprint, footprint, trusted
from qhybrid.data.overlaps import overlapping
from qhybrid.data.raster import RasterInfo, Window, raster_info
from qhybrid.data.scenes import Assign, Scene, scene_window
from qhybrid.data.splits import locations_of
from qhybrid.errors import DataError


@dataclass(frozen=True)
class _Cell:
    """A block before pixels are left out: its scene, place in the grid, and pixels in the file."""

    scene: Scene
    row: int
    col: int
    window: Window

    @property
    def id(self) -> str:
        return f"{self.scene.id}_r{self.row}_c{self.col}"


def divide(scenes: Sequence[Scene], side: int, margin: int, assign: Assign) -> dict[str, tuple[Scene, ...]]:
    """Divide scenes into blocks and give each to a part.

    Blocks lie side by side in a grid whose cells have at least `side` pixels (or all of a smaller scene).
    Where a block has a neighbour of another part, diagonal ones included, pixels between them are left out:
    two pixels of different parts are always more than `margin` pixels apart in rows or in columns. Scenes
    that touch, or are less than the margin apart, lose half the margin all around.

    Args:
        scenes: Scenes that do not overlap.
        side: Smallest side of a block in pixels.
        margin: Unused pixels between parts; less than `side`.
        assign: Gives the blocks to parts.

    Returns:
        The blocks of each part, as scenes with a window, by scene and then row by row.

    Raises:
        DataError: If scenes overlap.
    """
    infos = {image: raster_info(image) for image in dict.fromkeys(scene.image for scene in scenes)}
    inset = _crowded(scenes, infos, margin)
    cells = [
        cell
        for scene in scenes
        for cell in _grid(scene, scene_window(scene, infos[scene.image]), side, inset.get(scene.id, 0))
    ]
    sizes = {cell.id: max(1, round(cell.window.height * cell.window.width / side**2)) for cell in cells}
    parts = assign(sizes)
    place = {(cell.scene.id, cell.row, cell.col): parts[cell.id] for cell in cells}
    found: dict[str, list[Scene]] = {}
    for cell in cells:
        window = _without_margin(cell, place, margin)
        block = replace(cell.scene, id=cell.id, location=cell.id, window=window)
        found.setdefault(parts[cell.id], []).append(block)
    return {part: tuple(blocks) for part, blocks in found.items()}


def _grid(scene: Scene, whole: Window, side: int, inset: int) -> list[_Cell]:
    """Return the cells of a scene, of nearly equal size."""
    height, width = whole.height - 2 * inset, whole.width - 2 * inset
    if min(height, width) < 1:
        raise DataError(
            f"{scene.image}: scene {scene.id} has {whole.height} x {whole.width} pixels and near neighbours, "
            f"so that a margin of {2 * inset} leaves nothing. Fix: set a smaller "
            "`data.options.split.margin`, or join the scenes (gdalbuildvrt)."
        )
    rows, cols = max(1, height // side), max(1, width // side)
    tops = [whole.row + inset + height * row // rows for row in range(rows + 1)]
    lefts = [whole.col + inset + width * col // cols for col in range(cols + 1)]
    return [
        _Cell(
            scene,
            row,
            col,
            Window(tops[row], lefts[col], tops[row + 1] - tops[row], lefts[col + 1] - lefts[col]),
        )
        for row in range(rows)
        for col in range(cols)
    ]


def _without_margin(cell: _Cell, place: Mapping[tuple[str, int, int], str], margin: int) -> Window:
    """Return a cell's pixels without those that keep it apart from other parts."""

    def part(down: int, right: int) -> str | None:
        return place.get((cell.scene.id, cell.row + down, cell.col + right))

    own = part(0, 0)

    def foreign(down: int, right: int) -> bool:
        return part(down, right) not in (own, None)

    def corner(down: int, right: int) -> bool:
        """Return whether no side keeps the cell apart from a diagonal neighbour: then the row side does."""
        if not foreign(down, right):
            return False
        below, beside, diagonal = part(down, 0), part(0, right), part(down, right)
        apart_in_rows = below != own and beside != diagonal
        return not (apart_in_rows or (beside != own and below != diagonal))

    less, more = margin // 2, margin - margin // 2
    top = more if foreign(-1, 0) or corner(-1, -1) or corner(-1, 1) else 0
    bottom = less if foreign(1, 0) or corner(1, -1) or corner(1, 1) else 0
    left = more if foreign(0, -1) else 0
    right = less if foreign(0, 1) else 0
    row, col, height, width = cell.window
    return Window(row + top, col + left, height - top - bottom, width - left - right)


def _crowded(scenes: Sequence[Scene], infos: Mapping[Path, RasterInfo], margin: int) -> dict[str, int]:
    """Return how many pixels scenes with near neighbours lose on each side.

    Raises:
        DataError: If scenes overlap.
    """
    by_location: dict[str, Scene] = {}
    for scene, location in zip(scenes, locations_of(scenes)):
        if location in by_location:
            raise DataError(
                f"{by_location[location].image} and {scene.image}: scenes that are split into blocks must "
                "not overlap, directly or through others, but these do. Fix: join them (gdalbuildvrt), or "
                "split by location without `blocks`."
            )
        by_location[location] = scene
    half = margin - margin // 2
    grown = trusted([_grown(infos[scene.image], scene, half) for scene in scenes]) if margin else []
    near = {index for pair in overlapping(grown) for index in pair}
    return {scenes[index].id: half for index in near}


def _grown(info: RasterInfo, scene: Scene, pixels: int) -> Footprint:
    row, col, height, width = scene_window(scene, info)
    return footprint(info, Window(row - pixels, col - pixels, height + 2 * pixels, width + 2 * pixels))
