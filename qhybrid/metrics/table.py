"""The table of metrics: ours, those that plugins add, and how keys of files find their entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qhybrid.errors import PluginError
from qhybrid.metrics.metric import (
    CLASSIFICATION,
    PERCENT,
    SCENES,
    SEGMENTATION,
    TASKS,
    Counts,
    Metric,
    Sample,
    Totals,
    Values,
)
from qhybrid.plugins import Registry

OTHER_NAMES = {"overall_accuracy": "accuracy"}
"""Keys of older files, by what they are called here."""
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
        PluginError: If the key is taken or no word, the label is empty or another metric's, or a task is
            unknown.
    """
    if not isinstance(key, str) or len(key.split()) != 1:
        raise PluginError(f"The key of a metric must be a word without spaces, but is {key!r}.")
    if not label:
        raise PluginError(f"Metric `{key}` must have a label, but has none. Fix: label='...'.")
    same = next((one.key for _, one in METRICS.items() if one.label == label and one.key != key), None)
    if same is not None:
        raise PluginError(
            f"Metric `{key}` must have a label of its own, but has {label!r}, as `{same}` has. Fix: another "
            "label."
        )
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


def show_interval(key: str, low: float, high: float) -> str:
    """Return an interval of a metric for readers, as in `91.20 – 95.60 %`."""
    metric = find_metric(key)
    ends = " – ".join(f"{metric.number(end):.{metric.digits}f}" for end in (low, high))
    return f"{ends} {metric.unit}".rstrip()


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
