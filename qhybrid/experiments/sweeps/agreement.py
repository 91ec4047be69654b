"""Do other engines agree with the exact one, cell by cell, within the variation of random draws?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from qhybrid.experiments.sweeps.cells import TRAINED

EXACT = "exact"
METRIC = "cross_entropy"
"""Compared where there is one: unlike an accuracy it depends on every image's probability."""
CONDITIONS = ("run_folder", "profile", "scale", "mapping", "mitigation", "layers", "shots")
Values = NDArray[np.float64]
_SAME = 1e-12
"""Values that differ by less are equal, where seeds make no difference."""


@dataclass(frozen=True)
class Agreement:
    """How far one engine is from the exact one over all cells that both have.

    Attributes:
        engine: The other engine.
        metric: What is compared.
        cells: Conditions that both engines have.
        largest_exact: Largest absolute difference where both are deterministic; NaN where there is none such.
        random: Conditions in which at least one of them is random and has seeds enough to test: two at
            least.
        untested: Random conditions with too few seeds.
        largest_random: Largest absolute difference of means over seeds among all random conditions.
        smallest_p: Smallest p-value among them (Welch's t-test over seeds); NaN where there is none.
        corrected_p: Probability of one as small or smaller among that many tests if the engines agree
            (Sidak); below 0.01 or so they differ.
        below_5_percent: Number of p-values below 0.05; about one in twenty where the engines agree.
    """

    engine: str
    metric: str
    cells: int
    largest_exact: float
    random: int
    untested: int
    largest_random: float
    smallest_p: float
    corrected_p: float
    below_5_percent: int


def compared_cells(cells: pd.DataFrame, metric: str = "") -> pd.DataFrame:
    """Compare every engine with the exact one wherever all other conditions are the same.

    Args:
        cells: From `read_cells`.
        metric: What is compared; the cross-entropy if absent, or the headline where there is none.

    Returns:
        One row a condition and engine: the conditions, `engine`, `exact` and `other` (means over seeds),
        `difference`, `chance` (whether a value is random), `error` (standard error of the difference over
        seeds) and `p` (both NaN where nothing is random, or there are too few seeds).
    """
    if cells.empty:
        return pd.DataFrame()
    known = set(cells["metric"])
    chosen = metric or (METRIC if METRIC in known else str(cells["metric"].iloc[0]))
    rows = []
    for values, group in cells[cells["metric"] == chosen].groupby(list(CONDITIONS), dropna=False, sort=False):
        own = group[group["engine"] == EXACT]
        for engine, other in group[group["engine"] != EXACT].groupby("engine", sort=False):
            if len(own) and engine != TRAINED:
                place = {**dict(zip(CONDITIONS, values, strict=True)), "engine": engine, "metric": chosen}
                rows.append({**place, **_compared(own, other)})
    return pd.DataFrame(rows)


def engine_agreement(cells: pd.DataFrame, metric: str = "") -> list[Agreement]:
    """Summarise `compared_cells` for every engine beside the exact one; nothing where there is none."""
    table = compared_cells(cells, metric)
    if table.empty:
        return []
    found = []
    for engine, rows in table.groupby("engine", sort=False):
        random = rows["chance"].astype(bool)
        p = rows["p"].dropna()
        smallest = float(p.min()) if len(p) else math.nan
        found.append(
            Agreement(
                str(engine),
                str(rows["metric"].iloc[0]),
                len(rows),
                float(rows[~random]["difference"].abs().max()),
                len(p),
                int(random.sum()) - len(p),
                float(rows[random]["difference"].abs().max()),
                smallest,
                1 - (1 - smallest) ** len(p) if len(p) else math.nan,
                int((p < 0.05).sum()),
            )
        )
    return found


def _compared(exact: pd.DataFrame, other: pd.DataFrame) -> dict[str, float | bool]:
    """Return means, difference and test of the cells of two engines; cells with a seed are random."""
    one, two = exact["value"].to_numpy(), other["value"].to_numpy()
    random = [values for cells, values in ((exact, one), (other, two)) if cells["seed"].notna().any()]
    tested = bool(random) and min(map(len, random)) > 1
    error, p = _test(one, two, random) if tested else (math.nan, math.nan)
    difference = float(two.mean() - one.mean())
    return {
        "exact": float(one.mean()), "other": float(two.mean()), "difference": difference,
        "chance": bool(random), "error": error, "p": p,
    }  # fmt: skip


def _test(one: Values, two: Values, several: Sequence[Values]) -> tuple[float, float]:
    """Return the standard error of the difference of two means and its p-value by Welch's t-test.

    Args:
        one: Values of an engine.
        two: Values of the other one.
        several: Those of them that are random, at least two values each.
    """
    error = math.sqrt(sum(values.var(ddof=1) / len(values) for values in several))
    if error < _SAME:
        return error, 1.0 if abs(one.mean() - two.mean()) < _SAME else 0.0
    shares = [values.var(ddof=1) / len(values) / error**2 for values in several]
    freedom = 1 / sum(share**2 / (len(values) - 1) for share, values in zip(shares, several, strict=True))
    return error, float(2 * stats.t.sf(abs(one.mean() - two.mean()) / error, freedom))
