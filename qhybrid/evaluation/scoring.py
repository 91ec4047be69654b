"""Counting right and wrong pixels of whole scenes, and cutting out samples for pictures on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.config import PredictionConfig
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.pairs import check_pair
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.errors import DataError
from qhybrid.evaluation.scene_pictures import Overview, Part, Sample, read_sample
from qhybrid.evaluation.scene_units import SceneTally
from qhybrid.inference import SceneModel, iterate_probabilities
from qhybrid.inference.scene_model import input_contract
from qhybrid.inference.windows import window_grid
from qhybrid.seeding import numpy_generator
from qhybrid.training.metrics import ConfusionMatrix
from qhybrid.training.showing import class_counts, most_varied

Progress = Callable[[int, int], None]

EachScene = Callable[[NDArray[np.uint8], NDArray[np.uint8]], None]

SAMPLE_SIDE = 320
CANDIDATES = 32
"""Parts of scenes that are looked at before the most varied ones are chosen."""
_ROWS = 256


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


class Scored(NamedTuple):
    """What scoring scenes gives.

    Attributes:
        confusion: One confusion matrix over all scenes; pixels without data or label are not counted.
        samples: The parts that were asked for, in their order.
        overview: The whole scene that was asked for.
        units: The same counts place by place, or block by block.
    """

    confusion: ConfusionMatrix
    samples: list[Sample]
    overview: Sample | None
    units: SceneTally


class _Counting(NamedTuple):
    """All that counts the labels of one scene."""

    scene: int
    confusion: ConfusionMatrix
    units: SceneTally
    each: EachScene | None

    def add_window(self, window: Window, labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        self.confusion.update(torch.from_numpy(labels), torch.from_numpy(truth))
        self.units.add_window(self.scene, window, labels, truth)

    def add_scene(self, labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        if self.each is not None:
            self.each(labels, truth)
        self.units.add_scene(self.scene, labels, truth)


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
    units = SceneTally(scenes, [reader.shape for reader in readers], run.classes.names)
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
        counting = _Counting(index, confusion, units, each)
        _score_scene(run, reader, counting, cuts, small, **options)
        kept.update({part: read_sample(reader, part.window, found) for part, found in cuts.items()})
        whole = small.sample() if small is not None else whole
        reader.close()
    return Scored(confusion, [kept[part] for part in parts], whole, units)


def _score_scene(
    run: SceneModel,
    reader: SceneReader,
    counting: _Counting,
    cuts: dict[Part, NDArray[np.uint8]],
    overview: Overview | None,
    **options: Any,
) -> None:
    """Count one scene; write the predicted labels of its parts into `cuts`."""
    whole = None if counting.each is None else np.full((2, *reader.shape), IGNORE_INDEX, dtype=np.uint8)
    for block in iterate_probabilities(run, reader.scene, **options):
        labels = block.labels()
        truth = reader.read_labels(block.window)
        truth[~block.valid] = IGNORE_INDEX
        counting.add_window(block.window, labels, truth)
        for part, kept in cuts.items():
            _copy_overlap(labels, block.window, kept, part.window)
        if overview is not None:
            overview.add(labels, block.window)
        if whole is not None:
            at = block.window
            whole[:, at.row : at.row + at.height, at.col : at.col + at.width] = labels, truth
    if whole is not None:
        counting.add_scene(whole[0], whole[1])


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


def drawn_order(count: int, seed: int) -> list[int]:
    """Return `count` indices in a random order that the seed decides; its beginning is a random choice."""
    return [int(index) for index in numpy_generator(seed, "samples").permutation(count)]


def varied_parts(run: SceneModel, scenes: Sequence[Scene], number: int) -> list[Part]:
    """Return parts of scenes that together show many classes, the most varied first.

    At most `CANDIDATES` parts, evenly spread over the scenes, are looked at. The same parts are found every
    time.

    Args:
        run: Bands, nodata and classes.
        scenes: Scenes with masks.
        number: Parts at most.

    Raises:
        DataError: If an image or a mask is unusable.
    """
    parts, counts = [], []
    candidates = spread_over(len(scenes), CANDIDATES) if scenes and number else []
    for index in candidates:
        reader = open_labelled(run, scenes[index])
        windows = _grid(reader.shape)
        for place in spread_over(len(windows), max(1, CANDIDATES // len(candidates))):
            parts.append(Part(index, windows[place]))
            counts.append(class_counts(_truth(reader, windows[place]), run.classes.num_classes))
        reader.close()
    return [parts[place] for place in most_varied(counts, number, [part.scene for part in parts])]


def _grid(shape: tuple[int, int]) -> list[Window]:
    """Return windows of `SAMPLE_SIDE` that cover a scene; one that is smaller is one window."""
    sides = [min(length, SAMPLE_SIDE) for length in shape]
    starts = [
        np.linspace(0, length - side, -(-length // side)).astype(int).tolist()
        for length, side in zip(shape, sides, strict=True)
    ]
    return [Window(row, col, *sides) for row in starts[0] for col in starts[1]]


def _truth(reader: SceneReader, window: Window) -> NDArray[np.uint8]:
    """Return labels, 255 where the image has no data."""
    _, valid = reader.read(window)
    return np.asarray(np.where(valid, reader.read_labels(window), IGNORE_INDEX), dtype=np.uint8)


def _copy_overlap(source: NDArray[Any], at: Window, target: NDArray[Any], to: Window) -> None:
    """Copy what two windows of a scene have in common."""
    top, left = max(at.row, to.row), max(at.col, to.col)
    bottom = min(at.row + at.height, to.row + to.height)
    right = min(at.col + at.width, to.col + to.width)
    if top < bottom and left < right:
        target[top - to.row : bottom - to.row, left - to.col : right - to.col] = source[
            top - at.row : bottom - at.row, left - at.col : right - at.col
        ]
