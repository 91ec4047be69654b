"""What pictures show: which samples, so that many classes are seen, and which colour says `wrong`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from matplotlib.colors import to_hex, to_rgb
from numpy.typing import ArrayLike, NDArray

from qhybrid.data.classes import IGNORE_INDEX

NO_DATA_COLOR = "#b3b3b3"
RIGHT_COLOR = "#ffffff"
ERROR_COLORS = ("#d7191c", "#ff00ff", "#00e5ff", "#ffd400", "#0033ff", "#7b00a8", "#000000")
"""Colours of wrong pixels, the preferred one first."""
FAR = 40.0
"""Distance in CIELAB from which on two colours are not taken for each other, even in small patches."""
_SHOWN = 0.01
"""Share of a sample from which on a class is seen in it."""


def error_color(colors: Iterable[str]) -> str:
    """Return a colour for wrong pixels that is none of the others of a picture.

    It is the first of `ERROR_COLORS` that is far in CIELAB from all classes, from white (right) and from grey
    (no data). Where none is, it is the colour furthest from all of them.

    Args:
        colors: Colours of the classes, as `#rrggbb`.
    """
    taken = _lab([*colors, RIGHT_COLOR, NO_DATA_COLOR])
    grid = [to_hex(color) for color in itertools.product(np.linspace(0, 1, 6), repeat=3)]
    offered = [*ERROR_COLORS, *grid]
    distances = np.linalg.norm(_lab(offered)[:, None] - taken[None], axis=2).min(axis=1)
    far = np.flatnonzero(distances[: len(ERROR_COLORS)] >= FAR)
    return offered[int(far[0]) if len(far) else int(distances.argmax())]


def _lab(colors: Sequence[str]) -> NDArray[np.float64]:
    """Return CIELAB coordinates of colours, shape (N, 3)."""
    from kornia.color import rgb_to_lab  # takes seconds to import

    rgb = torch.tensor([to_rgb(color) for color in colors], dtype=torch.float64)
    found: NDArray[np.float64] = rgb_to_lab(rgb.T.reshape(1, 3, 1, -1))[0, :, 0].T.numpy()
    return found


def class_counts(labels: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Return how many pixels of each class a label map has, shape (K,); ignored ones are not counted."""
    values = np.asarray(labels).ravel()
    counted = values[values != IGNORE_INDEX].astype(np.int64)
    return np.bincount(counted, minlength=num_classes)[:num_classes]


def most_varied(counts: Sequence[ArrayLike], number: int, groups: Sequence[int] = ()) -> list[int]:
    """Choose samples that together show many classes; the same samples are chosen every time.

    One after the other is taken whose classes are the most and the most even (the exponential of the entropy
    of their shares), plus one for each class that no chosen sample shows yet. Samples without a labelled
    pixel come last.

    Args:
        counts: Pixels of each class in each sample, N times shape (K,).
        number: How many to choose at most.
        groups: A number a sample, such as that of its scene: a group gives its second sample when every group
            has given one. Without them every sample is a group.

    Returns:
        Indices of samples, the most varied first.
    """
    if not len(counts):
        return []
    table = np.asarray(counts, dtype=np.float64).reshape(len(counts), -1)
    totals = table.sum(axis=1, keepdims=True)
    shares = table / np.maximum(totals, 1)
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    variety = np.where(totals[:, 0] > 0, np.exp(-(shares * logarithms).sum(axis=1)), 0.0)
    # A window of which little is labelled shows little.
    variety *= totals[:, 0] / max(totals.max(initial=1), 1)
    where = np.asarray(groups if len(groups) else range(len(table)))
    taken: dict[int, int] = {}
    seen = np.zeros(table.shape[1], dtype=bool)
    chosen: list[int] = []
    while len(chosen) < min(number, len(table)):
        left = [index for index in range(len(table)) if index not in chosen]
        fewest = min(taken.get(int(where[index]), 0) for index in left)
        left = [index for index in left if taken.get(int(where[index]), 0) == fewest]
        new = (shares[left] >= _SHOWN)[:, ~seen].sum(axis=1)
        best = left[int(np.argmax(variety[left] + new))]
        chosen.append(best)
        taken[int(where[best])] = fewest + 1
        seen |= shares[best] >= _SHOWN
    return chosen
