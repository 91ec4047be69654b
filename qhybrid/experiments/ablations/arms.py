"""Which arms an ablation has: at which layers, and what each puts there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from qhybrid.config import Recipe
from qhybrid.errors import ConfigError
from qhybrid.layers import quantum_layers
from qhybrid.models import build_model, check_begins
from qhybrid.models.arms import ARMS, AS_IS
from qhybrid.models.replaced import REPLACE
from qhybrid.plugins import near_name
from qhybrid.training.kinds import resolved_model

AT = "@"
"""Between an arm and the layers that it is for, as in `zero@bottleneck.core`; several are joined by +, and *
stands for any part of a name, as in `zero@skips.*`."""
MODEL = "model"
"""Stands for the layer where an arm is another model."""


@dataclass(frozen=True)
class PlannedArm:
    """One arm of an ablation.

    Attributes:
        label: Its name: an arm, with `@LAYER` where it is for these layers alone.
        replace: The arm of each layer; nothing for the model as it is.
        words: What stands in the place of each layer.
        parameters: Trained numbers of the whole model.
        model: The section `model` of an arm that is another model; None for the recipe's own.
    """

    label: str
    replace: Mapping[str, str]
    words: Mapping[str, str]
    parameters: int
    model: Mapping[str, Any] | None = None

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return the recipe of this arm."""
        if self.model is not None:
            return recipe.model_copy(update={"model": dict(self.model)})
        if not self.replace:
            return recipe
        return recipe.model_copy(update={"model": {**recipe.model, REPLACE: dict(self.replace)}})


def plan_arms(
    recipe: Recipe, data_root: Path, labels: Sequence[str] | None = None, layers: Sequence[str] | None = None
) -> tuple[list[PlannedArm], dict[str, str]]:
    """Find out what each arm puts where, by building all models once.

    Args:
        recipe: The recipe, with the defaults of its kind of data.
        data_root: Folder that `data.root` is relative to.
        labels: Arms, as in `zero` or `zero@bottleneck.core`, and names of `ablation.models`; all that are
            possible if absent.
        layers: Dotted names of the layers that arms without `@` are for; all quantum layers if absent.

    Returns:
        The arms, that of the model as it is first; and why others are not possible, where none were named.

    Raises:
        ConfigError: If the model has no quantum layers, an arm or a layer is unknown, or an arm that was
            named is possible nowhere.
    """
    if recipe.model.get(REPLACE):
        raise ConfigError(
            "Key `model.replace` must be left out of a recipe for an ablation, which sets it for each arm, "
            f"but is {recipe.model[REPLACE]}. Fix: leave it out, and name the arms."
        )
    section = resolved_model(recipe, data_root)
    base = build_model(section)
    present = list(quantum_layers(base))
    if not present:
        raise ConfigError(
            f"Model `{recipe.model['name']}` must have quantum layers to be ablated, but has none."
        )
    planned, impossible = [PlannedArm(AS_IS, {}, {}, _trained(base))], {}
    others = _other_models(recipe)
    for label in dict.fromkeys(labels if labels is not None else (*ARMS.names(), *others)):
        if label == AS_IS:
            continue
        if label in others:
            planned.append(_other_model(label, others[label], recipe, data_root))
            continue
        arm, chosen = _parsed(label, present, layers)
        try:
            planned.append(_planned(section, label, arm, chosen, strict=AT in label))
        except ConfigError as error:
            if labels is not None:
                raise ConfigError(f"Arm `{label}` is not possible. {error}") from error
            impossible[label] = str(error)
    return planned, impossible


def trained_arm(label: str, recipe: Recipe, data_root: Path) -> PlannedArm:
    """Return an arm as it was trained in an earlier call.

    Args:
        label: Its name.
        recipe: The recipe of its runs.
        data_root: Folder that `data.root` is relative to.
    """
    replace = {str(name): str(arm) for name, arm in (recipe.model.get(REPLACE) or {}).items()}
    if not replace and label != AS_IS:
        return _other_model(label, recipe.model, recipe, data_root)
    model: Any = build_model(resolved_model(recipe, data_root))
    return PlannedArm(label, replace, dict(model.replaced), _trained(model))


def _other_models(recipe: Recipe) -> Mapping[str, Mapping[str, Any]]:
    """Return the other models of a recipe's ablation.

    Raises:
        ConfigError: If one is called as an arm is.
    """
    found = recipe.ablation.models
    taken = sorted(found.keys() & {AS_IS, *ARMS.names()})
    if taken:
        raise ConfigError(
            f"Key `ablation.models` must have names that are no arm's, but has `{taken[0]}`. Fix: another "
            "name."
        )
    return found


def _other_model(label: str, section: Mapping[str, Any], recipe: Recipe, data_root: Path) -> PlannedArm:
    """Return an arm that is another model.

    Raises:
        ConfigError: If its section is wrong.
    """
    own = recipe.model_copy(update={"model": dict(section)})
    try:
        check_begins(section)
        model: Any = build_model(resolved_model(own, data_root))
    except ConfigError as error:
        raise ConfigError(f"Key `ablation.models.{label}`: {error}") from error
    return PlannedArm(label, {}, {MODEL: str(section["name"])}, _trained(model), dict(section))


def _parsed(label: str, present: Sequence[str], layers: Sequence[str] | None) -> tuple[str, list[str]]:
    """Return arm and layers of a label.

    Raises:
        ConfigError: If one of them is unknown.
    """
    arm, at, names = label.partition(AT)
    ARMS.get(arm, "--arms")
    chosen = _chosen(names.split("+"), present) if at else list(layers or present)
    unknown = [name for name in chosen if name not in present]
    if unknown:
        raise ConfigError(
            f"Arm `{label}`: no quantum layer is named {', '.join(unknown)}. Quantum layers: "
            f"{', '.join(present)}.{near_name(unknown[0], present)}"
        )
    return arm, chosen


def _chosen(names: Sequence[str], present: Sequence[str]) -> list[str]:
    """Return the layers that names and patterns mean; a pattern that fits none stays as it is."""
    found = []
    for name in names:
        found += ([one for one in present if fnmatchcase(one, name)] if "*" in name else []) or [name]
    return list(dict.fromkeys(found))


def _planned(
    section: Mapping[str, Any], label: str, arm: str, chosen: Sequence[str], *, strict: bool
) -> PlannedArm:
    """Return an arm at all of the layers where it is possible.

    Raises:
        ConfigError: If it is possible nowhere, or `strict` and not everywhere.
    """

    def built(names: Sequence[str]) -> PlannedArm:
        replace = dict.fromkeys(names, arm)
        model: Any = build_model({**section, REPLACE: replace})
        return PlannedArm(label, replace, dict(model.replaced), _trained(model))

    try:
        return built(chosen)
    except ConfigError:
        if strict or len(chosen) == 1:
            raise
    possible, reasons = [], []
    for name in chosen:
        try:
            built([name])
        except ConfigError as error:
            reasons.append(str(error))
        else:
            possible.append(name)
    if not possible:
        raise ConfigError(" ".join(dict.fromkeys(reasons)))
    return built(possible)


def _trained(model: Any) -> int:
    return sum(part.numel() for part in model.parameters() if part.requires_grad)
