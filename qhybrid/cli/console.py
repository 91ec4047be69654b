"""What all commands print with: two consoles, short paths, progress bars, metric tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from qhybrid.training.images.metrics import ImageMetrics
    from qhybrid.training.metrics import SegmentationMetrics

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

IMAGE_METRICS = {
    "soft_iou": "soft IoU",
    "soft_iou_per_image": "soft IoU, image by image",
    "iou": "IoU",
    "miou": "mIoU",
}
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


def metrics_table(title: str, results: Mapping[str, SegmentationMetrics]) -> Table:
    """Return a table of metrics: one column a result, one row a number.

    Args:
        title: Above the table.
        results: Metrics by column name; all over the same classes.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")
    table.add_row("mIoU", *(f"{metrics.miou:.4f}" for metrics in results.values()), style="bold")
    accuracies = (f"{100 * metrics.overall_accuracy:.2f} %" for metrics in results.values())
    table.add_row("overall accuracy", *accuracies, end_section=True)
    for index, label in enumerate(next(iter(results.values())).class_names):
        # A class that is in neither truth nor prediction has no IoU (NaN, unequal to itself).
        ious = [float(metrics.iou[index]) for metrics in results.values()]
        table.add_row(f"IoU {label}", *(f"{iou:.3f}" if iou == iou else "-" for iou in ious))
    return table


def image_metrics_table(title: str, results: Mapping[str, ImageMetrics]) -> Table:
    """Return a table of metrics of whole images: one column a result, one row a number.

    Args:
        title: Above the table.
        results: Metrics by column name; all of the same task and classes.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")
    first = next(iter(results.values()))
    for index, key in enumerate(first.headline):
        values = [metrics.headline[key] for metrics in results.values()]
        shown = [f"{100 * value:.2f} %" if key == "accuracy" else f"{value:.4f}" for value in values]
        last = index == len(first.headline) - 1
        table.add_row(
            IMAGE_METRICS.get(key, key), *shown, style="bold" if index == 0 else None, end_section=last
        )
    if first.task == "classification":
        for index, label in enumerate(first.counts.class_names):
            recalls = [float(metrics.counts.recall[index]) for metrics in results.values()]
            shares = (f"{100 * value:.2f} %" if value == value else "-" for value in recalls)
            table.add_row(f"right of {label}", *shares)
    return table
