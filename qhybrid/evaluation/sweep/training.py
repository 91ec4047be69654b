"""Runs that a sweep trains itself: one for every combination of recipe values, each trained once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from qhybrid.config import Recipe, apply_overrides, read_yaml, to_yaml, validated
from qhybrid.config.sweeps import TrainGrid
from qhybrid.evaluation.sweep.worker import TRAINED_MARK, training_job

FOLDER = "trained"


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


def plan_training(grids: Sequence[TrainGrid], output: Path) -> list[TrainedRun]:
    """Return all runs of the training grids, those that several grids have in common once.

    Args:
        grids: The grids; `recipe` is a path.
        output: The sweep folder.

    Raises:
        ConfigError: If a recipe is invalid with one of the values.
    """
    runs: dict[str, TrainedRun] = {}
    for grid in grids:
        for values in product(*grid.vary.values()):
            varied = dict(zip(grid.vary, values, strict=True))
            recipe = _recipe(grid, varied)
            key = _key(recipe)
            settings = {name: value for name, value in varied.items() if name != "seed"}
            runs.setdefault(key, TrainedRun(recipe, settings, output / FOLDER / key, key))
    return list(runs.values())


def _recipe(grid: TrainGrid, varied: dict[str, Any]) -> Recipe:
    content = read_yaml(grid.recipe)
    for name, value in {**grid.set, **varied, "training.progress": False}.items():
        text = to_yaml({"value": value}).removeprefix("value:").strip()
        content = apply_overrides(content, [f"{name}={text}"], "sweep.train")
    shown = ", ".join(f"{name}={value}" for name, value in varied.items())
    return validated(Recipe, content, f"{grid.recipe} with {shown or 'no settings'}")


def _key(recipe: Recipe) -> str:
    content = recipe.model_dump_json(exclude={"description": True, "training": {"progress", "loggers"}})
    return hashlib.sha256(content.encode()).hexdigest()[:16]
