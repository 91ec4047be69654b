"""The charts of one sweep: noise against shots, layer by layer, then error mitigation."""

from __future__ import annotations

import pandas as pd

from qhybrid.metrics import metric_label, show_metric
from qhybrid.report.facets import Chart, labelled, looks, noise_charts_of
from qhybrid.report.mitigation_charts import mitigated_noises, mitigation_charts, mitigation_looks
from qhybrid.report.noise_charts import heat_and_lines, heat_maps, line_charts
from qhybrid.report.parts import Figure
from qhybrid.report.resolution import resolution_text


def sweep_figures(results: pd.DataFrame, metric: str, name: str) -> list[Figure]:
    """Return the charts of a metric.

    Args:
        results: From `read_results`.
        metric: The metric.
        name: Unique on the page.
    """
    rows = labelled(results, metric)
    look = looks(list(dict.fromkeys(rows["noise"])))
    figures = []
    for number, chart in enumerate(noise_charts_of(rows)):
        if chart.has_shots_axis and len(chart.facets) == 1:
            both = heat_and_lines(chart, metric, f"{name}both{number}", look)
            caption = f"{_heat_caption(chart, metric)} {_bars(chart)}".strip()
            figures.append(Figure(caption, both))
            continue
        if chart.has_shots_axis:
            drawing = heat_maps(chart, metric, f"{name}heat{number}")
            figures.append(Figure(_heat_caption(chart, metric), drawing))
        lines = line_charts(chart, metric, f"{name}lines{number}", look)
        figures.append(Figure(_line_caption(chart, metric), lines))
    groups = mitigated_noises(rows)
    if groups:
        drawing = mitigation_charts(groups, metric, f"{name}mitigation", mitigation_looks(rows))
        figures.append(
            Figure(
                "Error mitigation: the shots are all that one estimate takes, those of every execution "
                "that a method needs together.",
                drawing,
            )
        )
    return figures


def _what(chart: Chart, metric: str) -> str:
    label = metric_label(metric)
    label = label if label[1].isupper() else label.capitalize()
    return f"{label}, noise in {chart.title}" if chart.title else label


def _heat_caption(chart: Chart, metric: str) -> str:
    low, high = chart.range
    rows = pd.concat([facet.table for facet in chart.facets])
    below = resolution_text(rows, lambda value: show_metric(metric, value))
    more = f" {chart.hidden} more combinations are in results.parquet." if chart.hidden else ""
    return (
        f"{_what(chart, metric)}, by noise and shots. Colours from {show_metric(metric, low)} (dark) to "
        f"{show_metric(metric, high)}.{' ' if below else ''}{below}{more}"
    )


def _line_caption(chart: Chart, metric: str) -> str:
    return f"{_what(chart, metric)}, by noise. {_bars(chart)}".strip()


def _bars(chart: Chart) -> str:
    """Say what the error bars are, if there are any."""
    if not any(facet.table["standard_error"].notna().any() for facet in chart.facets):
        return ""
    several = any((facet.table["runs"] > 1).any() for facet in chart.facets)
    over = "trained runs" if several else "seeds of shots"
    return f"Error bars are standard errors over {over}; they do not contain that the test set is finite."
