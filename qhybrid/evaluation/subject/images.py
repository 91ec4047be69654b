"""A run on whole images: the test set in memory, features of a fixed filter computed once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.evaluation.scoring import spread_over
from qhybrid.evaluation.subject.subject import Outcome, ShownSample, Subject, gray
from qhybrid.layers import cached_features
from qhybrid.training.images.metrics import ImageScores, class_logits
from qhybrid.training.images.run import load_image_run

SHOWN = {"classification": 200, "segmentation": 4}
VALUES_A_CALL = 2**21
"""Input values that go through the model at once: whole test sets of small images."""


class ImageSubject(Subject):
    """A run on whole images.

    Attributes:
        task: `classification` or `segmentation`.
    """

    def __init__(self, folder: Path, which: str, split: str, samples: int | None, data_root: Path) -> None:
        run = load_image_run(folder, "best" if which == "best" else "last")
        self.folder, self.recipe, self.model = folder, run.recipe, run.model
        self.epoch, self.class_names, self.task = run.meta.epoch, run.class_names, run.task
        self.which = run.which
        arrays = open_image_dataset(run.recipe.data, data_root).load(split)
        self._arrays = arrays if samples is None else arrays.select(range(min(samples, len(arrays))))
        self._shown = spread_over(len(self._arrays), SHOWN[self.task])
        self._features: Tensor | None = None
        self._keep_own_engines()

    def evaluate(self) -> Outcome:
        """Evaluate all images; see `Subject.evaluate`."""
        inputs, network = self._inputs()
        size = max(1, VALUES_A_CALL // max(1, inputs[0].numel()))
        with torch.no_grad():
            parts = [network(inputs[start : start + size]) for start in range(0, len(inputs), size)]
        logits = torch.cat([part.float().cpu() for part in parts])
        scores = ImageScores(self.task, self.class_names)
        scores.update(logits, self._arrays.targets)
        found = scores.compute()
        metrics = {**found.headline, "cross_entropy": self._cross_entropy(logits)}
        best = class_logits(logits).argmax(dim=1)
        shown = tuple(best[index].numpy().astype(np.uint8) for index in self._shown)
        return Outcome(metrics, found.counts.matrix, found.counts.pixels, shown)

    def _cross_entropy(self, logits: Tensor) -> float:
        return float(F.cross_entropy(class_logits(logits), self._arrays.targets, ignore_index=255))

    def _inputs(self) -> tuple[Tensor, Any]:
        """Return what goes into the model, and the part of the model that takes it."""
        images, model = self._arrays.images, self.model
        if not hasattr(model, "forward_features"):
            return images, model
        layer: Any = model.quanvolution
        if layer.filter.engine is not self._exact:
            return cached_features(layer, images), model.forward_features
        if self._features is None:
            self._features = cached_features(layer, images)
        return self._features, model.forward_features

    def samples(self) -> list[ShownSample]:
        """Return evenly spread images; see `Subject.samples`."""
        arrays = self._arrays
        return [
            ShownSample(
                arrays.ids[index],
                gray(arrays.images[index].numpy()),
                arrays.targets[index].numpy().astype(np.uint8),
            )
            for index in self._shown
        ]

    @property
    def data_identity(self) -> dict[str, Any]:
        """Hash of images and targets."""
        digest = hashlib.sha256(self._arrays.images.numpy().tobytes())
        digest.update(self._arrays.targets.numpy().tobytes())
        return {"images": len(self._arrays), "sha256": digest.hexdigest()}
