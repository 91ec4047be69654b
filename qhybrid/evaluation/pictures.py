"""The confusion matrix as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from qhybrid.training.metrics import SegmentationMetrics
from qhybrid.training.pictures import save_figure


def draw_confusion(
    metrics: SegmentationMetrics, output: Path, title: str = "", counted: str = "pixels"
) -> Path:
    """Draw the confusion matrix, each row normalised to the true pixels or images of its class.

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
    figure = Figure(figsize=(3.2 + 0.85 * size, 2.2 + 0.75 * size), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(percent, cmap="Blues", vmin=0, vmax=100)
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
    ious = ["–" if np.isnan(value) else f"{value:.3f}" for value in metrics.iou]
    of_pixels = counted == "pixels"
    names = [f"{name}\nIoU {iou}" if of_pixels else name for name, iou in zip(metrics.class_names, ious)]
    axis.set_xticks(range(size), metrics.class_names, rotation=30, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(size), names)
    axis.set_xlabel("prediction")
    axis.set_ylabel("truth")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=2)
    axis.tick_params(which="minor", length=0)
    line = f"overall accuracy {100 * metrics.overall_accuracy:.2f} %"
    if of_pixels:
        line = f"mIoU {metrics.miou:.4f}   {line}"
    axis.set_title(f"{title}\n{line}" if title else line, fontsize=11)
    bar = figure.colorbar(image, ax=axis, fraction=0.045, pad=0.03)
    bar.set_label(f"% of the true {counted} of a class")
    bar.outline.set_visible(False)
    return save_figure(figure, output)
