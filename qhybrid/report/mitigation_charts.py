"""Error mitigation: what it brings under each noise, and the shots that it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from qhybrid.metrics import metric_label
from qhybrid.mitigations import MITIGATIONS, NONE, mitigation_label
from qhybrid.report.facets import Look, looks
from qhybrid.report.noise_charts import add_legend, draw_line, name_axis
from qhybrid.report.svg import chart_style, figure_svg

COLUMNS = 3
MOST_FACETS = 12
ASIDE = 0.16
"""Decades between the first and the last of several lines, so that equal values do not cover each other."""
INFINITE = 0.7
"""Decades from the largest number of shots to where infinitely many are drawn."""


def mitigated_noises(rows: pd.DataFrame) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """Return the conditions under which several mitigations were compared, with their rows.

    Args:
        rows: From `labelled`.
    """
    by = ["noise"] + [name for name in ("run", "settings", "engine", "layers") if rows[name].nunique() > 1]
    groups = [
        (tuple(str(value) for value in values), table)
        for values, table in rows.groupby(by, sort=False)
        if table["mitigation"].nunique() > 1
    ]
    return groups[:MOST_FACETS]


def mitigation_looks(rows: pd.DataFrame) -> dict[str, Look]:
    """Return how each mitigation is drawn, by its label: those that are known, then others of the rows.

    Colours do not depend on which ones a sweep has; one whose plugin is not loaded goes by its name.
    """
    names = dict.fromkeys([*(name for name, _ in MITIGATIONS.items()), *map(str, rows["mitigation"])])
    return looks([mitigation_label(name) for name in names])


def mitigation_charts(
    groups: list[tuple[tuple[str, ...], pd.DataFrame]], metric: str, name: str, look: Mapping[str, Look]
) -> Markup:
    """Return one chart a condition: the metric against all shots of one estimate, a line a mitigation.

    Args:
        groups: From `mitigated_noises`.
        metric: The metric.
        name: Unique on the page.
        look: How each mitigation is drawn.
    """
    columns = min(COLUMNS, len(groups))
    rows = -(-len(groups) // columns)
    # What all conditions have in common need not stand above each.
    shared = [len(set(column)) == 1 for column in zip(*(title for title, _ in groups), strict=True)]
    shots = _Axis.of([table for _, table in groups])
    with chart_style():
        figure = Figure(figsize=(3.25 * columns + 0.3, rows * 2.1 + 0.6), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axis, (title, table) in zip(axes.flatten(), groups):
            _lines(axis, table, look, shots)
            parts = [part for part, same in zip(title, shared, strict=True) if not same]
            axis.set_title(", ".join(parts or title[:1]))
        for axis in axes[:, 0]:
            name_axis(axis, metric, "y")
        for place, axis in enumerate(axes.flatten()):
            if place >= len(groups):
                axis.set_axis_off()
            elif place + columns >= len(groups):
                axis.set_xlabel("shots in all")
                axis.tick_params(labelbottom=True)
        add_legend(figure, axes.flatten(), list(look), columns=2)
        return figure_svg(figure, name, f"{metric_label(metric)} by error mitigation and shots")


@dataclass(frozen=True)
class _Axis:
    """Where numbers of shots stand, the same in all charts.

    Attributes:
        counts: Finite numbers without mitigation, which are labelled.
        end: Where infinitely many stand.
    """

    counts: list[int]
    end: float

    @classmethod
    def of(cls, tables: Sequence[pd.DataFrame]) -> _Axis:
        everything = pd.concat(tables)
        finite = everything["shots_total"].dropna()
        own = everything[everything["mitigation"] == NONE]["shots_total"].dropna()
        return cls(
            sorted({int(count) for count in own}),
            math.log10(finite.max()) + INFINITE if len(finite) else 0.0,
        )

    def place(self, shots: Any) -> float:
        return self.end if pd.isna(shots) else math.log10(shots)


def _lines(axis: Any, table: pd.DataFrame, look: Mapping[str, Look], shots: _Axis) -> None:
    several = table["mitigation"].nunique()
    for index, (mitigation, part) in enumerate(table.groupby("mitigation", sort=False)):
        aside = ASIDE * ((index + 0.5) / several - 0.5)
        label = mitigation_label(str(mitigation))
        part = part.assign(x=[shots.place(count) for count in part["shots_total"]]).sort_values("x")
        draw_line(axis, part["x"] + aside, part, look[label], label)
    labels = [f"{count:,}" for count in shots.counts]
    axis.set_xticks([*map(math.log10, shots.counts), shots.end], [*labels, "infinite"])
    axis.margins(x=0.1)
