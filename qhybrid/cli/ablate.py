"""`qhybrid ablate`: retrain a recipe with other things in the place of its circuits, and say what differs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.api.lookup import find_recipe
from qhybrid.cli.console import duration, errors, say, say_path, say_table, seconds_left, short
from qhybrid.cli.repeats import ALL, check_one_kind, parse_numbers
from qhybrid.cli.train import DATA_ROOT_HELP
from qhybrid.cluster import SCHEDULER_HELP
from qhybrid.config import load_recipe
from qhybrid.workspace import data_root as find_data_root

if TYPE_CHECKING:
    from rich.table import Table

FOLDER = "ablation"


def ablate(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or its name in ./runs.")],
    arms: Annotated[
        str | None,
        typer.Option(
            help="Such as zero,frozen@skips.*,twin@bottleneck.core, and `ablation.models`; otherwise all."
        ),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Quantum layers that arms without @ are for; otherwise all.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of every arm, as in 0-9.")] = "0-4",
    folds: Annotated[str | None, typer.Option(help="Folds of the data set, as in 1-3, or all.")] = None,
    tune: Annotated[
        int, typer.Option(min=0, help="Settings that are tried for each arm, by validation; 0: none.")
    ] = 0,
    space: Annotated[
        Path | None, typer.Option(help="YAML file of recipe keys and their values, as for `tune`.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Differences up to it do not matter; stated at the first call: 0.005 is 0.5 %."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What is compared; stated at the first call. Otherwise the usual one.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    scheduler: Annotated[str | None, typer.Option(help=SCHEDULER_HELP)] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a value of the recipe: training.epochs=3.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help=DATA_ROOT_HELP)] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the ablation; otherwise runs/NAME/ablation, where it also resumes."),
    ] = None,
) -> None:
    """Retrain with other things in the place of the circuits (the arms), and say what that decides."""
    check_one_kind(jobs, scheduler)
    from qhybrid.api import ablate as run
    from qhybrid.config.tuning import load_space

    checked = load_recipe(find_recipe(recipe), set_)
    target = output or Path("runs") / checked.name / FOLDER
    try:
        found = run(
            checked,
            data_root=find_data_root(data_root),
            output=target,
            arms=None if arms is None else [part.strip() for part in arms.split(",")],
            layers=None if layers is None else [part.strip() for part in layers.split(",")],
            seeds=parse_numbers(seeds, "--seeds"),
            folds=parse_numbers(folds, "--folds") if folds not in (None, ALL) else None,
            all_folds=folds == ALL,
            margin=margin,
            metric=metric,
            trials=tune,
            space=None if space is None else load_space(space),
            jobs=jobs,
            scheduler=scheduler,
            report=_Progress(),
        ).content
    except KeyboardInterrupt:
        hint = f"Interrupted. Finished runs are kept in {short(target)}; the same command goes on."
        errors.print(hint, markup=False, soft_wrap=True)
        raise
    print_ablation(found)
    say_path("result", target / "ablation.json")
    if (target / "ablation.png").is_file():
        say_path("picture", target / "ablation.png")
    if any(row["error"] or row.get("failed") for row in found["arms"]):
        raise typer.Exit(1)


class _Progress:
    """Prints what has ended, with the time that is left of its kind of work."""

    def __init__(self) -> None:
        self._total, self._timed, self._began = 0, 0, time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        from qhybrid.experiments.ablations.run import FINISHED_BEFORE

        kept = what.endswith(FINISHED_BEFORE)  # it comes back at once, and says nothing about the others
        if total != self._total:  # searches are counted apart from runs; when the first began is not known
            self._total, self._timed, self._began = total, 0, time.monotonic()
        elif not kept:
            self._timed += 1
        elif not self._timed:
            self._began = time.monotonic()
        left = None if kept else seconds_left(time.monotonic() - self._began, self._timed, total - done)
        said = "" if left is None or done == total else f", about {duration(left)} left"
        say(f"[{done}/{total}] {what}{said}")


def print_ablation(found: Mapping[str, Any]) -> None:
    """Print the table of an ablation, the verdicts in words, and how they were found."""
    from qhybrid.experiments.ablations.results import frozen_vits, tuning_said

    say_table(ablation_table(found))
    for layers, letter in _letters(found).items():
        say(f"@{letter}: {layers}")
    for row in found["arms"]:
        if row["error"]:
            say(f"{row['arm']}: FAILED: {row['error']}")
        elif row.get("difference"):
            say(f"{row['arm']}: {row['difference']['text']}{_over_images(row, found)}")
    for remark in (*found.get("left_out", ()), *found.get("remarks", ())):
        say(remark)
    say(found["statistics"])
    say(
        "p: paired t-test, corrected by Holm over the arms. finds: the smallest true difference that this "
        f"design finds in one arm alone, with 80 % power. Margin: {_margin(found)}."
    )
    timed = [f"{row['arm']} {row['epoch_seconds']:.3g}" for row in found["arms"] if row.get("epoch_seconds")]
    if timed:
        say(f"Seconds an epoch, median over runs: {', '.join(timed)}.")
    for sentence in frozen_vits(found):
        say(sentence)
    if tuned := tuning_said(found):
        say(tuned)
    for arm, why in found["impossible"].items():
        say(f"not possible: {arm} ({why})")
    if not found["baselines"]:
        say("baselines: none are known for these data.")


def ablation_table(found: Mapping[str, Any]) -> Table:
    """Return one row an arm, then the baselines."""
    from rich import box
    from rich.table import Table

    from qhybrid.metrics import DASH, find_metric

    shown = find_metric(found["metric"])
    scale, digits = shown.number(1), shown.digits
    title = f"{found['name']}, {found['model']}: {shown.label}{' (%)' if scale == 100 else ''}, test split"
    numbers_of_runs = {len(row["runs"]) for row in found["arms"] if not row["error"]}
    same = len(numbers_of_runs) == 1
    if same:  # the usual case: a narrow terminal needs the room
        (runs,) = numbers_of_runs
        title += f", {runs} run{'' if runs == 1 else 's'} an arm"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("arm", overflow="fold")
    for heading in ("weights", *([] if same else ["runs"]), "mean", "std", "- as is", "95 %", "p", "finds"):
        table.add_column(heading, justify="right", no_wrap=True)

    def text(value: float | None, sign: str = "") -> str:
        return DASH if value is None else f"{scale * value:{sign}.{digits}f}"

    letters = _letters(found)
    for row in found["arms"]:
        arm, at, layers = row["arm"].partition("@")
        name = f"{arm} @{letters[layers]}" if at else arm
        if row["error"]:
            table.add_row(name, f"{row['parameters']:,}", *([] if same else ["0"]), *[DASH] * 6)
            continue
        numbers, difference = row["metrics"][found["metric"]], row.get("difference")
        cells = [f"{row['parameters']:,}", *([] if same else [str(len(row["runs"]))])]
        cells += [text(numbers["mean"]), text(numbers["std"])]
        if difference:
            interval = f"{text(difference['low'], '+')} {text(difference['high'], '+')}"
            p = difference["p_different"]
            cells += [text(difference["mean"], "+"), DASH if difference["low"] is None else interval]
            cells += [DASH if p is None else f"{p:.2g}", text(difference["detectable"])]
        table.add_row(name, *cells)
    if found["baselines"]:
        table.add_section()
    for name, metrics in found["baselines"].items():
        table.add_row(name.replace("_", " "), "", *([] if same else [""]), text(metrics.get(found["metric"])))
    return table


def _letters(found: Mapping[str, Any]) -> dict[str, str]:
    """Return a letter for the layers of each arm that names some: dotted names are too long for a table."""
    named = dict.fromkeys(row["arm"].partition("@")[2] for row in found["arms"])
    named.pop("", None)
    return {layers: ascii_lowercase[place % 26] * (1 + place // 26) for place, layers in enumerate(named)}


def _over_images(row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return the interval over test images, in words."""
    from qhybrid.metrics import find_metric
    from qhybrid.metrics.intervals import plural

    interval = row.get("over_images")
    if not interval:
        return ""
    shown = find_metric(found["metric"])
    low, high = (f"{shown.number(interval[key]):+.{shown.digits}f}" for key in ("low", "high"))
    counted = plural(interval.get("unit", "image"))
    return f" (over {interval['count']:,} {counted} of the test split: 95 % {low} to {high})"


def _margin(found: Mapping[str, Any]) -> str:
    from qhybrid.metrics import find_metric

    scaled = find_metric(found["metric"]).number(found["margin"])
    return f"{scaled:g}{' points' if scaled != found['margin'] else ''}"
