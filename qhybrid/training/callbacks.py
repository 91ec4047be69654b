"""What happens around epochs: weights, resume state, the metrics table, pictures, the clock."""

from __future__ import annotations

import csv
import io
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EMAWeightAveraging
from torch import nn
from torch.optim import Optimizer

from qhybrid.errors import WorkspaceError
from qhybrid.training.ranks import from_first, place
from qhybrid.training.run_folder import METRICS, RESUME_STATE, Meta, save_weights
from qhybrid.workspace import atomic_path

COLUMNS = (
    "epoch",
    "step",
    "train_loss",
    "train_miou",
    "val_loss",
    "val_miou",
    "val_accuracy",
    "learning_rate",
    "seconds_per_step",
    "epoch_seconds",
)


class StepClock(Callback):
    """Measures the seconds from step to step, waiting for data included, the first of each epoch left out."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._mark: float | None = None
        self._epoch_start = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the epoch's clock."""
        self._times, self._mark = [], None
        self._epoch_start = time.perf_counter()

    def on_before_optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Take the time since the step before."""
        now = time.perf_counter()
        if self._mark is not None:
            self._times.append(now - self._mark)
        self._mark = now

    @property
    def seconds_per_step(self) -> float:
        """Median over the steps of the running epoch; NaN for an epoch of one step."""
        times = sorted(self._times)
        return times[len(times) // 2] if times else math.nan

    @property
    def epoch_seconds(self) -> float:
        """Seconds since the epoch began, validation included."""
        return time.perf_counter() - self._epoch_start


class WeightAverage(EMAWeightAveraging):
    """Exponential moving average of the weights: what is validated and kept; training goes on without it."""

    def averaged(self) -> nn.Module:
        """Return the network with the averaged weights."""
        if self._average_model is None:
            raise RuntimeError("There is no average before training has begun.")
        module: Any = self._average_model.module
        network: nn.Module = module.model
        return network


class RunKeeper(Checkpoint):
    """At the end of each epoch: appends to metrics.csv, keeps best and last weights and the resume state.

    Of several processes the first one writes; all of them keep the table, which is in everybody's state.

    The resume state is written last: a process killed in between repeats the epoch, and nothing is counted
    twice. With `save_interval`, table, last weights and resume state of short epochs are not all written; a
    process killed then repeats the epochs since the last state. As a `Checkpoint` it comes after early
    stopping, whose count belongs to the state.
    """

    def __init__(
        self,
        folder: Path,
        clock: StepClock,
        meta: Callable[..., Meta],
        average: WeightAverage | None = None,
        *,
        monitor: str = "val_miou",
        columns: tuple[str, ...] = COLUMNS,
        save_interval: float = 0.0,
        keep_best: bool = True,
        report: Callable[..., None] | None = None,
        more: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        """Build the callback.

        Args:
            folder: The run folder.
            clock: Where step times come from.
            meta: Makes the meta.json content from keywords `epoch`, `step` and `metrics`.
            average: Holds the weights to keep; absent: the trained ones are kept.
            monitor: Metric whose largest value marks the best weights; without it there are only last ones.
            columns: Columns of metrics.csv.
            save_interval: Seconds that may pass without a resume state; 0 writes one after every epoch.
            keep_best: Whether the best weights are written, beside the last ones.
            report: Called after each epoch with its row and `best`, whether it is the best one so far.
            more: Gives further columns of the finished epoch.
        """
        self.folder = folder
        self.clock = clock
        self.meta = meta
        self.average = average
        self.monitor = monitor
        self.columns = columns
        self.save_interval = save_interval
        self.keep_best = keep_best
        self.report = report
        self.more = more
        self._saved_at = -math.inf
        self._saved_epoch = 0
        self.best = -math.inf
        self.rows: list[dict[str, Any]] = []
        self.stopped = False
        self._rate = math.nan

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add no epoch to a run that early stopping has ended."""
        trainer.should_stop = trainer.should_stop or self.stopped

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: Optimizer
    ) -> None:
        """Note the learning rate of the step; after it the optimiser has that of the next one."""
        self._rate = float(optimizer.param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write everything that belongs to the finished epoch.

        Raises:
            WorkspaceError: If the disk is full or the run folder has gone; it says which epochs are kept.
        """
        with self._explained(trainer.current_epoch + 1):
            self._keep(trainer, pl_module)

    def _keep(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        values = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name in self.columns
        }
        self.rows = [row for row in self.rows if row["epoch"] < epoch]
        self.rows.append(
            {
                "epoch": epoch,
                "step": trainer.global_step,
                **values,
                **(self.more() if self.more is not None else {}),
                "learning_rate": self._rate,
                "seconds_per_step": self.clock.seconds_per_step,
                "epoch_seconds": self.clock.epoch_seconds,
            }
        )
        meta = self.meta(
            epoch=epoch, step=trainer.global_step, metrics={k: _plain(v) for k, v in values.items()}
        )
        network = self.average.averaged() if self.average else pl_module.model
        score = values.get(self.monitor, math.nan)
        self._warn_of_values(epoch, values)
        best = math.isfinite(score) and score > self.best
        if best:
            self.best = score
            if self.keep_best and place().first:
                save_weights(self.folder, "best", network, meta)
        self.stopped = bool(trainer.should_stop)
        meta = meta.model_copy(update={"stopped": self.stopped})
        if self._is_due(trainer):
            self._save(trainer, network, meta)
            self._saved_epoch = epoch
        if self.report is not None and place().first:
            self.report(self.rows[-1], best=best)

    def _is_due(self, trainer: lightning.Trainer) -> bool:
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        return last or from_first(lambda: time.monotonic() - self._saved_at >= self.save_interval)

    def _save(self, trainer: lightning.Trainer, network: nn.Module, meta: Meta) -> None:
        if not place().first:
            trainer.save_checkpoint(
                self.folder / RESUME_STATE
            )  # gives its part of it, and waits; writes nothing
            self._saved_at = time.monotonic()
            return
        # The state is written before the others take their places and takes its own after them: on a full
        # disk all stay as they were after the epoch before.
        with atomic_path(self.folder / RESUME_STATE) as temporary:
            trainer.save_checkpoint(temporary)
            with atomic_path(self.folder / METRICS) as table:
                table.write_text(self._table(), encoding="utf-8")
                save_weights(self.folder, "last", network, meta)
        self._saved_at = time.monotonic()

    @contextmanager
    def _explained(self, epoch: int) -> Iterator[None]:
        """Say on a full disk what is left of the run."""
        try:
            yield
        except WorkspaceError as error:
            kept = (
                f"Epochs up to {self._saved_epoch} are kept: go on after that with `qhybrid train --resume "
                f"{self.folder}`."
                if self._saved_epoch and (self.folder / RESUME_STATE).is_file()
                else "No epoch is kept."
            )
            raise WorkspaceError(f"{error} Epoch {epoch} was trained but not kept. {kept}") from error

    def _warn_of_values(self, epoch: int, values: Mapping[str, float]) -> None:
        for name in dict.fromkeys((self.monitor, "val_loss")):
            if not math.isfinite(values.get(name, 0.0)):
                result = ": this epoch cannot be the best one" if name == self.monitor else ""
                warnings.warn(
                    f"Epoch {epoch}: {name} is {values[name]}{result}. Fix: check the validation split "
                    "(`qhybrid data check`), or lower `training.learning_rate`.",
                    stacklevel=2,
                )

    def _table(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: the best score, the table so far, whether it ended early."""
        return {"best": self.best, "rows": self.rows, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of the run that is resumed."""
        self.best = state_dict["best"]
        self.rows = state_dict["rows"]
        self.stopped = state_dict.get("stopped", False)
        self._saved_epoch = int(self.rows[-1]["epoch"]) if self.rows else 0


def completed_epochs(state: Path) -> int:
    """Return after how many complete epochs a resume state was written.

    Raises:
        RuntimeError, KeyError, EOFError, UnpicklingError: If the file is not such a state, or damaged.
    """
    content = torch.load(state, map_location="cpu", weights_only=True)
    return int(content["callbacks"][RunKeeper.__qualname__]["rows"][-1]["epoch"])


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
