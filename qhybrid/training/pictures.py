"""Pictures of a run: learning curves, and samples with truth, prediction and errors side by side."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.figures import add_class_legend, save_figure
from qhybrid.errors import DataError
from qhybrid.training.showing import ERROR_COLORS, NO_DATA_COLOR, RIGHT_COLOR, error_color

# Validated for neighbours that stay apart for colour-blind readers (Okabe and Ito), in a fixed order.
LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
PANELS = ("image", "truth", "prediction", "wrong pixels")

Samples = Sequence[Any] | NDArray[Any] | torch.Tensor
"""N arrays or tensors of one sample each, or one array or tensor with N along its first axis."""


@contextmanager
def lost_pictures_warned(folder: Path, kept: str) -> Iterator[None]:
    """Make errors warnings while pictures are drawn of results that are written and whole without them.

    Args:
        folder: Where the results are.
        kept: What of them is complete.
    """
    try:
        yield
    except Exception as error:
        warnings.warn(
            f"The pictures of {folder} could not be drawn ({type(error).__name__}: {error}). Its {kept} are "
            "complete.",
            stacklevel=3,
        )


def stretch(images: Sequence[ArrayLike], low: float = 2, high: float = 98) -> list[NDArray[Any]]:
    """Convert images of any bands and range to RGB for display.

    Every shown band of every image is stretched by itself: its `low` percentile becomes black, its `high`
    percentile white, so that dark images show as much as bright ones.

    Args:
        images: Raw or standardised values, each of shape (C, H, W), NaN where there is no data. The first
            three bands are shown as red, green and blue; of fewer bands the first one as grey.
        low: Percentile that becomes black.
        high: Percentile that becomes white.

    Returns:
        Colours in [0, 1] of each image, shape (H, W, 3); pixels without data are grey.
    """
    return [_stretched(np.asarray(image, dtype=np.float64), low, high) for image in images]


def _stretched(image: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    bands = image[:3] if len(image) >= 3 else image[[0, 0, 0]]
    counted = np.isfinite(bands).all(axis=0)
    pixels = bands[:, counted]
    limits = np.percentile(pixels, [low, high], axis=1) if pixels.size else np.zeros((2, 3))
    black, white = limits[:, :, None, None]
    scaled = (np.where(counted, bands, 0) - black) / np.maximum(white - black, 1e-12)
    colors: NDArray[Any] = np.moveaxis(np.clip(scaled, 0, 1), 0, -1)
    colors[~counted] = to_rgb(NO_DATA_COLOR)
    return colors


def paint_classes(labels: ArrayLike, classes: ClassMap) -> NDArray[Any]:
    """Return colours in [0, 1] of shape (H, W, 3) for labels of shape (H, W); ignored pixels are grey."""
    indices = np.asarray(labels)
    colors = np.empty((*indices.shape, 3))
    colors[...] = to_rgb(NO_DATA_COLOR)
    counted = indices != IGNORE_INDEX
    colors[counted] = classes.palette()[indices[counted]] / 255
    return colors


def paint_errors(truth: ArrayLike, prediction: ArrayLike, wrong: str = ERROR_COLORS[0]) -> NDArray[Any]:
    """Return a map of shape (H, W, 3): right pixels white, pixels that do not count grey.

    Args:
        truth: Class indices, shape (H, W), 255 where they do not count.
        prediction: Class indices of the same shape.
        wrong: Colour of wrong pixels; `error_color` has one that differs from all classes.
    """
    wanted, found = np.asarray(truth), np.asarray(prediction)
    colors = np.empty((*wanted.shape, 3))
    colors[...] = to_rgb(RIGHT_COLOR)
    colors[wanted != found] = to_rgb(wrong)
    colors[(wanted == IGNORE_INDEX) | (found == IGNORE_INDEX)] = to_rgb(NO_DATA_COLOR)
    return colors


def draw_samples(
    images: Samples,
    truths: Samples,
    predictions: Samples,
    classes: ClassMap,
    output: Path,
    titles: Sequence[str] = (),
) -> Path:
    """Draw one row a sample: image, truth, prediction and wrong pixels, with a legend of the classes.

    Args:
        images: N images of shape (C, H, W), raw or standardised; tensors on the CPU are accepted everywhere.
        truths: N label arrays of shape (H, W); the ignored label 255 is drawn grey.
        predictions: N label arrays of shape (H, W).
        classes: Names and colours.
        output: The PNG file; it appears whole or not at all.
        titles: One title a sample, for example the scene's name.

    Returns:
        `output`.

    Raises:
        DataError: If there is no sample, or the numbers of images, truths and predictions differ.
    """
    counts = len(images), len(truths), len(predictions)
    if len(set(counts)) != 1 or not counts[0]:
        raise DataError(
            "Arguments `images`, `truths` and `predictions` must have the same length of at least 1, but "
            f"have {counts[0]}, {counts[1]} and {counts[2]}."
        )
    rows = counts[0]
    figure = Figure(figsize=(12.4, 3.05 * rows + 0.95), layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False)
    for row, sample in enumerate(zip(images, truths, predictions)):
        image, truth, found = map(_array, sample)
        for axis, panel in zip(axes[row], _panels(image, truth, found, classes)):
            _show_panel(axis, panel)
        if row < len(titles):
            axes[row][0].set_ylabel(titles[row], fontsize=10)
    for axis, title in zip(axes[0], PANELS):
        axis.set_title(title, fontsize=12)
    _legend_of_classes(figure, classes)
    return save_figure(figure, output)


def draw_scene_map(
    image: NDArray[Any],
    truth: NDArray[Any],
    prediction: NDArray[Any],
    classes: ClassMap,
    output: Path,
    title: str,
) -> Path:
    """Draw a whole scene, two by two: image, truth, prediction and wrong pixels, with a legend.

    Args:
        image: Shape (C, H, W), NaN where there is no data.
        truth: Labels of shape (H, W); the ignored label 255 is drawn grey.
        prediction: Labels of shape (H, W).
        classes: Names and colours.
        output: The PNG file; it appears whole or not at all.
        title: Above all of it.

    Returns:
        `output`.
    """
    high = min(max(5.8 * truth.shape[0] / truth.shape[1], 2.5), 9.0)
    figure = Figure(figsize=(12.4, 2 * high + 1.6), layout="constrained")
    axes = figure.subplots(2, 2).flatten()
    for axis, panel, name in zip(axes, _panels(image, truth, prediction, classes), PANELS):
        _show_panel(axis, panel)
        axis.set_title(name, fontsize=12)
    figure.suptitle(title, fontsize=13)
    _legend_of_classes(figure, classes)
    return save_figure(figure, output)


def _panels(
    image: NDArray[Any], truth: NDArray[Any], prediction: NDArray[Any], classes: ClassMap
) -> tuple[NDArray[Any], ...]:
    """Return the colours of the panels in the order of `PANELS`."""
    wrong = paint_errors(truth, prediction, error_color(classes.colors))
    return *stretch([image]), paint_classes(truth, classes), paint_classes(prediction, classes), wrong


def _show_panel(axis: Any, panel: NDArray[Any]) -> None:
    axis.imshow(panel, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def _array(values: ArrayLike | torch.Tensor) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _legend_of_classes(figure: Figure, classes: ClassMap) -> None:
    colors = [tuple(color / 255) for color in classes.palette()]
    others = {"no data": NO_DATA_COLOR, "wrong": error_color(classes.colors)}
    add_class_legend(figure, classes.names, colors, others)


def draw_learning_curves(metrics_csv: Path, output: Path) -> Path:
    """Draw what the CSV file of a run holds, epoch by epoch: loss, scores, IoU of each class, learning rate.

    The file has a column `epoch`; several rows of one epoch are merged, and empty cells are skipped. Columns
    are sorted into panels by name: `...loss...`; `...miou...` and `...accuracy...`; other `...iou...` (one a
    class); `lr` and `...learning_rate...`. Panels without a column are left out.

    Args:
        metrics_csv: The file.
        output: The PNG file; it appears whole or not at all.

    Returns:
        `output`.

    Raises:
        DataError: If the file cannot be read, has no epoch, or none of these columns.
    """
    epochs = _read_epochs(metrics_csv)
    panels = {title: columns for title, columns in _sort_into_panels(epochs.columns).items() if columns}
    if not panels:
        raise DataError(f"{metrics_csv}: must have columns with loss, IoU or accuracy, but has none of them.")
    columns = min(len(panels), 3) if len(panels) != 4 else 2
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.6 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for axis, (title, names) in zip(axes, panels.items()):
        _draw_panel(axis, title, epochs[names])
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    return save_figure(figure, output)


def _read_epochs(path: Path) -> pd.DataFrame:
    """Return one row an epoch: the last value that each column has in it."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}.") from error
    if "epoch" not in table or table["epoch"].dropna().empty:
        raise DataError(f"{path}: must have a column `epoch` with at least one row, but has not.")
    numbers = table.select_dtypes("number")
    return numbers.dropna(subset=["epoch"]).groupby("epoch").last().dropna(axis="columns", how="all")


