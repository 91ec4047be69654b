"""Models by name: check their keys, build them, list them, and move them to another engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from qhybrid.config import EngineConfig, StrictModel, validated
from qhybrid.data.images.dataset import Task
from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine
from qhybrid.engines.make import check_engine_given
from qhybrid.errors import ConfigError, EngineError
from qhybrid.layers import quantum_layers
from qhybrid.models import named as _named  # noqa: F401 - registers the models of this package
from qhybrid.models.encoder_keys import kept_model
from qhybrid.models.registry import MODELS
from qhybrid.models.replaced import REPLACE, checked_replacements, with_replacements
from qhybrid.models.workspace_circuits import with_workspace_arguments


def list_models() -> dict[str, str]:
    """Return the names that `build_model` accepts, with one sentence each."""
    return {name: MODELS.get(name).description for name in MODELS.names()}


def check_task(name: str, task: Task, dataset: str) -> None:
    """Check that a model answers the question that a data set asks.

    Args:
        name: The model.
        task: Of the data set: one class an image, or one class a pixel.
        dataset: Name of the data set, for the message.

    Raises:
        ConfigError: If there is no such model, or it does something else.
    """
    own = MODELS.get(name, "model").tasks
    if task not in own:
        other = sorted(known for known, entry in MODELS.items() if task in entry.tasks)
        raise ConfigError(
            f"Key `model.name` must be a model for {task}, which data set `{dataset}` is for, but `{name}` "
            f"is one for {' and '.join(sorted(own))}. Fix: choose one of {', '.join(other)}."
        )


def complete_model(
    section: Mapping[str, Any], in_channels: int, num_classes: int, size: tuple[int, int]
) -> dict[str, Any]:
    """Return a model section with the keys filled in that the data decide and the model has.

    Args:
        section: `model` of a recipe.
        in_channels: Bands of the images.
        num_classes: Classes, or 1 for one logit of two classes.
        size: Height and width of the images or of training patches, in pixels.

    Raises:
        ConfigError: If the section gives one of these keys another value, a key is unknown, or the model
            does not take such images.
    """
    decided = MODELS.get(str(section["name"]), "model").data_keys(in_channels, num_classes, size)
    for key, value in decided.items():
        found = section.get(key, value)
        if (list(found) if isinstance(found, tuple) else found) != value:
            raise ConfigError(f"Key `model.{key}` is {found}, but the data say {value}. Fix: leave it out.")
    return resolve_model({**section, **decided})


def resolve_model(config: Mapping[str, Any], source: str = "model") -> dict[str, Any]:
    """Check a model section and fill in its defaults.

    Args:
        config: `name` and the model's own keys.
        source: What to call the section in messages.

    Returns:
        A plain mapping, complete and JSON-safe, that `build_model` accepts.

    Raises:
        ConfigError: If the name or a key is unknown, or a value is out of range.
    """
    name, options, replace = _checked(config, source)
    return _section(name, options, replace)


def build_model(config: Mapping[str, Any], engine: Engine | None = None) -> nn.Module:
    """Build a model: a plain module from images (B, C, H, W) to logits.

    Args:
        config: `name` and the model's own keys.
        engine: What executes its circuits; the noiseless exact engine if absent.

    Returns:
        The module; its attribute `config` is the resolved mapping from which it can be rebuilt, without the
        files of a pretrained encoder: its weights are to be loaded then.

    Raises:
        ConfigError: If the name or a key is unknown, or a value is out of range.
        EngineError: If `engine` is something else, such as the name of an engine.
    """
    check_engine_given(engine)
    name, options, replace = _checked(config, "model")
    model = MODELS.get(name).build(options, engine)
    if replace:
        model = with_replacements(model, options, replace)
    model.config = kept_model(_section(name, options, replace))  # type: ignore[assignment]
    return model


def build_for_engine(config: Mapping[str, Any], section: EngineConfig) -> nn.Module:
    """Build a model on the engine that a recipe's section describes, with its noise, shots and layers.

    Args:
        config: `name` and the model's own keys.
        section: The section `engine`.

    Raises:
        ConfigError: As `build_model`, or if the model has no quantum layer of a name.
        EngineError: If the engine is unknown or an option is wrong.
    """
    engine = make_engine(**section.arguments())
    if section.layers is None:
        return build_model(config, engine)
    model = build_model(config)
    replaced = config.get(REPLACE) or {}
    left = [name for name in section.layers if name not in replaced or name in quantum_layers(model)]
    return use_engine(model, engine, left) if left else model


def use_engine(model: nn.Module, engine: Engine, layers: Iterable[str] | None = None) -> nn.Module:
    """Let the quantum layers of a trained model run on another engine, with the same weights.

    Args:
        model: Any module with quantum layers; it is changed in place.
        engine: The engine.
        layers: Dotted names of the layers to change; all of them if absent.

    Returns:
        The same model.

    Raises:
        ConfigError: If the model has no quantum layers, or none of a given name.
        EngineError: If `engine` is something else, such as the name of an engine.
    """
    if check_engine_given(engine) is None:
        raise EngineError("Argument `engine` must be an Engine, but is None. Fix: make_engine('exact').")
    present = quantum_layers(model)
    if not present:
        raise ConfigError("The model has no quantum layers, so there is nothing to run on another engine.")
    chosen = list(present) if layers is None else list(layers)
    unknown = [name for name in chosen if name not in present]
    if unknown:
        raise ConfigError(
            f"No quantum layer named {', '.join(unknown)}. Quantum layers: {', '.join(present)}."
        )
    for name in chosen:
        present[name].engine = engine
    return model


def use_engine_alone(model: nn.Module, engine: Engine, layers: Iterable[str] | None = None) -> nn.Module:
    """Let quantum layers run on another engine, and all others on the exact one, as recipes and sweeps do.

    Args:
        model: As for `use_engine`, with its errors.
        engine: The engine.
        layers: Dotted names of the layers that it executes; all of them if absent.

    Returns:
        The same model.
    """
    if layers is not None:
        use_engine(model, make_engine("exact"))
    return use_engine(model, engine, layers)


def _section(name: str, options: StrictModel, replace: Mapping[str, str]) -> dict[str, Any]:
    """Return a resolved model section; `replace` is in it only where something is replaced."""
    return {"name": name, **options.model_dump(mode="json"), **({REPLACE: dict(replace)} if replace else {})}


def _checked(config: Mapping[str, Any], source: str) -> tuple[str, StrictModel, dict[str, str]]:
    keys = dict(config)
    name = str(keys.pop("name", None))
    entry = MODELS.get(name, source)
    own = REPLACE in entry.options.model_fields
    replace = {} if own else checked_replacements(keys.pop(REPLACE, {}), source)
    complete = with_workspace_arguments(name, keys, entry.circuits)
    return name, validated(entry.options, complete, f"{source} ({name})"), replace
