"""`qhybrid compare`: repeated runs of several models, side by side and pair by pair."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from qhybrid.cli.console import IMAGE_METRICS, console, say

if TYPE_CHECKING:
    from qhybrid.evaluation.comparison import Difference


def compare(
    reference: Annotated[
        Path, typer.Argument(help="Folder of repeated runs that the others are compared with.")
    ],
    others: Annotated[list[Path], typer.Argument(help="Folders of repeated runs of other models.")],
    metric: Annotated[
        str | None, typer.Option(help="Such as accuracy, soft_iou, iou; otherwise the most important one.")
    ] = None,
) -> None:
    """Compare repeated runs of several models of one recipe: means, and differences pair by pair."""
    from qhybrid.evaluation import comparison

    runs = [comparison.read_repeats(folder) for folder in (reference, *others)]
    name = metric or comparison.default_metric(runs)
    first, percent = runs[0], "accuracy" in name
    found = [None, *(comparison.compare(first, each, name) for each in runs[1:])]
    title = f"{first.name}, {IMAGE_METRICS.get(name, name.replace('_', ' '))}, test split"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("model", "weights", "runs", "mean", "std", "- ref.", "95 % interval", "p", "above"):
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    scale, digits = (100, 2) if percent else (1, 4)
    for each, difference in zip(runs, found, strict=True):
        values = [scale * value for value in each.values(name).values()]
        mean = f"{statistics.fmean(values):.{digits}f}"
        std = f"{statistics.stdev(values):.{digits}f}" if len(values) > 1 else "-"
        parameters = "-" if each.parameters is None else f"{each.parameters:,}"
        row = [each.label, parameters, str(len(values)), mean, std]
        table.add_row(*row, *_difference(difference, scale, digits))
    console.print(table)
    if any(difference is not None and difference.corrected for difference in found):
        say("95 % and p: paired t-test, corrected for folds whose training images overlap.")
    else:
        say("95 % and p: paired t-test over seeds; all share one test set.")


def _difference(difference: Difference | None, scale: int, digits: int) -> list[str]:
    if difference is None:
        return ["ref.", "", "", ""]
    low, high = scale * difference.low, scale * difference.high
    return [
        f"{scale * difference.mean:+.{digits}f}",
        f"{low:+.{digits}f} {high:+.{digits}f}",
        f"{difference.p_t:.2g}",
        f"{difference.better}/{difference.pairs}",
    ]
