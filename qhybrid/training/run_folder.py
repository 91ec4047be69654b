"""The run folder: what training leaves behind, and how a trained model comes back from it.

    recipe.yaml         the resolved recipe
    data.json           identity of the data of every split, digests of their files
    environment.json    versions, git state, machine, seed
    metrics.csv         one row an epoch
    curves.png          learning curves
    samples.png         validation patches, truth and prediction
    best/, last/        weights.safetensors and meta.json, from which the model is rebuilt
    resume/state.ckpt   optimiser and loop state of the last complete epoch
    .lock               held by the process that trains

Weights are safetensors, the rest is JSON and YAML: loading a run executes no code that came with it.
"""

from __future__ import annotations

import contextlib
import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_model
from torch import nn

from qhybrid.config import Recipe, StrictModel, load_recipe, read_yaml, to_yaml
from qhybrid.data.classes import ClassMap
from qhybrid.data.statistics import BandStatistics, with_contract
from qhybrid.errors import CheckpointError, ConfigError
from qhybrid.models import build_for_engine
from qhybrid.plugins import check_plugins, loaded_plugins, words
from qhybrid.training.kept_noise import warn_of_other_noise
from qhybrid.workspace import SEVERAL_RUNS, atomic_path, newest_of, write_text

RECIPE = "recipe.yaml"
ENVIRONMENT = "environment.json"
METRICS = "metrics.csv"
MONITOR = "val_miou"
"""Its column of scenes that decides on the best weights."""
GRADIENT_WEIGHTS, GRADIENT_INPUTS = "gradient_weights", "gradient_inputs"
"""Its columns `gradient_weights LAYER` and `gradient_inputs LAYER`."""
WEIGHTS = "weights.safetensors"
META = "meta.json"
RESUME_STATE = Path("resume") / "state.ckpt"
FORMAT = 1
Which = Literal["best", "last"]
MetaT = TypeVar("MetaT", bound="MetaHead")


class MetaHead(StrictModel):
    """What every meta.json begins with.

    Attributes:
        format: Version of the file's layout.
        model: Resolved model section.
        stopped: Whether early stopping ended training with this epoch.
        plugins: Plugins that were loaded, and the names that each has added; not written where there were
            none.
        noise: Hash of the noise profile that the recipe names; not written without one.
    """

    format: int
    model: dict[str, Any]
    stopped: bool = False
    plugins: tuple[dict[str, Any], ...] = ()
    noise: str = ""


class Meta(MetaHead):
    """Content of meta.json: everything needed to rebuild the model and to feed it.

    Attributes:
        format: Version of this file's layout.
        model: Resolved model section.
        classes: Label map (`ClassMap.to_dict`).
        statistics: Band statistics of the training split (`BandStatistics.to_dict`).
        bands: 1-based band numbers the model was trained on, in order.
        patch_size: Side of the training patches, which are the prediction windows.
        epoch: Epoch after which the weights were taken, counted from 1.
        step: Optimiser steps taken.
        metrics: Metrics of that epoch.
        qhybrid: Version that wrote the file.
        input: What the model was trained on (`InputContract.to_dict`); None of runs before this was kept.
    """

    classes: dict[str, Any]
    statistics: dict[str, Any]
    bands: tuple[int, ...]
    patch_size: int
    epoch: int
    step: int
    metrics: dict[str, float | None]
    qhybrid: str
    input: dict[str, Any] | None = None


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with all that is needed to use it.

    Attributes:
        model: The network in evaluation mode.
        recipe: The run's resolved recipe.
        statistics: Band statistics of the training split, with the contract that scenes are read for.
        classes: Label map.
        bands: 1-based band numbers in the first training scene, in the model's order.
        patch_size: Side of prediction windows, in pixels.
        any_size: Whether the model takes windows of other sizes too.
        folder: The run folder.
        which: Which weights: of the best or of the last epoch.
        meta: The meta.json they came with.
    """

    model: nn.Module
    recipe: Recipe
    statistics: BandStatistics
    classes: ClassMap
    bands: tuple[int, ...]
    patch_size: int
    any_size: bool
    folder: Path
    which: Which
    meta: Meta


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the resolved recipe."""
    write_text(folder / RECIPE, to_yaml(recipe))


