"""Engines compared: one row for every engine that stands beside the exact one in a sweep."""

from __future__ import annotations

import math

import pandas as pd

from qhybrid.experiments.sweeps.agreement import Agreement, engine_agreement
from qhybrid.metrics import metric_label
from qhybrid.report.labels import executed_by
from qhybrid.report.parts import Table

LEVEL = 0.01
NOTE = (
    "Cells that differ in their engine alone. Deterministic values are compared directly, random ones by "
    "Welch's t-test over seeds; the smallest p-value is corrected for the number of tests."
)


def engines_table(cells: pd.DataFrame) -> Table | None:
    """Return how far engines are from the exact one; None if there is nothing to compare.

    Args:
        cells: From `read_cells`.
    """
    found = engine_agreement(cells)
    if not found:
        return None
    heads = (
        "engine", "compared", "cells", "largest difference, deterministic", "random cells",
        "largest difference, random", "p below 0.05", "smallest p, corrected", "verdict",
    )  # fmt: skip
    rows = [
        (
            executed_by(one.engine),
            metric_label(one.metric),
            str(one.cells),
            _small(one.largest_exact),
            str(one.random),
            _small(one.largest_random),
            str(one.below_5_percent),
            _small(one.corrected_p),
            _verdict(one),
        )
        for one in found
    ]
    return Table(heads, rows, (2, 3, 4, 5, 6, 7))


def _verdict(one: Agreement) -> str:
    if one.largest_exact > 1e-3 or one.corrected_p < LEVEL:
        return "they differ"
    if one.random:
        return "within random variation"
    return "too few seeds" if one.untested else "equal"


def _small(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2g}"
