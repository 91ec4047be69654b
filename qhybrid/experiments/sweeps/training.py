"""Runs that a sweep trains itself: one for every combination of recipe values, each trained once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from qhybrid.config import DataConfig, Recipe, StrictModel, apply_overrides, read_yaml, validated
from qhybrid.config.sweeps import TrainGrid
from qhybrid.data.identity import DataIdentity
from qhybrid.errors import CheckpointError, ConfigError, DataError
from qhybrid.experiments.sweeps.earlier import made_after
from qhybrid.experiments.sweeps.worker import TRAINED_MARK, training_job
from qhybrid.guidance import guidance_hash
from qhybrid.models import circuits_changed, circuits_hash, encoder_hash
from qhybrid.noise import load_profile
from qhybrid.training.data_record import training_identity
from qhybrid.training.kinds import with_task_defaults
from qhybrid.training.preparation import with_shots_seed
from qhybrid.training.run_folder import ENVIRONMENT, start_weights
from qhybrid.workspace import data_root as default_data_root

FOLDER = "trained"
SEED = "{seed}"
"""Stands for the run's seed in values."""


@dataclass(frozen=True)
class TrainedRun:
    """A run that the sweep trains.

    Attributes:
        recipe: Its recipe.
        settings: The varied recipe keys with their values, but for the seed.
        folder: Its run folder, named by the key.
        key: Hash of the recipe, of what it names (noise, encoder, circuits, weights to start from), and of
            the images and labels that it trains on.
        readable: Whether these images and labels are there; if not, its training says why.
        data_hash: Identity of these data; None if it cannot be told.
        doubtful: Whether a run of an earlier version is there whose data may have changed since.
    """

    recipe: Recipe
    settings: dict[str, Any]
    folder: Path
    key: str
    readable: bool = True
    data_hash: str | None = None
    doubtful: bool = False

    @property
    def finished(self) -> bool:
        """Whether it has been trained to its end on these data."""
        return self.readable and (self.folder / TRAINED_MARK).is_file()

    def job(self, data_root: Path, split: str) -> dict[str, Any]:
        """Return what a worker needs; `split` is what its cells will be evaluated on."""
        return training_job(self.key, self.recipe, str(self.folder), str(data_root), self.data_hash, split)


def list_trainings(
    grids: Sequence[TrainGrid], output: Path, data_root: str | Path | None = None
) -> list[TrainedRun]:
    """Return all runs of the training grids, those that several grids have in common once.

    Args:
        grids: The grids; `recipe` is a path.
        output: The sweep folder.
        data_root: Folder that the recipes' `data.root` is relative to; QHYBRID_DATA or ./data if absent.

    Raises:
        ConfigError: If a recipe is invalid with one of the values, or two runs could not be told apart.
    """
    data = _TrainingData(default_data_root(data_root))
    runs: dict[str, TrainedRun] = {}
    named: dict[tuple[str, str, int], str] = {}
    for grid in grids:
        for values in product(*grid.vary.values()):
            varied = dict(zip(grid.vary, values, strict=True))
            recipe = _recipe(grid, varied)
            key = recipe_key(recipe)
            settings = {name: value for name, value in varied.items() if name != "seed"}
            name = (recipe.name, json.dumps(settings, sort_keys=True), recipe.seed)
            if named.setdefault(name, key) != key:
                raise ConfigError(
                    f"sweep.train: runs of one recipe must differ in what is varied, but two of "
                    f"`{recipe.name}` with {name[1]} and seed {recipe.seed} differ in `set` alone and would "
                    "be averaged. Fix: move a key in which they differ from `set` to `vary`."
                )
            if key not in runs:
                runs[key] = _run(recipe, settings, output / FOLDER, key, data.identity(recipe.data))
    return list(runs.values())


class _TrainingData:
    """Identities of training and validation data, each data set looked at once."""

    def __init__(self, data_root: Path) -> None:
        self._root = data_root
        self._known: dict[str, DataIdentity | None] = {}

    def identity(self, config: DataConfig) -> DataIdentity | None:
        """Return the identity; None if the data cannot be used, which their training will say."""
        section = config.model_dump_json()
        if section not in self._known:
            try:
                self._known[section] = training_identity(config, self._root)
            except (DataError, ConfigError):
                self._known[section] = None
        return self._known[section]


