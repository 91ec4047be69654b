"""`qhybrid sweep`: trained runs under noise, shots, devices and mitigation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qhybrid.cli.console import errors, say, say_path, say_table, short, stage_bars
from qhybrid.cli.hashing import hashing_bar
from qhybrid.cli.train import DATA_ROOT_HELP
from qhybrid.cluster import SCHEDULER_HELP
from qhybrid.workspace import data_root as find_data_root

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from qhybrid.experiments.sweeps import SweepOutcome

LONGEST_TABLE = 40
LONGEST_WORD = 40
"""Characters of a word up to which a column of a table makes room for it."""
SHOWN_FAILURES = 10


def sweep(
    file: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or its name in ./runs.")],
    data_root: Annotated[Path | None, typer.Option(help=DATA_ROOT_HELP)] = None,
    output: Annotated[
        Path | None, typer.Option(help="Sweep folder; otherwise runs/NAME/sweep, where it also resumes.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Processes on this machine; otherwise one a core."),
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help=SCHEDULER_HELP)] = None,
    recompute: Annotated[
        bool,
        typer.Option("--recompute", help="Compute cells again whose new metrics cannot be had otherwise."),
    ] = False,
) -> None:
    """Evaluate trained runs under noise and shots; finished cells are never computed again."""
    if jobs is not None and scheduler is not None:
        raise typer.BadParameter("--jobs cannot be given with --scheduler: its workers do the work")
    from qhybrid.api import as_sweep
    from qhybrid.api import sweep as run_sweep

    config = as_sweep(file)

    from qhybrid.experiments.sweeps import sweep_folder
    from qhybrid.metrics import metric_label
    from qhybrid.report.labels import counted

    target = output or sweep_folder(config.name)
    try:
        with stage_bars() as progress, hashing_bar():
            found = run_sweep(
                config,
                data_root=find_data_root(data_root),
                output=target,
                jobs=jobs,
                scheduler=scheduler,
                progress=progress,
                recompute=recompute,
            )
    except KeyboardInterrupt:
        errors.print(
            f"Interrupted. Finished cells are kept in {short(target)}; the same command goes on.",
            markup=False,
            soft_wrap=True,
        )
        raise
    outcome = found.outcome
    for table in results_tables(found.results):
        say_table(table)
    say(f"{counted(outcome.cells, 'cell')}, {outcome.computed} of them computed now")
    if outcome.taken:
        say(f"{counted(outcome.taken, 'cell')} of an earlier version taken over: their data did not change")
    if outcome.doubtful:
        say(
            f"{counted(outcome.doubtful, 'result')} of an earlier version made anew: their data may "
            "have changed since"
        )
    if outcome.measured:
        say(f"{counted(outcome.measured, 'finished cell')} got new metrics from kept predictions")
    for name, count in outcome.unknown.items():
        say(
            f"{metric_label(name)} is missing in {counted(count, 'finished cell')}, of which too little was "
            "kept. To compute them again: --recompute"
        )
    say_path("results", target / "results.parquet")
    _report_failures(outcome)


def results_tables(results: pd.DataFrame) -> list[Table]:
    """Return the headline metric of every condition, one table for each choice of layers.

    Args:
        results: From `read_results`.
    """
    from qhybrid.metrics import metric_label

    if results.empty:
        return []
    metric = str(results["metric"].iloc[0])
    rows = results[results["metric"] == metric]
    shown = [name for name in ("run", "settings", "engine", "mitigation") if rows[name].nunique() > 1]
    tables = []
    for layers, part in rows.groupby("layers", sort=False):
        where = f", noise in {layers}" if layers != "all" else ""
        more = "" if len(part) <= LONGEST_TABLE else f" (the first {LONGEST_TABLE} of {len(part)} rows)"
        tables.append(_table(part.head(LONGEST_TABLE), shown, f"{metric_label(metric)}{where}{more}"))
    return tables


def _table(head: pd.DataFrame, shown: list[str], title: str) -> Table:
    from rich import box
    from rich.table import Table

    from qhybrid.metrics import find_metric
    from qhybrid.report.labels import OVER_RUNS, noise_label, repeats, shots_label

    metric = find_metric(str(head["metric"].iloc[0]))

    # Without side borders the table of two engines fits into 80 columns, as in logs.
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    over = repeats(head)
    if len(over) > 1:
        table.caption, table.caption_justify = OVER_RUNS, "left"
    heads = (*shown, "noise", "shots", "mean", "error", *over)
    rows = [
        (
            *(_cell(name, str(row[name])) for name in shown),
            noise_label(row),
            shots_label(row["shots"]),
            metric.show(row["value"]),
            metric.show(row["standard_error"]),
            *counts,
        )
        for (_, row), counts in zip(head.iterrows(), zip(*over.values(), strict=True), strict=True)
    ]
    for place, name in enumerate(heads):
        # Lines break between words, not inside of them.
        widest = max(len(word) for row in rows for word in f"{name} {row[place]}".split())
        number_like = place > len(shown)
        table.add_column(
            name, overflow="fold", min_width=min(widest, LONGEST_WORD),
            justify="right" if number_like else "left", no_wrap=number_like,
        )  # fmt: skip
    for row in rows:
        table.add_row(*row)
    return table


def _cell(name: str, value: str) -> str:
    from qhybrid.report.labels import executed_by, settings_label

    if name == "settings":
        return settings_label(json.loads(value))
    return executed_by(value) if name == "engine" else value


def _report_failures(outcome: SweepOutcome) -> None:
    """Say what failed, and leave with an error code if anything did."""
    if not outcome.failures:
        return
    from qhybrid.report.labels import failure_label

    for failure in outcome.failures[:SHOWN_FAILURES]:
        errors.print(f"failed: {failure_label(failure)}", markup=False, soft_wrap=True)
    more = len(outcome.failures) - SHOWN_FAILURES
    also = f" ({more} more)" if more > 0 else ""
    errors.print(
        f"{len(outcome.failures)} failed{also}; see {short(outcome.folder / 'failures.json')}. The same "
        "command tries them again.",
        markup=False,
        soft_wrap=True,
    )
    raise typer.Exit(1)