def _sort_into_panels(columns: Sequence[str] | pd.Index[str]) -> dict[str, list[str]]:
    panels: dict[str, list[str]] = {"Loss": [], "Scores": [], "IoU of each class": [], "Learning rate": []}
    for column in columns:
        name = column.lower()
        if "loss" in name:
            panels["Loss"].append(column)
        elif "miou" in name or "accuracy" in name:
            panels["Scores"].append(column)
        elif "iou" in name:
            panels["IoU of each class"].append(column)
        elif "learning_rate" in name or name.split("/")[-1].split("-")[0].split("_")[0] == "lr":
            panels["Learning rate"].append(column)
    return panels


def _draw_panel(axis: Any, title: str, table: pd.DataFrame) -> None:
    for index, column in enumerate(table.columns):
        values = table[column].dropna()
        style = "-" if index < len(LINE_COLORS) else "--"
        axis.plot(
            values.index,
            values,
            style,
            color=LINE_COLORS[index % len(LINE_COLORS)],
            linewidth=1.6,
            marker="o" if len(values) < 15 else None,
            markersize=4,
            label=column.replace("_", " ").replace("/", " ").replace("miou", "mIoU").replace("iou ", "IoU "),
        )
    axis.set_title(title, fontsize=12)
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=9, frameon=False)
