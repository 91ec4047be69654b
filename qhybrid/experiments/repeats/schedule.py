"""What is repeated: every seed with every fold, kept in the folder of the runs."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qhybrid.config import Recipe, validated
from qhybrid.data.kinds import data_kind
from qhybrid.errors import CheckpointError, ConfigError
from qhybrid.training.kinds import check_recipe, with_task_defaults
from qhybrid.training.named_parts import check_same_parts, named_parts
from qhybrid.training.precision import with_resolved_precision
from qhybrid.workspace import SEVERAL_RUNS, write_text

_SHOWN_ONLY = ("progress", "loggers")


@dataclass(frozen=True)
class Repetition:
    """One run among several.

    Attributes:
        seed: The recipe's `seed`.
        fold: The option `fold` of a data set of images, `data.fold` of scenes; None: as the recipe says.
    """

    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"seed-{self.seed}" if self.fold is None else f"seed-{self.seed}-fold-{self.fold}"

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return the recipe of this run."""
        data = recipe.data
        if self.fold is not None:
            data = data_kind(data.dataset).with_fold(data, self.fold)
        return recipe.model_copy(update={"seed": self.seed, "data": data})


@dataclass(frozen=True)
class RepeatSchedule:
    """What is repeated; kept as repeats.json in the folder of the runs.

    Attributes:
        recipe: The recipe that all runs share.
        repetitions: The runs.
    """

    recipe: Recipe
    repetitions: tuple[Repetition, ...]

    @classmethod
    def make(
        cls,
        recipe: Recipe,
        seeds: Sequence[int] = (),
        folds: Sequence[int] | None = None,
        *,
        all_folds: bool = False,
    ) -> RepeatSchedule:
        """RepeatSchedule every seed with every fold.

        Args:
            recipe: The recipe.
            seeds: Seeds; the recipe's own if empty.
            folds: Numbers of folds; absent: the recipe's own.
            all_folds: All folds of the data set, instead of `folds`.

        Raises:
            ConfigError: If the data set has no such folds, or a seed or fold is no whole number from 0.
        """
        # Before the recipe is written down whole: defaults depend on what was not given.
        recipe = with_task_defaults(recipe)
        # One number format for all runs, on whatever machine they go on.
        recipe = with_resolved_precision(recipe)
        folds = None if folds is None else _numbers("folds", folds)
        if folds is not None or all_folds:
            recipe = _with_folds(recipe)
        chosen = _check_folds(recipe, folds, all_folds)
        given = tuple(dict.fromkeys(_numbers("seeds", seeds))) or (recipe.seed,)
        runs = [Repetition(seed, fold) for seed in given for fold in chosen]
        return cls(recipe, tuple(runs))

    @classmethod
    def read(cls, folder: Path) -> RepeatSchedule:
        """Read the schedule of a folder.

        Raises:
            CheckpointError: If there is none, or it is damaged.
        """
        file = folder / SEVERAL_RUNS
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            runs = tuple(Repetition(int(run["seed"]), run["fold"]) for run in content["runs"])
            return cls(validated(Recipe, content["recipe"], str(file)), runs)
        except OSError as error:
            raise CheckpointError(
                f"{file} cannot be read ({error.strerror}). Fix: give the folder of repeated runs that "
                "`qhybrid train` printed."
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{file} is damaged: {error}") from error

    def check(self, data_root: Path) -> None:
        """Find out what would make every run fail, before anything is written.

        Args:
            data_root: Folder that `data.root` is relative to.

        Raises:
            QHybridError: If the model does not fit the data, or the data set is not usable. Scenes are
                checked by their first run.
        """
        for fold in dict.fromkeys(run.fold for run in self.repetitions):
            check_recipe(Repetition(self.recipe.seed, fold).recipe(self.recipe), data_root)

    def check_named(self, folder: Path) -> None:
        """Check that what the recipe names is what the runs in a folder have had.

        Raises:
            ConfigError: If a circuit, encoder, noise profile or start has changed since.
        """
        file = folder / SEVERAL_RUNS
        if file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            now = named_parts(self.recipe)
            check_same_parts(file, content.get("named", now), now)

    def write(self, folder: Path) -> None:
        """Write the schedule to a new folder, or add its runs to the schedule that is there.

        Raises:
            ConfigError: If the folder belongs to another recipe.
        """
        known: tuple[Repetition, ...] = ()
        named = named_parts(self.recipe)
        if (folder / SEVERAL_RUNS).is_file():
            before = RepeatSchedule.read(folder)
            different = _differences(before.recipe, self.recipe)
            if different:
                raise ConfigError(
                    f"{folder / SEVERAL_RUNS} is of a recipe that differs in {', '.join(different)}. Fix: "
                    "give another --output."
                )
            known = before.repetitions
            named = json.loads((folder / SEVERAL_RUNS).read_text(encoding="utf-8")).get("named", named)
        runs = dict.fromkeys([*known, *self.repetitions])
        content = {
            **({"named": named} if named else {}),
            "recipe": self.recipe.model_dump(mode="json"),
            "runs": [{"seed": run.seed, "fold": run.fold} for run in runs],
        }
        write_text(folder / SEVERAL_RUNS, json.dumps(content, indent=2) + "\n")


def _with_folds(recipe: Recipe) -> Recipe:
    """Return a recipe that says how many folds its scenes have."""
    data = data_kind(recipe.data.dataset).with_folds(recipe.data)
    return recipe.model_copy(update={"data": data})


def _check_folds(recipe: Recipe, folds: Sequence[int] | None, all_folds: bool) -> tuple[int | None, ...]:
    if folds is None and not all_folds:
        return (None,)
    name = recipe.data.dataset
    known = data_kind(name).folds(recipe.data)
    if not known:
        raise ConfigError(f"Data set `{name}` has no folds. Fix: leave out --folds.")
    chosen = known if all_folds else tuple(dict.fromkeys(folds or ()))
    if not chosen or not set(chosen) <= set(known):
        raise ConfigError(
            f"Folds of data set `{name}` are {known[0]} to {known[-1]}, but asked for are "
            f"{', '.join(map(str, chosen))}."
        )
    return chosen


def _differences(before: Recipe, now: Recipe) -> list[str]:
    """Return the keys that differ, but for seed, fold, and how a run is shown."""
    old, new = (_comparable(with_resolved_precision(recipe)) for recipe in (before, now))
    found = []
    for section in old:
        if isinstance(old[section], Mapping):
            keys = old[section].keys() | new[section].keys()
            found += [f"{section}.{key}" for key in keys if old[section].get(key) != new[section].get(key)]
        elif old[section] != new[section]:
            found.append(section)
    return sorted(found)


def _comparable(recipe: Recipe) -> dict[str, Any]:
    content = recipe.model_dump(mode="json", exclude={"seed", "description", "ablation"})
    content["data"]["options"].pop("fold", None)
    content["data"].pop("fold", None)
    for key in _SHOWN_ONLY:
        content["training"].pop(key)
    return content


def _numbers(name: str, given: Sequence[int]) -> list[int]:
    """Return whole numbers from 0, of whatever kind they are (`numpy.arange(5)`).

    A run's folder has the name of its seed: with 0.5, results would be looked for in that of seed 0.
    """
    try:
        numbers = [operator.index(one) for one in given]
    except TypeError:
        numbers = [-1]
    if any(number < 0 for number in numbers):
        raise ConfigError(
            f"Argument `{name}` must be several whole numbers from 0, as in range(5) or [0, 3], but is "
            f"{given!r}."
        )
    return numbers
