"""Runs that a sweep trained itself: what they reach in training, validation and test, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from qhybrid.experiments.sweeps.cells import TRAINED
from qhybrid.metrics import metric_label, show_metric
from qhybrid.report.labels import settings_label
from qhybrid.report.parts import Table, without_constant
from qhybrid.report.sources import RunSource, SweepSource

MISSING = "–"


def training_table(sweep: SweepSource, metric: str) -> Table | None:
    """Return one row a setting: means over seeds with standard errors; None if the sweep trained nothing.

    Training is the mean over the last epoch's batches, as they were seen; validation is that of the epoch
    whose weights are kept, and test is theirs. All are under the noise and shots of the training itself.

    Args:
        sweep: The sweep.
        metric: The headline metric.
    """
    cells = sweep.cells[(sweep.cells["engine"] == TRAINED) & (sweep.cells["metric"] == metric)]
    tested = {str(row["run_folder"]): float(row["value"]) for _, row in cells.iterrows()}
    groups: dict[tuple[str, str], list[RunSource]] = {}
    for run in sweep.trained:
        if str(run.folder) in tested:
            groups.setdefault((run.name, settings_label(run.settings)), []).append(run)
    if not groups:
        return None
    rows = []
    for (name, settings), runs in groups.items():
        last = [_epoch(run, f"train_{metric}", "last") for run in runs]
        best = [_epoch(run, f"val_{metric}", "best") for run in runs]
        test = [tested[str(run.folder)] for run in runs]
        means = (_mean(metric, values) for values in (last, best, test))
        rows.append((name, settings or MISSING, str(len(runs)), *means))
    label = metric_label(metric)
    heads = ("run", "trained with", "seeds", f"training {label}", f"validation {label}", f"test {label}")
    known = [column for column in (3, 4, 5) if any(row[column] != MISSING for row in rows)]
    return without_constant(Table(heads, rows, (2, 3, 4, 5)), keep=(1, 2, *known))


def _epoch(run: RunSource, column: str, which: str) -> float | None:
    """Return a metric of the last or of the best epoch; of runs that keep their last weights, of the last."""
    if run.curves is None or column not in run.curves:
        return None
    values = run.curves[column].dropna()
    if values.empty:
        return None
    return float(values.iloc[-1] if "last" in (which, run.recipe.training.keep) else values.max())


def _mean(metric: str, values: Sequence[float | None]) -> str:
    known = pd.Series([value for value in values if value is not None], dtype="float64")
    error = float(known.std(ddof=1)) / len(known) ** 0.5 if len(known) > 1 else None
    return MISSING if known.empty else show_metric(metric, float(known.mean()), error)
