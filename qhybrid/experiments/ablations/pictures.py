"""The picture of an ablation: what each arm differs by, seed by seed, against the margin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qhybrid.data.figures import save_figure
from qhybrid.metrics import find_metric
from qhybrid.metrics.verdict import DIFFERENT, EQUIVALENT
from qhybrid.training.pictures import LINE_COLORS

PICTURE = "ablation.png"
ROW = 0.52
"""Height of an arm's row, inches."""
FAR = 6.0
"""An arm that reaches as much further than all nearer ones stands at the edge: they could not be seen."""


@dataclass(frozen=True)
class Paints:
    """Colours of a drawing.

    Attributes:
        verdicts: Of `equivalent`, `different` and `not decidable`.
        band: Of the margin.
        ink: Of text and axes.
    """

    verdicts: Mapping[str, str]
    band: str
    ink: str


PLAIN = Paints(
    {EQUIVALENT: LINE_COLORS[2], DIFFERENT: LINE_COLORS[1], "": LINE_COLORS[0]}, "#d9d9d9", "#1a1a1a"
)


def judged_arms(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the arms that were compared with the model as it is, in order."""
    return [row for row in result["arms"] if row.get("difference")]


def draw_ablation(result: Mapping[str, Any], output: Path) -> Path | None:
    """Draw the differences of all arms into a PNG file; None if no arm was compared."""
    rows = judged_arms(result)
    if not rows:
        return None
    figure = Figure(figsize=(9.2, 1.5 + ROW * len(rows)), layout="constrained")
    draw_arms(figure.subplots(), result, rows, PLAIN)
    return save_figure(figure, output)


def draw_arms(
    axes: Axes, result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], paints: Paints
) -> None:
    """Draw one row an arm: seeds or folds as points, mean with 95 % interval, the verdict at the right.

    Args:
        axes: Where to.
        result: Content of ablation.json.
        rows: Its arms.
        paints: Colours.
    """
    shown = find_metric(result["metric"])
    scale = shown.number(1)
    margin = scale * result["margin"]
    unit = "points" if scale == 100 else ""
    axes.axvspan(-margin, margin, color=paints.band, alpha=0.7, linewidth=0, zorder=0)
    axes.axvline(0, color=paints.ink, linewidth=0.8, zorder=1)
    edge = _edge([row["difference"] for row in rows], scale, margin)
    for place, row in enumerate(rows):
        found = row["difference"]
        color = paints.verdicts.get(found["kind"], paints.verdicts[""])
        if _reach(found, scale) > edge:
            _draw_far_arm(axes, place, f"{scale * found['mean']:+.{shown.digits}f}", edge, color)
        else:
            _draw_arm(axes, place, found, scale, color)
        axes.annotate(
            found["text"].replace(": ", ":\n", 1),
            (1.015, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=color,
            annotation_clip=False,
        )
    axes.set_yticks(range(len(rows)), [row["arm"].replace("@", "\n@ ") for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-edge, edge)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    mean = result["arms"][0]["metrics"][result["metric"]]["mean"]
    tested = "fold" if result["folds"] else "seed"
    axes.set_xlabel(
        f"{shown.label}{f', {unit}' if unit else ''}: arm minus the model as it is ({shown.show(mean)}).  "
        f"Dots: {tested}s; line: 95 %; band: margin ±{margin:g}",
        loc="left",
    )
    axes.set_title(
        f"{result['name']}: {result['model']} with other things in its circuits' places", loc="left"
    )
    axes.grid(visible=True, axis="x", alpha=0.4)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _reach(found: Mapping[str, Any], scale: float) -> float:
    """Return how far from zero a difference, its interval and its points reach."""
    ends = [found["mean"], found["low"] or 0.0, found["high"] or 0.0, *found["values"]]
    return float(max(abs(scale * value) for value in ends))


def _edge(several: Sequence[Mapping[str, Any]], scale: float, margin: float) -> float:
    """Return where the axis ends: behind all arms but those that are far away from the nearest ones."""
    reaches = sorted(_reach(found, scale) for found in several)
    near = max([margin, *reaches[:1]])
    for reach in reaches:
        if reach > FAR * near:
            break
        near = max(near, reach)
    return 1.12 * near


def _draw_far_arm(axes: Axes, place: int, mean: str, edge: float, color: str) -> None:
    """Draw an arrow at the edge, with the mean beside it."""
    side = -1 if mean.startswith("-") else 1
    axes.plot([0.975 * side * edge], [place], ">" if side > 0 else "<", color=color, markersize=7, zorder=4)
    axes.annotate(
        f"{mean}, beyond the axis",
        (0.94 * side * edge, place),
        va="center",
        ha="right" if side > 0 else "left",
        fontsize=8,
        color=color,
    )


def _draw_arm(axes: Axes, place: int, found: Mapping[str, Any], scale: float, color: str) -> None:
    values = [scale * value for value in found["values"]]
    # Points beside the interval, so that neither hides the other.
    axes.plot(values, [place + 0.2] * len(values), "o", color=color, alpha=0.45, markersize=4, zorder=3)
    mean = scale * found["mean"]
    if found["low"] is not None:
        axes.plot([scale * found["low"], scale * found["high"]], [place, place], color=color, linewidth=2)
    axes.plot([mean], [place], "D", color=color, markersize=5.5, zorder=4)
