"""The metrics by name: what each is called, how its numbers are shown, and how they are computed.

There is one table for all faces: evaluation, sweeps, repeated runs, hardware and the report. A plugin adds
to it with `register_metric`. A metric is computed in two steps, so that a split may be larger than memory:
`count` makes an array of each image or scene, the arrays of all are added up, and `value` makes the number
of their sum. Metrics without `count` are made of what every evaluation counts anyway (`Totals`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import PluginError
from qhybrid.plugins import Registry

CLASSIFICATION, SEGMENTATION, SCENES = "classification", "segmentation", "scenes"
TASKS = (CLASSIFICATION, SEGMENTATION, SCENES)
"""Classes of whole images, label maps of whole images, label maps of scenes."""
PERCENT = "%"
DASH = "–"
OTHER_NAMES = {"overall_accuracy": "accuracy"}
"""Keys of older files, by what they are called here."""
Values = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image or one scene with its prediction.

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


METRICS: Registry[Metric] = Registry("metric")


def register_metric(
    key: str,
    *,
    label: str,
    value: Callable[[Any], float | Values],
    count: Callable[[Sample], Any] | None = None,
    unit: str = "",
    larger_is_better: bool = True,
    tasks: tuple[str, ...] = (SEGMENTATION, SCENES),
    probabilities: bool = False,
    replace: bool = False,
) -> Metric:
    """Add a metric to evaluation, sweeps, repeated runs, hardware and the report.

    Args:
        key: Its name in files: a word.
        label: Its name for readers.
        value: See `Metric`.
        count: See `Metric`; without it `value` gets the `Totals` of the split.
        unit: `%` for a fraction that is shown in percent; otherwise what stands behind its numbers.
        larger_is_better: Its direction.
        tasks: What it is computed for: `classification`, `segmentation` (of whole images), `scenes`.
        probabilities: Whether it needs probabilities.
        replace: Whether it may take the place of another one.

    Returns:
        The metric.

    Raises:
        PluginError: If the key is taken or no word, the label is empty, or a task is unknown.
    """
    if not isinstance(key, str) or len(key.split()) != 1:
        raise PluginError(f"The key of a metric must be a word without spaces, but is {key!r}.")
    if not label:
        raise PluginError(f"Metric `{key}` must have a label, but has none. Fix: label='...'.")
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise PluginError(f"Tasks of metric `{key}` must be of {', '.join(TASKS)}, but are {tasks!r}.")
    metric = Metric(key, label, unit, larger_is_better, tuple(tasks), value, count, probabilities)
    return METRICS.register(key, metric, replace=replace)


def metrics_of(task: str) -> tuple[Metric, ...]:
    """Return the metrics of a task, the headline first."""
    return tuple(metric for _, metric in METRICS.items() if task in metric.tasks)


def version_of(metric: Metric) -> str:
    """Return the version of the code that computes a metric: that of its plugin; empty for our own."""
    origin = METRICS.origin(metric.key)
    return "" if origin is None else f"{origin.name} {origin.version}"


def find_metric(key: str) -> Metric:
    """Return the metric of a key of a file: `accuracy`, `iou road` (of a class), or an older name.

    A key that is not in the table (a plugin that is not loaded) is its own label.
    """
    entry = entry_of(key)
    if entry is None:
        return Metric(key, key.replace("_", " "))
    name = key.partition(" ")[2]
    return replace(entry, key=key, label=f"{entry.label} of {name}") if name else entry


def place_of(key: str, task: str) -> int:
    """Return where a key of a file stands among those of a task; one that is not in the table stands last."""
    entry, order = entry_of(key), [one.key for one in metrics_of(task)]
    return order.index(entry.key) if entry is not None and entry.key in order else len(order)


def entry_of(key: str) -> Metric | None:
    """Return the entry of the table that a key of a file belongs to; None if there is none."""
    known = OTHER_NAMES.get(key, key)
    if known in METRICS:
        return METRICS.get(known)
    stem, _, name = known.partition(" ")
    each = [one for _, one in METRICS.items() if name and stem in (one.stem, one.key)]
    return max(each, key=lambda one: bool(one.stem), default=None)


def metric_label(key: str) -> str:
    """Return a metric's name, for example `mIoU`; also of a column of metrics.csv, as in `val_miou`."""
    for prefix, data in (("train_", "training"), ("val_", "validation")):
        if key.startswith(prefix):
            return f"{metric_label(key.removeprefix(prefix))} ({data})"
    return find_metric(key).label


def show_metric(key: str, value: float | None, error: float | None = None) -> str:
    """Return a value of a metric for readers; see `Metric.show`."""
    return find_metric(key).show(value, error)


def metrics_in(content: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the metrics of an evaluation's metrics.json, of any version, the headline first.

    Older files have their numbers beside the other keys, and the accuracy of scenes as `overall_accuracy`.
    """
    if isinstance(content.get("metrics"), Mapping):
        return dict(content["metrics"])
    flat = {OTHER_NAMES.get(key, key): value for key, value in content.items()}
    found = {key: flat[key] for key, _ in METRICS.items() if _is_number(flat.get(key, ""))}
    classes = content.get("classes")
    if isinstance(classes, Mapping) and "soft_iou" not in found:
        each = {f"iou {name}": one["iou"] for name, one in classes.items() if one.get("iou") is not None}
        return {**found, **each}
    return found


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _class_iou(totals: Totals) -> Values:
    return {name: float(iou) for name, iou in zip(totals.counts.class_names, totals.counts.iou, strict=True)}


def foreground_iou(counts: Counts) -> float:
    """Return the IoU of class 1 of two classes, of more the mean."""
    return float(counts.iou[1]) if len(counts.matrix) == 2 else counts.miou


_OWN = (
    Metric(
        "soft_iou", "soft IoU", tasks=(SEGMENTATION,), value=lambda totals: totals.soft_iou,
        probabilities=True,
    ),
    Metric(
        "soft_iou_per_image", "soft IoU per image", tasks=(SEGMENTATION,),
        value=lambda totals: totals.soft_iou_per_image, probabilities=True,
    ),
    Metric("iou", "IoU", tasks=(SEGMENTATION,), value=lambda totals: foreground_iou(totals.counts)),
    Metric("miou", "mIoU", tasks=(SEGMENTATION, SCENES), value=lambda totals: totals.counts.miou),
    Metric(
        "accuracy", "accuracy", PERCENT, tasks=TASKS, value=lambda totals: totals.counts.overall_accuracy
    ),
    Metric(
        "cross_entropy", "cross-entropy", larger_is_better=False, tasks=(CLASSIFICATION, SEGMENTATION),
        value=lambda totals: totals.cross_entropy, probabilities=True,
    ),
    Metric("class_iou", "IoU", tasks=(SCENES,), value=_class_iou, stem="iou"),
    Metric("loss", "loss", larger_is_better=False),
)  # fmt: skip
for _metric in _OWN:
    METRICS.register(_metric.key, _metric)
OWN_KEYS = tuple(metric.key for metric in _OWN)
"""Metrics of the package: cells of sweeps that do not say what was measured have these."""
