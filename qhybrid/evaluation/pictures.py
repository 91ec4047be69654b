"""The confusion matrix as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qhybrid.data.figures import MOST_NAMED, save_figure
from qhybrid.training.metrics import SegmentationMetrics


def draw_confusion(
    metrics: SegmentationMetrics, output: Path, title: str = "", counted: str = "pixels"
) -> Path:
    """Draw the confusion matrix, each row normalised to the true pixels or images of its class.

    Of more than 40 classes there are colours alone, and every second or further name.

    Args:
        metrics: The metrics.
        output: The PNG file; it appears whole or not at all.
        title: First line above the matrix; mIoU (of pixels) and overall accuracy are the second.
        counted: What the matrix counts: `pixels` or `images`.

    Returns:
        `output`.
    """
    size = metrics.num_classes
    percent = 100 * metrics.matrix / np.maximum(metrics.support, 1)[:, None]
    numbered = size <= MOST_NAMED
    room = size if numbered else MOST_NAMED / 2
    figure = Figure(figsize=(3.2 + 0.85 * room, 2.2 + 0.75 * room), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(percent, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    named = range(0, size, -(-size // MOST_NAMED))
    names = [metrics.class_names[index] for index in named]
    axis.set_xticks(named, names, rotation=30, ha="right", rotation_mode="anchor")
    of_pixels = counted == "pixels"
    if of_pixels:
        ious = ["–" if np.isnan(metrics.iou[index]) else f"{metrics.iou[index]:.3f}" for index in named]
        parting = "\n" if numbered else ", "
        names = [f"{name}{parting}IoU {iou}" for name, iou in zip(names, ious)]
    axis.set_yticks(named, names)
    axis.set_xlabel("prediction")
    axis.set_ylabel("truth")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    if numbered:
        _write_numbers(axis, metrics, percent)
    line = f"overall accuracy {100 * metrics.overall_accuracy:.2f} %"
    if of_pixels:
        line = f"mIoU {metrics.miou:.4f}   {line}"
    axis.set_title(f"{title}\n{line}" if title else line, fontsize=11)
    bar = figure.colorbar(image, ax=axis, fraction=0.045, pad=0.03)
    bar.set_label(f"% of the true {counted} of a class")
    bar.outline.set_visible(False)
    return save_figure(figure, output)


def _write_numbers(axis: Axes, metrics: SegmentationMetrics, percent: NDArray[Any]) -> None:
    """Write its number into every cell; a class without truth has none."""
    for row, column in np.ndindex(percent.shape):
        empty = metrics.support[row] == 0
        axis.text(
            column,
            row,
            "–" if empty else f"{percent[row, column]:.1f}",
            ha="center",
            va="center",
            fontsize=11,
            color="white" if percent[row, column] > 55 else "#1a1a1a",
        )
    edges = np.arange(len(percent) + 1) - 0.5
    axis.set_xticks(edges, minor=True)
    axis.set_yticks(edges, minor=True)
    axis.grid(which="minor", color="white", linewidth=2)
    axis.tick_params(which="minor", length=0)
