"""What the page shows of an ablation: means of all arms, their differences, and what these decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure as Drawing

from qhybrid.experiments.ablations.pictures import ROW, Paints, draw_arms, judged_arms
from qhybrid.experiments.ablations.results import frozen_vits, tuning_said
from qhybrid.metrics import DASH, Metric, find_metric
from qhybrid.metrics.verdict import DIFFERENT, EQUIVALENT
from qhybrid.report.parts import Figure, Table
from qhybrid.report.sources import AblationSource
from qhybrid.report.svg import GRID, INK, SERIES, chart_style, figure_svg

PAINTS = Paints({EQUIVALENT: SERIES[2], DIFFERENT: SERIES[1], "": SERIES[0]}, GRID, INK)


@dataclass
class AblationPart:
    """One ablation.

    Attributes:
        title: Recipe and model.
        facts: How the arms were compared.
        verdicts: What was found, one sentence an arm.
        arms: One row an arm, then the baselines.
        words: What stands in the place of each layer.
        figures: The differences.
        remarks: Arms that failed or are not possible.
    """

    title: str
    facts: str
    verdicts: list[str]
    arms: Table
    words: Table
    figures: list[Figure] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def ablation_part(source: AblationSource, name: str) -> AblationPart:
    """Return the chapter of an ablation.

    Args:
        source: The ablation.
        name: Unique on the page.
    """
    found = source.result
    shown = find_metric(found["metric"])
    rows = judged_arms(found)
    remarks = [f"{row['arm']}: {row['error']}" for row in found["arms"] if row["error"]]
    remarks += [f"{remark}." for remark in found.get("left_out", ())]
    remarks += found.get("remarks", ())
    remarks += [f"{arm} is not possible: {why}" for arm, why in found["impossible"].items()]
    words = [
        (row["arm"], layer, what)
        for row in found["arms"]
        for layer, what in (row["words"] or {"–": "the circuit"}).items()
    ]
    return AblationPart(
        f"{found['name']}, {found['model']}",
        _facts(found, shown),
        [f"{row['arm']}: {row['difference']['text']}." for row in rows],
        _table(found, shown),
        Table(("arm", "layer", "in its place"), words),
        [Figure(_caption(found, shown), _drawing(found, name))] if rows else [],
        remarks,
    )


def _facts(found: Mapping[str, Any], shown: Metric) -> str:
    margin = shown.number(found["margin"])
    unit = " points" if margin != found["margin"] else ""
    tuned = f" {tuning_said(found) or 'Arms were trained with the settings of the recipe.'}"
    vits = "".join(f" {sentence}" for sentence in frozen_vits(found))
    return (
        f"{found['statistics']} p is that of the paired t-test, corrected by Holm over the arms; finds is "
        "the smallest true difference that this design finds in one arm alone with 80 % power; the margin, "
        f"stated before the first run, is {margin:g}{unit}.{tuned}{vits}"
    )


def _table(found: Mapping[str, Any], shown: Metric) -> Table:
    heads = (
        "arm", "weights", "runs", shown.label, "std", "minus as it is", "95 %", "p", "finds",
        "95 % over images",
    )  # fmt: skip
    rows = [_arm(row, found["metric"], shown) for row in found["arms"]]
    for name, metrics in found["baselines"].items():
        value = shown.show(metrics.get(found["metric"]))
        rows.append((f"baseline: {name}", DASH, DASH, value, *[DASH] * 6))
    return Table(heads, rows, tuple(range(1, len(heads))))


def _arm(row: Mapping[str, Any], metric: str, shown: Metric) -> tuple[str, ...]:
    head: tuple[str, ...] = (row["arm"], f"{row['parameters']:,}")
    if row["error"]:
        return (*head, "0", *[DASH] * 7)
    numbers, difference = row["metrics"][metric], row.get("difference")
    head = (*head, str(len(row["runs"])), shown.show(numbers["mean"]), shown.show(numbers["std"]))
    if not difference:
        return (*head, *[DASH] * 5)
    p = difference["p_different"]
    return (
        *head,
        _signed(difference["mean"], shown),
        _interval(difference, shown),
        DASH if p is None else f"{p:.2g}",
        _plain(difference["detectable"], shown),
        _interval(row.get("over_images"), shown),
    )


def _interval(found: Mapping[str, Any] | None, shown: Metric) -> str:
    if not found or found["low"] is None:
        return DASH
    return f"{_signed(found['low'], shown)} to {_signed(found['high'], shown)}"


def _plain(value: float | None, shown: Metric) -> str:
    return DASH if value is None else f"{shown.number(value):.{shown.digits}f}"


def _signed(value: float, shown: Metric) -> str:
    return f"{shown.number(value):+.{shown.digits}f}"


def _caption(found: Mapping[str, Any], shown: Metric) -> str:
    tested = "fold" if found["folds"] else "seed"
    return (
        f"{shown.label} of each arm minus that of the model as it is: one point a {tested}, the mean with "
        "its 95 % interval. Within the band differences do not matter."
    )


def _drawing(found: Mapping[str, Any], name: str) -> Markup:
    rows = judged_arms(found)
    with chart_style():
        figure = Drawing(figsize=(8.6, 1.3 + ROW * len(rows)), layout="constrained")
        axes = figure.subplots()
        draw_arms(axes, found, rows, PAINTS)
        axes.set_title("")
        return figure_svg(figure, name, _caption(found, find_metric(found["metric"])))
