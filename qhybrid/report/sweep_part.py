"""What the page shows of one sweep."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from qhybrid.experiments.sweeps.cells import TRAINED
from qhybrid.metrics import DASH, find_metric, metric_label
from qhybrid.mitigations import NONE, mitigation_label
from qhybrid.report.confusion import ConfusionTable, confusion_table
from qhybrid.report.engine_part import engines_table
from qhybrid.report.labels import (
    OVER_RUNS,
    counted,
    executed_by,
    failure_label,
    noise_label,
    repeats,
    seconds_label,
    shots_label,
    training_label,
)
from qhybrid.report.parts import Figure, Table, without_constant
from qhybrid.report.pictures import SampleTable, chosen_cells, sample_tables
from qhybrid.report.resolution import with_resolution
from qhybrid.report.sources import SweepSource
from qhybrid.report.sweep_figures import sweep_figures
from qhybrid.report.training_part import training_table

LONGEST_TABLE = 300
CONDITIONS = (
    "run", "settings", "engine", "profile", "scale", "shots", "mapping", "mitigation", "layers",
    "profile_hash",
)  # fmt: skip


@dataclass
class SweepPart:
    """What the page shows of one sweep."""

    name: str
    description: str
    facts: str
    summary: Table
    training: Table | None
    engines: Table | None
    figures: list[Figure]
    confusions: list[ConfusionTable]
    samples: list[SampleTable]
    results: Table
    remarks: list[str]
    failures: list[str]


def sweep_part(sweep: SweepSource, name: str) -> SweepPart:
    """Return tables, charts and samples of a sweep.

    Args:
        sweep: A sweep with results.
        name: Unique on the page.
    """
    metric = str(sweep.results["metric"].iloc[0])
    return SweepPart(
        sweep.name,
        sweep.description,
        _facts(sweep, metric),
        _sweep_summary(sweep.results),
        training_table(sweep, metric),
        engines_table(sweep.cells),
        sweep_figures(
            with_resolution(sweep, metric, bool(sweep.runs) and _is_classification(sweep)), metric, name
        ),
        _sweep_confusions(sweep),
        sample_tables(sweep),
        _results_table(sweep.results, metric),
        _missing(sweep.cells),
        [failure_label(one) for one in sweep.failures],
    )


def _facts(sweep: SweepSource, metric: str) -> str:
    """Say in a sentence what was evaluated."""
    cells = sweep.cells[sweep.cells["metric"] == metric]
    unit = "image" if sweep.runs and _is_classification(sweep) else "pixel"
    runs = cells["run_folder"].nunique()
    seeds = cells[cells["engine"] != TRAINED]["seed"].nunique()
    repeats = f", {seeds} seeds where shots are drawn" if seeds > 1 else ""
    data = f"the {cells['split'].iloc[0]} split of {cells['dataset'].iloc[0]}"
    return (
        f"{counted(len(cells), 'cell')} of {counted(runs, 'trained run')} on {data} "
        f"({counted(int(cells['count'].iloc[0]), unit)}){repeats}, "
        f"{seconds_label(cells['seconds'].median())} a cell."
    )


def _is_classification(sweep: SweepSource) -> bool:
    samples = next(iter(sweep.runs.values()))["samples"]
    return bool(samples) and samples[0]["truth"]["shape"] == []


def _missing(cells: pd.DataFrame) -> list[str]:
    """Say of which metrics values are missing: they must not be taken for anything else."""
    lost = cells[cells["value"].isna()].groupby("metric", sort=False)["key"].nunique()
    return [
        f"{metric_label(str(metric))} is missing in {counted(int(count), 'cell')}: it could not be computed "
        "there, or too little was kept of these cells when it was added."
        for metric, count in lost.items()
    ]


def _sweep_summary(results: pd.DataFrame) -> Table:
    """Return one row a run, engine, mitigation, layers and metric: the value without noise, and the worst.

    Cells on the engine of the training are left out: they are in the table of what was trained. Numbers of
    single classes are in the table of all results.
    """
    rows = []
    table = results[~results["metric"].str.contains(" ") & (results["engine"] != TRAINED)]
    by = ["metric", "run", "settings", "engine", "mitigation", "layers"]
    for values, group in table.groupby(by, sort=False):
        metric, run, settings, engine, mitigation, layers = (str(value) for value in values)
        shown = find_metric(metric)
        ideal = _ideal_of(table[table["metric"] == metric], group)
        ideal = ideal[ideal["shots"].isna()] if ideal["shots"].isna().any() else ideal
        best = ideal.iloc[0] if len(ideal) else None
        worst = group.sort_values("value", ascending=shown.larger_is_better).iloc[0]
        what = training_label(json.loads(settings), engine)
        rows.append(
            (
                f"{run}{', ' if what else ''}{what}",
                executed_by(engine),
                mitigation_label(mitigation),
                layers,
                shown.label,
                shown.direction,
                DASH if best is None else shown.show(best["value"], best["standard_error"]),
                shown.show(worst["value"], worst["standard_error"]),
                f"{noise_label(worst)}, {shots_label(worst['shots'])} shots",
            )
        )
    heads = (
        "run", "engine", "mitigation", "layers", "metric", "better", "without noise", "worst", "found at",
    )  # fmt: skip
    return without_constant(Table(heads, rows, (6, 7)), keep=(0, 4, 5, 6, 7, 8))


def _ideal_of(table: pd.DataFrame, group: pd.DataFrame) -> pd.DataFrame:
    """Return the noiseless rows of a group; for mitigated ones those without, which are the same."""
    own = group[group["profile_hash"] == ""]
    if len(own):
        return own
    same = ["run", "settings", "engine", "layers"]
    alike = (table[same] == group[same].iloc[0]).all(axis=1)
    return table[alike & (table["profile_hash"] == "") & (table["mitigation"] == NONE)]


def _results_table(results: pd.DataFrame, metric: str) -> Table:
    """Return one row a condition, with a column for every metric, the headline first."""
    table = results[results["metric"] == metric]
    over = repeats(table)
    shown = [find_metric(str(key)) for key in dict.fromkeys(results["metric"])]
    values = {(row["metric"], *_condition(row)): row for _, row in results.iterrows()}
    heads = (
        "run", "settings", "engine", "noise", "shots", "mitigation", "shots in all", "layers",
        *(one.label for one in shown), *over, "s a cell",
    )  # fmt: skip
    rows = []
    counts = zip(*over.values(), strict=True)
    for (_, row), repeated in zip(table.head(LONGEST_TABLE).iterrows(), counts, strict=False):
        found = [values.get((one.key, *_condition(row))) for one in shown]
        rows.append(
            (
                str(row["run"]),
                training_label(json.loads(row["settings"]), str(row["engine"])) or DASH,
                executed_by(str(row["engine"])),
                noise_label(row),
                shots_label(row["shots"]),
                mitigation_label(str(row["mitigation"])),
                shots_label(row["shots_total"]),
                str(row["layers"]),
                *(
                    DASH if other is None else one.show(other["value"], other["standard_error"])
                    for one, other in zip(shown, found, strict=True)
                ),
                *repeated,
                seconds_label(row["seconds"]).removesuffix(" s"),
            )
        )
    numbers = tuple(range(8, 8 + len(shown) + len(over)))
    result = without_constant(Table(heads, rows, (4, 6, *numbers, numbers[-1] + 1)), keep=(3, 4, *numbers))
    notes = [result.note, OVER_RUNS if len(over) > 1 else ""]
    if len(table) > LONGEST_TABLE:
        notes.append(f"the first {LONGEST_TABLE} of {len(table)} rows")
    result.note = "; ".join(filter(None, notes))
    return result


def _condition(row: Any) -> tuple[str, ...]:
    """Return what tells the rows of a metric apart."""
    return tuple(shots_label(row[name]) if name == "shots" else str(row[name]) for name in CONDITIONS)


def _sweep_confusions(sweep: SweepSource) -> list[ConfusionTable]:
    tables = []
    seen = set()
    for weights, kept in sweep.runs.items():
        if kept["name"] in seen:
            continue
        seen.add(kept["name"])
        for title, key in chosen_cells(sweep, weights):
            cell = sweep.cell(key)
            if cell is not None:
                name = f"{kept['name']}, {title}" if len(sweep.runs) > 1 else title
                tables.append(confusion_table(name, kept["class_names"], cell["confusion"]))
    return tables
