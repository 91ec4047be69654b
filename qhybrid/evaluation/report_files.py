"""What an evaluation leaves behind: metrics.json, metrics.csv, confusion.png, samples.png, map.png."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qhybrid.data.classes import ClassMap
from qhybrid.evaluation.pictures import draw_confusion
from qhybrid.evaluation.scene_pictures import Sample
from qhybrid.training.metrics import SegmentationMetrics
from qhybrid.training.pictures import draw_samples, draw_scene_map, lost_pictures_warned
from qhybrid.workspace import write_text

_PICTURES = ("confusion.png", "samples.png", "map.png")


def write_report(
    folder: Path,
    name: str,
    classes: ClassMap,
    facts: Mapping[str, Any],
    metrics: SegmentationMetrics,
    baselines: Mapping[str, SegmentationMetrics],
    samples: Sequence[Sample],
    overview: Sample | None = None,
) -> None:
    """Write all files of an evaluation; each appears whole.

    The metrics come first: pictures that cannot be drawn or written, on a full disk say, are a warning.

    Args:
        folder: Where to; it is created, and files of an earlier evaluation are replaced.
        name: Of the run, for titles.
        classes: Names and colours.
        facts: What was evaluated and how, for metrics.json.
        metrics: Of the model.
        baselines: Of references, by name.
        samples: Parts of scenes for the picture; without any there is none.
        overview: A whole scene for a picture of its own.
    """
    discard_pictures(folder)
    content = {
        **facts,
        **metrics.to_dict(),
        "baselines": {key: reference.to_dict() for key, reference in baselines.items()},
    }
    write_text(folder / "metrics.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    write_text(folder / "metrics.csv", metrics_table(metrics))
    with lost_pictures_warned(folder, "metrics"):
        draw_confusion(metrics, folder / "confusion.png", f"{name}, {facts['split']}")
        if samples:
            draw_samples(
                [sample.image for sample in samples],
                [sample.truth for sample in samples],
                [sample.prediction for sample in samples],
                classes,
                folder / "samples.png",
                titles=[sample.title for sample in samples],
            )
        if overview is not None:
            parts = overview.image, overview.truth, overview.prediction
            draw_scene_map(*parts, classes, folder / "map.png", overview.title)


def discard_pictures(folder: Path) -> None:
    """Remove the pictures of an earlier evaluation: they must not stand beside other metrics."""
    for name in _PICTURES:
        (folder / name).unlink(missing_ok=True)


def metrics_table(metrics: SegmentationMetrics) -> str:
    """Return one CSV row a class: class, iou, precision, recall, f1, pixels; undefined values are empty."""
    text = io.StringIO()
    rows = metrics.rows()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if _undefined(value) else value for key, value in row.items()})
    return text.getvalue()


def _undefined(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
