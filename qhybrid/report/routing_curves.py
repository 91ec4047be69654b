"""What the routers of mixtures of experts do over the epochs: loads of the experts, and entropy."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from qhybrid.report.labels import settings_label
from qhybrid.report.sources import RunSource
from qhybrid.report.svg import INK, SERIES, chart_style, figure_svg
from qhybrid.training.routing import ENTROPY, LOAD

UNDECIDED, DECIDED = 0.95, 0.05
"""Entropies from which on a router decides nothing, and up to which it takes one expert for an image."""
USED = 0.01
"""Load below which an expert is as good as unused."""


def routing_curves(runs: Sequence[RunSource]) -> list[tuple[str, Markup]]:
    """Return a figure with its caption for every router of runs that differ in their seed alone.

    Args:
        runs: Runs; those without routers or curves are left out.
    """
    groups: dict[tuple[str, str, str], list[pd.DataFrame]] = {}
    for run in runs:
        if run.curves is None:
            continue
        for router in _named(run.curves, f"{ENTROPY} "):
            key = (run.name, settings_label(run.settings), router)
            groups.setdefault(key, []).append(run.curves)
    found = []
    for number, ((name, settings, router), tables) in enumerate(groups.items()):
        entropy, loads = _means(tables, router)
        title = ", ".join(part for part in (name, settings) if part)
        seeds = f"; means over {len(tables)} seeds" if len(tables) > 1 else ""
        caption = f"{title}: router `{router}`{seeds}. {_in_words(entropy, loads)}"
        found.append(
            (caption, _drawing(entropy, loads, f"routing{number}", f"Loads of the experts, {title}"))
        )
    return found


def _means(tables: Sequence[pd.DataFrame], router: str) -> tuple[pd.Series, dict[str, pd.Series]]:
    """Return entropy and loads by expert over the epochs that all runs have."""

    def mean(column: str) -> pd.Series:
        return pd.concat([table[column] for table in tables], axis=1, join="inner").dropna().mean(axis=1)

    start = f"{LOAD} {router} "
    return mean(f"{ENTROPY} {router}"), {one: mean(start + one) for one in _named(tables[0], start)}


def _named(table: pd.DataFrame, start: str) -> list[str]:
    """Return what follows a beginning in the names of columns."""
    return [name.removeprefix(start) for name in map(str, table.columns) if name.startswith(start)]


def _in_words(entropy: pd.Series, loads: dict[str, pd.Series]) -> str:
    last = float(entropy.iloc[-1])
    text = f"Entropy of an image's probabilities ends at {last:.2f} of its largest value"
    if last >= UNDECIDED:
        text += ": all experts are about equally probable for every image"
    elif last <= DECIDED:
        text += ": one expert is chosen for each image"
    idle = ", ".join(expert for expert, load in loads.items() if float(load.iloc[-1]) < USED)
    return f"{text}. Hardly used: {idle}." if idle else f"{text}."


def _drawing(entropy: pd.Series, loads: dict[str, pd.Series], name: str, label: str) -> Markup:
    with chart_style():
        figure = Figure(figsize=(6.8, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        marker = "o" if len(entropy) == 1 else None
        for place, (expert, load) in enumerate(loads.items()):
            left.plot(load.index, load, color=SERIES[place % len(SERIES)], label=expert, marker=marker)
        left.set_title("load of an expert")
        left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        right.plot(entropy.index, entropy, color=INK, marker=marker)
        right.set_title("router's entropy (1: undecided)")
        for axis in (left, right):
            axis.set_ylim(0, 1.05)
            axis.set_xlabel("epoch")
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=4)
        return figure_svg(figure, name, label)
