"""The contact sheet of a check: a few images of each split, and their masks over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qhybrid.data.check_findings import DataCheck, Example
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.figures import add_class_legend, save_figure
from qhybrid.errors import DataError

_NO_DATA = "#b3b3b3"
_OPACITY = 0.5
_DPI = 100
_MOST_CLASSES = 24


def draw_contact_sheet(check: DataCheck, output: Path) -> Path:
    """Draw some images of each split, and below them the same with their masks, as a PNG file.

    All splits are stretched alike, so that one with other values looks different.

    Args:
        check: A check that has read the images.
        output: The file; it appears whole or not at all.

    Returns:
        `output`.

    Raises:
        DataError: If there is nothing to show.
    """
    shown = {split: found.examples for split, found in check.splits.items() if found.examples}
    if not shown:
        raise DataError("There are no images to show. Fix: mend what the check found first.")
    limits = _limits([one for examples in shown.values() for one in examples])
    masked = any(one.labels is not None for examples in shown.values() for one in examples)
    lines = 2 if masked else 1
    columns = max(map(len, shown.values()))
    aspect = max(one.image.shape[1] / one.image.shape[2] for examples in shown.values() for one in examples)
    height = (1.75 * min(aspect, 2) + 0.2) * lines * len(shown) + 0.8
    figure = Figure(figsize=(1.75 * columns + 0.5, height), layout="constrained")
    axes = figure.subplots(lines * len(shown), columns, squeeze=False)
    for axis in axes.flatten():
        axis.set(xticks=[], yticks=[], frame_on=False)
    for row, (split, examples) in enumerate(shown.items()):
        axes[lines * row][0].set_ylabel(split, fontsize=12)
        for column, example in enumerate(examples):
            picture = _picture(example, limits)
            upper = axes[lines * row][column]
            upper.imshow(picture, interpolation="nearest")
            upper.set_title(_short(example.label or example.name), fontsize=8)
            if example.labels is not None:
                painted = _with_mask(picture, example.labels, check.colors)
                axes[lines * row + 1][column].imshow(painted, interpolation="nearest")
        if masked:
            axes[lines * row + 1][0].set_ylabel("mask", fontsize=9)
    if masked:
        add_class_legend(
            figure, check.class_names, check.colors, {"no data": _NO_DATA}, fontsize=9, most=_MOST_CLASSES
        )
    return save_figure(figure, output, _DPI)


def _short(text: str) -> str:
    return text if len(text) <= 22 else f"{text[:10]}...{text[-9:]}"


def _bands(example: Example) -> NDArray[np.float32]:
    """Return three bands: the first three as red, green, blue, or the first one as grey."""
    image = example.image
    return image[:3] if len(image) >= 3 else image[[0, 0, 0]]


def _limits(examples: Sequence[Example]) -> NDArray[Any]:
    """Return the 2nd and 98th percentile of each shown band, shape (2, 3)."""
    values = np.concatenate([_bands(one).reshape(3, -1) for one in examples], axis=1)
    known = values[:, np.isfinite(values).all(axis=0)]
    if not known.size:
        return np.array([[0.0] * 3, [1.0] * 3])
    return np.asarray(np.percentile(known, [2, 98], axis=1))


def _picture(example: Example, limits: NDArray[Any]) -> NDArray[Any]:
    """Return colours in [0, 1], shape (h, w, 3); grey where there is no data."""
    bands = np.moveaxis(_bands(example).astype(np.float64), 0, -1)
    empty = ~np.isfinite(bands).all(axis=-1)
    colors: NDArray[np.float64] = np.clip(
        (bands - limits[0]) / np.maximum(limits[1] - limits[0], 1e-12), 0, 1
    )
    colors[empty] = to_rgb(_NO_DATA)
    return colors


def _with_mask(picture: NDArray[Any], labels: NDArray[np.uint8], colors: Sequence[str]) -> NDArray[Any]:
    """Return a picture with the colours of the classes over it; pixels without a class stay as they are."""
    palette = np.array([to_rgb(color) for color in colors])
    counted = labels != IGNORE_INDEX
    painted: NDArray[np.float64] = picture.copy()
    painted[counted] = (1 - _OPACITY) * picture[counted] + _OPACITY * palette[labels[counted]]
    return painted
