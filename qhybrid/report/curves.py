"""Learning curves: runs that differ in their seed alone become one line with a band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from qhybrid.metrics import PERCENT, find_metric, metric_label
from qhybrid.noise.library import IDEAL
from qhybrid.report.labels import settings_label
from qhybrid.report.sources import RunSource
from qhybrid.report.svg import MUTED, SERIES, chart_style, figure_svg

SHOTS, KIND, NOISE = "engine.shots", "engine.kind", "engine.noise"
PANELS = (
    ("train_accuracy",),
    ("val_accuracy",),
    ("val_miou",),
    ("val_soft_iou",),
    ("train_loss", "val_loss"),
)
MOST_LINES = len(SERIES)
MOST_PANELS = 3
STYLES = ("-", ":", "-.")
"""Lines of one colour: the same settings on several engines."""


@dataclass
class Line:
    """Runs that differ in their seed alone.

    Attributes:
        label: What they have in common.
        color: Theme colour.
        style: Line style.
        tables: Their epochs.
    """

    label: str
    color: str
    style: str = "-"
    tables: list[pd.DataFrame] = field(default_factory=list)


def learning_curves(runs: Sequence[RunSource], models: Sequence[RunSource] = ()) -> list[tuple[str, Markup]]:
    """Return figures with their captions: one for each name, and for each number of shots in training.

    Runs that were trained without shots and noise stand beside those with shots as a grey reference.

    Args:
        runs: Runs; those without curves are left out.
        models: Those of them that are drawn over each other, one line for each name, where several were
            trained on the same data.
    """
    by_data: dict[str, list[RunSource]] = {}
    for run in models:
        if run.curves is not None and not run.curves.empty:
            by_data.setdefault(run.recipe.data.model_dump_json(include={"dataset", "root"}), []).append(run)
    together = [group for group in by_data.values() if len({run.name for run in group}) > 1]
    drawn = {run.folder for group in together for run in group}
    overlays = [_overlay(group, f"models{number}") for number, group in enumerate(together)]
    rest = _by_name([run for run in runs if run.folder not in drawn])
    return [figure for figure in (*overlays, *rest) if figure is not None]


def _overlay(models: Sequence[RunSource], name: str) -> tuple[str, Markup] | None:
    """Return models in one figure, so that each panel has one scale for all of them."""
    lines: dict[str, Line] = {}
    for run in models:
        color = SERIES[len(lines) % len(SERIES)]
        lines.setdefault(run.name, Line(run.name, color)).tables.append(_table(run))
    drawn = list(lines.values())
    chart = _figure(drawn[:MOST_LINES], name)
    data = models[0].recipe.data
    what = f"All models on {data.dataset if data.root == '.' else data.root}, on one scale"
    return None if chart is None else (_caption(what, "", drawn, False), chart)


def _by_name(runs: Sequence[RunSource]) -> list[tuple[str, Markup]]:
    """Return one figure for each name, and for each number of shots in training."""
    figures: dict[tuple[str, Any], list[RunSource]] = {}
    for run in runs:
        if run.curves is not None and not run.curves.empty:
            figures.setdefault((run.name, run.settings.get(SHOTS, "")), []).append(run)
    found = []
    for number, ((name, shots), group) in enumerate(figures.items()):
        counted = [key for key in figures if key[0] == name and key[1] not in ("", None)]
        if shots is None and counted:
            group = [run for run in group if not _is_reference(run)]
            if not group:
                continue
        same = figures.get((name, None), []) if counted and shots != "" else []
        reference = [run for run in same if _is_reference(run)]
        lines = _lines(group, reference)
        chart = _figure(lines[:MOST_LINES], f"curves{number}")
        if chart is not None:
            found.append((_caption(name, shots, lines, bool(reference)), chart))
    return found


def _is_reference(run: RunSource) -> bool:
    """Return whether a run was trained without noise and shots."""
    engine = run.recipe.engine
    return engine.shots is None and engine.noise in (None, IDEAL) and engine.kind == "exact"


def _lines(group: Sequence[RunSource], reference: Sequence[RunSource]) -> list[Line]:
    """Return one line for each settings: colours tell settings apart, line styles engines."""
    lines: dict[str, Line] = {}
    colors: dict[str, str] = {}
    kinds = list(dict.fromkeys(run.settings.get(KIND) for run in group))
    others = [settings_label(run.settings, (SHOTS, KIND, NOISE)) for run in reference]
    for run, other in zip(reference, others, strict=True):
        # Runs that differ in more than their seed have a line each.
        varied = list(dict.fromkeys(others))
        label = f"exact, no noise, no shots{f', {other}' if len(varied) > 1 else ''}"
        style = STYLES[varied.index(other) % len(STYLES)]
        lines.setdefault(label, Line(label, MUTED, style)).tables.append(_table(run))
    for run in group:
        label = settings_label(run.settings, (SHOTS,)) or run.name
        other = settings_label(run.settings, (SHOTS, KIND))
        color = colors.setdefault(other, SERIES[len(colors) % len(SERIES)])
        style = STYLES[kinds.index(run.settings.get(KIND)) % len(STYLES)]
        lines.setdefault(label, Line(label, color, style)).tables.append(_table(run))
    return list(lines.values())


def _table(run: RunSource) -> pd.DataFrame:
    return pd.DataFrame() if run.curves is None else run.curves


def _caption(name: str, shots: Any, lines: Sequence[Line], reference: bool) -> str:
    seeds = max(len(line.tables) for line in lines)
    parts = [name]
    if shots != "":
        parts[0] += f", trained with {shots or 'infinitely many'} shots"
    if seeds > 1:
        parts.append(f"lines are means, bands one standard deviation over {seeds} seeds")
    if reference:
        parts.append("grey is the noiseless exact training")
    if len({line.style for line in lines}) > 1:
        parts.append("one colour a setting, one line style an engine")
    if len(lines) > MOST_LINES:
        parts.append(f"{len(lines) - MOST_LINES} more are not drawn")
    return "; ".join(parts) + "."


def _figure(lines: Sequence[Line], name: str) -> Markup | None:
    columns = {column for line in lines for table in line.tables for column in table.columns}
    panels = [[column for column in panel if column in columns] for panel in PANELS]
    panels = [panel for panel in panels if panel][:MOST_PANELS]
    if not panels:
        return None
    with chart_style():
        rows = -(-len(lines) // 2) if len(lines) > 1 else 0
        figure = Figure(figsize=(3.25 * len(panels) + 0.3, 2.75 + 0.2 * rows), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            for line in lines:
                for column in panel:
                    _draw(axis, line, column)
            axis.set_title(_title(panel))
            if len(panel) == 1 and find_metric(panel[0].partition("_")[2]).unit == PERCENT:
                axis.yaxis.set_major_formatter(PercentFormatter(1.0))
            axis.set_xlabel("epoch")
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        # A panel lacks the lines of models that do not have its metric; the first line of a label is solid.
        once: dict[str, Any] = {}
        for axis in axes:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                once.setdefault(label, handle)
        if len(once) > 1:
            figure.legend(once.values(), once.keys(), loc="outside lower left", ncols=2)
        return figure_svg(figure, name, f"Learning curves of {', '.join(line.label for line in lines)}")


def _title(panel: Sequence[str]) -> str:
    if len(panel) == 1:
        return metric_label(panel[0])
    return "loss (validation dashed)"


def _draw(axis: Any, line: Line, column: str) -> None:
    """Draw the mean of several runs over the epochs that all of them have, and the spread."""
    several = [table[column].dropna() for table in line.tables if column in table]
    if not several:
        return
    joined = pd.concat(several, axis=1, join="inner")
    mean = joined.mean(axis=1)
    style = "--" if column == "val_loss" else line.style
    marker = "o" if len(mean) == 1 else None
    axis.plot(mean.index, mean, style, color=line.color, label=line.label, marker=marker)
    if joined.shape[1] > 1:
        spread = joined.std(axis=1, ddof=1)
        axis.fill_between(mean.index, mean - spread, mean + spread, color=line.color, alpha=0.16, linewidth=0)