def _run(
    recipe: Recipe, settings: dict[str, Any], folder: Path, key: str, data: DataIdentity | None
) -> TrainedRun:
    """Return a run; one of an earlier version, without data in its key, if nothing has changed since."""
    if data is None:
        return TrainedRun(recipe, settings, folder / key, key, readable=False)
    # What cannot be told is never the same, and trained anew.
    parts = [key, data.hash or uuid.uuid4().hex]
    circuits = circuits_hash(recipe.model)
    parts += [] if circuits is None else [circuits]
    own = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    earlier = folder / key
    if (folder / own).exists() or not (earlier / TRAINED_MARK).is_file():
        return TrainedRun(recipe, settings, folder / own, own, data_hash=data.hash)
    newest = data.newest_change
    if newest is not None and circuits is not None:
        newest = max(newest, circuits_changed(recipe.model) or newest)
    if made_after(_began(earlier), newest):
        return TrainedRun(recipe, settings, earlier, key)
    return TrainedRun(recipe, settings, folder / own, own, data_hash=data.hash, doubtful=True)


def _began(folder: Path) -> str:
    """Return when a run was started; empty if it does not say."""
    try:
        return str(json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))["created"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _recipe(grid: TrainGrid, varied: dict[str, Any]) -> Recipe:
    content = read_yaml(grid.recipe)
    given = {**grid.set, **varied, "training.progress": False}
    seed = str(given.get("seed", content.get("seed", 0)))
    for name, value in given.items():
        text = yaml.safe_dump([value], default_flow_style=True, width=2**16).strip()[1:-1]
        content = apply_overrides(content, [f"{name}={text.replace(SEED, seed)}"], "sweep.train")
    shown = ", ".join(f"{name}={value}" for name, value in varied.items())
    return _resolved(validated(Recipe, content, f"{grid.recipe} with {shown or 'no settings'}"))


def _resolved(recipe: Recipe) -> Recipe:
    """Return the recipe complete, as a worker gets it: plain values do not tell given keys from defaults.

    Shots without a seed are drawn by the run's own.
    """
    return with_shots_seed(with_task_defaults(recipe))


_EARLIER_KEYS = {
    "Recipe": "name description seed data model engine training prediction",
    "DataConfig": "dataset root options bands classes ignore_values nodata patch_size patches_per_epoch "
    "augmentation workers cache_mb",
    "AugmentationConfig": "flip rotate90 rotate_degrees scale shift brightness contrast band_gain noise blur",
    "ClassConfig": "name values color",
    "EngineConfig": "kind noise shots seed layers options",
    "TrainingConfig": "start epochs batch_size learning_rate quantum_learning_rate weight_decay schedule "
    "warmup gradient_clip weight_average loss early_stopping accelerator precision channels_last threads "
    "loggers progress",
    "LossConfig": "cross_entropy dice class_weights label_smoothing",
    "PredictionConfig": "overlap batch_size orientations",
}
"""Keys that have always been part of the hash; later ones are, once they are used."""


def _unused(model: StrictModel) -> dict[Any, Any]:
    """Return the keys of a section that are younger than the hash and at their defaults, as `exclude`."""
    known = _EARLIER_KEYS.get(type(model).__name__, "").split()
    found: dict[Any, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if name not in known and value == field.get_default(call_default_factory=True):
            found[name] = True
        elif isinstance(value, StrictModel):
            found[name] = _unused(value)
        elif isinstance(value, tuple):
            parts = {i: _unused(one) for i, one in enumerate(value) if isinstance(one, StrictModel)}
            found[name] = {i: part for i, part in parts.items() if part}
    return {name: part for name, part in found.items() if part}


def recipe_key(recipe: Recipe) -> str:
    """Return the hash of a recipe, of the noise and encoder that it names, and of the weights it starts from.

    Raises:
        ConfigError: If there is no such noise profile or encoder.
    """
    left_out = _unused(recipe)
    left_out["description"] = True
    left_out["training"] = {**left_out.get("training", {}), "progress": True, "loggers": True}
    content = recipe.model_dump_json(exclude=left_out)
    digest = hashlib.sha256(content.encode())
    if recipe.engine.noise is not None:
        digest.update(load_profile(recipe.engine.noise).fingerprint.encode())
    encoder = encoder_hash(recipe.model)
    if encoder is not None:
        digest.update(encoder.encode())
    guidance = guidance_hash(recipe.model)
    if guidance is not None:
        digest.update(guidance.encode())
    if recipe.training.start is not None:
        # If they cannot be read the training says so, and stops no other.
        with contextlib.suppress(CheckpointError, OSError):
            digest.update(start_weights(recipe.training.start).read_bytes())
    return digest.hexdigest()[:16]
