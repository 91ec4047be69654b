"""Tidy tables of a sweep: cells.parquet, one row a cell and metric, and results.parquet, means over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowException

from qhybrid.errors import DataError
from qhybrid.experiments.sweeps.cells import Cell
from qhybrid.experiments.sweeps.engines import shots_of_estimate
from qhybrid.experiments.sweeps.later_metrics import unmeasured, with_metrics
from qhybrid.experiments.sweeps.store import CellStore
from qhybrid.metrics import place_of
from qhybrid.workspace import atomic_path

CELLS_TABLE = "cells.parquet"
RESULTS_TABLE = "results.parquet"
PACKAGES = ("torch", "qiskit", "qiskit-aer")
VERSIONS = ("qhybrid", "python", *(name.replace("-", "_") for name in PACKAGES))
_OVER_SEEDS = (
    "run_folder", "weights", "epoch", "seed", "training_seed", "seconds", "cpu_seconds", "key", "created",
    "git_commit", "git_modified", *VERSIONS,
)  # fmt: skip
"""Columns that may differ between the cells of one mean: an extended sweep may see later versions."""


def cell_rows(cell: Cell, result: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a finished cell, one a metric; one that is not known has no value."""
    made, facts = result["made_with"], cell.run.facts
    git = made["git"] or {}
    conditions = cell.conditions
    row = {
        "run": cell.run.name,
        "settings": json.dumps(facts["settings"], sort_keys=True),
        "training_seed": facts["seed"],
        "model": facts["model"],
        "dataset": facts["dataset"],
        "split": settings["split"],
        "engine": conditions.engine,
        "profile": conditions.profile,
        "scale": conditions.scale,
        "shots": conditions.shots,
        "seed": conditions.seed,
        "mapping": conditions.mapping,
        "mitigation": conditions.mitigation,
        "layers": conditions.layers if conditions.layers == "all" else " ".join(conditions.layers),
        "shots_total": shots_of_estimate(conditions, settings, cell.noise is not None),
        "count": result["count"],
        "seconds": result["seconds"],
        "cpu_seconds": result.get("cpu_seconds"),
        "run_folder": cell.run.folder,
        "weights": facts["weights"],
        "epoch": facts["epoch"],
        "profile_hash": "" if cell.noise is None else cell.noise.fingerprint,
        "key": cell.key,
        "qhybrid": made["qhybrid"],
        "python": made["python"],
        **{name.replace("-", "_"): made["packages"].get(name) for name in PACKAGES},
        "git_commit": git.get("commit", ""),
        "git_modified": bool(git.get("modified", False)),
        "created": made["created"],
    }
    unknown = {one.key: "" for one in unmeasured(cell, result)}
    missing = {"metrics": dict.fromkeys(unknown, math.nan), "measured": unknown}
    values = with_metrics(result, missing)["metrics"]
    # Metrics that were added later stand where they belong, so that all cells have one order.
    names = sorted(values, key=lambda name: place_of(name, facts["task"]))
    return [{**row, "metric": name, "value": values[name]} for name in names]


def build_tables(folder: Path, cells: Sequence[Cell], settings: dict[str, Any]) -> tuple[Path, Path]:
    """Write both tables from the finished cells and return their paths.

    Raises:
        WorkspaceError: If they cannot be written.
    """
    store = CellStore(folder)
    found = {key: store.load(key) for key in {cell.key for cell in cells}}
    rows = [row for cell in cells if (result := found[cell.key]) for row in cell_rows(cell, result, settings)]
    table = _typed(pd.DataFrame(rows)) if rows else pd.DataFrame()
    return _write(folder / CELLS_TABLE, table), _write(folder / RESULTS_TABLE, mean_over_seeds(table))


def mean_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a condition and metric: `value` is the mean, with its standard error.

    The standard error is s / sqrt(n). Of one trained run n counts the seeds of its shots; of several runs
    each is averaged over its own seeds first, and n counts the runs, since the shots of one run share its
    weights. It is missing for n = 1, and does not contain that the test set is finite.
    """
    if table.empty:
        return table
    by = [column for column in table.columns if column not in (*_OVER_SEEDS, "value")]
    groups = table.groupby(by, dropna=False, sort=False)
    result = groups["value"].agg(lowest="min", highest="max", seeds="count")
    means = table.groupby([*by, "run_folder"], dropna=False, sort=False)["value"].mean().reset_index()
    # Groups come in the order of their first rows here as there; missing shots align no index.
    over_runs = means.groupby(by, dropna=False, sort=False)["value"].agg(["mean", "sem", "count"])
    error = over_runs["sem"].where(over_runs["count"] > 1, groups["value"].sem().to_numpy())
    result.insert(0, "value", over_runs["mean"].to_numpy())
    result.insert(1, "standard_error", error.to_numpy())
    result["runs"] = over_runs["count"].to_numpy()
    result["seconds"] = groups["seconds"].mean()
    result["cpu_seconds"] = groups["cpu_seconds"].mean()
    for column in ("weights", *(name for name in VERSIONS if name in table.columns)):
        result[column] = groups[column].agg(lambda found: " ".join(dict.fromkeys(map(str, found))))
    return result.reset_index()


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    whole: dict[Any, Any] = dict.fromkeys(("shots", "seed", "shots_total"), "Int64")
    return table.astype({**whole, "value": "float64", "cpu_seconds": "float64"})


def _write(path: Path, table: pd.DataFrame) -> Path:
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)
    return path


def read_cells(folder: str | Path) -> pd.DataFrame:
    """Read the table of all cells of a sweep folder.

    Raises:
        DataError: If it is missing or damaged.
    """
    return _read(Path(folder) / CELLS_TABLE)


def read_results(folder: str | Path) -> pd.DataFrame:
    """Read the table of means over seeds of a sweep folder.

    Raises:
        DataError: If it is missing or damaged.
    """
    return _read(Path(folder) / RESULTS_TABLE)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ArrowException, ValueError) as error:
        raise DataError(
            f"{path}: must be a Parquet table of a sweep, but cannot be read ({error}). Fix: run "
            "`qhybrid sweep` again; finished cells are kept, and the tables are written anew from them."
        ) from error
