"""The page of pictures of a diagnosis: differences with their intervals, shots, and angles on the circle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qhybrid.data.figures import save_figure
from qhybrid.evaluation.diagnosis.wording import shots_said
from qhybrid.metrics import PERCENT, find_metric
from qhybrid.metrics.verdict import DIFFERENT, EQUIVALENT
from qhybrid.training.pictures import LINE_COLORS

COLORS = {EQUIVALENT: LINE_COLORS[0], DIFFERENT: LINE_COLORS[1]}
OPEN = "#8a8a8a"
"""Of what is not decidable."""
_ROW, _WIDTH = 0.3, 10.0


def draw_diagnosis(content: Mapping[str, Any], output: Path) -> Path:
    """Draw the page of a diagnosis.

    Args:
        content: What diagnosis.json holds.
        output: The PNG file; it appears whole or not at all.
    """
    targets, layers = content["targets"], content["layers"]
    with_angles = [name for name, layer in layers.items() if layer["angles"] is not None]
    tried = content["shots"]["tried"]
    heights = [1.3 + _ROW * len(target["replaced"]) for target in targets]
    heights += [2.6] if tried else []
    heights += [2.4] * len(with_angles)
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.9), layout="constrained")
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    places = iter(axes)
    for target in targets:
        _differences(next(places), content, target)
    if tried:
        _shots(next(places), content)
    for name in with_angles:
        _angles(next(places), name, layers[name]["angles"])
    figure.suptitle(
        f"{content['run']}, {content['split']} split: outputs of its circuits replaced\n"
        f"{content['units']} {content['unit']}",
        fontsize=11,
    )
    return save_figure(figure, output)


def _differences(axis: Axes, content: Mapping[str, Any], target: Mapping[str, Any]) -> None:
    """Draw the differences to the trained model with their intervals, and the margin as a band."""
    metric = find_metric(content["metric"])
    scale, margin = metric.number(1.0), metric.number(content["options"]["margin"])
    unit = "points of " if metric.unit == PERCENT else ""
    axis.axvspan(-margin, margin, color="#e8eef4", zorder=0)
    axis.axvline(0, color="#444444", linewidth=0.8, zorder=1)
    rows = target["replaced"]
    for place, row in enumerate(rows):
        color = COLORS.get(row["verdict"], OPEN)
        difference = scale * row["difference"]
        if row["difference_low"] is not None:
            ends = scale * row["difference_low"], scale * row["difference_high"]
            axis.plot(ends, (place, place), color=color, linewidth=2, solid_capstyle="round")
        axis.plot(difference, place, "o", color=color, markersize=6)
        text = f" {row['verdict']}"
        axis.annotate(
            text, (1, place), xycoords=axis.get_yaxis_transform(), va="center", fontsize=9, color=color
        )
    axis.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, -1.4 * margin), max(high, 1.4 * margin))
    axis.set_xlabel(f"difference to the trained model, {unit}{metric.label} (band: margin)", fontsize=9)
    axis.set_title(target["label"], fontsize=10, loc="left")
    _plain_axis(axis)


def _shots(axis: Axes, content: Mapping[str, Any]) -> None:
    """Draw the metric against the number of shots."""
    metric = find_metric(content["metric"])
    scale, margin = metric.number(1.0), content["options"]["margin"]
    trained = content["shots"].get("exact", content["trained"]["value"])
    tried = content["shots"]["tried"]
    axis.axhspan(scale * (trained - margin), scale * (trained + margin), color="#e8eef4", zorder=0)
    axis.axhline(scale * trained, color="#444444", linewidth=0.8, zorder=1)
    for one in tried:
        color = COLORS.get(one["verdict"], OPEN)
        if one["difference_low"] is not None:
            ends = [scale * (trained + one[key]) for key in ("difference_low", "difference_high")]
            axis.plot((one["shots"], one["shots"]), ends, color=color, linewidth=2)
        axis.plot(one["shots"], scale * one["value"], "o", color=color)
    axis.set_xscale("log", base=4)
    numbers = [one["shots"] for one in tried]
    axis.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axis.set_xticks([], minor=True)
    axis.set_xlim(0.6 * min(numbers), 1.7 * max(numbers))
    axis.set_xlabel("shots of every basis, without noise", fontsize=9)
    unit = f" in {metric.unit}" if metric.unit else ""
    axis.set_ylabel(f"{metric.label}{unit}", fontsize=9)
    said = shots_said(content).partition(", ")[0].partition(" to stay")[0]
    axis.set_title(f"shots: {said} (intervals: of the difference to exact values)", fontsize=10, loc="left")
    _plain_axis(axis)


def _angles(axis: Axes, name: str, angles: Mapping[str, Any]) -> None:
    """Draw how a layer's angles lie on the circle."""
    shares = np.array(angles["histogram"])
    edges = np.linspace(-180, 180, len(shares) + 1)
    axis.bar(edges[:-1], 100 * shares, width=np.diff(edges), align="edge", color=LINE_COLORS[0])
    axis.set_xticks(range(-180, 181, 60))
    axis.set_xlim(-180, 180)
    axis.set_xlabel("angle of the gate in degrees", fontsize=9)
    axis.set_ylabel("% of the angles", fontsize=9)
    said = f"{100 * angles['arcs']:.0f} % of the circle is used"
    if angles["saturated"] is not None:
        said += f", {100 * angles['saturated']:.1f} % of the angles are saturated"
    axis.set_title(f"{name}: {said}", fontsize=10, loc="left")
    _plain_axis(axis)


def _plain_axis(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)
