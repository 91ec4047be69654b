"""What the page shows of single runs: how they were trained, and each of their evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qhybrid.errors import QHybridError
from qhybrid.evaluation.baselines import LABELS
from qhybrid.layers import quantum_layers
from qhybrid.metrics import (
    CLASSIFICATION,
    DASH,
    metric_label,
    metrics_in,
    show_interval,
    show_metric,
)
from qhybrid.metrics.intervals import Intervals
from qhybrid.report.confusion import ConfusionTable, confusion_table
from qhybrid.report.labels import counted, evaluation_label, short_hash, time_label
from qhybrid.report.parts import Figure, Table
from qhybrid.report.pictures import Pictures
from qhybrid.report.sources import RunSource
from qhybrid.training.metrics import SegmentationMetrics

NOT_RECORDED = "not recorded"
Titled = Sequence[tuple[str, RunSource]]


@dataclass
class EvaluationPart:
    """One evaluation.

    Attributes:
        title: Run and conditions, in words.
        facts: What was counted, and of which data.
        metrics: Metrics with their intervals, of the model and of references; None where an earlier version
            wrote neither.
        classes: Scores of each class; None where they were not recorded.
        confusion: The confusion matrix; empty where it was not recorded.
        figures: A whole scene and samples.
    """

    title: str
    facts: str
    classes: Table | None
    confusion: list[ConfusionTable] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    metrics: Table | None = None


def training_facts(runs: Titled) -> Table:
    """Return one row a run: size of the model, time and data of the training."""
    heads = (
        "run", "parameters", "of these in circuits", "training time", "trained on", "data root", "data hash",
    )  # fmt: skip
    return Table(heads, [(title, *_training_row(run)) for title, run in runs], (1, 2, 3))


def _training_row(run: RunSource) -> tuple[str, ...]:
    total, angles = _parameters(run)
    seconds = None
    if run.curves is not None and "epoch_seconds" in run.curves:
        # An epoch without its time would make the sum a number that is too small.
        times = run.curves["epoch_seconds"]
        seconds = None if times.isna().any() or times.empty else float(times.sum())
    facts = next(iter(run.evaluations.values()), {})
    record = run.data_record
    return (
        _known(total),
        _known(angles),
        NOT_RECORDED if seconds is None else time_label(seconds),
        _trained_on(run.environment.get("data")),
        str(record.get("data_root") or facts.get("data_root") or NOT_RECORDED),
        _hash(record, facts),
    )


def _hash(record: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the hash of the training split, else that of the first evaluation's data."""
    split = (record.get("splits") or {}).get("train") or {}
    if split.get("hash"):
        return f"training {short_hash(str(split['hash']))}"
    if facts.get("data_hash"):
        return f"{facts.get('split', 'test')} {short_hash(str(facts['data_hash']))}"
    return NOT_RECORDED


def _parameters(run: RunSource) -> tuple[int | None, int | None]:
    """Return the trained parameters of a run's model, and how many of them are angles of circuits."""
    try:
        model = run.load_model()
    except QHybridError:
        found = next((one["parameters"] for one in run.evaluations.values() if "parameters" in one), None)
        return found, None
    trained = {id(part): part.numel() for part in model.parameters() if part.requires_grad}
    circuits = {
        id(part)
        for layer in quantum_layers(model).values()
        for part in layer.parameters()
        if part.requires_grad
    }
    return sum(trained.values()), sum(count for key, count in trained.items() if key in circuits)


def _known(number: int | None) -> str:
    return NOT_RECORDED if number is None else f"{number:,}"


def _trained_on(data: Any) -> str:
    """Return the training data as text, as in `6 scenes, 1,572,864 pixels with data`."""
    found = data.get("train") if isinstance(data, Mapping) else None
    if not isinstance(found, Mapping):
        return NOT_RECORDED
    said = ", ".join(counted(int(number), unit.removesuffix("s")) for unit, number in found.items())
    return f"{said} with data" if {"scenes", "pixels"} <= found.keys() else said


def evaluation_parts(runs: Titled, pictures: Pictures, *, elsewhere: bool = False) -> list[EvaluationPart]:
    """Return the evaluations of some runs.

    Args:
        runs: Titles and runs.
        pictures: Makes the pictures.
        elsewhere: Whether those on other data than the runs' own are wanted.
    """
    parts = []
    for title, run in runs:
        for name, label, found in evaluations_of(run, elsewhere=elsewhere):
            parts.append(_part(f"{title}, {label}", run.folder / "evaluation" / name, found, pictures))
    return parts


