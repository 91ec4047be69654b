"""What the page shows of one sweep."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from qhybrid.evaluation.report.confusion import ConfusionTable, confusion_table
from qhybrid.evaluation.report.labels import (
    ENGINES,
    MITIGATIONS,
    metric_label,
    noise_label,
    settings_label,
    shots_label,
    with_error,
)
from qhybrid.evaluation.report.noise_charts import IN_AXES, facets, has_shots_axis, heat_maps, line_charts
from qhybrid.evaluation.report.parts import Figure, Table, without_constant
from qhybrid.evaluation.report.pictures import SampleTable, chosen_cells, sample_tables
from qhybrid.evaluation.report.sources import SweepSource

LONGEST_TABLE = 300


@dataclass
class SweepPart:
    """What the page shows of one sweep."""

    name: str
    description: str
    facts: str
    summary: Table
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
    found, hidden = facets(sweep.results, metric)
    more = f" {hidden} more combinations are in results.parquet." if hidden else ""
    one_scale = " Colours share one scale." if len(found) > 1 else ""
    label = metric_label(metric)
    label = label if label[1].isupper() else label.capitalize()
    by = f"{label} by noise and shots."
    bars = bool(sweep.results["standard_error"].notna().any())
    error = "Error bars are standard errors over seeds; they do not contain that the test set is finite."
    figures = [Figure(error if bars else f"{label} by noise.", line_charts(found, metric, f"{name}lines"))]
    if has_shots_axis(found):
        figures.insert(0, Figure(f"{by}{one_scale}{more}", heat_maps(found, metric, f"{name}heat")))
    cells = sweep.cells[sweep.cells["metric"] == metric]
    seeds = int(sweep.results["seeds"].max())
    counted = int(cells["count"].iloc[0])
    unit = "images" if sweep.runs and _is_classification(sweep) else "pixels"
    chance = f"{seeds} seeds where there is chance, " if seeds > 1 else ""
    facts = (
        f"{len(cells):,} cells on the {cells['split'].iloc[0]} split of {cells['dataset'].iloc[0]} "
        f"({counted:,} {unit}), {chance}{cells['seconds'].median():.2g} s a cell."
    )
    return SweepPart(
        sweep.name,
        sweep.description,
        facts,
        _sweep_summary(sweep.results, metric),
        figures,
        _sweep_confusions(sweep),
        sample_tables(sweep),
        _results_table(sweep.results, metric),
        [_failure(one) for one in sweep.failures],
    )


def _is_classification(sweep: SweepSource) -> bool:
    samples = next(iter(sweep.runs.values()))["samples"]
    return bool(samples) and samples[0]["truth"]["shape"] == []


def _sweep_summary(results: pd.DataFrame, metric: str) -> Table:
    """Return one row a run, engine, mitigation and layers: the value without noise, and the worst one."""
    rows = []
    table = results[results["metric"] == metric]
    by = ["run", "settings", "engine", "mitigation", "layers"]
    for values, group in table.groupby(by, sort=False):
        run, settings, engine, mitigation, layers = (str(value) for value in values)
        ideal = group[(group["profile_hash"] == "")]
        ideal = ideal[ideal["shots"].isna()] if ideal["shots"].isna().any() else ideal
        best = ideal.iloc[0] if len(ideal) else None
        worst = group.sort_values("value").iloc[0]
        what = settings_label(json.loads(settings), ("engine.layers",))
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


def _results_table(results: pd.DataFrame, metric: str) -> Table:
    table = results[results["metric"] == metric]
    heads = (
        "run", "settings", "engine", "noise", "shots", "mitigation", "shots in all", "layers",
        metric_label(metric), "seeds", "s a cell",
    )  # fmt: skip
    rows = [
        (
            str(row["run"]),
            settings_label(json.loads(row["settings"]), (*IN_AXES, "engine.layers")) or "–",
            ENGINES.get(str(row["engine"]), str(row["engine"])),
            noise_label(row),
            shots_label(row["shots"]),
            MITIGATIONS.get(str(row["mitigation"]), str(row["mitigation"])),
            shots_label(row["shots_total"]),
            str(row["layers"]),
            with_error(row["value"], row["standard_error"]),
            str(row["seeds"]),
            f"{row['seconds']:.2g}",
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


def _failure(failure: dict[str, Any]) -> str:
    what = ", ".join(f"{name} {value}" for name, value in failure["what"].items())
    return f"{what}: {failure['error']}"
