"""A metric against noise and shots: heat maps, and lines with error bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from qhybrid.metrics import PERCENT, find_metric, metric_label
from qhybrid.report.facets import Chart, Facet, Look, spread
from qhybrid.report.labels import shots_label
from qhybrid.report.resolution import is_below
from qhybrid.report.svg import GRID, INK, SERIES, chart_style, figure_svg

_COLORS = "cividis"
_DARK = 0.55
_ROW, _HEAD = 0.36, 1.0
"""Inches of a row of a heat map, and of its titles."""
_GAP = 0.1
"""Inches above and below a heat map."""


def heat_and_lines(chart: Chart, metric: str, name: str, look: Mapping[str, Look]) -> Markup:
    """Return the heat map of a single facet with its lines to the right.

    Args:
        chart: A chart of one facet.
        metric: The metric.
        name: Unique on the page.
        look: How each noise profile is drawn, the same in all charts of a sweep.
    """
    (facet,) = chart.facets
    height = max(_ROW * len(facet.noises) + _HEAD, 2.4) + 0.2 * -(-len(facet.noises) // 4)
    with chart_style():
        figure = Figure(figsize=(9.8, height), layout="constrained")
        left, right = figure.subplots(1, 2)
        _heat_map(left, facet, metric, *chart.range)
        left.set(xlim=(0, len(facet.shots)), ylim=(len(facet.noises), 0), title="")
        _lines(right, facet, look)
        name_axis(right, metric, "y")
        add_legend(figure, [right], list(look), columns=4)
        return figure_svg(figure, name, f"{metric_label(metric)} by noise and shots: heat map and lines")


def heat_maps(chart: Chart, metric: str, name: str) -> Markup:
    """Return one heat map a facet, noise downwards and shots to the right, on one colour scale."""
    found = chart.facets
    columns = min(2, len(found))
    heights = [
        max(len(facet.noises) for facet in found[start : start + columns])
        for start in range(0, len(found), columns)
    ]
    inches = [_ROW * height + _HEAD for height in heights]
    width = max(len(facet.shots) for facet in found)
    with chart_style():
        figure = Figure(figsize=(4.9 * columns, sum(inches)), layout="constrained")
        engine: Any = figure.get_layout_engine()
        engine.set(h_pad=_GAP)
        axes = figure.subplots(
            len(heights), columns, squeeze=False, gridspec_kw={"height_ratios": inches}
        ).flatten()
        for place, (axis, facet) in enumerate(zip(axes, found)):
            _heat_map(axis, facet, metric, *chart.range)
            axis.set(xlim=(0, width), ylim=(heights[place // columns], 0))
            axis.xaxis.label.set_x(len(facet.shots) / (2 * width))
        for axis in axes[len(found) :]:
            axis.set_axis_off()
        return figure_svg(figure, name, f"Heat maps of {metric_label(metric)} by noise and shots")


def _heat_map(axis: Any, facet: Facet, metric: str, low: float, high: float) -> None:
    noises, shots = facet.noises, facet.shots
    shown = find_metric(metric)
    colors = colormaps[_COLORS]
    for _, row in facet.table.iterrows():
        x, y = shots.index(shots_label(row["shots"])), noises.index(row["noise"])
        place = 0.5 if high == low else (row["value"] - low) / (high - low)
        fill = colors(0.12 + 0.8 * place)
        if is_below(row):
            # The number stays; a colour would say that it differs.
            axis.add_patch(
                Rectangle((x, y), 1, 1, facecolor="none", edgecolor=GRID, hatch="////", linewidth=0.6)
            )
            ink = INK
        else:
            axis.add_patch(Rectangle((x, y), 1, 1, facecolor=to_hex(fill), edgecolor="none"))
            ink = "#ffffff" if np.dot(fill[:3], (0.299, 0.587, 0.114)) < _DARK else "#111111"
        text = f"{shown.number(row['value']):.{shown.digits}f}"
        axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=ink, fontsize=8.5)
    axis.set_xticks(np.arange(len(shots)) + 0.5, shots)
    axis.set_yticks(np.arange(len(noises)) + 0.5, noises)
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.xaxis.tick_top()
    axis.xaxis.set_label_position("top")
    axis.set_title(facet.title)
    axis.set_xlabel("shots")


def line_charts(chart: Chart, metric: str, name: str, look: Mapping[str, Look]) -> Markup:
    """Return lines with error bars against shots; where there is one number of shots, points by noise.

    Args:
        chart: The facets.
        metric: The metric.
        name: Unique on the page.
        look: How each noise profile is drawn, the same in all charts of a sweep.
    """
    found = chart.facets
    if not chart.has_shots_axis:
        return _point_charts(found, metric, name)
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    lines = len({noise for facet in found for noise in facet.noises})
    with chart_style():
        figure = Figure(figsize=(4.9 * columns, rows * 2.9 + 0.2 * -(-lines // 3)), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
        for axis, facet in zip(axes, found):
            _lines(axis, facet, look)
            axis.set_title(facet.title)
        for axis in axes[::columns]:
            name_axis(axis, metric, "y")
        for axis in axes[len(found) :]:
            axis.set_axis_off()
        add_legend(figure, axes, list(look))
        return figure_svg(figure, name, f"{metric_label(metric)} by shots and noise with standard errors")


def name_axis(axis: Any, metric: str, which: str) -> None:
    """Write a metric's name and unit at an axis.

    Args:
        axis: The chart.
        metric: The metric.
        which: `x` or `y`.
    """
    shown = find_metric(metric)
    own = axis.xaxis if which == "x" else axis.yaxis
    if shown.unit == PERCENT:
        own.set_major_formatter(PercentFormatter(1.0))
        own.set_label_text(shown.label)
    else:
        own.set_label_text(f"{shown.label} ({shown.unit})" if shown.unit else shown.label)


def add_legend(figure: Figure, axes: Any, order: list[str], columns: int = 3) -> None:
    """Put one legend of all lines below a figure."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    shown = [label for label in order if label in handles]
    if len(shown) > 1:
        drawn = [handles[label] for label in shown]
        figure.legend(drawn, shown, loc="outside lower left", ncols=columns)


