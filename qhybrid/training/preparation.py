"""What is made sure before training takes time: names, packages, the run folder, the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qhybrid.config import EngineConfig, Recipe
from qhybrid.data.check_findings import DataCheck
from qhybrid.data.datasets import dataset_class
from qhybrid.data.images.image_datasets import is_image_dataset
from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError, WorkspaceError, optional_import
from qhybrid.guidance import guidance_in
from qhybrid.layers import quantum_layers
from qhybrid.models import check_task, resolve_model
from qhybrid.training.ranks import place
from qhybrid.training.run_folder import RECIPE, start_weights
from qhybrid.training.task import Task
from qhybrid.workspace import LOCK_FILE, locked, make_folder

_LOGGER_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
_COPIES = 5
"""Times the weights are written in an epoch: best and last ones, and the state (weights and two moments)."""


@dataclass(frozen=True)
class TrainingStart:
    """What a training is about to do.

    Attributes:
        data: Counts of scenes or images and of pixels by split.
        model: Name of the model.
        parameters: Trained numbers.
        circuit_weights: How many of them are angles of circuits.
        device: Where it is trained, as torch calls it.
        epochs: Epochs at most.
        steps: Steps in an epoch.
        batch_size: Patches or images in a step.
        frozen: What the frozen ViT is called; empty without one.
        processes: Processes that take the steps together.
    """

    data: DataCheck
    model: str
    parameters: int
    circuit_weights: int
    device: str
    epochs: int
    steps: int
    batch_size: int
    frozen: str = ""
    processes: int = 1


def training_start(recipe: Recipe, task: Task, device: object) -> TrainingStart:
    """Return what a training is about to do.

    Args:
        recipe: The recipe.
        task: Data and model of the run; the data are checked.
        device: Where it is trained.
    """
    model = task.module.model
    guidance = guidance_in(model)
    trained = {id(one): one.numel() for one in model.parameters() if one.requires_grad}
    angles = {
        id(one): one.numel()
        for layer in quantum_layers(model).values()
        for one in layer.parameters()
        if one.requires_grad
    }
    return TrainingStart(
        data=task.data.found,
        model=str(recipe.model["name"]),
        parameters=sum(trained.values()),
        circuit_weights=sum(angles.values()),
        device=str(device),
        epochs=recipe.training.epochs,
        steps=max(1, task.module.total_steps // recipe.training.epochs),
        batch_size=recipe.training.batch_size * place().world,
        processes=place().world,
        frozen="" if guidance is None else guidance.options.label or "",
    )


def check_before_data(recipe: Recipe) -> None:
    """Find the mistakes of a recipe that need no data: in names and keys, and packages that are missing.

    Args:
        recipe: The recipe, with the defaults of its kind of data.

    Raises:
        ConfigError: If a name or a key of the model is unknown, the model is for another task, or there is
            no such device.
        EngineError: If the engine or one of its options is wrong.
        CheckpointError: If there is no run that training shall start from.
        MissingDependencyError: If a logger's package is not installed.
    """
    dataset = dataset_class(recipe.data.dataset)
    _check_processes(recipe, dataset.task)
    check_task(str(recipe.model["name"]), dataset.task, recipe.data.dataset)
    _check_model_keys(recipe)
    make_engine(**recipe.engine.arguments())
    for logger in recipe.training.loggers:
        optional_import(_LOGGER_PACKAGES[logger], "loggers")
    if recipe.training.start is not None:
        start_weights(recipe.training.start)
    if recipe.training.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "Key `training.accelerator` is `cuda`, but torch sees no CUDA device. Fix: use `auto` or `cpu`."
        )


def _check_processes(recipe: Recipe, task: str) -> None:
    """Refuse what several processes cannot share."""
    processes = place().world
    if processes == 1:
        return
    if is_image_dataset(recipe.data.dataset):
        raise ConfigError(
            f"Whole images ({task}) are trained by one process, but this is one of {processes}. Fix: start "
            "`qhybrid train` without torchrun; --seeds and --folds with --jobs or --scheduler use many cores."
        )
    together = processes * recipe.training.batch_size
    if recipe.data.patches_per_epoch < together:
        raise ConfigError(
            f"Key `data.patches_per_epoch` must be at least {together}, a batch of "
            f"{recipe.training.batch_size} for each of {processes} processes, but is "
            f"{recipe.data.patches_per_epoch}. Fix: set a larger number, a smaller `training.batch_size`, or "
            "start fewer processes."
        )


def _check_model_keys(recipe: Recipe) -> None:
    """Refuse unknown keys and impossible values of the model; what data decide may be missing."""
    try:
        resolve_model(recipe.model)
    except ConfigError as error:
        told = ("is unknown", "has too few values", ": Input should")
        wrong = [line for line in str(error).splitlines() if any(text in line for text in told)]
        if wrong:
            raise ConfigError("\n".join(wrong)) from error


def is_new(folder: Path) -> bool:
    """Return whether a run can begin in a folder: it is missing or empty."""
    return not folder.exists() or (
        folder.is_dir() and all(entry.name == LOCK_FILE for entry in folder.iterdir())
    )


@contextmanager
def claimed(folder: Path, *, resume: bool) -> Iterator[None]:
    """Make a run folder and keep other processes out of it; a run that never began leaves none behind.

    Args:
        folder: The folder.
        resume: Whether it is one that is gone on with; else it must be new.

    Raises:
        WorkspaceError: If it cannot be written, another process works on it, or it is not new.
    """
    made = not folder.exists()
    make_folder(folder)
    try:
        with locked(folder):
            if not resume and not is_new(folder):  # another process was quicker
                raise WorkspaceError(
                    f"{folder} already exists and is not empty. Fix: choose another folder, or resume the "
                    "run in it."
                )
            yield
    except BaseException:
        if made and not (folder / RECIPE).exists() and is_new(folder):
            (folder / LOCK_FILE).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
        raise


def check_free_space(folder: Path, model: Any) -> None:
    """Check that the disk has room for what the first epoch writes.

    Args:
        folder: The run folder.
        model: The network.

    Raises:
        WorkspaceError: If it has not.
    """
    tensors = [*model.parameters(), *model.buffers()]
    needed = _COPIES * sum(one.numel() * one.element_size() for one in tensors)
    disk = shutil.disk_usage(folder)
    if disk.total and disk.free < needed:
        raise WorkspaceError(
            f"The disk of {folder} must have room for weights and resume state, about {needed / 1e6:.1f} MB, "
            f"but has {disk.free / 1e6:.1f} MB. Fix: free some space, or choose another folder with --output."
        )


def with_shots_seed(recipe: Recipe) -> Recipe:
    """Return the recipe with a seed for its shots: the run's own where none is given."""
    engine = recipe.engine
    if not draws_shots(engine) or engine.seed is not None:
        return recipe
    return recipe.model_copy(update={"engine": engine.model_copy(update={"seed": recipe.seed})})


def draws_shots(engine: EngineConfig) -> bool:
    """Return whether an engine's values are random: from shots, or from Aer's trajectories."""
    inner = engine.options.get("options")
    options = {**engine.options, **(inner if isinstance(inner, dict) else {})}
    return engine.shots is not None or options.get("trajectories") is not None
