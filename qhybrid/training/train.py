"""From a recipe to a run folder, and from a run that was cut short to a complete one."""

from __future__ import annotations

import json
import logging
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

import qhybrid
from qhybrid.config import Recipe
from qhybrid.data.augmentation import PatchAugmentation
from qhybrid.engines import make_engine
from qhybrid.errors import CheckpointError, ConfigError, TrainingError, WorkspaceError, optional_import
from qhybrid.models import build_model, resolve_model
from qhybrid.seeding import derive_seed
from qhybrid.training.callbacks import EpochBar, RunKeeper, StepClock, WeightAverage, completed_epochs
from qhybrid.training.data_module import SceneDataModule
from qhybrid.training.losses import CrossEntropyDice, class_weights
from qhybrid.training.module import SegmentationModule
from qhybrid.training.provenance import environment
from qhybrid.training.run_folder import (
    ENVIRONMENT,
    FORMAT,
    METRICS,
    RECIPE,
    RESUME_STATE,
    Meta,
    load_run,
    read_recipe,
    write_recipe,
)
from qhybrid.training.sample_pictures import draw_run_pictures
from qhybrid.workspace import write_text


@dataclass(frozen=True)
class _Parts:
    data: SceneDataModule
    module: SegmentationModule
    model_config: dict[str, Any]


def train(recipe: Recipe, data_root: Path, output: Path, *, resume: bool = False) -> Path:
    """Train a model.

    Args:
        recipe: What to train on what.
        data_root: Folder that `data.root` is relative to.
        output: The run folder; it must be new, unless `resume` is set.
        resume: Go on from the last complete epoch of the run in `output`, with that run's own recipe:
            `recipe` must equal it but for `training.progress` and `training.loggers`.

    Returns:
        The run folder.

    Raises:
        QHybridError: For an invalid recipe, unusable data, a folder in the way, or a loss that is not finite.
    """
    state = _prepare_folder(recipe, output, resume)
    if recipe.training.threads:
        torch.set_num_threads(recipe.training.threads)
    parts = _build(recipe, data_root)
    if state is None:
        write_recipe(output, recipe)
    write_text(output / ENVIRONMENT, json.dumps(environment(recipe.seed), indent=2) + "\n")
    trainer = _trainer(recipe, parts, output)
    _fit(trainer, parts, state)
    run = load_run(output, "best" if (output / "best").is_dir() else "last")
    draw_run_pictures(run, parts.data.dataset.scenes("val"), output / METRICS)
    return output


def _prepare_folder(recipe: Recipe, output: Path, resume: bool) -> Path | None:
    """Check the run folder and return the state to resume from, if any."""
    if not resume:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise WorkspaceError(
                f"{output} already exists and is not empty. Fix: choose another folder, or resume the run in "
                "it."
            )
        return None
    before = read_recipe(output)
    _check_same_run(before, recipe, output)
    state = output / RESUME_STATE
    return state if state.is_file() else None


def _check_same_run(before: Recipe, now: Recipe, output: Path) -> None:
    """A resumed run must compute what the interrupted one would have; only how it is shown may change."""
    shown = {"progress", "loggers"}
    old = before.model_dump(mode="json")
    new = now.model_dump(mode="json")
    different = [
        f"{section}.{key}"
        for section in ("data", "model", "engine", "training")
        for key in old[section].keys() | new[section].keys()
        if old[section].get(key) != new[section].get(key) and key not in shown
    ]
    if before.seed != now.seed:
        different.append("seed")
    if different:
        raise ConfigError(
            f"{output / RECIPE} differs from the given recipe in {', '.join(sorted(different))}. Fix: "
            "resume with the run's own recipe, or start a new run."
        )


def model_section(recipe: Recipe, bands: tuple[int, ...], num_classes: int) -> dict[str, Any]:
    """Return the model section with what the data decide filled in: in_channels, num_classes, patch_size.

    Raises:
        ConfigError: If the recipe gives one of these keys another value than the data do, or a key is
            unknown.
    """
    decided = {"in_channels": len(bands), "num_classes": num_classes, "patch_size": recipe.data.patch_size}
    for key, value in decided.items():
        if recipe.model.get(key, value) != value:
            raise ConfigError(
                f"Key `model.{key}` is {recipe.model[key]}, but the data section says {value}. Fix: leave it "
                "out."
            )
    return resolve_model({**recipe.model, **decided})


