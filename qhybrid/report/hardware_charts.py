"""Charts of plans on hardware: accuracy, and deviations of observables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from qhybrid.report.svg import MARKERS, MUTED, SERIES, chart_style, figure_svg

MOST_LABELS = 64


def accuracy_chart(plans: Sequence[tuple[str, dict[str, Any]]], name: str) -> Markup:
    """Return one line a plan with its accuracy on the simulator, predicted and obtained.

    Args:
        plans: Label and metrics.json of each plan.
        name: Unique on the page.
    """
    places = np.arange(len(plans))
    values = {
        "simulator": [one["predicted"]["exact"]["accuracy"] for _, one in plans],
        "predicted": [one["predicted"]["device_and_shots"]["accuracy"] for _, one in plans],
        "obtained": [one["obtained"]["accuracy"] for _, one in plans],
    }
    with chart_style():
        figure = Figure(figsize=(7.2, 0.36 * len(plans) + 1.25), layout="constrained")
        axis = figure.subplots()
        everything = np.concatenate(list(values.values()))
        for index, (label, column) in enumerate(values.items()):
            axis.plot(
                column,
                places + 0.2 * (index - 1),
                color=SERIES[index],
                marker=MARKERS[index],
                markersize=6,
                linewidth=0,
                label=label,
            )
        # A range of at least two points in a hundred: what does not differ must not look as if it did.
        middle, half = float(everything.mean()), max(0.01, 0.6 * float(np.ptp(everything)))
        axis.set_xlim(middle - half - 0.002, min(middle + half, 1.0) + 0.002)
        axis.set_yticks(places, [label for label, _ in plans])
        axis.set_ylim(len(plans) - 0.5, -0.5)
        axis.tick_params(axis="y", length=0)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.set_xlabel("accuracy")
        figure.legend(loc="outside upper left", ncols=3)
        return figure_svg(figure, name, "Accuracy on the simulator, predicted and obtained")


def deviation_chart(deviations: pd.DataFrame, name: str) -> Markup:
    """Return the deviations of all observables.

    Args:
        deviations: Rows of deviations.csv.
        name: Unique on the page.
    """
    layers = list(dict.fromkeys(deviations["layer"]))
    width = float(np.clip(1.6 + 0.24 * len(deviations), 5.0, 9.8))
    with chart_style():
        figure = Figure(figsize=(width, 4.4), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        upper.axhline(0.0, color=MUTED, linewidth=0.8)
        for index, layer in enumerate(layers):
            places = np.flatnonzero(deviations["layer"] == layer)
            rows = deviations.iloc[places]
            look = {"color": SERIES[index % len(SERIES)], "marker": MARKERS[index % len(MARKERS)]}
            upper.errorbar(
                places,
                rows["mean_deviation"],
                yerr=2 * rows["mean_error"],
                markersize=4,
                capsize=2,
                linewidth=0,
                elinewidth=1,
                label=layer,
                **look,
            )
            lower.plot(places, rows["rms_deviation"], markersize=4.5, linewidth=0, **look)
        everywhere = np.arange(len(deviations))
        lower.hlines(
            deviations["rms_error"], everywhere - 0.35, everywhere + 0.35, color=MUTED, linewidth=1.2
        )
        highest = float(deviations[["rms_deviation", "rms_error"]].max().max())
        lower.set_ylim(0, 1.15 * highest or 1.0)
        upper.set_ylabel("mean deviation")
        lower.set_ylabel("rms deviation")
        for axis in (upper, lower):
            axis.yaxis.set_major_locator(MaxNLocator(5))
            axis.grid(axis="x", visible=False)
        shown = list(deviations["observable"]) if len(deviations) <= MOST_LABELS else []
        lower.set_xticks(everywhere[: len(shown)], shown, rotation=90 if len(deviations) > 12 else 0)
        lower.set_xlim(-0.7, len(deviations) - 0.3)
        if len(layers) > 1:
            figure.legend(loc="outside upper left", ncols=3)
        return figure_svg(figure, name, "Deviations of observables from their exact values")
