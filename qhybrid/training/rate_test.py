"""Learning-rate range test: one short training with a growing rate says which rate to train with.

After L. N. Smith, "Cyclical learning rates for training neural networks" (arXiv 1506.01186), with the early
end of Lightning's `lr_find`, and its suggestion: where the loss falls most steeply. That tuner takes one rate
for all parameters, and modules that leave the steps to Lightning; ours have groups with rates of their own,
and modules that take their steps by themselves.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from scipy.signal import savgol_filter

from qhybrid.config import Recipe
from qhybrid.data.figures import save_figure
from qhybrid.errors import ConfigError, TrainingError
from qhybrid.training.kinds import build_task, with_task_defaults
from qhybrid.training.pictures import LINE_COLORS
from qhybrid.training.precision import with_resolved_precision
from qhybrid.training.preparation import with_shots_seed
from qhybrid.training.ranks import check_alone
from qhybrid.training.shots import shots_callbacks
from qhybrid.training.training_run import quiet_fit, trainer_options
from qhybrid.workspace import write_text

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
SMOOTHING = 0.9
"""Weight of the past in the exponential mean of the losses that decides on the end of the test."""
DIVERGED = 4.0
"""Factor on its smallest value beyond which the test ends, as in `lr_find`."""
_WINDOW = 0.25
"""Share of the steps that a line is fitted to."""
_HIGHEST_COUNTED = 1.5
"""Losses count up to this factor on the largest one at the start."""
_FEWEST = 10
"""Steps without which there is no suggestion."""
TABLE, PICTURE = "rate_test.csv", "rate_test.png"


@dataclass(frozen=True)
class RateTest:
    """What a range test has found.

    Attributes:
        rates: Learning rate of each step.
        losses: Training loss of each step, before it.
        smoothed: The losses without their noise, by a line around each step.
        suggestion: Rate at which the smoothed loss falls most steeply over the logarithm of the rate.
        lowest: Rate of the smallest smoothed loss: beyond it training gets worse.
        diverged: Whether the loss ran away before the highest rate.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float
    lowest: float
    diverged: bool

    @classmethod
    def of(cls, rates: list[float], losses: list[float], diverged: bool) -> RateTest:
        """Judge the losses of a test.

        Raises:
            TrainingError: If there are too few of them, or the loss has never fallen.
        """
        if len(rates) < _FEWEST:
            raise TrainingError(
                f"A learning-rate range test needs at least {_FEWEST} steps before the loss runs away, but "
                f"has {len(rates)}. Fix: begin with a lower rate, or check the data."
            )
        # Losses of single batches are noise, and the steepest step of a mean that lags is often one of them:
        # a line is fitted around each step. What ran away must not pull on its neighbours.
        start = np.array(losses[: len(losses) // 10 + 1])
        bounded = np.minimum(losses, _HIGHEST_COUNTED * start.max())
        window = max(5, round(len(losses) * _WINDOW)) // 2 * 2 + 1
        smoothed = savgol_filter(bounded, min(window, len(losses) - 1 + len(losses) % 2), 1)
        lowest = int(np.argmin(smoothed))
        fall = np.diff(smoothed[: lowest + 1])
        if start.mean() <= smoothed[lowest] or not (fall < 0).any():
            raise TrainingError(
                f"The loss has fallen at no rate from {rates[0]:.1e} to {rates[-1]:.1e}. Fix: more steps, "
                "other rates, or check the labels."
            )
        suggestion = rates[int(np.argmin(fall))]
        values = tuple(smoothed.tolist())
        return cls(tuple(rates), tuple(losses), values, suggestion, rates[lowest], diverged)


class _EndOfTestError(Exception):
    """Leaves the training loop; nothing else ends it in the middle of an epoch of blocks."""


class RateRamp(Callback):
    """Sets the rate of each step, keeps its loss, and ends the test.

    All parameter groups keep the proportions of their rates.
    """

    def __init__(
        self, lowest: float, highest: float, steps: int, progress: Callable[[int, int], None]
    ) -> None:
        self.planned = np.geomspace(lowest, highest, steps).tolist()
        self.progress = progress
        self.losses: list[float] = []
        self.diverged = False
        self._loss = math.nan

    def watch(self, loss: torch.nn.Module) -> None:
        """Keep what a loss returns."""

        def keep(_module: Any, _inputs: Any, value: torch.Tensor) -> None:
            self._loss = float(value.detach())

        loss.register_forward_hook(keep)

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Keep the loss before this step, and give the step its rate."""
        self.losses.append(self._loss)
        self.progress(len(self.losses), len(self.planned))
        smoothed = smooth(self.losses)
        if smoothed[-1] > DIVERGED * min(smoothed):
            self.diverged = True
            raise _EndOfTestError
        if len(self.losses) == len(self.planned):
            raise _EndOfTestError
        factor = self.planned[len(self.losses) - 1] / pl_module.recipe.training.learning_rate
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def smooth(values: list[float]) -> list[float]:
    """Return the exponential mean of a series, corrected for its start."""
    mean, found = 0.0, []
    for number, value in enumerate(values, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        found.append(mean / (1 - SMOOTHING**number))
    return found


def find_rate(
    recipe: Recipe,
    data_root: Path,
    *,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> RateTest:
    """Find a learning rate for a recipe by a range test; nothing is trained and nothing is written.

    The steps are those of a training (precision, gradient clipping, noise and shots), on a network of its
    own, and global random states are as before. Rates of circuits and encoders keep their proportions.

    Args:
        recipe: What would be trained on what.
        data_root: Folder that `data.root` is relative to.
        lowest: Learning rate of the first step.
        highest: Learning rate of the last step.
        steps: Steps; the rate grows by the same factor from each to the next.
        progress: Called after each step with the number of steps done and in all.

    Raises:
        ConfigError: If the rates or the steps make no test.
        TrainingError: If the loss falls nowhere, or runs away at once.
        QHybridError: For an invalid recipe or unusable data.
    """
    check_alone("A learning-rate range test")
    if not 0 < lowest < highest or steps < _FEWEST:
        raise ConfigError(
            f"A learning-rate range test must go up from a rate above 0 in at least {_FEWEST} steps, but is "
            f"asked for {lowest} to {highest} in {steps}."
        )
    recipe = with_shots_seed(with_resolved_precision(with_task_defaults(recipe)))
    numpy_state = np.random.get_state()  # noqa: NPY002 - kept, not used
    try:
        with torch.random.fork_rng():
            ramp = RateRamp(lowest, highest, steps, progress)
            _run(recipe, data_root, ramp)
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
    return RateTest.of(ramp.planned[: len(ramp.losses)], ramp.losses, ramp.diverged)


def _run(recipe: Recipe, data_root: Path, ramp: RateRamp) -> None:
    task = build_task(recipe, data_root, test=False)
    ramp.watch(task.module.loss)
    options = trainer_options(recipe, task)
    trainer = lightning.Trainer(
        **{**options, "max_epochs": -1, "enable_checkpointing": False, "enable_progress_bar": False},
        limit_val_batches=0,
        callbacks=[*shots_callbacks(recipe, task.module.model), ramp],
        logger=False,
    )
    try:
        with quiet_fit(trainer):
            trainer.fit(task.module, datamodule=task.data)
    except _EndOfTestError:
        pass
    except TrainingError:
        # What diverged, a circuit's angles or the loss, has ended the test.
        ramp.diverged = True


def save_rate_test(found: RateTest, folder: Path) -> Path:
    """Write table and picture of a range test, and return the picture."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("learning_rate", "loss", "smoothed_loss"))
    writer.writerows(zip(found.rates, found.losses, found.smoothed, strict=True))
    write_text(folder / TABLE, text.getvalue())
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, color="#b3b3b3", linewidth=1, label="each step")
    axes.plot(found.rates, found.smoothed, color=LINE_COLORS[0], label="smoothed")
    axes.axvline(found.suggestion, color=LINE_COLORS[1], label=f"suggestion {found.suggestion:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    top = max(found.smoothed[0], *found.smoothed[: len(found.smoothed) // 2]) * 1.5
    axes.set_ylim(min(min(found.losses), min(found.smoothed)) * 0.95, max(top, min(found.smoothed) * 1.2))
    axes.legend(frameon=False)
    return save_figure(figure, folder / PICTURE)
