"""All models by name: check their keys, build them, list them, and move them to another engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from qhybrid.config import EngineConfig, StrictModel, validated
from qhybrid.data.images.dataset import Task
from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine
from qhybrid.errors import ConfigError
from qhybrid.layers import quantum_layers
from qhybrid.models.hq_unet import HQUNetOptions, TwinOptions, build_hq_unet, build_hq_unet_twin
from qhybrid.models.qcnn import QCNN, QCNNOptions
from qhybrid.models.qcq_cnn import (
    CNNOptions,
    LatentOptions,
    MLPOptions,
    QCCNNOptions,
    QCQCNNOptions,
    QuanvoMLPOptions,
    build_cnn,
    build_mlp,
    build_qccnn,
    build_qcq_cnn,
    build_qcq_cnn_twin,
    build_quanvo_mlp,
)
from qhybrid.models.qu_net import QuNetOptions, QuNetTwinOptions, build_qu_net, build_qu_net_twin
from qhybrid.models.qu_unet import QuUNetOptions, build_qu_unet
from qhybrid.models.unet import UNetOptions, build_unet


@dataclass(frozen=True)
class ModelEntry:
    """One model of the registry.

    Attributes:
        options: Class of its keys.
        build: Builds it from checked keys and an engine.
        description: One sentence for lists.
        task: What its logits are for: one class an image, or one class a pixel.
    """

    options: type[StrictModel]
    build: Callable[[Any, Engine | None], nn.Module]
    description: str
    task: Task = "classification"


def _classical(build: Callable[[Any], nn.Module]) -> Callable[[Any, Engine | None], nn.Module]:
    """Return a builder that takes an engine and leaves it alone."""
    return lambda options, _engine: build(options)


_MODELS: dict[str, ModelEntry] = {
    "cnn": ModelEntry(CNNOptions, _classical(build_cnn), "Convolutions and a dense layer"),
    "hq_unet": ModelEntry(
        HQUNetOptions, build_hq_unet, "U-Net with a 16-qubit QCNN at the bottleneck", "segmentation"
    ),
    "hq_unet_twin": ModelEntry(
        TwinOptions,
        _classical(build_hq_unet_twin),
        "HQ-UNet with a classical core in place of the circuit",
        "segmentation",
    ),
    "mlp": ModelEntry(MLPOptions, _classical(build_mlp), "Dense layers on the pixels"),
    "qccnn": ModelEntry(QCCNNOptions, build_qccnn, "Fixed quantum filter, convolutions, dense layer"),
    "qcnn": ModelEntry(QCNNOptions, QCNN, "Quantum convolutional network on averaged image cells"),
    "qcq_cnn": ModelEntry(
        QCQCNNOptions, build_qcq_cnn, "Fixed quantum filter, convolutions, 2-qubit quantum classifier"
    ),
    "qcq_cnn_twin": ModelEntry(
        LatentOptions, build_qcq_cnn_twin, "QCQ-CNN with a classical classifier of as many weights"
    ),
    "qu_net": ModelEntry(
        QuNetOptions, build_qu_net, "Small U-Net with QuFeX circuits at the bottleneck", "segmentation"
    ),
    "qu_net_twin": ModelEntry(
        QuNetTwinOptions,
        _classical(build_qu_net_twin),
        "Qu-Net with classical filters in place of its circuits",
        "segmentation",
    ),
    "qu_unet": ModelEntry(
        QuUNetOptions, _classical(build_qu_unet), "Small U-Net that Qu-Net is compared with", "segmentation"
    ),
    "quanvo_mlp": ModelEntry(QuanvoMLPOptions, build_quanvo_mlp, "Fixed quantum filter and dense layers"),
    "unet": ModelEntry(
        UNetOptions, _classical(build_unet), "U-Net with depthwise-separable convolutions", "segmentation"
    ),
}


def list_models() -> dict[str, str]:
    """Return the names that `build_model` accepts, with one sentence each."""
    return {name: entry.description for name, entry in sorted(_MODELS.items())}


def check_task(name: str, task: Task, dataset: str) -> None:
    """Check that a model answers the question that a data set asks.

    Args:
        name: The model.
        task: Of the data set: one class an image, or one class a pixel.
        dataset: Name of the data set, for the message.

    Raises:
        ConfigError: If there is no such model, or it does something else.
    """
    model_keys(name)
    own = _MODELS[name].task
    if own != task:
        other = sorted(known for known, entry in _MODELS.items() if entry.task == task)
        raise ConfigError(
            f"Key `model.name` must be a model for {task}, which data set `{dataset}` is for, but `{name}` "
            f"is one for {own}. Fix: choose one of {', '.join(other)}."
        )


def model_keys(name: str) -> frozenset[str]:
    """Return the keys that a model has beside `name`.

    Raises:
        ConfigError: If there is no such model.
    """
    if name not in _MODELS:
        raise ConfigError(f"model: model {name!r} is unknown. Known models: {', '.join(list_models())}.")
    return frozenset(_MODELS[name].options.model_fields)


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
    entry, options = _checked(config, source)
    return {"name": entry, **options.model_dump(mode="json")}


def build_model(config: Mapping[str, Any], engine: Engine | None = None) -> nn.Module:
    """Build a model: a plain module from images (B, C, H, W) to logits.

    Args:
        config: `name` and the model's own keys.
        engine: What executes its circuits; the noiseless exact engine if absent.

    Returns:
        The module; its attribute `config` is the resolved mapping from which it can be rebuilt.

    Raises:
        ConfigError: If the name or a key is unknown, or a value is out of range.
    """
    name, options = _checked(config, "model")
    model = _MODELS[name].build(options, engine)
    model.config = {"name": name, **options.model_dump(mode="json")}  # type: ignore[assignment]
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
    return use_engine(build_model(config), engine, section.layers)


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
    """
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


def _checked(config: Mapping[str, Any], source: str) -> tuple[str, StrictModel]:
    keys = dict(config)
    name = keys.pop("name", None)
    if name not in _MODELS:
        raise ConfigError(f"{source}: model {name!r} is unknown. Known models: {', '.join(list_models())}.")
    return name, validated(_MODELS[name].options, keys, f"{source} ({name})")
