"""From a scene file to a map file: class labels, and class probabilities if wanted."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import qhybrid
from qhybrid.config import PredictionConfig
from qhybrid.data.raster import RasterInfo
from qhybrid.data.raster_writer import BLOCK, MapWriter
from qhybrid.errors import ConfigError
from qhybrid.inference.scene import DEFAULT_MEMORY_MB, Progress, iterate_probabilities
from qhybrid.inference.scene_model import SceneModel, check_window_size, scene_grid

SUFFIXES = (".tif", ".tiff")


def probabilities_path(output: str | Path) -> Path:
    """Return where the probabilities of a map go: `<stem>_probabilities<suffix>` beside it."""
    path = Path(output)
    return path.with_name(f"{path.stem}_probabilities{path.suffix}")


def write_map(
    run: SceneModel,
    image: str | Path,
    output: str | Path,
    *,
    probabilities: bool = False,
    settings: PredictionConfig | None = None,
    window_size: int | None = None,
    device: str | torch.device | None = None,
    max_memory_mb: float = DEFAULT_MEMORY_MB,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Predict a scene and write its map: a tiled, compressed GeoTIFF on the scene's grid.

    Args:
        run: The trained model.
        image: The scene.
        output: The map: one uint8 band of class indices with colour table, 255 where there is no data.
        probabilities: Also write `probabilities_path(output)`: one float32 band a class, NaN without data.
        settings: Overlap and batch size; those of the run's recipe if absent.
        window_size: Side of the windows in pixels; the training patches' if absent.
        device: Where to run the model: "auto", "cpu", "cuda"; where it already is if absent.
        max_memory_mb: Bound of the memory for blending and for rows that wait to be written, in MiB.
        progress: Called with (windows done, windows in all) after each batch.

    Returns:
        The files written; each appears whole or not at all.

    Raises:
        ConfigError: If a setting is out of range, or `output` is no GeoTIFF or one of the input files.
        DataError: If the scene cannot be read or cannot be what the model was trained on.
        WorkspaceError: If a file cannot be written.
    """
    targets = [Path(output), probabilities_path(output)] if probabilities else [Path(output)]
    _check_targets(targets, Path(image))
    info = scene_grid(run, image)
    classes = run.classes.num_classes
    blending = 2 * check_window_size(run, window_size) * (4 * classes + 1)
    waiting = BLOCK * (1 + 4 * classes * probabilities)
    blocks = iterate_probabilities(
        run,
        image,
        settings=settings,
        window_size=window_size,
        device=device,
        max_memory_mb=max_memory_mb * blending / (blending + waiting),
        progress=progress,
    )
    tags = {"QHYBRID_VERSION": qhybrid.__version__, "QHYBRID_RUN": run.recipe.name}
    with ExitStack() as stack:
        files = [
            _TileRows(stack.enter_context(MapWriter(path, info, run.classes, index == 1, tags)), info)
            for index, path in enumerate(targets)
        ]
        for block in blocks:
            files[0].add(block.labels(), block.row, block.col)
            if probabilities:
                files[1].add(block.probabilities, block.row, block.col)
    return tuple(targets)


def _check_targets(targets: list[Path], image: Path) -> None:
    for path in targets:
        if path.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"Argument `output` must end in {' or '.join(SUFFIXES)}, but is {path}.")
        if path.resolve() == image.resolve():
            raise ConfigError(f"Argument `output` must not be the scene itself, but {path} is.")


class _TileRows:
    """Gathers finished rows until a row of the file's tiles is complete.

    A compressed tile that is written in parts may be packed, unpacked and packed again, which leaves holes in
    the file and costs time.
    """

    def __init__(self, writer: MapWriter, info: RasterInfo) -> None:
        self._writer = writer
        self._height = info.height
        self._rows: NDArray[Any] = np.empty((0, 0))

    def add(self, values: NDArray[Any], row: int, col: int) -> None:
        """Add n rows of a strip of columns, shape (..., n, width), which come from top to bottom."""
        *bands, count, width = values.shape
        if row == 0:
            self._rows = np.empty((*bands, BLOCK, width), dtype=values.dtype)
        done = 0
        while done < count:
            at = (row + done) % BLOCK
            step = min(BLOCK - at, count - done)
            self._rows[..., at : at + step, :] = values[..., done : done + step, :]
            done += step
            if at + step == BLOCK or row + done == self._height:
                self._writer.write(self._rows[..., : at + step, :], row + done - (at + step), col)