def evaluations_of(
    run: RunSource, *, elsewhere: bool = False
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield folder name, name for readers, and content of a run's evaluations."""
    evaluations = run.other_data if elsewhere else run.evaluations
    labels = {name: evaluation_label(name, found) for name, found in evaluations.items()}
    for name, found in evaluations.items():
        several = list(labels.values()).count(labels[name]) > 1
        yield name, f"{labels[name]} ({name})" if several else labels[name], found


def _part(title: str, folder: Path, found: Mapping[str, Any], pictures: Pictures) -> EvaluationPart:
    part = EvaluationPart(title, _facts(found), None, metrics=_metrics_table(found))
    counts = counts_of(found)
    if counts is not None:
        part.classes = _class_table(counts, of_images=found.get("task") == CLASSIFICATION)
        part.confusion = [
            confusion_table("Shares of the true class.", counts.class_names, counts.matrix.tolist())
        ]
    for name, what in (("map", "a whole scene of it"), ("samples", "samples of it")):
        part.figures += pictures.figure(folder / f"{name}.png", f"{title}: {what}.")
    return part


def _metrics_table(found: Mapping[str, Any]) -> Table | None:
    """Return one row for the model and one a reference; single classes have a table of their own."""
    if not found.get("intervals") and not found.get("baselines"):
        return None
    results = {"model": found}
    for key, one in (found.get("baselines") or {}).items():
        results[one.get("label") or LABELS.get(key, key)] = one
    keys = [key for key in metrics_in(found) if " " not in key]
    rows = [(name, *(_with_interval(one, key) for key in keys)) for name, one in results.items()]
    table = Table(("", *map(metric_label, keys)), rows, tuple(range(1, len(keys) + 1)))
    if found.get("intervals") and any("(" in value for row in rows for value in row[1:]):
        table.note = f"in brackets {Intervals.from_dict(found['intervals']).units.text()}"
    return table


def _with_interval(found: Mapping[str, Any], key: str) -> str:
    """Return a metric with its interval in brackets where it has one."""
    text = show_metric(key, metrics_in(found).get(key))
    interval = (found.get("intervals") or {}).get("metrics", {}).get(key)
    return f"{text} ({show_interval(key, interval['low'], interval['high'])})" if interval else text


def _facts(found: Mapping[str, Any]) -> str:
    """Say what was counted, and of which data."""
    said = []
    if isinstance(found.get("scenes"), list):
        said.append(counted(len(found["scenes"]), "scene"))
    for unit in ("images", "pixels"):
        if isinstance(found.get(unit), int):
            said.append(counted(found[unit], unit.removesuffix("s")))
    what = f"Counted: {', '.join(said) or NOT_RECORDED}."
    root = f"Data root: {found.get('data_root') or NOT_RECORDED}."
    digest = f"Data hash: {short_hash(str(found.get('data_hash') or NOT_RECORDED))}."
    vit = f" Frozen ViT: {found['frozen_vit']}." if found.get("frozen_vit") else ""
    return f"{what} {root} {digest}{vit}"


def counts_of(found: Mapping[str, Any]) -> SegmentationMetrics | None:
    """Return the confusion matrix of a metrics.json of any version; None if it has none."""
    names = found.get("class_names") or list(found.get("classes", {}))
    counts = found.get("confusion") or found.get("confusion_matrix")
    if not names or not counts or len(names) != len(counts):
        return None
    return SegmentationMetrics(np.array(counts, dtype=np.int64), tuple(map(str, names)))


def _class_table(counts: SegmentationMetrics, *, of_images: bool) -> Table:
    """Return one row a class; what cannot be computed is a dash."""
    scores = ("recall", "precision", "f1") if of_images else ("iou", "precision", "recall", "f1")
    names = {"iou": "IoU", "f1": "F1", **({"recall": "accuracy (recall)"} if of_images else {})}
    unit = "images" if of_images else "pixels"
    rows = []
    for row in counts.rows():
        values = (_score(key, row[key]) for key in scores)
        rows.append((row["class"], *values, f"{row['pixels']:,}"))
    heads = ("class", *(names.get(key, key) for key in scores), f"true {unit}")
    return Table(heads, rows, tuple(range(1, len(heads))))


def _score(key: str, value: float) -> str:
    if np.isnan(value):
        return DASH
    return f"{100 * value:.2f} %" if key in ("precision", "recall") else show_metric(key, value)


def validation_pictures(runs: Titled, pictures: Pictures) -> list[Figure]:
    """Return the pictures that training has left: patches of the validation split."""
    found = []
    for title, run in runs:
        found += pictures.figure(run.folder / "samples.png", f"{title}: those with the most classes.")
    return found
