"""Segmentation metrics from one confusion matrix: mIoU, overall accuracy, and scores of every class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.errors import DataError

Matrix = NDArray[np.int64]
Floats = NDArray[np.float64]


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Divide element by element; 0 / 0 is NaN, without numpy's warning."""
    result = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator != 0)
    return result


def _json_number(value: float) -> float | None:
    """JSON has no NaN: what is undefined becomes null."""
    return None if math.isnan(value) else float(value)


@dataclass(frozen=True, eq=False)
class SegmentationMetrics:
    """Metrics of all counted pixels together.

    With TP, FP, FN the true positives, false positives and false negatives of a class:
    IoU = TP / (TP + FP + FN), precision = TP / (TP + FP), recall = TP / (TP + FN) and
    F1 = 2 TP / (2 TP + FP + FN). A quotient 0 / 0 is NaN; a class that occurs neither in the truth nor in the
    prediction is left out of the mean IoU.

    Attributes:
        matrix: Pixel counts, shape (K, K), rows = truth, columns = prediction; read-only.
        class_names: Names of the K classes; "0", "1", ... if not given.
    """

    matrix: Matrix
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes and counts, and protect the matrix from changes."""
        matrix = np.array(self.matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise DataError(f"Argument `matrix` must have shape (K, K) with K >= 1, but has {matrix.shape}.")
        if not np.issubdtype(matrix.dtype, np.integer) or matrix.min() < 0:
            raise DataError("Argument `matrix` must hold integer counts of at least 0, but does not.")
        names = tuple(self.class_names) or tuple(str(index) for index in range(len(matrix)))
        if len(names) != len(matrix):
            raise DataError(f"Argument `class_names` must have {len(matrix)} names, but has {len(names)}.")
        matrix = matrix.astype(np.int64)
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "class_names", names)

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.matrix)

    @property
    def pixels(self) -> int:
        """Number of pixels that were counted; ignored ones are not among them."""
        return int(self.matrix.sum())

    @property
    def support(self) -> Matrix:
        """Pixels of each class in the truth, shape (K,)."""
        return np.asarray(self.matrix.sum(axis=1), dtype=np.int64)

    @property
    def _predicted(self) -> Matrix:
        return np.asarray(self.matrix.sum(axis=0), dtype=np.int64)

    @property
    def _hits(self) -> Matrix:
        return np.asarray(np.diagonal(self.matrix), dtype=np.int64)

    @property
    def iou(self) -> Floats:
        """Intersection over union of each class, shape (K,); NaN where absent from truth and prediction."""
        return _ratio(self._hits, self.support + self._predicted - self._hits)

    @property
    def precision(self) -> Floats:
        """Correct fraction of a class's predicted pixels, shape (K,); NaN where it is never predicted."""
        return _ratio(self._hits, self._predicted)

    @property
    def recall(self) -> Floats:
        """Fraction of the true pixels of a class that are found, shape (K,); NaN where the truth has none."""
        return _ratio(self._hits, self.support)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall, shape (K,); NaN where absent from truth and prediction."""
        return _ratio(2 * self._hits, self.support + self._predicted)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur in truth or prediction; NaN if no pixel was counted."""
        iou = self.iou
        present = ~np.isnan(iou)
        return float(iou[present].mean()) if present.any() else math.nan

    @property
    def overall_accuracy(self) -> float:
        """Fraction of the counted pixels that are correct; NaN if no pixel was counted."""
        return float(self._hits.sum() / self.pixels) if self.pixels else math.nan

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a class: class, iou, precision, recall, f1 (NaN where undefined), pixels."""
        columns = zip(self.class_names, self.iou, self.precision, self.recall, self.f1, self.support)
        return [
            {
                "class": name,
                "iou": float(iou),
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "pixels": int(pixels),
            }
            for name, iou, precision, recall, f1, pixels in columns
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file; undefined values are None."""
        classes = {
            row["class"]: {
                key: _json_number(value) if isinstance(value, float) else value
                for key, value in row.items()
                if key != "class"
            }
            for row in self.rows()
        }
        return {
            "miou": _json_number(self.miou),
            "overall_accuracy": _json_number(self.overall_accuracy),
            "pixels": self.pixels,
            "classes": classes,
            "class_names": list(self.class_names),
            "confusion": self.matrix.tolist(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SegmentationMetrics:
        """Rebuild the metrics from what `to_dict` returned."""
        return cls(np.array(content["confusion"], dtype=np.int64), tuple(content["class_names"]))


class ConfusionMatrix:
    """Counts pixels by truth and prediction over many batches, on the device of the batches.

    Args:
        num_classes: Number of classes K.
        class_names: Names of the classes for the metrics.
        ignore_index: Label of pixels that are not counted.
    """

    def __init__(
        self, num_classes: int, class_names: Sequence[str] = (), ignore_index: int = IGNORE_INDEX
    ) -> None:
        if num_classes < 1:
            raise DataError(f"Argument `num_classes` must be at least 1, but is {num_classes}.")
        if class_names and len(class_names) != num_classes:
            raise DataError(
                f"Argument `class_names` must have {num_classes} names, but has {len(class_names)}."
            )
        self.num_classes = num_classes
        self.class_names = tuple(class_names)
        self.ignore_index = ignore_index
        self._total = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    @property
    def matrix(self) -> torch.Tensor:
        """A copy of the counts so far, int64 of shape (K, K), rows = truth, on the device of the batches."""
        return self._total.clone()

    def reset(self) -> None:
        """Forget all counts."""
        self._total = torch.zeros_like(self._total)

    def update(self, predictions: torch.Tensor, targets: torch.Tensor) -> None:
        """Count one batch.

        Args:
            predictions: Class indices of the shape of `targets` (..., integer), or class scores (logits or
                probabilities) with one more axis, (B, K, ...), of which the largest wins.
            targets: Class indices in [0, K) or the ignored label, shape (B, ...) or (...).

        Raises:
            DataError: If shapes do not fit, or a label or prediction is outside [0, K).
        """
        chosen = self._chosen(predictions.detach(), targets).to(torch.int64).flatten()
        targets = targets.detach().to(torch.int64).flatten()
        counted = targets != self.ignore_index
        if not bool(counted.all()):
            targets, chosen = targets[counted], chosen[counted]
        if not targets.numel():
            return
        self._check_range("targets", targets)
        if not predictions.is_floating_point():
            self._check_range("predictions", chosen)
        classes = self.num_classes
        batch = torch.bincount(targets * classes + chosen, minlength=classes**2).reshape(classes, classes)
        self._total = self._total.to(batch.device) + batch

    def compute(self) -> SegmentationMetrics:
        """Return the metrics of everything counted so far."""
        return SegmentationMetrics(self._total.cpu().numpy(), self.class_names)

    def _chosen(self, predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return predicted class indices of the shape of `targets`."""
        if predictions.shape == targets.shape and not predictions.is_floating_point():
            return predictions
        expected = (*targets.shape[:1], self.num_classes, *targets.shape[1:])
        if tuple(predictions.shape) != expected or not predictions.is_floating_point():
            raise DataError(
                f"Argument `predictions` must be class indices of shape {tuple(targets.shape)} or scores of "
                f"shape {expected}, but is {predictions.dtype} of shape {tuple(predictions.shape)}."
            )
        return predictions.argmax(dim=1)

    def _check_range(self, name: str, values: torch.Tensor) -> None:
        low, high = (int(value) for value in values.aminmax())
        if low < 0 or high >= self.num_classes:
            raise DataError(
                f"Argument `{name}` must be class indices in [0, {self.num_classes}) or {self.ignore_index}, "
                f"but has values from {low} to {high}."
            )
