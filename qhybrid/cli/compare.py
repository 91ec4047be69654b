"""`qhybrid compare`: repeated runs of several models, side by side and pair by pair."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from qhybrid.cli.console import say, say_table

if TYPE_CHECKING:
    from qhybrid.experiments.repeats.comparison import Difference


def compare(
    reference: Annotated[
        str, typer.Argument(help="Folder of repeated runs that the others are compared with.")
    ],
    others: Annotated[list[str], typer.Argument(help="Folders of repeated runs of other models.")],
    metric: Annotated[
        str | None, typer.Option(help="Such as accuracy, soft_iou, iou; otherwise the most important one.")
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Differences up to it do not matter; 0.005 is 0.5 points of accuracy.")
    ] = 0.005,
) -> None:
    """Compare repeated runs of several models of one recipe: means, and differences pair by pair."""
    if not margin > 0:
        raise typer.BadParameter(f"must be above 0, but is {margin:g}", param_hint="--margin")

    from qhybrid.api.comparisons import compare as compare_runs
    from qhybrid.metrics import find_metric, metric_label

    found = compare_runs(reference, *others, metric=metric, margin=margin)
    name, shown = found.metric, find_metric(found.metric)
    title = f"{next(iter(found.runs.values())).name}, {metric_label(name)}, test split"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False, padding=0)
    table.add_column("model", overflow="fold")
    for heading in ("weights", "runs", "mean", "std", "- ref.", "95 % interval", "p", "above", "finds"):
        table.add_column(heading, justify="right", no_wrap=True)
    scale, digits = int(shown.number(1)), shown.digits
    for label, each in found.runs.items():
        values = [scale * value for value in each.values(name).values()]
        mean = f"{statistics.fmean(values):.{digits}f}"
        std = f"{statistics.stdev(values):.{digits}f}" if len(values) > 1 else "-"
        parameters = "-" if each.parameters is None else f"{each.parameters:,}"
        row = [label, parameters, str(len(values)), mean, std]
        table.add_row(*row, *_difference(found.differences.get(label), scale, digits))
    say_table(table)
    unit = " points" if scale == 100 else ""
    for label, verdict in found.verdicts.items():
        say(f"{label}: {verdict}")
    for remark in found.remarks:
        say(remark)
    if any(one.folds for one in found.differences.values()):
        say(
            "95 % and p: t-test of the folds' means over their seeds, corrected for training images that "
            "folds share."
        )
    else:
        say("95 % and p: paired t-test over seeds; all share one test set.")
    corrected = ", by p corrected by Holm over the models" if len(found.differences) > 1 else ""
    say(f"Verdicts: margin {scale * margin:g}{unit}{corrected}.")
    say("finds: the smallest true difference that this design finds in one model alone, with 80 % power.")


def _difference(difference: Difference | None, scale: int, digits: int) -> list[str]:
    if difference is None:
        return ["ref.", "", "", "", ""]
    mean, above = f"{scale * difference.mean:+.{digits}f}", f"{difference.better}/{difference.pairs}"
    if math.isnan(difference.low):  # one seed, one fold, or a few that are all equal
        return [mean, "-", "-", above, "-"]
    low, high = scale * difference.low, scale * difference.high
    finds = f"{scale * difference.verdict.detectable:.{digits}f}"
    return [mean, f"{low:+.{digits}f} {high:+.{digits}f}", f"{difference.p_t:.2g}", above, finds]
