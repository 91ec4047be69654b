"""What a metric is: its names, how its numbers are shown, and what it is computed from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

CLASSIFICATION, SEGMENTATION, SCENES = "classification", "segmentation", "scenes"
TASKS = (CLASSIFICATION, SEGMENTATION, SCENES)
"""Classes of whole images, label maps of whole images, label maps of scenes."""
PERCENT = "%"
DASH = "–"
Values = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image or one scene with its prediction; `count` gets arrays that cannot be written.

    Attributes:
        predicted: Class indices, shape () for an image's class or (h, w) for a label map; 255: no data.
        truth: Class indices of the same shape; 255 where the truth is not known, which must not count.
        class_names: Names of the K classes.
        probabilities: Of the classes, shape (K,) or (K, h, w); None where they are not there.
    """

    predicted: NDArray[Any]
    truth: NDArray[Any]
    class_names: tuple[str, ...]
    probabilities: NDArray[np.float32] | None = None


class Counts(Protocol):
    """A confusion matrix, and what follows from it."""

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Counts, shape (K, K), rows = truth."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes."""
        ...

    @property
    def iou(self) -> NDArray[np.float64]:
        """IoU of each class; NaN where it is in neither truth nor prediction."""
        ...

    @property
    def miou(self) -> float:
        """Mean IoU of the classes that occur."""
        ...

    @property
    def overall_accuracy(self) -> float:
        """Share of images or pixels that are right."""
        ...


@dataclass(frozen=True, eq=False)
class Totals:
    """What every evaluation counts of a split.

    Attributes:
        counts: Confusion matrix of images or pixels.
        soft_iou: Soft IoU of all pixels together; NaN where there are no probabilities.
        soft_iou_per_image: Mean of the images' own soft IoU; NaN where there are no probabilities.
        cross_entropy: Mean over images or pixels; NaN where there are no probabilities.
    """

    counts: Counts
    soft_iou: float = math.nan
    soft_iou_per_image: float = math.nan
    cross_entropy: float = math.nan


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric.

    Attributes:
        key: Its name in files.
        label: Its name for readers.
        unit: `%` for a fraction that is shown in percent; otherwise what stands behind its numbers.
        larger_is_better: Its direction.
        tasks: What it is computed for, of `TASKS`; nothing for a name that is only shown.
        value: Makes the number of the sum of all `count`s, or of `Totals` without `count`; or one number a
            class, as a mapping, which files hold under the keys `STEM CLASS`.
        count: Makes an array of one `Sample`; the arrays of all samples must have one shape.
        probabilities: Whether `count` or `value` needs probabilities. Sweeps keep those of classes of images,
            but not those of label maps, so that such a metric of maps cannot be computed later.
        stem: Beginning of the keys where there is a number for each class; `key` if empty.
    """

    key: str
    label: str
    unit: str = ""
    larger_is_better: bool = True
    tasks: tuple[str, ...] = ()
    value: Callable[[Any], float | Values] | None = None
    count: Callable[[Sample], Any] | None = None
    probabilities: bool = False
    stem: str = ""

    @property
    def direction(self) -> str:
        """Which numbers are better, in a word."""
        return "larger" if self.larger_is_better else "smaller"

    def number(self, value: float) -> float:
        """Return a value in the unit that is shown."""
        return 100 * value if self.unit == PERCENT else value

    @property
    def digits(self) -> int:
        """Digits behind the point of the numbers that are shown."""
        return 2 if self.unit == PERCENT else 4

    def show(self, value: float | None, error: float | None = None) -> str:
        """Return a value for readers, with its standard error if there is one; a dash if it is missing."""
        if value is None or not math.isfinite(value):
            return DASH
        text = f"{self.number(value):.{self.digits}f}"
        if error is not None and math.isfinite(error):
            text += f" ± {self.number(error):.{self.digits}f}"
        return f"{text} {self.unit}".rstrip()
