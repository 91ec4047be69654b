"""Class probabilities of a whole scene, block by block from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.config import PredictionConfig
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.errors import ConfigError
from qhybrid.inference.blend import BandBlender, axis_weights
from qhybrid.inference.scene_model import (
    SceneModel,
    check_window_size,
    input_contract,
    place_model,
    window_probabilities,
)
from qhybrid.inference.windows import axis_starts, plan_strips

Progress = Callable[[int, int], None]
"""Called with the number of finished windows and the number of all windows."""

DEFAULT_MEMORY_MB = 512.0


@dataclass(frozen=True, eq=False)
class ProbabilityBlock:
    """A finished rectangle of a scene.

    Attributes:
        row: First row, counted in the scene.
        col: First column, counted in the scene.
        probabilities: Class probabilities, float32 of shape (K, h, w); NaN where there is no data.
        valid: Which pixels hold data, shape (h, w).
    """

    row: int
    col: int
    probabilities: NDArray[np.float32]
    valid: NDArray[np.bool_]

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

    Returns:
        Iterator over blocks that cover the scene once, strip by strip, in each strip from top to bottom.

    Raises:
        ConfigError: If a setting is out of range, or the model does not take such windows.
        DataError: If the scene cannot be read or cannot be what the model was trained on.
    """
    if max_memory_mb <= 0:
        raise ConfigError(f"Argument `max_memory_mb` must be above 0, but is {max_memory_mb}.")
    whole = scene if isinstance(scene, Scene) else Scene(Path(scene).stem, Path(scene), None, "")
    settings = settings or run.recipe.prediction
    size = check_window_size(run, window_size)
    place = place_model(run, device)
    reader = SceneReader(whole, None, input_contract(run))
    columns = axis_starts(reader.shape[1], size, settings.overlap)
    # A column of the band: values being blended, those being handed out, and their masks.
    column_bytes = size * 2 * (4 * run.classes.num_classes + 1)
    strips = plan_strips(columns, reader.shape[1], int(max_memory_mb * 2**20 / column_bytes))
    return _Walk(run, reader, settings, size, place, progress).blocks(strips)


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


class _Walk:
    """One pass over a scene: reads windows, runs the model on batches of them, blends."""

    def __init__(
        self,
        run: SceneModel,
        reader: SceneReader,
        settings: PredictionConfig,
        size: int,
        device: torch.device,
        progress: Progress | None,
    ) -> None:
        self._run, self._reader, self._size = run, reader, size
        self._height, width = reader.shape
        self._device, self._progress, self._settings = device, progress, settings
        self._rows = axis_starts(self._height, size, settings.overlap)
        self._columns = axis_starts(width, size, settings.overlap)
        self._row_weights = axis_weights(self._rows, self._height, size)
        self._column_weights = axis_weights(self._columns, width, size)
        self._done = 0
        self._total = 0

    def blocks(self, strips: tuple[tuple[int, int], ...]) -> Iterator[ProbabilityBlock]:
        """Yield the blocks of all strips."""
        chosen = [[c for c in self._columns if c < end and c + self._size > begin] for begin, end in strips]
        self._total = len(self._rows) * sum(map(len, chosen))
        try:
            for (begin, end), columns in zip(strips, chosen):
                yield from self._strip(begin, end, columns)
        finally:
            self._reader.close()

    def _strip(self, begin: int, end: int, columns: list[int]) -> Iterator[ProbabilityBlock]:
        blender = BandBlender(self._run.classes.num_classes, self._height, self._size, begin, end)
        for row, following in pairwise((*self._rows, self._height)):
            self._add_row(blender, row, columns)
            probabilities, valid = blender.take(following)
            probabilities[:, ~valid] = np.nan
            yield ProbabilityBlock(row, begin, probabilities, valid)

    def _add_row(self, blender: BandBlender, row: int, columns: list[int]) -> None:
        """Predict all windows that start in one row; batches do not reach into the next row of windows."""
        waiting: list[tuple[int, NDArray[np.float32], NDArray[np.bool_]]] = []
        for column in columns:
            raw, valid = self._reader.read(Window(row, column, self._size, self._size))
            if valid.any():
                waiting.append((column, self._run.statistics.standardise(raw, valid), valid))
            else:
                blender.add(row, column, valid, None)
                self._report(1)
            if len(waiting) == self._settings.batch_size:
                self._add_batch(blender, row, waiting)
                waiting = []
        if waiting:
            self._add_batch(blender, row, waiting)

    def _add_batch(
        self,
        blender: BandBlender,
        row: int,
        batch: list[tuple[int, NDArray[np.float32], NDArray[np.bool_]]],
    ) -> None:
        images = [image for _, image, _ in batch]
        source, orientations = str(self._reader.scene.image), self._settings.orientations
        results = window_probabilities(self._run, images, self._device, source, orientations)
        for (column, _, valid), values in zip(batch, results):
            weights = self._row_weights[row], self._column_weights[column]
            blender.add(row, column, valid, values, weights)
        self._report(len(batch))

    def _report(self, windows: int) -> None:
        self._done += windows
        if self._progress is not None:
            self._progress(self._done, self._total)
