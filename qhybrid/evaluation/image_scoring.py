"""All metrics of the logits of whole images or windows: of an evaluation, and of what a device answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.evaluation.measuring import Measured, Tally
from qhybrid.metrics import CLASSIFICATION, Sample, Totals
from qhybrid.training.images.metrics import ImageMetrics, ImageScores, class_logits

_SCORED_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """What predictions of images are worth.

    Attributes:
        measured: All metrics.
        images: The confusion matrix, and what follows from it.
        labels: Predicted classes, shape (N,) or (N, h, w).
    """

    measured: Measured
    images: ImageMetrics
    labels: Tensor


def score_logits(
    task: str, class_names: tuple[str, ...], logits: Tensor, targets: Tensor, tally: Tally | None = None
) -> ScoredImages:
    """Return all metrics of predictions.

    Args:
        task: One of `qhybrid.metrics.TASKS`; of scenes the images are windows.
        class_names: Names of the K classes.
        logits: Shape (N, K) or (N, K, h, w); one logit x of two classes stands for (0, x).
        targets: Shape (N,) or (N, h, w); 255 does not count.
        tally: The metrics; all of the task if absent.
    """
    tally = tally or Tally.of(task)
    scores = ImageScores("classification" if task == CLASSIFICATION else "segmentation", class_names)
    for start in range(0, len(targets), _SCORED_AT_ONCE):
        part = slice(start, start + _SCORED_AT_ONCE)
        scores.update(logits[part], targets[part])
    found, each = scores.compute(), class_logits(logits)
    labels = each.argmax(dim=1)
    entropy = float(F.cross_entropy(each, targets, ignore_index=IGNORE_INDEX))
    tally.add_all(image_samples(class_names, labels, targets, each))
    totals = Totals(found.counts, found.soft_iou, found.soft_iou_per_image, entropy)
    return ScoredImages(tally.measure(totals), found, labels)


def image_samples(
    class_names: tuple[str, ...], labels: Tensor, targets: Tensor, logits: Tensor | None = None
) -> Iterator[Sample]:
    """Yield images one by one.

    Args:
        class_names: Names of the K classes.
        labels: Predicted classes, shape (N,) or (N, h, w).
        targets: True classes of the same shape.
        logits: Shape (N, K) or (N, K, h, w); without them there are no probabilities.
    """
    for index, (found, truth) in enumerate(zip(labels, targets, strict=True)):
        probabilities = None if logits is None else torch.softmax(logits[index], dim=0).numpy()
        yield Sample(found.numpy(), truth.numpy(), class_names, probabilities)