def read_recipe(folder: Path) -> Recipe:
    """Read the recipe of a run folder.

    Raises:
        CheckpointError: If the folder is no run folder.
        PluginError: If it needs a plugin that is not loaded.
    """
    if not (folder / RECIPE).is_file():
        raise CheckpointError(
            f"{folder} is not a run folder: it has no {RECIPE}. Fix: give the folder that training printed."
        )
    _check_plugins(folder)
    return load_recipe(folder / RECIPE)


def _check_plugins(folder: Path) -> None:
    """Check that the plugins are loaded whose names a run uses; a run folder itself never loads one."""
    for which in ("best", "last"):
        file = folder / which / META
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            recorded = content.get("plugins", ())
        except (OSError, ValueError, AttributeError):
            continue  # no weights yet, or damaged: whoever reads them says so
        if recorded:
            used = words([read_yaml(folder / RECIPE), content.get("model")])
            check_plugins(recorded, str(file), used)


def training_ended(folder: Path) -> bool:
    """Return whether the run in a folder was trained to its end: all epochs, or stopped early by itself.

    Raises:
        CheckpointError: If the folder is no run folder, or its files are damaged.
    """
    training = read_recipe(folder).training
    best, newest, table = folder / "best" / META, folder / "last" / META, folder / METRICS
    if not table.is_file():
        return False
    with table.open(newline="", encoding="utf-8") as handle:
        last = max((int(row["epoch"]) for row in csv.DictReader(handle)), default=0)
    if newest.is_file():  # written after the table
        last = min(last, _epoch(newest))
    if last >= training.epochs:
        return True
    if not training.early_stopping:
        return False
    if newest.is_file() and bool(_content(newest).get("stopped")):
        return True
    return best.is_file() and last - _epoch(best) >= training.early_stopping  # of runs that do not say


def kept_epoch(folder: Path) -> int | None:
    """Return the epoch of the weights that a run is judged by: the best ones, else the last; None if none.

    Raises:
        CheckpointError: If their meta.json is damaged.
    """
    kept: tuple[Which, ...] = ("last",) if existing(folder, "best") == "last" else ("best", "last")
    metas = (folder / which / META for which in kept)
    found = next((meta for meta in metas if meta.is_file()), None)
    return None if found is None else _epoch(found)


