"""Metrics of whole images: accuracy and confusion, and for segmentation the soft IoU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.images.dataset import Task
from qhybrid.metrics import foreground_iou
from qhybrid.training.metrics import ConfusionMatrix, SegmentationMetrics


def class_logits(logits: Tensor) -> Tensor:
    """Return one logit a class: a single logit x stands for (0, x), so that its softmax is the sigmoid."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


@dataclass(frozen=True, eq=False)
class ImageMetrics:
    """Metrics of one split.

    With probabilities p and truth t in {0, 1}, the soft IoU of a class is sum(p t) / sum(p + t - p t): there
    is no threshold. Of two classes it is that of class 1, of more the mean over the classes that occur: those
    that some pixel has in the truth or as its most probable class, as for the mean IoU.

    Attributes:
        task: What was predicted.
        counts: Confusion matrix of images or of pixels, with all that follows from it.
        soft_iou: Soft IoU of all pixels together (the Qu-Net authors' measure); NaN for classification.
        soft_iou_per_image: Mean over the images of each one's own soft IoU; NaN for classification.
    """

    task: Task
    counts: SegmentationMetrics
    soft_iou: float = math.nan
    soft_iou_per_image: float = math.nan

    @property
    def accuracy(self) -> float:
        """Fraction of images or pixels that are correct."""
        return self.counts.overall_accuracy

    @property
    def iou(self) -> float:
        """IoU at probability 0.5: of class 1 of two classes, of more the mean."""
        return foreground_iou(self.counts)

    @property
    def headline(self) -> dict[str, float]:
        """The numbers that tables show, the most important first."""
        if self.task == "classification":
            return {"accuracy": self.accuracy}
        return {
            "soft_iou": self.soft_iou,
            "soft_iou_per_image": self.soft_iou_per_image,
            "iou": self.iou,
            "miou": self.counts.miou,
            "accuracy": self.accuracy,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file; undefined values are None."""
        counted = self.counts.to_dict()
        images = self.task == "classification"
        kept = ("precision", "recall", "f1") if images else ("iou", "precision", "recall")
        unit = "images" if images else "pixels"
        classes = {
            name: {**{key: values[key] for key in kept}, unit: values["pixels"]}
            for name, values in counted["classes"].items()
        }
        numbers = {key: value if math.isfinite(value) else None for key, value in self.headline.items()}
        return {
            "task": self.task,
            **numbers,
            unit: counted["pixels"],
            "classes": classes,
            "class_names": counted["class_names"],
            "confusion": counted["confusion"],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ImageMetrics:
        """Rebuild the metrics from what `to_dict` returned."""
        soft = [content.get(key) for key in ("soft_iou", "soft_iou_per_image")]
        return cls(
            content["task"],
            SegmentationMetrics.from_dict(content),
            *(math.nan if value is None else float(value) for value in soft),
        )


class ImageScores:
    """Accumulates losses and predictions of many batches."""

    def __init__(self, task: Task, class_names: Sequence[str]) -> None:
        self.task = task
        self._matrix = ConfusionMatrix(len(class_names), class_names)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._matrix.reset()
        self._loss = torch.zeros(())
        self._images = 0
        self._classified: list[tuple[Tensor, Tensor]] = []
        classes = self._matrix.num_classes
        self._overlap = torch.zeros(classes, dtype=torch.float64)
        self._union = torch.zeros(classes, dtype=torch.float64)
        self._occurs = torch.zeros(classes, dtype=torch.float64)
        self._ratios: list[Tensor] = []

    def update(self, logits: Tensor, targets: Tensor, loss: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            logits: Shape (B, K) or (B, K, H, W), with K = 1 for one logit of two classes.
            targets: Shape (B,) or (B, H, W).
            loss: Mean loss of the batch; that of images without any label is not known and does not count.
        """
        both = class_logits(logits.detach().float())
        labelled = int((targets != IGNORE_INDEX).reshape(len(targets), -1).any(dim=1).sum())
        if loss is not None:
            self._loss = self._loss.to(loss.device) + loss.detach() * labelled
            self._images += labelled
        if self.task == "segmentation":
            self._matrix.update(both, targets)
            self._add_soft(both.softmax(dim=1), targets)
        else:
            # One number an image: they are counted at the end, all at once.
            self._classified.append((both, targets))

    def _add_soft(self, probabilities: Tensor, targets: Tensor) -> None:
        overlap, union, occurs = soft_sums(probabilities, targets)
        self._overlap = self._overlap.to(overlap.device) + overlap.sum(dim=0)
        self._union = self._union.to(union.device) + union.sum(dim=0)
        self._occurs = self._occurs.to(occurs.device) + occurs.sum(dim=0)
        self._ratios.append(soft_iou(overlap, union, occurs))

    @property
    def loss(self) -> float:
        """Mean loss over the images that have a label; NaN if there is none, or no loss was given."""
        return float(self._loss) / self._images if self._images else math.nan

    def compute(self) -> ImageMetrics:
        """Return the metrics of everything counted so far."""
        if self._classified:
            self._matrix.update(*(torch.cat(parts) for parts in zip(*self._classified, strict=True)))
            self._classified = []
        counts = self._matrix.compute()
        if self.task == "classification" or not self._ratios:
            return ImageMetrics(self.task, counts)
        together = float(soft_iou(self._overlap[None], self._union[None], self._occurs[None])[0])
        return ImageMetrics(self.task, counts, together, float(torch.cat(self._ratios).nanmean()))


def soft_sums(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what soft IoU of each image and class is made of: sum(p t), sum(p + t - p t), and its pixels.

    Args:
        probabilities: Shape (B, K, H, W).
        targets: Shape (B, H, W); 255 does not count.

    Returns:
        Three tensors of shape (B, K), double precision; the third counts the pixels that have the class in
        the truth or as the most probable one. No probability is 0, so the sums do not say what occurs.
    """
    counted = (targets != IGNORE_INDEX).unsqueeze(1)
    classes = torch.arange(probabilities.shape[1], device=targets.device).view(1, -1, 1, 1)
    true = (targets.unsqueeze(1) == classes) & counted
    found = (probabilities.argmax(dim=1, keepdim=True) == classes) & counted
    truth = true.to(probabilities.dtype)
    overlap = (probabilities * truth).sum(dim=(2, 3)).double()
    union = ((probabilities * counted).sum(dim=(2, 3)) + truth.sum(dim=(2, 3))).double() - overlap
    return overlap, union, (true | found).sum(dim=(2, 3)).double()


def soft_iou(overlap: Tensor, union: Tensor, pixels: Tensor) -> Tensor:
    """Return soft IoU of shape (B,) from the sums of `soft_sums`, shape (B, K); NaN where no pixel counts."""
    ratio = overlap / union.clamp(min=1e-12)
    occurs = (pixels > 0).double()
    if overlap.shape[1] == 2:
        found = ratio[:, 1]
    else:
        found = (ratio * occurs).sum(dim=1) / occurs.sum(dim=1).clamp(min=1)
    return found.where(occurs.any(dim=1), math.nan)
