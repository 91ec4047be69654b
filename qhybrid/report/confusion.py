"""Confusion matrices as tables whose cells are tinted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ConfusionCell:
    """One cell.

    Attributes:
        count: Images or pixels.
        share: Share of the true class, 0 to 1; 0 of an absent class.
        right: Whether it is on the diagonal.
    """

    count: int
    share: float
    right: bool


@dataclass(frozen=True)
class ConfusionTable:
    """One confusion matrix.

    Attributes:
        title: What was evaluated.
        names: Class names.
        rows: Cells, rows = truth.
    """

    title: str
    names: tuple[str, ...]
    rows: tuple[tuple[ConfusionCell, ...], ...]


def confusion_table(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> ConfusionTable:
    """Return a confusion matrix for the page; rows are the truth."""
    matrix = np.asarray(counts, dtype=np.int64)
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shares = matrix / totals
    rows = tuple(
        tuple(ConfusionCell(int(matrix[i, j]), float(shares[i, j]), i == j) for j in range(matrix.shape[1]))
        for i in range(len(matrix))
    )
    return ConfusionTable(title, tuple(names), rows)
