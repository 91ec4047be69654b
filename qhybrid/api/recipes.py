"""What scripts may hand over as recipes, sweeps and engines: names, files, mappings, checked objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qhybrid.api.lookup import find_recipe, find_runs
from qhybrid.config import EngineConfig, Recipe, load_recipe, validated
from qhybrid.config.reading import with_values
from qhybrid.config.sweeps import SweepConfig, load_sweep
from qhybrid.config.tuning import TuneSpace, load_space, space_of
from qhybrid.errors import ConfigError

RecipeLike = str | Path | Recipe | Mapping[str, Any]
"""A name in ./runs or in the package, a file, a mapping of a recipe's keys, or a recipe."""
SweepLike = str | Path | SweepConfig | Mapping[str, Any]
"""The same of sweeps."""
EngineLike = str | EngineConfig
"""A kind of engine, as in `aer`, or a whole section `engine`."""
SpaceLike = str | Path | TuneSpace | Mapping[str, Any]
"""A search space: a file, a mapping of recipe keys with distributions, or a space."""
Settings = Mapping[str, Any]
"""Values of a recipe by dotted key, as in {"training.epochs": 3}."""


def as_recipe(given: RecipeLike, settings: Settings | None = None) -> Recipe:
    """Return a checked recipe.

    Args:
        given: A name, a file, a mapping or a recipe.
        settings: Values that replace those of the recipe, by dotted key.

    Raises:
        ConfigError: If there is no such recipe, or a key or value is wrong.
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(
            'Argument `settings` must be a mapping of dotted keys, as in {"training.epochs": 3}, but is '
            f"{settings!r}."
        )
    if isinstance(given, Recipe):
        if not settings:
            return given
        # Only what was given: defaults may depend on what was not.
        content = given.model_dump(mode="json", exclude_unset=True)
        return validated(Recipe, with_values(content, settings, "settings"), "recipe")
    if isinstance(given, Mapping):
        return validated(Recipe, with_values(given, settings or {}, "settings"), "recipe")
    if not isinstance(given, str | Path):
        has = " Fix: its attribute `recipe`." if hasattr(type(given), "recipe") else ""  # type: ignore[unreachable]
        raise ConfigError(
            "Argument `recipe` must be a name, a file, a mapping or a recipe, but is of type "
            f"{type(given).__name__}.{has}"
        )
    return as_recipe(load_recipe(find_recipe(str(given))), settings)


def as_sweep(given: SweepLike) -> SweepConfig:
    """Return a checked sweep whose names of runs and recipes are paths.

    A training of several seeds stands for all its runs.

    Raises:
        CheckpointError: If there is no such run.
        ConfigError: If there is no such sweep or recipe, or a key or value is wrong.
    """
    if isinstance(given, Mapping):
        config = validated(SweepConfig, _with_named_runs(given), "sweep")
    elif isinstance(given, SweepConfig):
        config = given
    else:
        config = load_sweep(find_recipe(str(given)))
    section = config.sweep
    runs = tuple(dict.fromkeys(str(folder) for run in section.runs for folder in find_runs(run)))
    train = tuple(grid.model_copy(update={"recipe": str(find_recipe(grid.recipe))}) for grid in section.train)
    return config.model_copy(update={"sweep": section.model_copy(update={"runs": runs, "train": train})})


def _with_named_runs(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a sweep whose runs are texts; scripts have paths, and objects that know their folder."""
    section = content.get("sweep")
    if not isinstance(section, Mapping) or not isinstance(section.get("runs"), list | tuple):
        return content
    found = [getattr(run, "folder", run) for run in section["runs"]]
    runs = [str(run) if isinstance(run, Path) else run for run in found]
    return {**content, "sweep": {**section, "runs": runs}}


def as_engine(
    kind: EngineLike | None = None,
    noise: str | Path | None = None,
    shots: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> EngineConfig | None:
    """Return the engine that is asked for; None if nothing is, so that the recipe's own one is meant.

    Args:
        kind: Kind of the engine, `exact` if only other arguments are given; or a whole section, of which the
            other arguments replace values.
        noise: Noise profile: a file or a name.
        shots: Shots of every measured basis; exact values if absent.
        options: The engine's own options.

    Raises:
        ConfigError: If a value is wrong.
    """
    beside = {"noise": None if noise is None else str(noise), "shots": shots, "options": dict(options or {})}
    given = {key: value for key, value in beside.items() if value not in (None, {})}
    if kind is None and not given:
        return None
    if isinstance(kind, EngineConfig):
        return validated(EngineConfig, {**kind.model_dump(mode="json"), **given}, "engine") if given else kind
    return validated(EngineConfig, {"kind": kind or "exact", **given}, "engine")


def as_space(given: SpaceLike) -> TuneSpace:
    """Return a checked search space.

    Raises:
        ConfigError: If there is no such file, or a distribution is invalid.
    """
    if isinstance(given, TuneSpace):
        return given
    return space_of(given, "space") if isinstance(given, Mapping) else load_space(given)


def as_list(given: str | Path | Sequence[str | Path]) -> list[str]:
    """Return one or several names or paths as a list of text."""
    return [str(given)] if isinstance(given, str | Path) else [str(one) for one in given]