def _lines(axis: Any, facet: Facet, look: Mapping[str, Look]) -> None:
    shots = facet.shots
    noises = facet.noises
    for index, (noise, table) in enumerate(facet.table.groupby("noise", sort=False)):
        table = table.assign(x=[shots.index(shots_label(value)) for value in table["shots"]]).sort_values("x")
        # Side by side, so that error bars of equal values do not cover each other.
        aside = 0.16 * ((index + 0.5) / len(noises) - 0.5)
        draw_line(axis, table["x"] + aside, table, look[str(noise)], str(noise))
    axis.set_xticks(range(len(shots)), shots)
    axis.set_xlabel("shots")
    axis.margins(x=0.08)
    if len(shots) == 1:
        axis.set_xlim(-0.5, 0.5)  # else the small steps aside would fill the chart
    axis.set_ylim(*spread(*axis.get_ylim()))


def draw_line(axis: Any, x: Any, table: Any, look: Look, label: str) -> None:
    """Draw values with their standard errors at places x."""
    axis.errorbar(
        x,
        table["value"],
        yerr=table["standard_error"].fillna(0),
        color=look.color,
        marker=look.marker,
        linestyle=look.style,
        markersize=4.5,
        capsize=2.5,
        elinewidth=1,
        label=label,
    )


def _point_charts(found: list[Facet], metric: str, name: str) -> Markup:
    """Return one row a noise profile, in the order of the sweep file, the metric to the right."""
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    height = max(len(facet.noises) for facet in found)
    with chart_style():
        figure = Figure(figsize=(4.9 * columns, rows * (0.27 * height + 1.05)), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
        for axis, facet in zip(axes, found):
            _points(axis, facet)
            axis.set_title(facet.title)
            name_axis(axis, metric, "x")
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
    axis.set_xlim(*spread(*axis.get_xlim()))
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(5))
