"""Counting right and wrong pixels of whole scenes, and cutting out samples for pictures on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.config import PredictionConfig
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.pairs import check_pair
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.errors import DataError
from qhybrid.inference import SceneModel, iterate_probabilities
from qhybrid.inference.scene_model import input_contract
from qhybrid.inference.windows import window_grid
from qhybrid.training.metrics import ConfusionMatrix

Progress = Callable[[int, int], None]

EachScene = Callable[[NDArray[np.uint8], NDArray[np.uint8]], None]

SAMPLE_SIDE = 320
_ROWS = 256


@dataclass(frozen=True, eq=False)
class Sample:
    """A part of a scene for a picture.

    Attributes:
        title: Name of the scene.
        image: Raw values, shape (C, h, w), NaN where there is no data.
        truth: Class indices or 255, shape (h, w).
        prediction: Class indices or 255, shape (h, w).
    """

    title: str
    image: NDArray[np.float64]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def open_labelled(run: SceneModel, scene: Scene) -> SceneReader:
    """Check image and mask of a scene and return a reader of them.

    Raises:
        DataError: If the scene has no mask, or it differs from the image in size or place.
    """
    if scene.mask is None:
        raise DataError(f"{scene.image}: evaluation needs labels, but scene {scene.id} has no mask.")
    check_pair(scene.image, scene.mask, run.classes)
    reader = SceneReader(scene, run.classes, input_contract(run))
    reader.close()  # reading opens it again: a split may have more scenes than a process may open files
    return reader


def score_scenes(
    run: SceneModel,
    scenes: Sequence[Scene],
    *,
    settings: PredictionConfig | None = None,
    device: str | torch.device | None = None,
    samples: int = 0,
    progress: Progress | None = None,
    each: EachScene | None = None,
) -> tuple[ConfusionMatrix, list[Sample]]:
    """Predict scenes as `predict` does and compare them with their masks.

    Args:
        run: The trained model.
        scenes: Scenes with masks.
        settings: Overlap and batch size; those of the run's recipe if absent.
        device: Where to run the model; where it already is if absent.
        samples: Number of scenes, evenly spread, of which the middle is kept for pictures.
        progress: Called with (windows done, windows of all scenes).
        each: Called with the predicted and the true label map of each whole scene; without it no scene is in
            memory as a whole.

    Returns:
        One confusion matrix over all scenes (pixels without data or label are not counted), and the samples.

    Raises:
        DataError: If there is no scene, or an image, a mask or the pair is unusable.
    """
    if not scenes:
        raise DataError("Evaluation needs at least one scene, but the split is empty.")
    readers = [open_labelled(run, scene) for scene in scenes]
    confusion = ConfusionMatrix(run.classes.num_classes, run.classes.names)
    wanted = spread_over(len(scenes), samples)
    settings = settings or run.recipe.prediction
    counts = [len(window_grid(*reader.shape, run.patch_size, settings.overlap)) for reader in readers]
    kept = []
    for index, reader in enumerate(readers):
        part = middle_window(reader.shape) if index in wanted else None
        share = _share_of(progress, sum(counts[:index]), counts[index], sum(counts))
        options = {"settings": settings, "device": device, "progress": share}
        found = _score_scene(run, reader, confusion, part, each, **options)
        if part is not None and found is not None:
            kept.append(_sample(reader, part, found))
        reader.close()
    return confusion, kept


def _score_scene(
    run: SceneModel,
    reader: SceneReader,
    confusion: ConfusionMatrix,
    part: Window | None,
    each: EachScene | None,
    **options: Any,
) -> NDArray[np.uint8] | None:
    """Count one scene; return the predicted labels of `part`."""
    kept = None if part is None else np.full((part.height, part.width), IGNORE_INDEX, dtype=np.uint8)
    whole = None if each is None else np.full((2, *reader.shape), IGNORE_INDEX, dtype=np.uint8)
    for block in iterate_probabilities(run, reader.scene, **options):
        labels = block.labels()
        truth = reader.read_labels(block.window)
        truth[~block.valid] = IGNORE_INDEX
        confusion.update(torch.from_numpy(labels), torch.from_numpy(truth))
        if part is not None and kept is not None:
            _copy_overlap(labels, block.window, kept, part)
        if whole is not None:
            at = block.window
            whole[:, at.row : at.row + at.height, at.col : at.col + at.width] = labels, truth
    if each is not None and whole is not None:
        each(whole[0], whole[1])
    return kept


def true_map(reader: SceneReader) -> NDArray[np.uint8]:
    """Return the true label map of a whole scene, shape (H, W), 255 where there is no data or no label."""
    height, width = reader.shape
    truth = np.full((height, width), IGNORE_INDEX, dtype=np.uint8)
    for row in range(0, height, _ROWS):
        window = Window(row, 0, min(_ROWS, height - row), width)
        _, valid = reader.read(window)
        labels = reader.read_labels(window)
        truth[row : row + window.height] = np.where(valid, labels, IGNORE_INDEX)
    return truth


def _share_of(progress: Progress | None, before: int, own: int, total: int) -> Progress | None:
    """Turn the progress of one scene into that of all of them (strips may add windows to a scene)."""
    if progress is None:
        return None
    return lambda done, of: progress(before + own * done // of, total)


def spread_over(count: int, samples: int) -> list[int]:
    """Return indices of samples, evenly spread over `count` scenes or images."""
    return sorted({int(index) for index in np.linspace(0, count - 1, min(samples, count)).round()})


def middle_window(shape: tuple[int, int]) -> Window:
    """Return the part of a scene that pictures show."""
    height, width = min(shape[0], SAMPLE_SIDE), min(shape[1], SAMPLE_SIDE)
    return Window((shape[0] - height) // 2, (shape[1] - width) // 2, height, width)


def _sample(reader: SceneReader, part: Window, prediction: NDArray[np.uint8]) -> Sample:
    raw, valid = reader.read(part)
    image = np.where(valid, raw.astype(np.float64), np.nan)
    truth = reader.read_labels(part)
    truth[~valid] = IGNORE_INDEX
    return Sample(reader.scene.id, image, truth, prediction)


def _copy_overlap(source: NDArray[Any], at: Window, target: NDArray[Any], to: Window) -> None:
    """Copy what two windows of a scene have in common."""
    top, left = max(at.row, to.row), max(at.col, to.col)
    bottom = min(at.row + at.height, to.row + to.height)
    right = min(at.col + at.width, to.col + to.width)
    if top < bottom and left < right:
        target[top - to.row : bottom - to.row, left - to.col : right - to.col] = source[
            top - at.row : bottom - at.row, left - at.col : right - at.col
        ]
