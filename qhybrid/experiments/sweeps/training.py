"""Runs that a sweep trains itself: one for every combination of recipe values, each trained once."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from qhybrid.config import Recipe, apply_overrides, read_yaml, validated
from qhybrid.config.sweeps import TrainGrid
from qhybrid.errors import CheckpointError, ConfigError
from qhybrid.experiments.sweeps.worker import TRAINED_MARK, training_job
from qhybrid.models import encoder_hash
from qhybrid.noise import load_profile
from qhybrid.training.kinds import with_task_defaults
from qhybrid.training.run_folder import start_weights
from qhybrid.training.shots import with_shots_seed

FOLDER = "trained"
SEED = "{seed}"
"""Stands for the run's seed in values."""


@dataclass(frozen=True)
class TrainedRun:
    """A run that the sweep trains.

    Attributes:
        recipe: Its recipe.
        settings: The varied recipe keys with their values, but for the seed.
        folder: Its run folder, named by the recipe's content.
        key: Hash of the recipe.
    """

    recipe: Recipe
    settings: dict[str, Any]
    folder: Path
    key: str

    @property
    def finished(self) -> bool:
        """Whether it has been trained to its end."""
        return (self.folder / TRAINED_MARK).is_file()

    def job(self, data_root: Path) -> dict[str, Any]:
        """Return what a worker needs."""
        return training_job(self.key, self.recipe, str(self.folder), str(data_root))


def list_trainings(grids: Sequence[TrainGrid], output: Path) -> list[TrainedRun]:
    """Return all runs of the training grids, those that several grids have in common once.

    Args:
        grids: The grids; `recipe` is a path.
        output: The sweep folder.

    Raises:
        ConfigError: If a recipe is invalid with one of the values, or two runs could not be told apart.
    """
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
            runs.setdefault(key, TrainedRun(recipe, settings, output / FOLDER / key, key))
    return list(runs.values())


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


def recipe_key(recipe: Recipe) -> str:
    """Return the hash of a recipe, of the noise and encoder that it names, and of the weights it starts from.

    Raises:
        ConfigError: If there is no such noise profile or encoder.
    """
    left_out = {"progress", "loggers"}
    if recipe.training.keep == "best":  # before the key existed
        left_out.add("keep")
    content = recipe.model_dump_json(exclude={"description": True, "training": left_out})
    digest = hashlib.sha256(content.encode())
    if recipe.engine.noise is not None:
        digest.update(load_profile(recipe.engine.noise).fingerprint.encode())
    encoder = encoder_hash(recipe.model)
    if encoder is not None:
        digest.update(encoder.encode())
    if recipe.training.start is not None:
        # If they cannot be read the training says so, and stops no other.
        with contextlib.suppress(CheckpointError, OSError):
            digest.update(start_weights(recipe.training.start).read_bytes())
    return digest.hexdigest()[:16]
