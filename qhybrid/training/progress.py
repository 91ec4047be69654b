"""What training shows: one line an epoch that stays, and below it a bar with the time that is left."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from qhybrid.metrics import DASH, metric_label, show_metric

BAR_WIDTH = 24
_LARGE = 1000
"""Losses and seconds from here on are shown with fewer digits, so that columns keep their width."""


class TimeLeft:
    """Estimates how long a training still takes.

    After the first epoch of this process it is the mean epoch times the epochs that are left; before that,
    the time of the batches so far stands for all of them.

    Args:
        epochs: Epochs of the whole training.
        done: Epochs that an earlier process has completed.
    """

    def __init__(self, epochs: int, done: int = 0) -> None:
        self.epochs = epochs
        self.done = done
        self._seconds = 0.0
        self._complete = 0

    def epoch_ended(self, seconds: float) -> None:
        """Count a complete epoch and its seconds."""
        self.done += 1
        self._complete += 1
        self._seconds += seconds

    def seconds(self, elapsed: float, fraction: float) -> float | None:
        """Return the seconds that are left; None while nothing is known.

        Args:
            elapsed: Seconds since the running epoch began.
            fraction: Part of its batches that is done, 0 to 1.
        """
        if self._complete:
            whole = self._seconds / self._complete
        elif fraction > 0:
            whole = elapsed / fraction
        else:
            return None
        return max(0.0, whole * (self.epochs - self.done) - min(elapsed, whole))


class EpochLines:
    """The table of epochs as lines of text, at most 80 columns wide.

    Args:
        epochs: Epochs of the whole training.
        monitor: Metric that decides on the best epoch, as in `val_miou`.
        validated: Whether there is a validation split; without one its columns are left out.
    """

    def __init__(self, epochs: int, monitor: str, *, validated: bool = True) -> None:
        self.epochs = epochs
        self.monitor = monitor
        self.validated = validated
        metric = f"val {metric_label(monitor.removeprefix('val_'))}"
        heads = ["epoch", "train loss"]
        if validated:
            heads += ["val loss", metric]
        self._heads = [*heads, "learning rate", "seconds"]
        self._widths = [len(head) for head in self._heads]
        self._widths[0] = max(len("epoch"), 2 * len(str(epochs)) + 1)

    @property
    def header(self) -> str:
        """The line of the columns' names."""
        return self._line(self._heads)

    def line(self, row: Mapping[str, Any]) -> str:
        """Return the line of an epoch.

        Args:
            row: Its row of metrics.csv.
        """
        cells = [f"{row['epoch']}/{self.epochs}", _number(row.get("train_loss"), ".4f", ".3g")]
        if self.validated:
            metric = show_metric(self.monitor.removeprefix("val_"), row.get(self.monitor))
            cells += [_number(row.get("val_loss"), ".4f", ".3g"), metric]
        seconds = _number(row.get("epoch_seconds"), ".1f", ".0f")
        return self._line([*cells, f"{row['learning_rate']:.2e}", seconds])

    def _line(self, cells: list[str]) -> str:
        return "  ".join(cell.rjust(width) for cell, width in zip(cells, self._widths, strict=True))


