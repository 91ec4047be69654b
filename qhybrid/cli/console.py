"""What all commands print with: two consoles, short paths, progress bars, metric tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from qhybrid.evaluation import Evaluation

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

Progress = Callable[[int, "int | None"], None]


def say(text: str) -> None:
    """Print one line as it is: no markup, and no breaks inside paths."""
    console.print(text, markup=False, soft_wrap=True)


def short(path: Path) -> str:
    """Return a path relative to the working directory where it lies below it."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


def say_path(label: str, path: Path) -> None:
    """Print where something lies."""
    say(f"{label:<12}{short(path)}")


@contextmanager
def progress_bar(description: str, bytes_: bool = False) -> Iterator[Progress]:
    """Show a progress bar while the block runs; nothing where stderr is not a terminal.

    Args:
        description: What is going on.
        bytes_: Whether the numbers are bytes of a download.

    Yields:
        A function to call with the amount done and the amount in all (None: not known).
    """
    from rich import progress as rich_progress

    amount = rich_progress.DownloadColumn() if bytes_ else rich_progress.MofNCompleteColumn()
    columns = ("{task.description}", rich_progress.BarColumn(), amount, rich_progress.TimeRemainingColumn())
    with rich_progress.Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def metrics_table(
    title: str, results: Mapping[str, Mapping[str, float | None]], more: Sequence[tuple[str, ...]] = ()
) -> Table:
    """Return a table of metrics: one column a result, one row a number, the headline first.

    Args:
        title: Above the table.
        results: Metrics by their keys, by column name; one that a result lacks is a dash there.
        more: Further rows, ready to print.
    """
    from qhybrid.metrics import metric_label, show_metric

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")
    keys = list(dict.fromkeys(key for metrics in results.values() for key in metrics))
    for index, key in enumerate(keys):
        shown = (show_metric(key, metrics.get(key)) for metrics in results.values())
        # A line before the numbers of single classes.
        ends = " " not in key and (" " in keys[index + 1] if index + 1 < len(keys) else bool(more))
        table.add_row(metric_label(key), *shown, style="bold" if index == 0 else None, end_section=ends)
    for row in more:
        table.add_row(*row)
    return table


def evaluation_table(
    title: str, name: str, found: Evaluation, others: Mapping[str, Mapping[str, float | None]]
) -> Table:
    """Return the table of an evaluation.

    Args:
        title: Above the table.
        name: Of the run.
        found: The result.
        others: Metrics of references on the same pixels, by name.
    """
    from qhybrid.metrics import CLASSIFICATION, DASH

    more = []
    if found.task == CLASSIFICATION:
        for label, share in zip(found.counts.class_names, found.counts.recall, strict=True):
            more.append((f"right of {label}", f"{100 * share:.2f} %" if share == share else DASH))
    return metrics_table(title, {name: found.metrics, **others}, more)
