"""Class probabilities of a whole scene, block by block from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.config import PredictionConfig
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.locations import as_location
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.errors import ConfigError
from qhybrid.inference.scene_model import (
    SceneModel,
    check_window_size,
    input_contract,
    place_model,
    scene_tokens,
)
from qhybrid.inference.walk import Progress, SceneWalk
from qhybrid.inference.windows import plan_strips

DEFAULT_MEMORY_MB = 512.0


@dataclass(frozen=True, eq=False)
class ProbabilityBlock:
    """A finished rectangle of a scene.

    Attributes:
        row: First row, counted in the scene.
        col: First column, counted in the scene.
        probabilities: Class probabilities, float32 of shape (K, h, w), the mean over all draws; NaN where
            there is no data.
        valid: Which pixels hold data, shape (h, w).
        draws: The probabilities of each draw, shape (D, K, h, w); None without draws.
    """

    row: int
    col: int
    probabilities: NDArray[np.float32]
    valid: NDArray[np.bool_]
    draws: NDArray[np.float32] | None = None

    @property
    def window(self) -> Window:
        """The rectangle in the scene."""
        return Window(self.row, self.col, *self.valid.shape)

    def labels(self) -> NDArray[np.uint8]:
        """Return each pixel's most probable class, shape (h, w); `IGNORE_INDEX` where there is no data."""
        best: NDArray[np.uint8] = self.probabilities.argmax(axis=0).astype(np.uint8)
        best[~self.valid] = IGNORE_INDEX
        return best


def iterate_probabilities(
    run: SceneModel,
    scene: Scene | str | Path,
    *,
    settings: PredictionConfig | None = None,
    window_size: int | None = None,
    device: str | torch.device | None = None,
    max_memory_mb: float = DEFAULT_MEMORY_MB,
    progress: Progress | None = None,
    area: Window | None = None,
    draws: int | None = None,
    seed: int | None = None,
    start: tuple[int, int] = (0, 0),
    strip: tuple[int, int] | None = None,
) -> Iterator[ProbabilityBlock]:
    """Predict a scene of any size by overlapping windows whose probabilities are blended at the seams.

    Beside the model's own needs, memory holds one band of rows as high as a window; it does not grow with the
    height of the scene. Where the scene is so wide that this band would exceed `max_memory_mb`, it is
    predicted in strips of columns, with the same result. Windows without any data are not given to the model.

    Args:
        run: The trained model.
        scene: A raster file, or a scene of a data set (which may be a part of a file).
        settings: Overlap, batch size, orientations; those of the run's recipe if absent.
        window_size: Side of the windows in pixels; the training patches' if absent.
        device: Where to run the model: "auto", "cpu", "cuda"; where it already is if absent.
        max_memory_mb: Bound of the memory for blending, in MiB (a strip has at least the width of one step).
        progress: Called after each batch.
        area: The part of the scene that is wanted; all of it if absent. Windows are those of the whole scene
            that touch it, so that values are those of the whole map but for rounding.
        draws: Predict each window so many times, every time with a seed of its own for shots or trajectories;
            memory grows with the number, so that strips become narrower.
        seed: Decides shots and trajectories, by place: a window has the same draws in whatever order windows
            come. Absent: engines draw as they were made to.
        start: Column of the strip and first row to go on with; all blocks before it are left out.
        strip: The only strip of columns that is wanted, (begin, end), one of `planned_strips`.

    Returns:
        Iterator over blocks that cover the scene once, strip by strip, in each strip from top to bottom.

    Raises:
        ConfigError: If a setting is out of range, or the model does not take such windows.
        DataError: If the scene cannot be read or cannot be what the model was trained on.
    """
    if max_memory_mb <= 0:
        raise ConfigError(f"Argument `max_memory_mb` must be above 0, but is {max_memory_mb}.")
    if isinstance(scene, Scene):
        whole = scene
    else:
        place = as_location(scene)
        whole = Scene(place.stem, place, None, "")
    settings = settings or run.recipe.prediction
    size = check_window_size(run, window_size)
    device = place_model(run, device)
    reader = SceneReader(whole, None, input_contract(run))
    # Scenes of a data set come again; a map's scene would only fill the disk.
    tokens = scene_tokens(run, keep=isinstance(scene, Scene))
    walk = SceneWalk(run, reader, settings, size, device, progress, draws=draws, seed=seed, tokens=tokens)
    wanted = area or Window(0, 0, *reader.shape)
    if strip is not None:
        strips = [strip]
    else:
        strips = planned_strips(
            walk.columns, wanted, size, run.classes.num_classes * (draws or 1), max_memory_mb
        )
    return _blocks(walk, strips, wanted, start)


def planned_strips(
    columns: tuple[int, ...], area: Window, size: int, channels: int, max_memory_mb: float
) -> list[tuple[int, int]]:
    """Return the strips of columns that a scene is predicted in, (begin, end) each, from left to right.

    Args:
        columns: Where the windows of the scene start.
        area: The part that is wanted.
        size: Side of the windows.
        channels: Blended values of a pixel.
        max_memory_mb: Bound of the memory for blending, in MiB.
    """
    # A column of the band: values being blended, those being handed out, and their masks.
    column_bytes = size * 2 * (4 * channels + 1)
    inside = [c - area.col for c in columns if area.col < c < area.col + area.width]
    strips = plan_strips((0, *inside), area.width, int(max_memory_mb * 2**20 / column_bytes))
    return [(begin + area.col, end + area.col) for begin, end in strips]


def _blocks(
    walk: SceneWalk, strips: list[tuple[int, int]], area: Window, start: tuple[int, int]
) -> Iterator[ProbabilityBlock]:
    for row, begin, values, valid in walk.blocks(strips, area, start):
        values[:, ~valid] = np.nan
        if walk.draws is None:
            yield ProbabilityBlock(row, begin, values, valid)
        else:
            drawn = values.reshape(walk.draws, -1, *valid.shape)
            yield ProbabilityBlock(row, begin, drawn.mean(axis=0), valid, drawn)


def predict_scene(run: SceneModel, scene: Scene | str | Path, **options: Any) -> NDArray[np.uint8]:
    """Return the class indices of a whole scene in memory, shape (H, W), 255 where there is no data.

    Args:
        run: The trained model.
        scene: A raster file, or a scene of a data set.
        **options: As for `iterate_probabilities`, with its errors.
    """
    strips: dict[int, list[NDArray[np.uint8]]] = {}
    for block in iterate_probabilities(run, scene, **options):
        strips.setdefault(block.col, []).append(block.labels())
    return np.hstack([np.vstack(blocks) for blocks in strips.values()])
