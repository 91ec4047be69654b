"""Searches for settings: the same space and budget for several models, judged by validation alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qhybrid.api.recipes import RecipeLike, Settings, SpaceLike, as_recipe, as_space
from qhybrid.api.run import FilePath
from qhybrid.config import Recipe
from qhybrid.config.tuning import TuneSpace
from qhybrid.errors import ConfigError
from qhybrid.workspace import data_below
from qhybrid.workspace import data_root as default_data_root

if TYPE_CHECKING:
    import pandas as pd

    from qhybrid.experiments.tuning import TrialRow

FOLDER = "tune"


@dataclass(frozen=True, eq=False)
class Search:
    """What is about to be searched.

    Attributes:
        recipes: Recipe of each model, by its label.
        space: Recipe keys and the distributions of their values.
        folder: Where the trials go.
        left_out: Keys of the recipe's model that another model does not have, by its label.
    """

    recipes: Mapping[str, Recipe]
    space: TuneSpace
    folder: Path
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tuning:
    """What a search has found.

    Attributes:
        search: What was searched.
        trials: All trials, those of earlier calls included.
    """

    search: Search
    trials: Sequence[TrialRow]

    @property
    def folder(self) -> Path:
        """The folder of the search."""
        return self.search.folder

    @property
    def results(self) -> pd.DataFrame:
        """One row a trial: model, trial, state, validation metric and its value, seconds, values, error."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "model": row.model,
                    "trial": row.trial,
                    "state": row.state,
                    "metric": row.metric,
                    "value": row.value,
                    "seconds": row.seconds,
                    **row.parameters,
                    "error": row.error,
                }
                for row in self.trials
            ]
        )

    @property
    def best(self) -> dict[str, Path]:
        """Recipe file of each model's best trial, to be trained and tested; models without one are absent."""
        from qhybrid.experiments.tuning.results import best_file, best_trial

        return {
            label: best_file(self.folder, label)
            for label in self.search.recipes
            if best_trial(self.trials, label) is not None
        }


def tune(
    recipe: RecipeLike,
    models: Sequence[RecipeLike] = (),
    *,
    space: SpaceLike | None = None,
    trials: int = 20,
    seed: int = 0,
    settings: Settings | None = None,
    data_root: FilePath | None = None,
    output: FilePath | None = None,
    scheduler: str | None = None,
    on_start: Callable[[Search], None] | None = None,
    report: Callable[[TrialRow], None] | None = None,
) -> Tuning:
    """Search the same space with the same budget for each model; the test split is not used.

    Args:
        recipe: As for `train`.
        models: Names of models that stand in the recipe's model's place, or recipes on the same data; the
            recipe's own model if empty.
        space: Recipe keys with distributions: a file, a mapping as in
            {"training.learning_rate": {"low": 0.001, "high": 0.1, "log": True}}, or a space; learning rate,
            weight decay, and schedule or weights of the loss if absent.
        trials: Trials of each model, those of earlier calls included.
        seed: Seed of what is drawn.
        settings: As for `train`; of all recipes.
        data_root: As for `train`.
        output: Folder of the search; runs/NAME/tune if absent, where it also resumes.
        scheduler: Dask cluster that does the trainings: an address, or `local:N`.
        on_start: Told what is about to be searched.
        report: Told of each trial as it ends.

    Raises:
        QHybridError: See `qhybrid.experiments.tuning.tune`; a ConfigError if a model is named twice.
    """
    from qhybrid.experiments.tuning import default_space
    from qhybrid.experiments.tuning import tune as run_search

    base = as_recipe(recipe, settings)
    recipes, left_out = _candidates(base, models, settings)
    folder = search_folder(base, output)
    search = Search(recipes, default_space(base) if space is None else as_space(space), folder, left_out)
    if on_start is not None:
        on_start(search)
    root = default_data_root(data_root)
    with data_below(root):
        rows = run_search(
            search.recipes,
            search.space,
            root,
            folder,
            trials=trials,
            seed=seed,
            scheduler=scheduler,
            **({} if report is None else {"report": report}),
        )
    return Tuning(search, rows)


def search_folder(recipe: Recipe, output: FilePath | None) -> Path:
    """Return the folder of a recipe's search.

    Args:
        recipe: The recipe.
        output: Where it is to be; runs/NAME/tune if absent.
    """
    return Path("runs") / recipe.name / FOLDER if output is None else Path(output)


def _candidates(
    base: Recipe, models: Sequence[RecipeLike], settings: Settings | None
) -> tuple[dict[str, Recipe], dict[str, Sequence[str]]]:
    """Return the recipes by label, of names of models the base recipe with another model, and lost keys."""
    from qhybrid.experiments.tuning.candidates import with_model
    from qhybrid.models import MODELS

    if not models:
        return {str(base.model["name"]): base}, {}
    found: dict[str, Recipe] = {}
    left_out: dict[str, Sequence[str]] = {}
    for one in [models] if isinstance(models, str) else models:
        if isinstance(one, str) and one in MODELS.names():
            label, (recipe, lost) = one, with_model(base, one)
            if lost:
                left_out[label] = lost
        else:
            recipe = as_recipe(one, settings)
            label = recipe.name
        if label in found:
            raise ConfigError(f"Models must be named once, but {label} is named twice.")
        found[label] = recipe
    return found, left_out
