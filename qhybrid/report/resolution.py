"""What differences from the noiseless value a sweep can tell from chance, cell by cell.

The error of a difference has two parts: the spread over seeds of shots or trained runs, and the finite test
set. The second is that of paired differences where cells kept their jackknife replicates, since all are
measured on the same images or ground. Of earlier cells on classes of images it is that of independent test
sets, which is larger; of other earlier cells it is not known, and nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qhybrid.errors import DataError
from qhybrid.experiments.sweeps.arrays import unpack
from qhybrid.experiments.sweeps.cells import REPLICATES
from qhybrid.metrics.intervals import paired_error
from qhybrid.metrics.verdict import detectable_difference
from qhybrid.mitigations import NONE
from qhybrid.report.sources import SweepSource

GROUP = ["run", "settings", "engine", "mitigation", "layers", "mapping"]
CONDITION = [*GROUP, "profile", "scale", "shots", "profile_hash"]
Replicates = dict[tuple[Any, ...], NDArray[np.float64] | None]


def with_resolution(sweep: SweepSource, metric: str, of_images: bool) -> pd.DataFrame:
    """Return the rows of a metric with columns `difference` and `resolvable`.

    `difference` is that from the noiseless value without shots of the same run, engine, mitigation and
    layers; `resolvable` the smallest one that the design finds (80 % power, 5 % two-sided). Both are NaN for
    the noiseless value itself, and where there is none; `resolvable` also where it is not known.

    Args:
        sweep: The sweep.
        metric: The metric.
        of_images: Whether whole images have classes, so that what is counted are images.
    """
    rows = sweep.results[sweep.results["metric"] == metric].copy()
    rows["difference"] = math.nan
    rows["resolvable"] = math.nan
    if rows.empty or not set(CONDITION) <= set(rows.columns):
        return rows
    replicates = _replicates(sweep, metric)
    for _, group in rows.groupby(GROUP, dropna=False, sort=False):
        reference = _reference(rows, group)
        if reference is None:
            continue
        for index, row in group.iterrows():
            if index != reference.name:
                rows.loc[index, "difference"] = row["value"] - reference["value"]
                rows.loc[index, "resolvable"] = _resolvable(row, reference, metric, replicates, of_images)
    return rows


def _reference(rows: pd.DataFrame, group: pd.DataFrame) -> Any:
    """Return the noiseless row without shots of a group; of mitigated cells that without mitigation."""
    found = group[(group["profile_hash"] == "") & group["shots"].isna()]
    if found.empty:
        same = [name for name in GROUP if name not in ("mitigation", "mapping")]
        alike = (rows[same] == group[same].iloc[0]).all(axis=1) & (rows["mitigation"] == NONE)
        found = rows[alike & (rows["profile_hash"] == "") & rows["shots"].isna()]
    return None if found.empty else found.iloc[0]


def _resolvable(row: Any, reference: Any, metric: str, replicates: Replicates, of_images: bool) -> float:
    test = _test_error(row, reference, metric, replicates, of_images)
    if math.isnan(test):
        return math.nan
    spread = [one["standard_error"] for one in (row, reference) if pd.notna(one["standard_error"])]
    repeats = max(int(row["runs"]), int(row["seeds"])) if spread else 0
    error = math.hypot(test, *map(float, spread))
    units = replicates.get(_key(row))
    count = len(units) if units is not None else int(row.get("count") or 0)
    count = min(count, repeats) if repeats > 1 else count
    return detectable_difference(error * math.sqrt(count), count) if count > 1 else math.nan


def _test_error(row: Any, reference: Any, metric: str, replicates: Replicates, of_images: bool) -> float:
    """Return the test set's own error of a difference; NaN where it is not known."""
    one, other = replicates.get(_key(row)), replicates.get(_key(reference))
    if one is not None and other is not None and one.shape == other.shape and np.isfinite(one - other).all():
        return paired_error(one, other)
    count = int(row.get("count") or 0)
    if metric != "accuracy" or not of_images or not count:
        return math.nan
    shares = (float(row["value"]), float(reference["value"]))
    return math.sqrt(sum(share * (1 - share) / count for share in shares))


def _key(row: Any) -> tuple[Any, ...]:
    return tuple(None if pd.isna(row[name]) else row[name] for name in CONDITION)


def _replicates(sweep: SweepSource, metric: str) -> Replicates:
    """Return the mean replicates of the cells of each condition; None where one of them has none."""
    found: dict[tuple[Any, ...], list[NDArray[np.float64] | None]] = {}
    cells = sweep.cells[sweep.cells["metric"] == metric]
    if not set(CONDITION) | {"key"} <= set(cells.columns):
        return {}
    for _, cell in cells.iterrows():
        found.setdefault(_key(cell), []).append(_kept(sweep.cell(str(cell["key"])), metric))
    means: Replicates = {}
    for key, parts in found.items():
        whole = [one for one in parts if one is not None]
        alike = len(whole) == len(parts) and len({one.shape for one in whole}) == 1
        means[key] = np.mean(whole, axis=0) if alike else None
    return means


def _kept(cell: Mapping[str, Any] | None, metric: str) -> NDArray[np.float64] | None:
    kept = (cell or {}).get(REPLICATES, {}).get(metric)
    if kept is None:
        return None
    try:
        return unpack(kept).astype(np.float64)
    except DataError:
        return None


def is_below(row: Any) -> bool:
    """Return whether a cell's difference is smaller than what the design finds."""
    difference, least = row.get("difference", math.nan), row.get("resolvable", math.nan)
    return bool(pd.notna(difference) and pd.notna(least) and abs(difference) < least)


def resolution_text(rows: pd.DataFrame, show: Any) -> str:
    """Return the legend of cells without colour; empty where there are none.

    Args:
        rows: From `with_resolution`, or a part of them.
        show: Writes a number of the metric.
    """
    below = [float(row["resolvable"]) for _, row in rows.iterrows() if is_below(row)]
    if not below:
        return ""
    ends = dict.fromkeys(show(end) for end in (min(below), max(below)))
    return (
        "Hatched, without colour: the difference from the noiseless value is below what this design "
        f"resolves, {' to '.join(ends)} (80 % power, 5 % two-sided; spread over repeats and the finite "
        "test set)."
    )
