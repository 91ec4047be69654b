"""Counting right and wrong pixels of whole scenes, and cutting out samples for pictures on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.config import PredictionConfig
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.errors import DataError
from qhybrid.evaluation.scene_pictures import Overview, Part, Sample, open_labelled, read_sample
from qhybrid.inference import SceneModel, iterate_probabilities
from qhybrid.inference.windows import window_grid
from qhybrid.training.metrics import ConfusionMatrix

Progress = Callable[[int, int], None]

EachScene = Callable[[NDArray[np.uint8], NDArray[np.uint8]], None]

_ROWS = 256


class Scored(NamedTuple):
    """What scoring scenes gives.

    Attributes:
        confusion: One confusion matrix over all scenes; pixels without data or label are not counted.
        samples: The parts that were asked for, in their order.
        overview: The whole scene that was asked for.
    """

    confusion: ConfusionMatrix
    samples: list[Sample]
    overview: Sample | None


def score_scenes(
    run: SceneModel,
    scenes: Sequence[Scene],
    *,
    settings: PredictionConfig | None = None,
    device: str | torch.device | None = None,
    parts: Sequence[Part] = (),
    overview: int | None = None,
    progress: Progress | None = None,
    each: EachScene | None = None,
) -> Scored:
    """Predict scenes as `predict` does and compare them with their masks.

    Args:
        run: The trained model.
        scenes: Scenes with masks.
        settings: Overlap and batch size; those of the run's recipe if absent.
        device: Where to run the model; where it already is if absent.
        parts: Parts of scenes that are kept for pictures.
        overview: Place of a scene that is kept for a picture as a whole, at a lower resolution.
        progress: Called with (windows done, windows of all scenes).
        each: Called with the predicted and the true label map of each whole scene; without it no scene is in
            memory as a whole.

    Returns:
        Counts and pictures.

    Raises:
        DataError: If there is no scene, or an image, a mask or the pair is unusable.
    """
    if not scenes:
        raise DataError("Evaluation needs at least one scene, but the split is empty.")
    readers = [open_labelled(run, scene) for scene in scenes]
    confusion = ConfusionMatrix(run.classes.num_classes, run.classes.names)
    settings = settings or run.recipe.prediction
    counts = [len(window_grid(*reader.shape, run.patch_size, settings.overlap)) for reader in readers]
    kept: dict[Part, Sample] = {}
    whole = None
    for index, reader in enumerate(readers):
        cuts = {
            part: np.full((part.window.height, part.window.width), IGNORE_INDEX, dtype=np.uint8)
            for part in parts
            if part.scene == index
        }
        small = Overview(reader) if index == overview else None
        share = _share_of(progress, sum(counts[:index]), counts[index], sum(counts))
        options = {"settings": settings, "device": device, "progress": share}
        _score_scene(run, reader, confusion, cuts, small, each, **options)
        kept.update({part: read_sample(reader, part.window, found) for part, found in cuts.items()})
        whole = small.sample() if small is not None else whole
        reader.close()
    return Scored(confusion, [kept[part] for part in parts], whole)


def _score_scene(
    run: SceneModel,
    reader: SceneReader,
    confusion: ConfusionMatrix,
    cuts: dict[Part, NDArray[np.uint8]],
    overview: Overview | None,
    each: EachScene | None,
    **options: Any,
) -> None:
    """Count one scene; write the predicted labels of its parts into `cuts`."""
    whole = None if each is None else np.full((2, *reader.shape), IGNORE_INDEX, dtype=np.uint8)
    for block in iterate_probabilities(run, reader.scene, **options):
        labels = block.labels()
        truth = reader.read_labels(block.window)
        truth[~block.valid] = IGNORE_INDEX
        confusion.update(torch.from_numpy(labels), torch.from_numpy(truth))
        for part, kept in cuts.items():
            _copy_overlap(labels, block.window, kept, part.window)
        if overview is not None:
            overview.add(labels, block.window)
        if whole is not None:
            at = block.window
            whole[:, at.row : at.row + at.height, at.col : at.col + at.width] = labels, truth
    if each is not None and whole is not None:
        each(whole[0], whole[1])


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


def _copy_overlap(source: NDArray[Any], at: Window, target: NDArray[Any], to: Window) -> None:
    """Copy what two windows of a scene have in common."""
    top, left = max(at.row, to.row), max(at.col, to.col)
    bottom = min(at.row + at.height, to.row + to.height)
    right = min(at.col + at.width, to.col + to.width)
    if top < bottom and left < right:
        target[top - to.row : bottom - to.row, left - to.col : right - to.col] = source[
            top - at.row : bottom - at.row, left - at.col : right - at.col
        ]
