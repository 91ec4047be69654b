"""What is tuned: one recipe a model, on the same data, over a space whose keys all of them have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qhybrid.config import Recipe, validated
from qhybrid.config.tuning import Distribution, TuneSpace
from qhybrid.errors import ConfigError
from qhybrid.models import MODELS
from qhybrid.plugins import near_name
from qhybrid.training.kinds import own_space, with_task_defaults
from qhybrid.training.precision import with_resolved_precision
from qhybrid.training.preparation import with_shots_seed


def default_space(recipe: Recipe) -> TuneSpace:
    """Return the space that is searched where none is given.

    Learning rate and weight decay, with the weights of the loss for scenes, and the schedule for images.
    """
    space = {
        "training.learning_rate": Distribution(low=3e-4, high=3e-2, log=True),
        "training.weight_decay": Distribution(low=1e-4, high=1e-1, log=True),
    }
    return TuneSpace(space={**space, **own_space(recipe)})


def with_model(recipe: Recipe, name: str) -> tuple[Recipe, list[str]]:
    """Return a recipe with another model, and the keys of its own model that the other one does not have.

    Raises:
        ConfigError: If there is no such model.
    """
    known = MODELS.get(name, "model").options.model_fields
    lost = [key for key in recipe.model if key != "name" and key not in known]
    section = {key: value for key, value in recipe.model.items() if key in known}
    return recipe.model_copy(update={"model": {"name": name, **section}}), lost


def candidate_recipes(recipes: Mapping[str, Recipe], space: TuneSpace) -> dict[str, Recipe]:
    """Return the recipes complete, and check that they can be compared over a space.

    Args:
        recipes: Recipes by the label of their model.
        space: The search space.

    Raises:
        ConfigError: If their data differ, or a key of the space is unknown to one of them.
    """
    complete = {
        label: with_shots_seed(with_resolved_precision(with_task_defaults(recipe)))
        for label, recipe in recipes.items()
    }
    first, *others = complete
    for label in others:
        if complete[label].data != complete[first].data:
            raise ConfigError(
                f"Models must be tuned on the same data, but section `data` of `{label}` differs from that "
                f"of `{first}`. Fix: give recipes whose data agree, or names of models."
            )
    for label, recipe in complete.items():
        _check_model_keys(label, recipe, space)
        trial_recipe(recipe, {key: one.some_value for key, one in space.space.items()})
    return complete


def _check_model_keys(label: str, recipe: Recipe, space: TuneSpace) -> None:
    """Check keys of the model's own section, which a recipe takes as they are."""
    name = str(recipe.model["name"])
    known = MODELS.get(name, "model").options.model_fields
    for key in space.space:
        section, _, rest = key.partition(".")
        if section == "model" and rest.split(".")[0] not in known:
            raise ConfigError(
                f"Key `{key}` of the search space must be a key of every model, but `{name}` (of {label}) "
                f"does not have it.{near_name(rest, known)}"
            )


def trial_recipe(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return a recipe with the values of a trial.

    Raises:
        ConfigError: If a key is unknown or a value is out of its range.
    """
    content = recipe.model_dump(mode="json")
    for key, value in values.items():
        *parents, last = key.split(".")
        target = content
        for part in parents:
            inner = target.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"Key `{key}` of the search space: `{part}` is not a section.")
            target = inner
        target[last] = value
    shown = ", ".join(f"{key}={value}" for key, value in values.items())
    return validated(Recipe, content, f"{recipe.name} with {shown}")
