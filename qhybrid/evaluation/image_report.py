"""What an evaluation on whole images leaves behind: metrics.json, predictions.csv and two pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from qhybrid.data.classes import ClassMap
from qhybrid.data.figures import save_figure
from qhybrid.data.images import ImageArrays
from qhybrid.evaluation.image_baselines import ScoredBaseline
from qhybrid.evaluation.pictures import draw_confusion
from qhybrid.evaluation.report_files import discard_pictures
from qhybrid.evaluation.sampling_error import IMAGE, SampleUnits
from qhybrid.training.images.metrics import ImageMetrics, ImageScores
from qhybrid.training.images.run import LoadedImageRun
from qhybrid.training.pictures import LINE_COLORS, draw_samples, lost_pictures_warned, stretch
from qhybrid.training.showing import ERROR_COLORS, class_counts, most_varied
from qhybrid.workspace import write_text

SEGMENTED_SAMPLES = 6
CLASSIFIED_SAMPLES = 24
_COLUMNS = 8
_TEXT, _GAP = 0.26, 0.06
"""Room for two lines above an image, and between images, in widths of an image."""


def write_image_report(
    folder: Path,
    run: LoadedImageRun,
    facts: Mapping[str, Any],
    metrics: ImageMetrics,
    arrays: ImageArrays,
    probabilities: Tensor,
    baselines: Mapping[str, ScoredBaseline],
    units: SampleUnits | None = None,
) -> None:
    """Write all files of an evaluation; each appears whole.

    The metrics come first: pictures that cannot be drawn or written, on a full disk say, are a warning.

    Args:
        folder: Where to; it is created, and files of an earlier evaluation are replaced.
        run: The trained model.
        facts: What was evaluated and how, for metrics.json.
        metrics: Of the model.
        arrays: Images and truth.
        probabilities: Of the classes, shape (N, K) or (N, K, H, W).
        baselines: References by name.
        units: What is independent of each other; where that are not single images, predictions.csv has a
            column `unit`.
    """
    discard_pictures(folder)
    content = {**facts, **metrics.to_dict()}
    if baselines:
        content["baselines"] = {key: one.to_dict() for key, one in baselines.items()}
    write_text(folder / "metrics.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    classified = run.task == "classification"
    rows = _classified(run, arrays, probabilities) if classified else _segmented(run, arrays, probabilities)
    if units is not None and units.kind != IMAGE:
        rows = [{**row, "unit": name} for row, name in zip(rows, _unit_names(arrays.ids, units))]
    write_text(folder / "predictions.csv", _csv(rows))
    title = f"{run.recipe.name}, {facts['split']}"
    counted = "images" if classified else "pixels"
    draw = _draw_classified if classified else _draw_segmented
    with lost_pictures_warned(folder, "metrics"):
        draw_confusion(metrics.counts, folder / "confusion.png", title, counted)
        draw(run, arrays, probabilities, folder / "samples.png")


def _unit_names(ids: Sequence[str], units: SampleUnits) -> list[str]:
    """Return the unit of each image by the name of its first one, which no other split or fold has."""
    first: dict[int, str] = {}
    return [f"{units.kind}: {first.setdefault(int(of), name)}" for name, of in zip(ids, units.of)]


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _classified(run: LoadedImageRun, arrays: ImageArrays, probabilities: Tensor) -> list[dict[str, Any]]:
    """Return a row an image: id, truth, prediction, probability of each class."""
    names = run.class_names
    return [
        {
            "id": name,
            "truth": names[int(truth)],
            "prediction": names[int(row.argmax())],
            **{f"p({label})": f"{float(value):.6f}" for label, value in zip(names, row)},
        }
        for name, truth, row in zip(arrays.ids, arrays.targets, probabilities)
    ]


def _segmented(run: LoadedImageRun, arrays: ImageArrays, probabilities: Tensor) -> list[dict[str, Any]]:
    """Return a row an image: id and its own metrics."""
    rows = []
    for index, name in enumerate(arrays.ids):
        scores = ImageScores(run.task, run.class_names)
        # Logarithms of probabilities are logits of the same probabilities.
        scores.update(
            probabilities[index : index + 1].clamp(min=1e-12).log(), arrays.targets[index : index + 1]
        )
        numbers = scores.compute().headline
        kept = {key: f"{numbers[key]:.6f}" for key in ("soft_iou", "iou", "miou", "accuracy")}
        rows.append({"id": name, **kept})
    return rows


def _draw_segmented(run: LoadedImageRun, arrays: ImageArrays, probabilities: Tensor, output: Path) -> None:
    colors = tuple(LINE_COLORS[index % len(LINE_COLORS)] for index in range(len(run.class_names)))
    classes = ClassMap(run.class_names, colors, tuple((index,) for index in range(len(run.class_names))))
    counts = [class_counts(target, len(run.class_names)) for target in arrays.targets]
    shown = most_varied(counts, SEGMENTED_SAMPLES)
    draw_samples(
        [arrays.images[index] for index in shown],
        [arrays.targets[index] for index in shown],
        [probabilities[index].argmax(dim=0) for index in shown],
        classes,
        output,
        titles=[arrays.ids[index] for index in shown],
    )


def _draw_classified(run: LoadedImageRun, arrays: ImageArrays, probabilities: Tensor, output: Path) -> None:
    """Draw images with what was said of them: the surest mistakes first, then some of the others."""
    sure, said = probabilities.max(dim=1)
    wrong = torch.nonzero(said != arrays.targets).flatten()
    right = torch.nonzero(said == arrays.targets).flatten()
    worst = wrong[sure[wrong].argsort(descending=True)][: CLASSIFIED_SAMPLES // 2]
    others = right[:: max(1, len(right) // CLASSIFIED_SAMPLES)][: CLASSIFIED_SAMPLES - len(worst)]
    shown = [int(index) for index in torch.cat([worst, others])]
    pictures = stretch([arrays.images[index].numpy() for index in shown])
    height = max((picture.shape[0] / picture.shape[1] for picture in pictures), default=1.0) + _TEXT
    lines = -(-len(shown) // _COLUMNS)
    # One pair of axes for all: each pair more takes as long to draw as its image.
    figure = Figure(figsize=(1.6 * _COLUMNS, 1.6 * height * lines))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, _COLUMNS), ylim=(-height * lines, 0))
    axes.set_axis_off()
    for place, (index, picture) in enumerate(zip(shown, pictures)):
        truth, found = run.class_names[int(arrays.targets[index])], run.class_names[int(said[index])]
        mistake = truth != found
        left, top = place % _COLUMNS + _GAP / 2, -(place // _COLUMNS) * height - _TEXT
        wide, tall = 1 - _GAP, (1 - _GAP) * picture.shape[0] / picture.shape[1]
        extent = (left, left + wide, top - tall, top)
        axes.imshow(picture, interpolation="nearest", extent=extent, aspect="auto", clip_on=False)
        axes.text(
            left + wide / 2,
            top + _GAP / 2,
            f"{found} {100 * float(sure[index]):.0f} %" + (f"\nis {truth}" if mistake else ""),
            horizontalalignment="center",
            verticalalignment="bottom",
            fontsize=8,
            color=ERROR_COLORS[0] if mistake else "#1a1a1a",
        )
    axes.set(xlim=(0, _COLUMNS), ylim=(-height * lines, 0))
    save_figure(figure, output)
