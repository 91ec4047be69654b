"""What all commands print with: two consoles, short paths, progress bars, metric tables."""

from __future__ import annotations

import datetime
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, Task

    from qhybrid.evaluation import Evaluation
    from qhybrid.metrics.intervals import Intervals

console = Console(highlight=False, markup=False, emoji=False)  # names may have brackets and colons
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)

LONGEST_NAME = 28
_BOUNDLESS = 10_000
_NARROWEST = 8
"""Characters in a line of a column whose words may be broken."""

Progress = Callable[[int, "int | None"], None]
Reference = tuple[Mapping[str, "float | None"], "Intervals | None"]
"""Metrics of a reference by their keys, and their intervals where there are some."""


def say(text: str) -> None:
    """Print one line as it is: no markup, and no breaks inside paths."""
    console.print(text, markup=False, soft_wrap=True)


def say_table(table: Table) -> None:
    """Print a table whole: one that does not fit is wider than the terminal, not without its numbers."""
    before = console.width
    try:
        console.width = max(before, _least_width(table))
        console.print(table)
    finally:
        console.width = before


def _least_width(table: Table) -> int:
    """Return the columns of a terminal that a table needs, and let none of its cells be cut off.

    Columns that fold anyway may be narrow; the words of others are broken only where they fit otherwise.
    """
    folding = [column.overflow == "fold" and not column.no_wrap for column in table.columns]
    needs, spare = [], 0
    for column, folds in zip(table.columns, folding, strict=True):
        cells = [str(cell) for cell in (column.header, *column.cells)]
        words = cells if column.no_wrap else [word for cell in cells for word in cell.split()]
        needs.append(max(map(cell_len, words), default=0))
        if folds:
            spare += max(0, needs[-1] - max(_NARROWEST, column.min_width or 0))
        else:
            column.overflow = "fold"
            column.min_width = needs[-1] if column.no_wrap else column.min_width
    boundless = console.options.update(max_width=_BOUNDLESS)
    least = Measurement.get(console, boundless, table).minimum - spare
    if least > console.width:
        for column, need, folds in zip(table.columns, needs, folding, strict=True):
            column.width = None if folds else need
    return least


def hush() -> None:
    """From now on print errors alone: another process of the same command speaks for all."""
    console.quiet = True
    warnings.simplefilter("ignore")


def tell_warnings() -> None:
    """From now on print each warning for users once, as a line of its own without the place in the code."""
    shown = warnings.showwarning
    told: set[str] = set()

    def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, UserWarning):
            if str(message) in told:  # such as of data that a command opens again, for its test
                return
            told.add(str(message))
            errors.print(f"warning: {message}", markup=False, soft_wrap=True)
        else:
            shown(message, category, *place, **more)

    warnings.showwarning = tell


def short(path: Path) -> str:
    """Return a path relative to the working directory where it lies below it."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


def say_circuit_use(found: Evaluation) -> None:
    """Print in one line whether a model uses its circuits; nothing for a model without any."""
    if found.circuit_use is not None:
        say(f"{'circuit':<12}{found.circuit_use['line']}")


def say_path(label: str, path: Path) -> None:
    """Print where something lies."""
    say(f"{label:<12}{short(path)}")


@contextmanager
def progress_bar(description: str, bytes_: bool = False) -> Iterator[Progress]:
    """Show a progress bar with the time that is left; nothing where stderr is not a terminal.

    Args:
        description: What is going on.
        bytes_: Whether the numbers are bytes of a download.

    Yields:
        A function to call with the amount done and the amount in all (None: not known).
    """
    with stage_bars(bytes_) as show:
        show(description, 0, None)
        yield lambda done, total: show(description, done, total)


@contextmanager
def stage_bars(bytes_: bool = False) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show one progress bar for each stage of a work; nothing where stderr is not a terminal.

    Args:
        bytes_: Whether the numbers are bytes of a download.

    Yields:
        A function to call with the name of a stage, the amount done and the amount in all.
    """
    from rich import progress as rich_progress
    from rich.markup import escape

    columns = (
        "{task.description}",
        rich_progress.BarColumn(24),
        rich_progress.DownloadColumn() if bytes_ else rich_progress.MofNCompleteColumn(),
        _time_left_column(),
    )
    # Where there is nothing to draw on, not even the empty line that it ends with.
    hidden = not errors.is_interactive
    with rich_progress.Progress(*columns, console=errors, transient=True, disable=hidden) as bar:
        stages: dict[str, tuple[rich_progress.TaskID, int, float]] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in stages:
                # Numbers and time have their place on a terminal of 80 columns, whatever a file is called.
                name = what if len(what) <= LONGEST_NAME else f"{what[: LONGEST_NAME - 1]}…"
                task = bar.add_task(escape(name), total=None, ends=None)
                stages[what] = task, done, time.monotonic()
            task, before, started = stages[what]
            now = time.monotonic()
            left = seconds_left(now - started, done - before, total and total - done)
            bar.update(task, completed=done, total=total, ends=None if left is None else now + left)

        yield show


