"""What the page shows of one sweep."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd

from qhybrid.report.confusion import ConfusionTable, confusion_table
from qhybrid.report.engine_part import engines_table
from qhybrid.report.labels import (
    ENGINES,
    MITIGATIONS,
    failure_label,
    metric_label,
    noise_label,
    seconds_label,
    shots_label,
    training_label,
    with_error,
)
from qhybrid.report.parts import Figure, Table, without_constant
from qhybrid.report.pictures import SampleTable, chosen_cells, sample_tables
from qhybrid.report.sources import SweepSource
from qhybrid.report.sweep_figures import sweep_figures
from qhybrid.report.training_part import TRAINED, training_table

LONGEST_TABLE = 300


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
        _sweep_summary(sweep.results, metric),
        training_table(sweep, metric),
        engines_table(sweep.cells),
        sweep_figures(sweep.results, metric, name),
        _sweep_confusions(sweep),
        sample_tables(sweep),
        _results_table(sweep.results, metric),
        [failure_label(one) for one in sweep.failures],
    )


def _facts(sweep: SweepSource, metric: str) -> str:
    """Say in a sentence what was evaluated."""
    cells = sweep.cells[sweep.cells["metric"] == metric]
    unit = "images" if sweep.runs and _is_classification(sweep) else "pixels"
    runs = cells["run_folder"].nunique()
    seeds = cells[cells["engine"] != TRAINED]["seed"].nunique()
    chance = f", {seeds} seeds of shots where there is chance" if seeds > 1 else ""
    data = f"the {cells['split'].iloc[0]} split of {cells['dataset'].iloc[0]}"
    return (
        f"{len(cells):,} cells of {runs} trained run{'s' * (runs > 1)} on {data} "
        f"({int(cells['count'].iloc[0]):,} {unit}){chance}, "
        f"{seconds_label(cells['seconds'].median())} a cell."
    )


def _is_classification(sweep: SweepSource) -> bool:
    samples = next(iter(sweep.runs.values()))["samples"]
    return bool(samples) and samples[0]["truth"]["shape"] == []


def _sweep_summary(results: pd.DataFrame, metric: str) -> Table:
    """Return one row a run, engine, mitigation and layers: the value without noise, and the worst one.

    Cells on the engine of the training are left out: they are in the table of what was trained.
    """
    rows = []
    table = results[(results["metric"] == metric) & (results["engine"] != TRAINED)]
    by = ["run", "settings", "engine", "mitigation", "layers"]
    for values, group in table.groupby(by, sort=False):
        run, settings, engine, mitigation, layers = (str(value) for value in values)
        ideal = _ideal_of(table, group)
        ideal = ideal[ideal["shots"].isna()] if ideal["shots"].isna().any() else ideal
        best = ideal.iloc[0] if len(ideal) else None
        worst = group.sort_values("value").iloc[0]
        what = training_label(json.loads(settings), engine)
        rows.append(
            (
                f"{run}{', ' if what else ''}{what}",
                ENGINES.get(engine, engine),
                MITIGATIONS.get(mitigation, mitigation),
                layers,
                "–" if best is None else with_error(best["value"], best["standard_error"]),
                with_error(worst["value"], worst["standard_error"]),
                f"{noise_label(worst)}, {shots_label(worst['shots'])} shots",
            )
        )
    name = metric_label(metric)
    heads = ("run", "engine", "mitigation", "layers", f"{name} without noise", f"lowest {name}", "found at")
    return without_constant(Table(heads, rows, (4, 5)), keep=(0, 4, 5, 6))


def _ideal_of(table: pd.DataFrame, group: pd.DataFrame) -> pd.DataFrame:
    """Return the noiseless rows of a group; for mitigated ones those without, which are the same."""
    own = group[group["profile_hash"] == ""]
    if len(own):
        return own
    same = ["run", "settings", "engine", "layers"]
    alike = (table[same] == group[same].iloc[0]).all(axis=1)
    return table[alike & (table["profile_hash"] == "") & (table["mitigation"] == "none")]


def _results_table(results: pd.DataFrame, metric: str) -> Table:
    table = results[results["metric"] == metric]
    heads = (
        "run", "settings", "engine", "noise", "shots", "mitigation", "shots in all", "layers",
        metric_label(metric), "seeds", "s a cell",
    )  # fmt: skip
    rows = [
        (
            str(row["run"]),
            training_label(json.loads(row["settings"]), str(row["engine"])) or "–",
            ENGINES.get(str(row["engine"]), str(row["engine"])),
            noise_label(row),
            shots_label(row["shots"]),
            MITIGATIONS.get(str(row["mitigation"]), str(row["mitigation"])),
            shots_label(row["shots_total"]),
            str(row["layers"]),
            with_error(row["value"], row["standard_error"]),
            str(row["seeds"]),
            seconds_label(row["seconds"]).removesuffix(" s"),
        )
        for _, row in table.head(LONGEST_TABLE).iterrows()
    ]
    found = without_constant(Table(heads, rows, (4, 6, 8, 9, 10)), keep=(3, 4, 8, 9))
    if len(table) > LONGEST_TABLE:
        found.note = f"{found.note}; the first {LONGEST_TABLE} of {len(table)} rows".lstrip("; ")
    return found


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
