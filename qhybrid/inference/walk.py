"""One pass over a scene: reads windows, runs the model on batches of them, blends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.config import PredictionConfig
from qhybrid.data.raster import Window
from qhybrid.data.scenes import SceneReader
from qhybrid.engines import Engine
from qhybrid.errors import ConfigError
from qhybrid.guidance import SceneTokens
from qhybrid.inference.blend import BandBlender, axis_weights
from qhybrid.inference.scene_model import SceneModel, window_probabilities
from qhybrid.inference.windows import axis_starts
from qhybrid.layers import quantum_layers
from qhybrid.seeding import derive_seed

Progress = Callable[[int, int], None]
"""Called with the number of finished windows and the number of all windows."""

Block = tuple[int, int, NDArray[np.float32], NDArray[np.bool_]]
"""First row, first column, blended values of shape (channels, h, w), and which pixels hold data (h, w)."""


def random_engines(run: SceneModel) -> tuple[Engine, ...]:
    """Return the engines of a model's circuits that draw shots or trajectories, each once."""
    engines = {id(layer.engine): layer.engine for layer in quantum_layers(run.model).values()}
    return tuple(engine for engine in engines.values() if engine.random)


class SceneWalk:
    """Predicts the windows of a scene from top to bottom, and blends them.

    Args:
        run: The trained model, on its device.
        reader: The scene.
        settings: Overlap, batch size, orientations.
        size: Side of the windows in pixels.
        device: The model's.
        progress: Called after each batch.
        draws: Predictions D of each window; the blended channels are then those of the first draw, then those
            of the second, and so on.
        seed: Decides shots and trajectories by place and draw; None leaves the engines alone.
        tokens: Token maps of a frozen ViT, for a model with guidance.

    Raises:
        ConfigError: If draws are wanted of a model of which nothing is random.
    """

    def __init__(
        self,
        run: SceneModel,
        reader: SceneReader,
        settings: PredictionConfig,
        size: int,
        device: torch.device,
        progress: Progress | None,
        *,
        draws: int | None = None,
        seed: int | None = None,
        tokens: SceneTokens | None = None,
    ) -> None:
        self._tokens = tokens
        self._run, self._reader, self._size = run, reader, size
        self._height, width = reader.shape
        self._device, self._progress, self._settings = device, progress, settings
        self._rows = axis_starts(self._height, size, settings.overlap)
        self.columns = axis_starts(width, size, settings.overlap)
        self._row_weights = axis_weights(self._rows, self._height, size)
        self._column_weights = axis_weights(self.columns, width, size)
        self.draws = draws
        self._seed = seed if seed is not None or draws is None else 0
        self._engines = random_engines(run) if self._seed is not None else ()
        check_draws(draws, self._engines)
        if draws is None:  # an engine of a plugin that cannot be seeded draws as it was made to
            self._engines = tuple(one for one in self._engines if type(one).reseed is not Engine.reseed)
        self._done = 0
        self._total = 0

    def blocks(self, strips: list[tuple[int, int]], area: Window, start: tuple[int, int]) -> Iterator[Block]:
        """Yield the finished rows of an area.

        Args:
            strips: First column of each strip, and one past its last.
            area: The rows and columns that are wanted.
            start: Strip, named by its first column, and first row to go on with.
        """
        rows = [r for r in self._rows if r < area.row + area.height and r + self._size > area.row]
        chosen = [[c for c in self.columns if c < end and c + self._size > begin] for begin, end in strips]
        self._total = len(rows) * sum(map(len, chosen))
        try:
            for (begin, end), columns in zip(strips, chosen):
                first = max(area.row, start[1] if begin == start[0] else 0)
                if begin < start[0] or first >= area.row + area.height:
                    self._report(len(rows) * len(columns))
                    continue
                needed = [r for r in rows if r + self._size > first]
                self._report((len(rows) - len(needed)) * len(columns))
                yield from self._strip((begin, end), needed, columns, (first, area.row + area.height))
        finally:
            self._reader.close()
            if self._tokens is not None:
                self._tokens.close()

    def _strip(
        self, strip: tuple[int, int], rows: list[int], columns: list[int], wanted: tuple[int, int]
    ) -> Iterator[Block]:
        """Yield the wanted rows of a strip; those above them lack the windows that begin higher up."""
        channels = self._run.classes.num_classes * (self.draws or 1)
        first, last = wanted
        blender = BandBlender(channels, self._height, self._size, *strip, top=rows[0])
        for row, following in pairwise((*rows, last)):
            self._add_row(blender, row, columns)
            values, valid = blender.take(following)
            above = max(first - row, 0)
            if above < following - row:
                yield row + above, strip[0], values[:, above:], valid[above:]

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
        tokens = None
        if self._tokens is not None:
            windows = [Window(row, column, self._size, self._size) for column, _, _ in batch]
            tokens = torch.stack([self._tokens(self._reader.scene, window) for window in windows])
        for draw in range(self.draws or 1):
            for number, engine in enumerate(self._engines):
                engine.reseed(derive_seed(self._seed or 0, "map", draw, row, batch[0][0], number))
            results = window_probabilities(self._run, images, self._device, source, orientations, tokens)
            for (column, _, valid), values in zip(batch, results):
                weights = self._row_weights[row], self._column_weights[column]
                blender.add(row, column, valid, values, weights, draw * self._run.classes.num_classes)
        self._report(len(batch))

    def _report(self, windows: int) -> None:
        self._done += windows
        if windows and self._progress is not None:
            self._progress(self._done, self._total)


def check_draws(draws: int | None, engines: tuple[Engine, ...]) -> None:
    """Check that several draws can differ.

    Args:
        draws: Their number; None for a single prediction.
        engines: What draws at random in the model.

    Raises:
        ConfigError: If there are fewer than two, or nothing is random.
    """
    if draws is None:
        return
    if draws < 2:
        raise ConfigError(f"Argument `draws` must be at least 2 for a spread, but is {draws}.")
    if not engines:
        raise ConfigError(
            f"Argument `draws` needs circuits that draw at random, but all of {draws} predictions would be "
            "equal. Fix: give `--shots`, with a model that has circuits."
        )
