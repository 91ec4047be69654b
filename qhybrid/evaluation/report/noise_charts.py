"""A metric against noise and shots: heat maps, and lines with error bars."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from qhybrid.evaluation.report.labels import (
    ENGINES,
    MITIGATIONS,
    metric_label,
    noise_label,
    settings_label,
    shots_label,
)
from qhybrid.evaluation.report.svg import MARKERS, SERIES, chart_style, figure_svg

FACET = ("run", "settings", "engine", "mitigation", "layers")
IN_AXES = ("engine.noise", "engine.shots")
"""Settings that are axes already."""
MOST_FACETS = 12
_COLORS = "cividis"
_DARK = 0.55


@dataclass(frozen=True)
class Facet:
    """The cells that one chart shows.

    Attributes:
        title: What they have in common.
        table: Rows of results with columns `noise` (label) and `shots`.
    """

    title: str
    table: pd.DataFrame


def facets(results: pd.DataFrame, metric: str) -> tuple[list[Facet], int]:
    """Split the results of a metric into charts of noise against shots; also return how many are left out."""
    rows = results[results["metric"] == metric].copy()
    rows["noise"] = [noise_label(row) for _, row in rows.iterrows()]
    rows["settings"] = [
        settings_label(json.loads(text), (*IN_AXES, "engine.layers")) for text in rows["settings"]
    ]
    varied = [name for name in FACET if rows[name].nunique() > 1] or ["run"]
    found = [
        Facet(_title(dict(zip(varied, values, strict=True))), table)
        for values, table in rows.groupby(varied, sort=False)
    ]
    return found[:MOST_FACETS], max(0, len(found) - MOST_FACETS)


def _title(values: dict[str, Any]) -> str:
    words = {"engine": ENGINES, "mitigation": MITIGATIONS}
    parts = [words.get(name, {}).get(str(value), str(value)) for name, value in values.items()]
    if values.get("layers") == "all":
        parts[list(values).index("layers")] = "all layers"
    return ", ".join(part for part in parts if part)


def heat_maps(found: list[Facet], metric: str, name: str) -> Markup:
    """Return one heat map a facet, noise downwards and shots to the right, on one colour scale."""
    everything = pd.concat([facet.table for facet in found])
    low, high = float(everything["value"].min()), float(everything["value"].max())
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    height = max(facet.table["noise"].nunique() for facet in found)
    width = max(len(_ordered_shots(facet.table)) for facet in found)
    with chart_style():
        figure = Figure(figsize=(4.9 * columns, rows * (0.36 * height + 1.0)), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for axis, facet in zip(axes, found):
            _heat_map(axis, facet, low, high)
            axis.set(xlim=(0, width), ylim=(height, 0))
        for axis in axes[len(found) :]:
            axis.set_axis_off()
        return figure_svg(figure, name, f"Heat maps of {metric_label(metric)} by noise and shots")


def _heat_map(axis: Any, facet: Facet, low: float, high: float) -> None:
    noises = list(dict.fromkeys(facet.table["noise"]))
    shots = _ordered_shots(facet.table)
    colors = colormaps[_COLORS]
    for _, row in facet.table.iterrows():
        x, y = shots.index(shots_label(row["shots"])), noises.index(row["noise"])
        place = 0.5 if high == low else (row["value"] - low) / (high - low)
        fill = colors(0.12 + 0.8 * place)
        axis.add_patch(Rectangle((x, y), 1, 1, facecolor=to_hex(fill), edgecolor="none"))
        ink = "#ffffff" if np.dot(fill[:3], (0.299, 0.587, 0.114)) < _DARK else "#111111"
        axis.text(x + 0.5, y + 0.5, f"{row['value']:.3f}", ha="center", va="center", color=ink, fontsize=8.5)
    axis.set_xticks(np.arange(len(shots)) + 0.5, shots)
    axis.set_yticks(np.arange(len(noises)) + 0.5, noises)
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.xaxis.tick_top()
    axis.xaxis.set_label_position("top")
    axis.set_title(facet.title)
    axis.set_xlabel("shots")


def _ordered_shots(table: pd.DataFrame) -> list[str]:
    finite = sorted(int(shots) for shots in table["shots"].dropna().unique())
    return [shots_label(shots) for shots in finite] + (["infinite"] if table["shots"].isna().any() else [])


def has_shots_axis(found: list[Facet]) -> bool:
    """Return whether any chart has several numbers of shots."""
    return any(len(_ordered_shots(facet.table)) > 1 for facet in found)


def line_charts(found: list[Facet], metric: str, name: str) -> Markup:
    """Return lines with error bars against shots; where there is one number of shots, points by noise."""
    if not has_shots_axis(found):
        return _point_charts(found, metric, name)
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    lines = max(facet.table["noise"].nunique() for facet in found)
    with chart_style():
        figure = Figure(figsize=(4.9 * columns, rows * 2.9 + 0.2 * lines), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
        for axis, facet in zip(axes, found):
            _lines(axis, facet)
            axis.set_title(facet.title)
        for axis in axes[::columns]:
            axis.set_ylabel(metric_label(metric))
        for axis in axes[len(found) :]:
            axis.set_axis_off()
        handles, labels = axes[0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside lower left", ncols=3)
        return figure_svg(figure, name, f"{metric_label(metric)} by shots and noise with standard errors")


def _lines(axis: Any, facet: Facet) -> None:
    shots = _ordered_shots(facet.table)
    for index, (noise, table) in enumerate(facet.table.groupby("noise", sort=False)):
        table = table.assign(x=[shots.index(shots_label(value)) for value in table["shots"]]).sort_values("x")
        axis.errorbar(
            table["x"],
            table["value"],
            yerr=table["standard_error"].fillna(0),
            color=SERIES[index % len(SERIES)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4.5,
            capsize=2.5,
            elinewidth=1,
            label=noise,
        )
    axis.set_xticks(range(len(shots)), shots)
    axis.set_xlabel("shots")
    axis.margins(x=0.08)


def _point_charts(found: list[Facet], metric: str, name: str) -> Markup:
    """Return one row a noise profile, in the order of the sweep file, the metric to the right."""
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    height = max(facet.table["noise"].nunique() for facet in found)
    with chart_style():
        figure = Figure(figsize=(4.9 * columns, rows * (0.27 * height + 1.05)), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
        for axis, facet in zip(axes, found):
            _points(axis, facet)
            axis.set_title(facet.title)
            axis.set_xlabel(metric_label(metric))
        for axis in axes[len(found) :]:
            axis.set_axis_off()
        return figure_svg(figure, name, f"{metric_label(metric)} by noise with standard errors")


def _points(axis: Any, facet: Facet) -> None:
    table = facet.table
    places = range(len(table))
    axis.errorbar(
        table["value"],
        places,
        xerr=table["standard_error"].fillna(0),
        color=SERIES[0],
        marker="o",
        markersize=5,
        capsize=2.5,
        linewidth=0,
        elinewidth=1,
    )
    axis.set_yticks(places, list(table["noise"]))
    axis.set_ylim(len(table) - 0.5, -0.5)
    axis.margins(x=0.08)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(6))
