"""What an evaluation is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.config import PredictionConfig
from qhybrid.evaluation.measuring import Measured
from qhybrid.evaluation.scene_pictures import Sample as Picture
from qhybrid.metrics.intervals import Intervals
from qhybrid.training.images.metrics import ImageMetrics
from qhybrid.training.metrics import SegmentationMetrics

Array = NDArray[Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """The result of one evaluation.

    Attributes:
        task: What was predicted.
        measured: All metrics.
        counts: Confusion matrix of images or pixels, and what follows from it.
        shown: Predicted class of each sample picture: shape () for an image's class, (h, w) for a label map.
        predictions: What `PredictionWriter` made of all predictions, if it was asked for.
        images: All metrics of whole images as their metrics.json has them.
        logits: Of whole images, shape (N, K) or (N, K, h, w).
        pictures: Parts of scenes with their predictions.
        folder: Where `evaluate_run` wrote the results to.
        on: Name of the data if they are others than the run's own.
        places: Where these parts are.
        overview: A whole scene with its prediction, at a lower resolution.
        circuit_use: The short diagnosis of the model's circuits, if it was asked for and there are any.
        intervals: The test set's own sampling error of each metric; None where it was not asked for.
    """

    task: str
    measured: Measured
    counts: SegmentationMetrics
    shown: tuple[Array, ...] = ()
    predictions: bytes = b""
    images: ImageMetrics | None = None
    logits: Tensor | None = None
    pictures: tuple[Picture, ...] = ()
    folder: Path = Path()
    on: str | None = None
    places: tuple[str, ...] = ()
    overview: Picture | None = None
    circuit_use: dict[str, Any] | None = None
    intervals: Intervals | None = None

    def __getitem__(self, key: str) -> float:
        """Return a metric by its key, as in `found["miou"]`."""
        values = self.measured.values
        if key not in values:
            raise KeyError(f"{key}: no such metric was measured; there are {', '.join(values)}")
        return values[key]

    def __repr__(self) -> str:
        """Return the metrics and the folder; predictions and intervals would fill pages."""
        shown = ", ".join(f"{key}={value:.4g}" for key, value in self.metrics.items())
        return f"Evaluation({shown}; folder={str(self.folder)!r})"

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics by their keys, the headline first."""
        return self.measured.values

    @property
    def count(self) -> int:
        """Images or pixels that were counted."""
        return self.counts.pixels


@dataclass(frozen=True, eq=False)
class ShownSample:
    """One sample picture of the test set.

    Attributes:
        title: Its name.
        picture: Colours for the eye, uint8 of shape (h, w, 3).
        truth: Class indices, shape () or (h, w).
        place: Where it is in its scene; empty for an image.
    """

    title: str
    picture: Array
    truth: Array
    place: str = ""


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """Samples as the model takes them.

    Attributes:
        images: Shape (N, C, H, W).
        targets: Class indices, shape (N,) or (N, H, W), 255 where they do not count.
        names: One a sample.
        token_maps: Those of a frozen ViT over the samples' ground, (N, L, C', h, w), for a model with one.
    """

    images: Tensor
    targets: Tensor
    names: tuple[str, ...]
    token_maps: Tensor | None = None

    def take(self, chosen: Tensor) -> ModelInputs:
        """Return some of the samples, by their numbers."""
        names = tuple(self.names[index] for index in chosen.tolist())
        maps = None if self.token_maps is None else self.token_maps[chosen]
        return ModelInputs(self.images[chosen], self.targets[chosen], names, maps)


@dataclass(frozen=True)
class Options:
    """How a split is evaluated.

    Attributes:
        settings: Overlap and batch size of scenes; those of the run's recipe if absent.
        device: Where to run the model: "auto", "cpu", "cuda"; where it is loaded if absent.
        progress: Called with (images or windows done, all of them).
        as_trained: Whether images are placed and go in batches as in the run's validation; otherwise many at
            a time, as the model lies in memory.
        keep: Whether all predictions are kept.
    """

    settings: PredictionConfig | None = None
    device: str | torch.device | None = None
    progress: Progress | None = None
    as_trained: bool = False
    keep: bool = False