def _build(recipe: Recipe, data_root: Path) -> _Parts:
    data = SceneDataModule(recipe, data_root)
    config = model_section(recipe, data.bands, data.classes.num_classes)
    engine = make_engine(
        recipe.engine.kind, shots=recipe.engine.shots, seed=recipe.engine.seed, **recipe.engine.options
    )
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(recipe.seed, "initial weights"))
        model = build_model(config, engine)
    loss = CrossEntropyDice(
        recipe.training.loss, class_weights(recipe.training.loss, data.statistics.pixels_per_class)
    )
    augmentation = PatchAugmentation(recipe.data.augmentation, data.statistics)
    total = recipe.training.epochs * max(1, recipe.data.patches_per_epoch // recipe.training.batch_size)
    module = SegmentationModule(model, recipe, loss, augmentation, data.classes.num_classes, total)
    return _Parts(data, module, config)


def _trainer(recipe: Recipe, parts: _Parts, output: Path) -> lightning.Trainer:
    training = recipe.training
    gpu = training.accelerator == "cuda" or (training.accelerator == "auto" and torch.cuda.is_available())
    if training.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "Key `training.accelerator` is `cuda`, but torch sees no CUDA device. Fix: use `auto` or `cpu`."
        )
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return lightning.Trainer(
        default_root_dir=output,
        accelerator="cuda" if gpu else "cpu",
        devices=1,
        precision=_precision(training.precision, gpu),
        max_epochs=training.epochs,
        gradient_clip_val=training.gradient_clip or None,
        callbacks=_callbacks(recipe, parts, output),
        logger=_loggers(recipe, output),
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=training.progress,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
    )


def _precision(chosen: str, gpu: bool) -> Any:
    if chosen != "auto":
        return chosen
    if not gpu:
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def _callbacks(recipe: Recipe, parts: _Parts, output: Path) -> list[Callback]:
    clock = StepClock()
    callbacks: list[Callback] = [clock]
    if recipe.training.progress:
        callbacks.append(EpochBar())
    if recipe.training.early_stopping:
        callbacks.append(EarlyStopping("val_miou", mode="max", patience=recipe.training.early_stopping))
    average = WeightAverage(decay=recipe.training.weight_average) if recipe.training.weight_average else None
    if average:
        callbacks.append(average)
    callbacks.append(RunKeeper(output, clock, lambda **epoch: _meta(recipe, parts, **epoch), average))
    return callbacks


def _meta(recipe: Recipe, parts: _Parts, *, epoch: int, step: int, metrics: dict[str, float | None]) -> Meta:
    return Meta(
        format=FORMAT,
        model=parts.model_config,
        classes=parts.data.classes.to_dict(),
        statistics=parts.data.statistics.to_dict(),
        bands=parts.data.bands,
        patch_size=recipe.data.patch_size,
        epoch=epoch,
        step=step,
        metrics=metrics,
        qhybrid=qhybrid.__version__,
    )


def _loggers(recipe: Recipe, output: Path) -> Any:
    loggers: list[Any] = []
    if "tensorboard" in recipe.training.loggers:
        optional_import("tensorboard", "loggers")
        loggers.append(lightning.pytorch.loggers.TensorBoardLogger(output, name="tensorboard", version=""))
    if "mlflow" in recipe.training.loggers:
        optional_import("mlflow", "loggers")
        loggers.append(
            lightning.pytorch.loggers.MLFlowLogger(
                recipe.name, run_name=output.name, tracking_uri=f"file:{(output / 'mlflow').resolve()}"
            )
        )
    return loggers or False


def _fit(trainer: lightning.Trainer, parts: _Parts, state: Path | None) -> None:
    with warnings.catch_warnings():
        # Loader workers are the user's choice; Lightning advises more of them on every start.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*`isinstance.treespec, LeafSpec.` is deprecated.*")
        try:
            parts.data.first_epoch = completed_epochs(state) if state else 0
            trainer.fit(parts.module, datamodule=parts.data, ckpt_path=state, weights_only=True)
        except (RuntimeError, KeyError, EOFError, UnpicklingError) as error:
            if isinstance(error, TrainingError) or state is None:
                raise
            raise CheckpointError(
                f"{state} cannot be resumed from: {error}. Fix: the weights in last/ can still be evaluated; "
                "start a new run."
            ) from error
        except SystemExit:
            # Lightning turns Ctrl-C into exit(1) and leaves the signal ignored.
            if not trainer.interrupted:
                raise
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None