def _time_left_column() -> ProgressColumn:
    """Return a column that counts down to the time when a stage is expected to end."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        def render(self, task: Task) -> Text:
            ends = task.fields["ends"]
            return Text("" if ends is None else f"{duration(max(0.0, ends - time.monotonic()))} left")

    return TimeLeft()


def seconds_left(seconds: float, done: int, left: int | None) -> float | None:
    """Return how long a work still takes; None while that is not known.

    Args:
        seconds: Since the work began.
        done: Parts that were done in this time; parts that were done before do not count.
        left: Parts that are left; None if that is not known.
    """
    return None if left is None or done <= 0 else seconds / done * left


def duration(seconds: float) -> str:
    """Return hours, minutes and seconds, as in `1:02:03`."""
    return str(datetime.timedelta(seconds=round(seconds)))


def metrics_table(
    title: str,
    results: Mapping[str, Mapping[str, float | None]],
    more: Sequence[tuple[str, ...]] = (),
    intervals: Intervals | None = None,
) -> Table:
    """Return a table of metrics: one column a result, one row a number, the headline first.

    Args:
        title: Above the table.
        results: Metrics by their keys, by column name; one that a result lacks is a dash there.
        more: Further rows, ready to print.
        intervals: The test set's own sampling error of the first result, for a column of its own.
    """
    from qhybrid.metrics import metric_label, show_metric

    caption = None if intervals is None else f"interval: {intervals.units.text()}"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("")
    for place, name in enumerate(results):
        table.add_column(name, justify="right")
        if place == 0 and intervals is not None:
            table.add_column("interval", justify="right")
    keys = list(dict.fromkeys(key for metrics in results.values() for key in metrics))
    for index, key in enumerate(keys):
        shown = [show_metric(key, metrics.get(key)) for metrics in results.values()]
        if intervals is not None:
            shown.insert(1, _interval_text(intervals, key))
        # A line before the numbers of single classes.
        ends = " " not in key and (" " in keys[index + 1] if index + 1 < len(keys) else bool(more))
        table.add_row(metric_label(key), *shown, style="bold" if index == 0 else None, end_section=ends)
    for row in more:
        table.add_row(*row)
    return table


def references_table(title: str, references: Mapping[str, Reference]) -> Table:
    """Return a table of references: one row each, the metrics that all of them have, with intervals.

    Args:
        title: Above the table.
        references: Metrics and intervals by name.
    """
    from qhybrid.metrics import metric_label, show_metric

    table = Table(title=title, title_justify="left")
    table.add_column("")
    every = [metrics.keys() for metrics, _ in references.values()]
    keys = [key for key in every[0] if all(key in one for one in every)] if every else []
    for key in keys:
        table.add_column(metric_label(key), justify="right")
        if any(one is not None and key in one.values for _, one in references.values()):
            table.add_column("interval", justify="right")
    for name, (metrics, intervals) in references.items():
        cells = []
        for key in keys:
            cells.append(show_metric(key, metrics.get(key)))
            if any(one is not None and key in one.values for _, one in references.values()):
                cells.append("" if intervals is None else _interval_text(intervals, key))
        table.add_row(name, *cells)
    return table


def _interval_text(intervals: Intervals, key: str) -> str:
    from qhybrid.metrics import DASH, show_interval

    found = intervals.values.get(key)
    return DASH if found is None else show_interval(key, found.low, found.high)


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
    return metrics_table(title, {name: found.metrics, **others}, more, found.intervals)
