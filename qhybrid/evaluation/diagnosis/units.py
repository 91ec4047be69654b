"""What a diagnosis counts on: images, windows drawn from scenes, or whole scenes in blocks; unit by unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.config import PredictionConfig
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.scenes import Scene
from qhybrid.data.splits import overlap_groups, places_of
from qhybrid.errors import DataError
from qhybrid.evaluation.diagnosis.comparing import Counts
from qhybrid.evaluation.diagnosis.probe import Probe
from qhybrid.evaluation.scoring import score_scenes
from qhybrid.evaluation.subject.results import ModelInputs
from qhybrid.evaluation.subject.scenes import SceneSubject
from qhybrid.evaluation.subject.subject import Subject
from qhybrid.inference.scene_model import place_model
from qhybrid.training.images.data_module import evaluation_batch
from qhybrid.training.images.metrics import class_logits

BLOCK = 128
"""Side of the blocks of scenes, in pixels."""
FEWEST_PLACES = 5
"""Separate places from which on they are the units; of fewer nothing can be said beyond these scenes."""
Progress = Callable[[int, int], None]


class SampledUnits:
    """Images, or windows of scenes, in memory: each is a unit, unless there are enough places.

    Attributes:
        unit: What the units are, in words.
        samples: Images or windows.

    Args:
        subject: The run with its split.
        inputs: The images or windows.
        device: Where the model runs; None leaves it where it is.
        apart: Whether the inputs are of another split, so that their places are not looked for.
    """

    def __init__(
        self,
        subject: Subject,
        inputs: ModelInputs,
        device: str | torch.device | None = None,
        *,
        apart: bool = False,
    ) -> None:
        self._inputs, self._classes = inputs, len(subject.class_names)
        self._device = place_model(subject.run, device)
        self._channels_last = bool(subject.recipe.training.channels_last)
        self.samples = len(inputs.images)
        if isinstance(subject, SceneSubject):
            self._batch = subject.recipe.prediction.batch_size
            names = dict(zip((scene.id for scene in subject.scenes), places_in(subject.scenes)))
            self._places = ["" if apart else names[name.rsplit(":", 2)[0]] for name in inputs.names]
            side = "x".join(map(str, dict.fromkeys(inputs.images.shape[2:])))
            self.unit = f"windows of {side} px within these scenes"
            if len(set(self._places)) >= FEWEST_PLACES:
                self.unit = "places"
        else:
            self._batch = evaluation_batch(subject.run.task, subject.recipe.training.batch_size)
            self._places, self.unit = [], "images"

    def said(self, units: int) -> str:
        """Return what was counted in words, as in `64 images`."""
        if self.unit == "places":
            return f"{self.samples} windows at {units} places"
        return f"{units} {self.unit}"

    def logits(self, probe: Probe, progress: Progress | None = None) -> Iterator[Tensor]:
        """Yield the logits of each batch, on the CPU, one logit of two classes as two."""
        images = self._inputs.images
        for start in range(0, self.samples, self._batch):
            batch = images[start : start + self._batch].to(self._device)
            if self._channels_last and batch.ndim == 4 and self._places:
                batch = batch.contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                found = class_logits(probe(batch).float().cpu())
            if not bool(torch.isfinite(found).all()):
                raise DataError(
                    "The model's logits must be finite, but some are not. Fix: look for diverged weights."
                )
            yield found
            if progress is not None:
                progress(min(start + self._batch, self.samples), self.samples)

    def counts(self, probe: Probe, progress: Progress | None = None) -> Counts:
        """Run one pass, and return the confusion matrix of each unit, shape (units, K, K)."""
        found, start = [], 0
        for logits in self.logits(probe, progress):
            labels = logits.argmax(dim=1).numpy()
            truth = self._inputs.targets[start : start + len(labels)].numpy()
            found.append(unit_counts(labels, truth, np.arange(len(labels)), len(labels), self._classes))
            start += len(labels)
        counts = np.concatenate(found)
        return _by_place(counts, self._places) if self.unit == "places" else counts


class SceneUnits:
    """Whole scenes through the windows and the blending of `predict`: blocks of 128 px, or places.

    Attributes:
        unit: What the units are, in words.

    Args:
        subject: The run with its split.
        device: Where the model runs; None leaves it where it is.
        settings: Overlap and batch size; those of the run's recipe if absent.
    """

    def __init__(
        self,
        subject: SceneSubject,
        device: str | torch.device | None = None,
        settings: PredictionConfig | None = None,
    ) -> None:
        self._subject, self._device, self._settings = subject, device, settings
        self._classes = len(subject.class_names)
        self._places = places_in(subject.scenes)
        several = len(set(self._places)) >= FEWEST_PLACES
        self.unit = "places" if several else f"blocks of {BLOCK} px within these scenes"
        place_model(subject.run, device)

    def said(self, units: int) -> str:
        """Return what was counted in words, as in `32 blocks of 128 px within these scenes`."""
        return f"{units} {self.unit}"

    def counts(self, probe: Probe, progress: Progress | None = None) -> Counts:
        """Run one pass, and return the confusion matrix of each unit, shape (units, K, K).

        Blocks without a counted pixel are left out; they are the same ones in every pass.
        """
        found: list[Counts] = []

        def each(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
            blocks = _block_numbers(truth.shape)
            found.append(unit_counts(labels, truth, blocks, int(blocks.max()) + 1, self._classes))

        score_scenes(
            replace(self._subject.run, model=probe),
            self._subject.scenes,
            settings=self._settings,
            progress=progress,
            each=each,
        )
        if self.unit == "places":
            return _by_place(np.stack([one.sum(axis=0) for one in found]), self._places)
        counts = np.concatenate(found)
        return np.asarray(counts[counts.any(axis=(1, 2))])


def unit_counts(
    labels: NDArray[np.generic],
    truth: NDArray[np.generic],
    units: NDArray[np.int64],
    number: int,
    classes: int,
) -> Counts:
    """Return the confusion matrix of each unit.

    Args:
        labels: Predicted classes, 255 for no data.
        truth: True classes of the same shape, 255 where they do not count.
        units: Unit of each entry: of the same shape, or of the first axis alone.
        number: How many units there are.
        classes: Classes K.

    Returns:
        Shape (number, K, K), rows = truth.
    """
    places = units.reshape(units.shape + (1,) * (truth.ndim - units.ndim))
    places = np.broadcast_to(places, truth.shape)
    counted = (truth != IGNORE_INDEX) & (labels != IGNORE_INDEX)
    cells = (places[counted] * classes + truth[counted].astype(np.int64)) * classes
    cells += labels[counted].astype(np.int64)
    return np.bincount(cells, minlength=number * classes**2).reshape(number, classes, classes)


def places_in(scenes: Sequence[Scene]) -> list[str]:
    """Return the place of each scene: scenes that overlap, or are windows of one file, share one.

    Scenes that do not say where they lie have one place together: nothing shows that they are apart.
    """
    try:
        footprints = places_of(scenes)
    except DataError:
        return [""] * len(scenes)
    if not all(one.placed for one in footprints):
        return [""] * len(scenes)
    groups = overlap_groups(footprints)
    first: dict[str, int] = {}
    joined = {group: group for group in groups}
    for scene, group in zip(scenes, groups):
        other = first.setdefault(str(scene.image), joined[group])
        joined = {key: other if value == joined[group] else value for key, value in joined.items()}
    return [scenes[joined[group]].id for group in groups]


def _block_numbers(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the number of each pixel's block, shape (H, W); those at lower and right edges are smaller."""
    rows, columns = (np.arange(length) // BLOCK for length in shape)
    return rows[:, None] * (int(columns.max()) + 1) + columns[None]


def _by_place(counts: Counts, places: Sequence[str]) -> Counts:
    """Return the sums of the units of each place, in the order of places; empty ones are left out."""
    order = list(dict.fromkeys(places))
    numbers = np.array([order.index(place) for place in places])
    summed = np.stack([counts[numbers == number].sum(axis=0) for number in range(len(order))])
    return np.asarray(summed[summed.any(axis=(1, 2))])


Units = SampledUnits | SceneUnits
