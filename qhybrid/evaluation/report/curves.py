"""Learning curves: runs that differ in their seed alone become one line with a band."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qhybrid.evaluation.report.labels import metric_label, settings_label
from qhybrid.evaluation.report.sources import RunSource
from qhybrid.evaluation.report.svg import SERIES, chart_style, figure_svg

SHOTS = "engine.shots"
PANELS = (
    ("train_loss", "val_loss"),
    ("train_accuracy",),
    ("val_accuracy",),
    ("val_miou",),
    ("val_soft_iou",),
)
MOST_LINES = len(SERIES)


def learning_curves(runs: Sequence[RunSource]) -> list[tuple[str, Markup]]:
    """Return figures with their captions: one for each name, and for each number of shots in training.

    Args:
        runs: Runs; those without curves are left out.
    """
    figures: dict[tuple[str, str], dict[str, list[RunSource]]] = {}
    for run in runs:
        if run.curves is None or run.curves.empty:
            continue
        shots = f", {run.settings[SHOTS] or 'infinite'} shots" if SHOTS in run.settings else ""
        line = settings_label(run.settings, (SHOTS,)) or run.name
        figures.setdefault((run.name, shots), {}).setdefault(line, []).append(run)
    found = []
    for number, ((name, shots), groups) in enumerate(figures.items()):
        chart = _figure(groups, f"curves{number}")
        if chart is not None:
            seeds = max(len(group) for group in groups.values())
            band = f"; lines are means, bands one standard deviation over {seeds} seeds" if seeds > 1 else ""
            hidden = max(0, len(groups) - MOST_LINES)
            more = f"; {hidden} more are not drawn" if hidden else ""
            found.append((f"{name}{shots}{band}{more}.", chart))
    return found


def _figure(groups: dict[str, list[RunSource]], name: str) -> Markup | None:
    tables = {line: [run.curves for run in group if run.curves is not None] for line, group in groups.items()}
    columns = {column for several in tables.values() for table in several for column in table.columns}
    panels = [[column for column in panel if column in columns] for panel in PANELS]
    panels = [panel for panel in panels if panel][:3]
    if not panels:
        return None
    shown = dict(list(tables.items())[:MOST_LINES])
    with chart_style():
        figure = Figure(figsize=(3.25 * len(panels) + 0.3, 2.7 + 0.22 * len(shown)), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            for index, (line, several) in enumerate(shown.items()):
                for column in panel:
                    _draw(axis, several, column, SERIES[index], line)
            axis.set_title(_title(panel))
            axis.set_xlabel("epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        handles, labels = axes[0].get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        if len(once) > 1:
            figure.legend(
                once.values(), once.keys(), loc="outside lower left", ncols=2 if len(once) > 3 else 1
            )
        return figure_svg(figure, name, f"Learning curves of {', '.join(shown)}")


def _title(panel: Sequence[str]) -> str:
    if len(panel) == 1:
        return metric_label(panel[0])
    return "loss (validation dashed)"


def _draw(axis: object, tables: Sequence[pd.DataFrame], column: str, color: str, line: str) -> None:
    """Draw the mean of several runs over the epochs that all of them have, and the spread."""
    several = [table[column].dropna() for table in tables if column in table]
    if not several:
        return
    joined = pd.concat(several, axis=1, join="inner")
    mean = joined.mean(axis=1)
    style = "--" if column.startswith("val_") and "loss" in column else "-"
    marker = "o" if len(mean) == 1 else None
    axis.plot(mean.index, mean, style, color=color, label=line, marker=marker)  # type: ignore[attr-defined]
    if joined.shape[1] > 1:
        spread = joined.std(axis=1, ddof=1)
        axis.fill_between(  # type: ignore[attr-defined]
            mean.index, mean - spread, mean + spread, color=color, alpha=0.16, linewidth=0
        )
