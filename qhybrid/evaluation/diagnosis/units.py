"""What a diagnosis counts on: images, windows drawn from scenes, or whole scenes in blocks; unit by unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.config import PredictionConfig
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.errors import DataError
from qhybrid.evaluation.diagnosis.comparing import Counts
from qhybrid.evaluation.diagnosis.probe import Probe
from qhybrid.evaluation.sampling_error import IMAGE
from qhybrid.evaluation.scene_units import WINDOW
from qhybrid.evaluation.scoring import score_scenes
from qhybrid.evaluation.subject.results import ModelInputs
from qhybrid.evaluation.subject.scenes import SceneSubject
from qhybrid.evaluation.subject.subject import Subject
from qhybrid.inference.scene_model import place_model
from qhybrid.metrics.intervals import FEWEST, plural
from qhybrid.training.images.defaults import evaluation_batch
from qhybrid.training.images.metrics import class_logits

Progress = Callable[[int, int], None]


class SampledUnits:
    """Images, or windows of scenes, in memory: each is a unit, unless there are enough places or groups.

    Attributes:
        unit: What the units are, in words.
        samples: Images or windows.
        answers: Logits of the last pass over images that are classified, shape (N, K); otherwise None.

    Args:
        subject: The run with its split.
        inputs: The images or windows.
        device: Where the model runs; None leaves it where it is.
        apart: Whether the inputs are of another split, so that nothing is looked for that joins them.
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
        self.samples = len(inputs.images)
        self.answers: Tensor | None = None
        scenes = isinstance(subject, SceneSubject)
        self._channels_last = scenes and bool(subject.recipe.training.channels_last)
        if isinstance(subject, SceneSubject):
            self._batch = subject.recipe.prediction.batch_size
            side = "x".join(map(str, dict.fromkeys(inputs.images.shape[2:])))
            self._samples_are = f"windows of {side} px"
            self._alone = ", not blended"  # as evaluations blend them, whose numbers are others
        else:
            self._batch = evaluation_batch(subject.run.task, subject.recipe.training.batch_size)
            self._samples_are = "images"
            self._alone = ""
        self.unit = self._samples_are
        self._groups: NDArray[np.int64] | None = None
        if apart:
            return
        units = subject.sampling_units(inputs.names)
        if units.kind not in (IMAGE, WINDOW) and len(np.unique(units.of)) >= FEWEST:
            self._groups, self.unit = units.of, plural(units.kind)
        if units.within:
            self.unit = f"{self.unit} {units.within}"

    def said(self, units: int) -> str:
        """Return what was counted in words, as in `64 images` or `8 windows of 128 px, not blended`."""
        if units == self.samples:
            return f"{units} {self.unit}{self._alone}"
        return f"{self.samples} {self._samples_are} in {units} {self.unit}{self._alone}"

    def logits(self, probe: Probe, progress: Progress | None = None) -> Iterator[Tensor]:
        """Yield the logits of each batch, on the CPU, one logit of two classes as two."""
        images, token_maps = self._inputs.images, self._inputs.token_maps
        for start in range(0, self.samples, self._batch):
            batch = images[start : start + self._batch].to(self._device)
            if self._channels_last and batch.ndim == 4:
                batch = batch.contiguous(memory_format=torch.channels_last)
            maps = None
            if token_maps is not None:
                maps = token_maps[start : start + self._batch].to(self._device)
            with torch.no_grad():
                found = class_logits(probe(batch, maps).float().cpu())
            if not bool(torch.isfinite(found).all()):
                raise DataError(
                    "The model's logits must be finite, but some are not. Fix: look for diverged weights."
                )
            yield found
            if progress is not None:
                progress(min(start + self._batch, self.samples), self.samples)

    def counts(self, probe: Probe, progress: Progress | None = None) -> Counts:
        """Run one pass, and return the confusion matrix of each unit, shape (units, K, K)."""
        found, start, answers = [], 0, []
        for logits in self.logits(probe, progress):
            labels = logits.argmax(dim=1).numpy()
            truth = self._inputs.targets[start : start + len(labels)].numpy()
            found.append(unit_counts(labels, truth, np.arange(len(labels)), len(labels), self._classes))
            start += len(labels)
            if logits.ndim == 2:
                answers.append(logits)
        self.answers = torch.cat(answers) if answers else None
        counts = np.concatenate(found)
        return counts if self._groups is None else _joined(counts, self._groups)


class SceneUnits:
    """Whole scenes through the windows and the blending of `predict`, counted in the units of `evaluate`.

    Attributes:
        unit: What the units are, in words, once they were counted.

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
        self._subject, self._settings = subject, settings
        self.unit = ""
        place_model(subject.run, device)

    answers: None = None

    def said(self, units: int) -> str:
        """Return what was counted in words, as in `32 blocks of 128 px within these scenes`."""
        return f"{units} {self.unit}"

    def counts(self, probe: Probe, progress: Progress | None = None) -> Counts:
        """Run one pass, and return the confusion matrix of each unit, shape (units, K, K).

        Units without a counted pixel are left out; they are the same ones in every pass.
        """
        scored = score_scenes(
            replace(self._subject.run, model=probe),
            self._subject.scenes,
            settings=self._settings,
            progress=progress,
        )
        self.unit = scored.units.tally.said()
        return scored.units.tally.counts()


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


def _joined(counts: Counts, groups: NDArray[np.int64]) -> Counts:
    """Return the sums of the units of each group; empty ones are left out."""
    summed = np.stack([counts[groups == number].sum(axis=0) for number in np.unique(groups)])
    return np.asarray(summed[summed.any(axis=(1, 2))])


Units = SampledUnits | SceneUnits
