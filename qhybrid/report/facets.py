"""How the cells of a sweep are distributed over charts, and how each noise profile looks in all of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from qhybrid.mitigations import NONE, mitigation_label
from qhybrid.report.labels import (
    executed_by,
    noise_label,
    shots_label,
    training_label,
)
from qhybrid.report.svg import MARKERS, SERIES

FACET = ("run", "settings", "engine", "mitigation")
MOST_FACETS = 12
SMALLEST_SPAN = 0.01
"""Smallest range of a metric that fills a chart."""


@dataclass(frozen=True)
class Facet:
    """The cells that one chart shows.

    Attributes:
        title: What they have in common.
        table: Rows of results with columns `noise` (label) and `shots`.
    """

    title: str
    table: pd.DataFrame

    @property
    def noises(self) -> list[str]:
        """Noise labels, in the order of the sweep file."""
        return list(dict.fromkeys(self.table["noise"]))

    @property
    def shots(self) -> list[str]:
        """Numbers of shots, from few to infinite."""
        counts = self.table["shots"]
        finite = sorted(int(shots) for shots in counts.dropna().unique())
        return [shots_label(shots) for shots in finite] + (["infinite"] if counts.isna().any() else [])


@dataclass(frozen=True)
class Chart:
    """Facets that share a figure, its scale and its colours.

    Attributes:
        title: The quantum layers that noise applies to; empty where all charts have the same.
        facets: The facets.
        hidden: Number of facets that are left out.
    """

    title: str
    facets: list[Facet]
    hidden: int

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value, at least `SMALLEST_SPAN` apart: colours do not blow up what is equal."""
        values = [float(value) for facet in self.facets for value in facet.table["value"]]
        return spread(min(values), max(values))

    @property
    def has_shots_axis(self) -> bool:
        """Whether any facet has several numbers of shots."""
        return any(len(facet.shots) > 1 for facet in self.facets)


@dataclass(frozen=True)
class Look:
    """How a line is drawn."""

    color: str
    marker: str
    style: str


def spread(low: float, high: float) -> tuple[float, float]:
    """Return a range of at least `SMALLEST_SPAN` with the same middle."""
    more = max(0.0, SMALLEST_SPAN - (high - low)) / 2
    return low - more, high + more


def labelled(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of a metric with readable columns `noise`, `settings` and `layers`."""
    rows = results[results["metric"] == metric].copy()
    rows["noise"] = [noise_label(row) for _, row in rows.iterrows()]
    rows["settings"] = [
        training_label(json.loads(text), engine)
        for text, engine in zip(rows["settings"], rows["engine"], strict=True)
    ]
    rows["layers"] = ["all layers" if layers == "all" else layers for layers in rows["layers"]]
    return rows


def noise_charts_of(rows: pd.DataFrame) -> list[Chart]:
    """Return one chart for each choice of layers: what noise does there has its own scale.

    Mitigated cells are left out where there are others: they have charts of their own.

    Args:
        rows: From `labelled`.
    """
    plain = rows[rows["mitigation"] == NONE]
    chosen = plain if len(plain) else rows
    several = chosen["layers"].nunique() > 1
    charts = []
    for layers, table in chosen.groupby("layers", sort=False):
        varied = [name for name in FACET if table[name].nunique() > 1] or ["run"]
        found = [
            Facet(_title(dict(zip(varied, values, strict=True))), part)
            for values, part in table.groupby(varied, sort=False)
        ]
        charts.append(
            Chart(str(layers) if several else "", found[:MOST_FACETS], max(0, len(found) - MOST_FACETS))
        )
    # A single value beside whole charts, such as a reference, is in the tables.
    return [chart for chart in charts if sum(len(facet.table) for facet in chart.facets) > 1] or charts


def _title(values: dict[str, Any]) -> str:
    words = {"engine": executed_by, "mitigation": mitigation_label}
    parts = [words.get(name, str)(str(value)) for name, value in values.items()]
    return ", ".join(part for part in parts if part)


def looks(names: list[str]) -> dict[str, Look]:
    """Return colour, marker and line style of each name; the second round of colours is dashed."""
    return {
        name: Look(
            SERIES[index % len(SERIES)],
            MARKERS[(index + index // len(SERIES)) % len(MARKERS)],
            "-" if index < len(SERIES) else "--",
        )
        for index, name in enumerate(names)
    }
