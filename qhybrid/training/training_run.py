"""From a recipe to a run folder, and from a run that was cut short to a complete one."""

from __future__ import annotations

import json
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies import DDPStrategy

from qhybrid.config import Recipe
from qhybrid.data.identity import DataIdentity
from qhybrid.data.scenes import SPLITS
from qhybrid.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    TrainingError,
)
from qhybrid.layers.experts import routers
from qhybrid.models import check_begins
from qhybrid.training.callbacks import RunKeeper, StepClock, WeightAverage, completed_epochs
from qhybrid.training.data_record import (
    LEARNED,
    read_record,
    record_of,
    write_record,
)
from qhybrid.training.ending import ending_callbacks, ending_when_told, kept_epochs
from qhybrid.training.gradients import GradientNorms, gradient_columns
from qhybrid.training.kinds import build_task, meta_class, with_task_defaults
from qhybrid.training.named_parts import named_parts
from qhybrid.training.pictures import lost_pictures_warned
from qhybrid.training.precision import trains_on_gpu, with_resolved_precision
from qhybrid.training.preparation import (
    TrainingStart,
    check_before_data,
    check_free_space,
    claimed,
    training_start,
    with_shots_seed,
)
from qhybrid.training.progress import EpochBar
from qhybrid.training.provenance import environment
from qhybrid.training.ranks import check_alike, from_first, is_lost, joined, launched, place
from qhybrid.training.resuming import (
    check_same_data,
    check_same_processes,
    prepare_folder,
    with_kept_model,
)
from qhybrid.training.routing import routing_columns
from qhybrid.training.run_folder import (
    ENVIRONMENT,
    RECIPE,
    write_recipe,
)
from qhybrid.training.shots import shots_callbacks
from qhybrid.training.task import Task
from qhybrid.version import __version__
from qhybrid.workspace import data_below, write_text


def train(
    recipe: Recipe,
    data_root: Path,
    output: Path,
    *,
    resume: bool = False,
    test: bool | None = None,
    on_start: Callable[[TrainingStart], None] | None = None,
) -> Path:
    """Train a model.

    Before the first step all splits are checked: every file opens and ends where it should, masks fit and
    hold known values.

    Where `torchrun` has started several processes, they take the steps together, each with a batch of its
    own; all of them call this with the same arguments. Where `torchrun` may restart them (`--max-restarts`),
    a run that is in `output` already is gone on with, as if `resume` were set: on machines that join anew
    nothing else tells the first start from a later one.

    Args:
        recipe: What to train on what.
        data_root: Folder that `data.root` is relative to.
        output: The run folder; it must be new, unless `resume` is set.
        resume: Go on from the last complete epoch of the run in `output`, with that run's own recipe:
            `recipe` must equal it but for `training.progress` and `training.loggers`.
        test: Whether the run will be evaluated on the test split: True, so it must be there and usable;
            False, it is not looked at; None, it must be usable if it is there.
        on_start: Called once before the first step with what is about to be trained.

    Returns:
        The run folder.

    Raises:
        QHybridError: For an invalid recipe, unusable data, a folder in the way, a full disk, or a loss that
            is not finite.
    """
    with data_below(data_root), joined():
        return _train(recipe, data_root, output, resume=resume, test=test, on_start=on_start)


def _train(
    recipe: Recipe,
    data_root: Path,
    output: Path,
    *,
    resume: bool,
    test: bool | None,
    on_start: Callable[[TrainingStart], None] | None,
) -> Path:
    recipe = with_task_defaults(recipe)
    recipe = with_resolved_precision(recipe)
    recipe = with_shots_seed(recipe)
    resume = resume or (launched().may_restart and (output / RECIPE).is_file())
    state = from_first(lambda: prepare_folder(recipe, output, resume))
    if state is None:
        check_begins(recipe.model)
    else:
        recipe = with_kept_model(recipe, output, meta_class(recipe))
    check_before_data(recipe)
    if recipe.training.threads:
        torch.set_num_threads(recipe.training.threads)
    with ExitStack() as stack:
        from_first(lambda: stack.enter_context(claimed(output, resume=resume)))
        task = build_task(recipe, data_root, test=test)
        if place().world > 1:
            check_alike(_decisive(recipe, task))
        _check_early_stopping(recipe, task)
        splits = SPLITS if test is not False else LEARNED
        from_first(lambda: _begin(recipe, task, data_root, output, state, splits))
        trainer = _trainer(recipe, task, output)
        if on_start is not None and place().first:
            on_start(training_start(recipe, task, trainer.strategy.root_device))
        _fit(trainer, task, state)
        if place().first:
            _draw_pictures(task, output)
    return output


