"""Repeated training from the command line: which seeds and folds, progress, and the table at the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from qhybrid.cli.console import duration, errors, say, say_path, say_table, seconds_left, short

if TYPE_CHECKING:
    from qhybrid.experiments.repeats.run import Outcome
    from qhybrid.experiments.repeats.schedule import RepeatSchedule

ALL = "all"


def parse_numbers(text: str, flag: str) -> list[int]:
    """Read numbers such as `0-9` or `0,3,7-9`.

    Raises:
        typer.BadParameter: If the text is something else, or a range runs backwards.
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            like = {"--seeds": "0-9 or 0,3,7-9", "--grow": "2-6 or 2,4,8"}.get(flag, f"1-3, 1,4 or {ALL}")
            raise typer.BadParameter(f"must look like {like}, but is {text!r}", param_hint=flag)
        start, end = int(first), int(last) if dash else int(first)
        if end < start:
            raise typer.BadParameter(f"has a range that runs backwards: {part}", param_hint=flag)
        numbers += range(start, end + 1)
    return numbers


def check_one_kind(jobs: int, scheduler: str | None) -> None:
    """Check that runs are done by processes of this machine or by a cluster.

    Raises:
        typer.BadParameter: If both are asked for.
    """
    if jobs > 1 and scheduler is not None:
        raise typer.BadParameter("--jobs cannot be given with --scheduler: its workers do the runs")


def train_repeatedly(
    schedule: RepeatSchedule, data_root: Path, target: Path, jobs: int, scheduler: str | None = None
) -> None:
    """Run a schedule, say how each run ended, and print mean and standard deviation.

    Raises:
        typer.Exit: With code 1 if a run failed.
    """
    from qhybrid.experiments.repeats.run import all_outcomes, is_finished, run_schedule
    from qhybrid.experiments.repeats.schedule import RepeatSchedule
    from qhybrid.experiments.repeats.summary import summarise

    total, done = len(schedule.repetitions), 0
    # Runs that an earlier call has finished come back at once: they say nothing about the others.
    skipped = sum(is_finished(target / one.name, schedule.recipe) for one in schedule.repetitions)
    started = time.monotonic()

    def report(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        state = "finished" if outcome.error is None else f"FAILED: {outcome.error}"
        left = seconds_left(time.monotonic() - started, done - skipped, total - done)
        said = "" if left is None or done == total else f", about {duration(left)} left"
        say(f"[{done}/{total}] {outcome.repetition.name}: {state}{said}")

    try:
        outcomes = run_schedule(schedule, data_root, target, jobs=jobs, scheduler=scheduler, report=report)
    except KeyboardInterrupt:
        hint = f"Interrupted. Finished runs are kept. Go on with: qhybrid train --resume {short(target)}"
        errors.print(hint, markup=False, soft_wrap=True)
        raise
    # The folder may hold runs of earlier calls too.
    whole = RepeatSchedule.read(target)
    summary = summarise(whole, all_outcomes(whole, target, outcomes), target)
    say_table(summary_table(summary))
    say_path("runs", target)
    say_path("summary", target / "summary.json")
    if any(outcome.error is not None for outcome in outcomes):
        raise typer.Exit(1)


def summary_table(summary: dict[str, Any]) -> Table:
    """Return a table of test metrics: one row a run, then mean and standard deviation."""
    from qhybrid.metrics import metric_label, show_metric

    names = list(summary["metrics"])
    table = Table(title=f"{summary['name']}, test split", title_justify="left")
    table.add_column("run")
    for name in names:
        table.add_column(metric_label(name), justify="right")
    for row in summary["runs"]:
        values = (show_metric(name, row["metrics"].get(name)) for name in names)
        table.add_row(row["run"], *values)
    table.add_section()
    for key, label in (
        ("mean", "mean"),
        ("std", "standard deviation"),
        ("std_over_seeds", "... over seeds"),
        ("test_error", "test set's own error"),
    ):
        if any(key in found for found in summary["metrics"].values()):
            values = (show_metric(name, summary["metrics"][name].get(key)) for name in names)
            table.add_row(label, *values, style="bold" if key == "mean" else None)
    return table