def _epoch(meta: Path) -> int:
    content = _content(meta)
    try:
        return int(content["epoch"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{meta} is damaged: {error!r}. Fix: start a new run.") from error


def _content(meta: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(meta.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{meta} is damaged: {error!r}. Fix: start a new run.") from error


def existing(folder: Path, which: Which) -> Which:
    """Return which weights stand for those asked for: a run that keeps its last ones has no best.

    Raises:
        CheckpointError: If the folder is no run folder.
    """
    return "last" if read_recipe(folder).training.keep == "last" else which


def save_weights(folder: Path, which: Which, model: nn.Module, meta: Meta) -> None:
    """Write weights and meta.json of one epoch: both appear, the weights first, or on a full disk neither."""
    content = meta.model_dump(mode="json", exclude={"plugins"})
    content = {key: one for key, one in content.items() if (key, one) not in (("input", None), ("noise", ""))}
    if plugins := loaded_plugins():
        content["plugins"] = plugins
    # Both are written before one takes its place, so that weights never lie beside another epoch's meta.
    with atomic_path(folder / which / META) as text, atomic_path(folder / which / WEIGHTS) as weights:
        text.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        save_model(model, str(weights), metadata={"epoch": str(meta.epoch)})


def load_run(folder: str | Path, which: Which = "best") -> LoadedRun:
    """Rebuild the trained model of a run folder.

    Args:
        folder: The run folder.
        which: Weights of the epoch with the best validation mIoU, or of the last complete epoch. A run that
            keeps its last weights (`training.keep`) has no others.

    Raises:
        CheckpointError: If files are missing or damaged, or the weights belong to another architecture.
    """
    root = Path(folder)
    which = existing(root, which)
    if not (root / which).is_dir() and (root / "last" / META).is_file():
        read_meta(root / "last" / META, Meta)  # says so if this is a run on whole images, without validation
    model, recipe, meta = load_trained(root, which, Meta)
    return LoadedRun(
        model=model,
        recipe=recipe,
        statistics=with_contract(meta.statistics, meta.input, recipe.data, meta.bands, root / which / META),
        classes=ClassMap.from_dict(meta.classes),
        bands=meta.bands,
        patch_size=meta.patch_size,
        any_size=bool(getattr(model, "any_size", True)),
        folder=root,
        which=which,
        meta=meta,
    )


def load_trained(root: Path, which: Which, kind: type[MetaT]) -> tuple[nn.Module, Recipe, MetaT]:
    """Rebuild a trained network in evaluation mode, with the recipe and the meta.json of its run.

    Args:
        root: The run folder.
        which: Weights of the best or of the last epoch.
        kind: Class of the content of meta.json.

    Raises:
        CheckpointError: If files are missing or damaged, or the weights belong to another architecture.
    """
    recipe = read_recipe(root)
    meta = read_meta(root / which / META, kind)
    warn_of_other_noise(root / which / META, meta.noise, recipe)
    model = build_for_engine(meta.model, recipe.engine)
    load_weights(model, root / which / WEIGHTS)
    return model.eval(), recipe, meta


def read_meta(path: Path, kind: type[MetaT]) -> MetaT:
    """Read a meta.json.

    Args:
        path: The file.
        kind: Class of its content.

    Raises:
        CheckpointError: If it is missing, damaged, of another version, or of a run of the other kind (scenes
            or whole images).
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _check_kind(path, content, kind)
        meta = kind.model_validate(content)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}). Fix: let training complete at least one epoch."
        ) from error
    except (ValueError, ValidationError) as error:
        raise CheckpointError(f"{path} is damaged or of another version: {error}") from error
    if meta.format != FORMAT:
        raise CheckpointError(
            f"{path} has format {meta.format}, but this version of qhybrid reads format {FORMAT}."
        )
    return meta


def _check_kind(path: Path, content: Any, kind: type[StrictModel]) -> None:
    """Tell runs on scenes from runs on whole images, which have a key `kind`."""
    found = isinstance(content, dict) and "kind" in content
    if isinstance(content, dict) and found != ("kind" in kind.model_fields):
        what, other = ("whole images", "scenes") if found else ("scenes", "whole images")
        raise CheckpointError(f"{path} belongs to a run on {what}, but this needs one on {other}.")


def load_start(model: nn.Module, start: str | None) -> None:
    """Load the weights that training starts from into a new model; nothing if `start` is None.

    Args:
        model: The model.
        start: See `start_weights`.

    Raises:
        CheckpointError: If there is no run, or its weights belong to another architecture.
    """
    if start is not None:
        load_weights(model, start_weights(start))


def _kept_weights(folder: Path) -> list[Path]:
    """Return where the weights that a run is used with may be, the first ones first."""
    best, last = (folder / which / WEIGHTS for which in ("best", "last"))
    with contextlib.suppress(CheckpointError, ConfigError):  # weights alone are enough to start from
        if existing(folder, "best") == "last":
            return [last]
    return [best, last]


def start_weights(start: str | Path) -> Path:
    """Return the file of the weights that `training.start` means.

    Args:
        start: A run folder, or a folder of run folders, of which the newest is taken.

    Raises:
        CheckpointError: If there is no run, or none can be told to be the newest, as of several seeds.
    """
    given = Path(start)
    found = {
        run: file
        for run in (given, *(one.parent for one in given.glob(f"*/{RECIPE}")))
        if (file := next((one for one in _kept_weights(run) if one.is_file()), None)) is not None
    }
    several = {file.parent for file in given.glob(f"*/{SEVERAL_RUNS}")}
    run = given if given in found else newest_of((*found, *several), given)
    if run in several:
        raise CheckpointError(
            f"Key `training.start` must mean a single run, but the newest in {given} is {run}, which holds "
            f"repeated runs. Fix: name one of them, for example {run / 'seed-0'}."
        )
    if run is None:
        raise CheckpointError(
            f"Key `training.start` must be a run folder or hold one, but {given} has no {WEIGHTS}. Fix: give "
            "the folder that `qhybrid train` printed."
        )
    return found[run]


def load_weights(model: nn.Module, path: Path) -> None:
    """Load weights into a model that was built from their meta.json.

    Raises:
        CheckpointError: If the file is missing or damaged, or of another architecture.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged: {error}. Fix: copy the run folder again, or retrain."
        ) from error
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if expected != found:
        different = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        first = different[0]
        raise CheckpointError(
            f"{path} holds weights of another architecture than its meta.json: {len(different)} tensor(s) "
            "differ, first "
            f"`{first}` (model {expected.get(first)}, file {found.get(first)}). Fix: keep weights and "
            "meta.json of one run together."
        )
    model.load_state_dict(weights)