def _decisive(recipe: Recipe, task: Task) -> dict[str, str]:
    """Return what decides the steps of a rank, and is found on its own machine."""
    apart = {"training": {"progress", "loggers", "threads"}, "data": {"workers", "cache_mb"}}
    meta = task.meta(epoch=0, step=0, metrics={})
    return {
        "versions": f"qhybrid {__version__}, torch {torch.__version__}",
        "recipe": recipe.model_dump_json(exclude=apart),
        "model": repr(meta.model),  # its circuits are whole
        # Numbers of pixels alone: rounding of means depends on the processor.
        "data": repr((task.data.counts, task.data.statistics.pixels_per_class)),
        **named_parts(recipe),
    }


def _begin(
    recipe: Recipe,
    task: Task,
    data_root: Path,
    output: Path,
    state: Path | None,
    splits: tuple[str, ...],
) -> None:
    """Write what a run begins with, or check that one that goes on has what it began with."""
    check_free_space(output, task.module.model)
    record = read_record(output) if state is not None else None
    found = record_of(_identities(task, splits), data_root)
    if state is None:
        write_recipe(output, recipe)
        write_record(output, found)
    else:
        check_same_data(output, record, found, task)
        check_same_processes(output)
    made_with = {**environment(recipe.seed), "data": task.data.counts}
    write_text(output / ENVIRONMENT, json.dumps(made_with, indent=2) + "\n")


def _draw_pictures(task: Task, output: Path) -> None:
    """Draw the pictures of a finished run."""
    with lost_pictures_warned(output, "weights and metrics"):
        task.draw_pictures(output)


def _identities(task: Task, splits: tuple[str, ...]) -> dict[str, DataIdentity | None]:
    """Return the identity of every one of the splits that can be used."""
    found: dict[str, DataIdentity | None] = {}
    for split in splits:
        try:
            found[split] = task.data.identity(split)
        except (ConfigError, DataError):  # there is none: whoever evaluates on it says so
            found[split] = None
    return found


def _check_early_stopping(recipe: Recipe, task: Task) -> None:
    if recipe.training.early_stopping and not task.validated:
        raise ConfigError(
            "Key `training.early_stopping` needs a validation split, but the data set has none. Fix: set it "
            "to 0, or set `data.options.validation`."
        )


def _trainer(recipe: Recipe, task: Task, output: Path) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=output,
        callbacks=_callbacks(recipe, task, output),
        logger=_loggers(recipe, output),
        **trainer_options(recipe, task),
    )


def trainer_options(recipe: Recipe, task: Task) -> dict[str, Any]:
    """Return what decides how steps are computed, as keywords of Lightning's trainer.

    Raises:
        ConfigError: If there is no such device.
    """
    training = recipe.training
    gpu = trains_on_gpu(recipe)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return {
        "accelerator": "cuda" if gpu else "cpu",
        **_processes(task),
        "precision": _precision(training.precision, gpu),
        "max_epochs": training.epochs,
        # A module that takes its steps by itself clips by itself.
        "gradient_clip_val": (training.gradient_clip or None) if task.module.automatic_optimization else None,
        "enable_checkpointing": True,  # by the RunKeeper alone
        "enable_model_summary": False,
        "enable_progress_bar": training.progress,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "use_distributed_sampler": False,
    }


def _processes(task: Task) -> dict[str, Any]:
    """Return Lightning's keywords for the processes that are joined."""
    own = place()
    if own.world == 1:
        return {"devices": 1}
    # An expert that no sample of a step is sent to has no gradient.
    strategy = DDPStrategy(find_unused_parameters=bool(routers(task.module.model)))
    return {"devices": own.local_world, "num_nodes": own.machines, "strategy": strategy}


