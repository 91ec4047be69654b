"""The key `replace` of any model: arms of an ablation in the place of its quantum layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from qhybrid.config import StrictModel
from qhybrid.errors import ConfigError
from qhybrid.layers import quantum_layers
from qhybrid.models.arms import ARMS, Place
from qhybrid.plugins import near_name

REPLACE = "replace"


def checked_replacements(value: Any, source: str) -> dict[str, str]:
    """Return what a model section says under `replace`: the arm of each quantum layer, by dotted name.

    Raises:
        ConfigError: If it is no mapping, or an arm is unknown.
    """
    if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in value.values()):
        raise ConfigError(
            f"{source}: key `{REPLACE}` must hold the arm of each layer, as in "
            f"`{{bottleneck.core: zero}}`, but is {value!r}."
        )
    for arm in value.values():
        ARMS.get(arm, f"{source}.{REPLACE}")
    return {str(name): str(arm) for name, arm in value.items()}


def with_replacements(model: nn.Module, options: StrictModel, replace: Mapping[str, str]) -> nn.Module:
    """Put arms in the place of quantum layers.

    Args:
        model: A new model; it is changed.
        options: Its keys.
        replace: The arm of each layer, by dotted name.

    Returns:
        The model, or another one where an arm builds it anew. Its attribute `replaced` says in words what
        stands in each layer's place. All layers that stay have the initial weights that they had, unless the
        model was built anew.

    Raises:
        ConfigError: If it has no quantum layer of a name, or an arm is not possible there.
    """
    present = quantum_layers(model)
    unknown = [name for name in replace if name not in present]
    if unknown:
        known = ", ".join(present) or "none"
        raise ConfigError(
            f"Key `model.{REPLACE}`: no quantum layer is named {', '.join(unknown)}. Quantum layers: {known}."
            f"{near_name(unknown[0], present)}"
        )
    words: dict[str, str] = {}
    rebuilding = [name for name, arm in replace.items() if ARMS.get(arm).rebuilds]
    # What is built anew has all other layers again: until none is left that an arm is to take out.
    for _ in range(len(rebuilding) + 1):
        for name in rebuilding:
            model = _replaced(model, name, options, replace, words)
    for name in replace:
        model = _replaced(model, name, options, replace, words)
    together = {arm: words[name] for name, arm in replace.items() if name in words}
    model.replaced = {name: words.get(name, together[arm]) for name, arm in replace.items()}  # type: ignore[assignment]
    return model


def _replaced(
    model: nn.Module, name: str, options: StrictModel, replace: Mapping[str, str], words: dict[str, str]
) -> nn.Module:
    """Put one arm in its place; nothing if the layer is gone, or has its arm already."""
    layer = quantum_layers(model).get(name)
    arm = ARMS.get(replace[name])
    if layer is None or (name in words and not arm.rebuilds):
        return model
    place = Place(model, name, layer, options, replace)
    found = arm.make(place)
    words[name] = found.words
    if found.model is not None:
        return found.model
    assert found.module is not None
    if place.fixed:
        found.module.requires_grad_(False)
    model.set_submodule(name, found.module)
    return model