def _number(value: float | None, usual: str, large: str) -> str:
    """Return a number in one of two formats; one that is missing or not finite is a dash."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:{usual if abs(value) < _LARGE else large}}"


class EpochBar(ProgressBar):
    """Prints a line for every complete epoch; on a terminal a bar below says where training stands.

    Elsewhere, as in a file, there are the lines alone, without control characters.

    Args:
        monitor: Metric that decides on the best epoch.
        refresh_rate: Batches between two updates of the bar.
        validated: Whether there is a validation split.
        console: Where to print; a new one on stdout if absent.
    """

    def __init__(
        self,
        monitor: str = "val_miou",
        refresh_rate: int = 1,
        *,
        validated: bool = True,
        console: Console | None = None,
    ) -> None:
        super().__init__()
        self.monitor = monitor
        self.validated = validated
        self._refresh_rate = refresh_rate
        self._console = console
        self._enabled = True
        self._bar: Progress | None = None
        self._bar_task = TaskID(0)
        self._epoch_start = 0.0

    def enable(self) -> None:
        """Show lines and bar."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the header and show the bar."""
        if not self._enabled:
            return
        epochs = int(trainer.max_epochs or 0)
        self._console = self._console or Console(highlight=False, markup=False, emoji=False)
        self._lines = EpochLines(epochs, self.monitor, validated=self.validated)
        self._left = TimeLeft(epochs, trainer.current_epoch)
        # Early stopping may end training sooner.
        self._at_most = "at most " if trainer.early_stopping_callback else ""
        self._print(self._lines.header, "bold")
        if self._console.is_interactive:
            columns = (
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(BAR_WIDTH),
                TextColumn("{task.fields[doing]}"),
                TextColumn("{task.fields[left]}"),
            )
            self._bar = Progress(*columns, console=self._console, transient=True, refresh_per_second=4)
            self._bar_task = self._bar.add_task("training", total=epochs, epoch="", doing="", left="")
            self._bar.start()
        self._epoch_start = time.perf_counter()

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Start the epoch's clock."""
        self._epoch_start = time.perf_counter()
        self._show(trainer, "training", 0, int(self.total_train_batches), 0.0)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        total, done = int(self.total_train_batches), batch_idx + 1
        if done % self._refresh_rate == 0 or done == total:
            self._show(trainer, "training", done, total, done / self._batches(trainer))

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the bar."""
        done = int(self.total_train_batches) + batch_idx + 1
        batches = self._batches(trainer)
        self._show(
            trainer, "validation", batch_idx + 1, batches - int(self.total_train_batches), done / batches
        )

    def _batches(self, trainer: lightning.Trainer) -> int:
        """Return the batches of an epoch, those of validation included."""
        return max(1, int(self.total_train_batches) + int(sum(trainer.num_val_batches)))

    def _show(self, trainer: lightning.Trainer, doing: str, done: int, total: int, fraction: float) -> None:
        if self._bar is None:
            return
        seconds = self._left.seconds(time.perf_counter() - self._epoch_start, fraction)
        left = "" if seconds is None else f"{self._at_most}{datetime.timedelta(seconds=round(seconds))} left"
        self._bar.update(
            self._bar_task,
            completed=trainer.current_epoch + fraction,
            epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}",
            doing=f"{doing} {done}/{total}",
            left=left,
        )

    def epoch_ended(self, row: Mapping[str, Any], *, best: bool) -> None:
        """Print the line of a complete epoch.

        Args:
            row: Its row of metrics.csv.
            best: Whether it is the best one so far.
        """
        if not self._enabled or self._console is None:
            return
        self._left.epoch_ended(time.perf_counter() - self._epoch_start)
        self._print(self._lines.line(row), "", "  best" if best else "")

    def _print(self, text: str, style: str, marker: str = "") -> None:
        assert self._console is not None
        self._console.print(Text(text, style=style).append(marker, style="bold green"), soft_wrap=True)

    def on_train_end(self, *_: Any) -> None:
        """Take the bar away; the lines stay."""
        self._stop()

    def on_exception(self, *_: Any) -> None:
        """Take the bar away: what follows is an error message."""
        self._stop()

    def teardown(self, *_: Any, **__: Any) -> None:
        """Take the bar away, however training has ended."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def tiles_progress(shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show how many tiles have passed the frozen ViT; the bar goes away at the end.

    Args:
        shown: Whether training shows its progress at all.

    Yields:
        Takes (tiles done, tiles in all); None where nothing is shown.
    """
    if not shown:
        yield None
        return
    columns = (TextColumn("frozen ViT"), BarColumn(), TextColumn("{task.completed}/{task.total} tiles"))
    with Progress(*columns, console=Console(stderr=True, markup=False, emoji=False), transient=True) as bar:
        task = bar.add_task("tiles", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