def _precision(chosen: str, gpu: bool) -> Any:
    if chosen != "auto":
        return chosen
    if not gpu:
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def _callbacks(recipe: Recipe, task: Task, output: Path) -> list[Callback]:
    clock = StepClock()
    gradients = GradientNorms()
    callbacks: list[Callback] = [clock, *shots_callbacks(recipe, task.module.model), gradients]
    callbacks += ending_callbacks(output)
    bar = EpochBar(task.monitor, task.refresh_rate, validated=task.validated)
    if recipe.training.progress:
        callbacks.append(bar)
    if recipe.training.early_stopping:
        patience = recipe.training.early_stopping
        # A metric that is not finite is an epoch without progress, which RunKeeper tells.
        callbacks.append(EarlyStopping(task.monitor, mode="max", patience=patience, check_finite=False))
    average = WeightAverage(decay=recipe.training.weight_average) if recipe.training.weight_average else None
    if average:
        callbacks.append(average)
    callbacks.append(
        RunKeeper(
            output,
            clock,
            task.meta,
            average,
            monitor=task.monitor,
            columns=_all_columns(task),
            save_interval=task.save_interval,
            keep_best=recipe.training.keep == "best",
            report=bar.epoch_ended if recipe.training.progress else None,
            more=lambda: {**gradients.row(), **task.module.routing.row()},
        )
    )
    return callbacks


def _all_columns(task: Task) -> tuple[str, ...]:
    """Return the columns of metrics.csv, those of gradients and routers before the learning rate."""
    place, model = task.columns.index("learning_rate"), task.module.model
    more = (*gradient_columns(model), *routing_columns(model))
    return (*task.columns[:place], *more, *task.columns[place:])


def _loggers(recipe: Recipe, output: Path) -> Any:
    loggers: list[Any] = []
    if "tensorboard" in recipe.training.loggers:
        loggers.append(lightning.pytorch.loggers.TensorBoardLogger(output, name="tensorboard", version=""))
    if "mlflow" in recipe.training.loggers:
        # A server that the user names, else files in the run folder, which MLflow wants to be asked for.
        address = os.environ.get("MLFLOW_TRACKING_URI") or f"file:{(output / 'mlflow').resolve()}"
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        loggers.append(
            lightning.pytorch.loggers.MLFlowLogger(recipe.name, run_name=output.name, tracking_uri=address)
        )
    return loggers or False


@contextmanager
def quiet_fit(trainer: lightning.Trainer) -> Iterator[None]:
    """Keep off the terminal what Lightning advises against, and raise KeyboardInterrupt after Ctrl-C."""
    with warnings.catch_warnings():
        # Loader workers are the user's choice; Lightning advises more of them on every start.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        # Resume states are those of complete epochs, whatever the number of steps suggests.
        warnings.filterwarnings("ignore", ".*resuming from a checkpoint that ended before the epoch.*")
        # A pretrained encoder stays in evaluation mode on purpose.
        warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")
        warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero.*")
        warnings.filterwarnings("ignore", ".*`isinstance.treespec, LeafSpec.` is deprecated.*")
        # What is logged is that of all processes already.
        warnings.filterwarnings("ignore", ".*recommended to use `self.log.*sync_dist=True.*")
        try:
            yield
        except SystemExit:
            # Lightning turns Ctrl-C into exit(1) and leaves the signal ignored.
            if not trainer.interrupted:
                raise
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None


def _fit(trainer: lightning.Trainer, task: Task, state: Path | None) -> None:
    with quiet_fit(trainer), ending_when_told(Path(trainer.default_root_dir)):
        try:
            task.data.first_epoch = completed_epochs(state) if state else 0
            trainer.fit(task.module, datamodule=task.data, ckpt_path=state, weights_only=True)
        except (RuntimeError, KeyError, EOFError, UnpicklingError) as error:
            if is_lost(error):
                raise TrainingError(_lost(Path(trainer.default_root_dir))) from error
            if isinstance(error, TrainingError) or state is None:
                raise
            raise CheckpointError(
                f"{state} cannot be resumed from: {error}. Fix: the weights in last/ can still be evaluated; "
                "start a new run."
            ) from error


def _lost(output: Path) -> str:
    """Return what to say where another process of the training has gone."""
    own = place()
    return (
        f"Process {own.rank} of {own.world}: all processes of a training must take every step, but another "
        f"one has ended. Fix: see what it or torchrun says of its end. {kept_epochs(output)}"
    )
