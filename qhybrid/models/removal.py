"""Models without the module that holds a quantum layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from qhybrid.config import StrictModel
from qhybrid.engines.base import Engine
from qhybrid.errors import ConfigError
from qhybrid.layers import (
    ExpertBottleneck,
    GridBottleneck,
    QuantumLayer,
    Quanvolution,
    QuFeXBottleneck,
    quantum_layers,
)
from qhybrid.models.bottlenecks import BottleneckOptions
from qhybrid.models.classifier_keys import ClassifierOptions, FilterPart
from qhybrid.models.fixed_filter import FixedFilterModel
from qhybrid.models.heads import ExpectationHead, LinearHead
from qhybrid.models.hybrid_cnn import HybridCNNOptions, build_classifier
from qhybrid.models.qu_unet import QuUNetKeys, QuUNetOptions, build_qu_unet
from qhybrid.models.skips import SkipGate


def without_module(
    model: nn.Module, name: str, options: StrictModel, replaced: Mapping[str, str]
) -> tuple[str, nn.Module]:
    """Return a model without the module that holds one of its quantum layers.

    What is left keeps its initial weights, unless the shape of what follows changes.

    Args:
        model: The model; it may be changed in place.
        name: Dotted name of the layer.
        options: Keys of the model.
        replaced: What is asked for of all layers, by their names.

    Returns:
        What was done, in words, and the model.

    Raises:
        ConfigError: If the layer stands in a module that is not known, or in one with others that stay.
    """
    owner_name, owner = _owner(model, name)
    if isinstance(owner, ExpertBottleneck) and len(owner.core) > 1:
        owner.remove(name.rpartition(".")[2])
        return "mixture without this expert", model
    if isinstance(owner, GridBottleneck):
        model.set_submodule(owner_name, nn.Identity())
        return "network without its bottleneck", model
    if isinstance(owner, QuFeXBottleneck):
        return "network without its bottleneck", _without_patches(model, owner_name, owner, options, replaced)
    if isinstance(owner, SkipGate):
        gates, _, level = owner_name.rpartition(".")
        del model.get_submodule(gates)[level]  # type: ignore[operator]
        return "plain skip connection", model
    if isinstance(owner, Quanvolution):
        return without_filter(model, options, None)
    if isinstance(owner, ExpectationHead | LinearHead):
        inputs = _layer(model, name).spec.num_inputs
        logits = owner.linear.out_features if isinstance(owner, LinearHead) else max(2, len(owner.bias))
        model.set_submodule(owner_name, nn.Linear(inputs, logits))
        return f"dense layer {inputs}-{logits} to the logits", model
    raise ConfigError(
        f"Layer `{name}`: `removed` must be of a bottleneck, a skip connection, a fixed filter or a head of "
        f"this package, but the layer stands in a {type(owner).__name__}. Fix: leave it out, or use `zero`."
    )


def without_filter(model: nn.Module, options: StrictModel, instead: str | None) -> tuple[str, nn.Module]:
    """Return an image classifier without its fixed quantum filter.

    Args:
        model: The classifier.
        options: Its keys.
        instead: Name of the classical filter that takes its place; None for no filter.

    Raises:
        ConfigError: If it is not made of the parts of `hybrid_cnn`.
    """
    given = options.filter_part if isinstance(options, ClassifierOptions) else None
    if given is None or not isinstance(model, FixedFilterModel):
        raise ConfigError(
            "Only a classifier of this package can be built without its filter, but the model is a "
            f"{type(model).__name__}. Fix: leave the arm out, or use `identity`."
        )
    assert isinstance(options, ClassifierOptions)
    engine = _layer(model, "quanvolution.filter").engine
    part = None if instead is None else FilterPart(name=instead, patch=given.patch, stride=given.stride)
    known = {key: getattr(options, key) for key in HybridCNNOptions.model_fields if hasattr(options, key)}
    keys = {"channels": (), **known, "filter": part, "head": options.head_part}
    built = build_classifier(HybridCNNOptions(**keys), _engine_of_rest(model, engine))
    if part is None:
        return "raw image without a filter", built
    words: str = built.get_submodule("quanvolution.filter").words  # type: ignore[assignment]
    return words, built


def _without_patches(
    model: nn.Module,
    owner_name: str,
    owner: QuFeXBottleneck,
    options: StrictModel,
    replaced: Mapping[str, str],
) -> nn.Module:
    """Return a small U-Net without its patches; its decoder is smaller where there were several filters."""
    names = [f"{owner_name}.filters.{number}" for number in range(len(owner.filters))]
    if any(replaced.get(name) != "removed" for name in names):
        raise ConfigError(
            f"The filters of a bottleneck are removed together, but `replace` has `removed` of some only. "
            f"Fix: name all of {', '.join(names)}, or use `zero`."
        )
    if len(names) == 1:
        model.set_submodule(owner_name, nn.Identity())
        return model
    if not isinstance(options, QuUNetKeys):
        raise ConfigError(
            f"`removed` with {len(names)} filters must be of `qu_net` or `qu_unet`. Fix: use `zero`."
        )
    keys = {key: getattr(options, key) for key in QuUNetKeys.model_fields}
    plain = QuUNetOptions(**keys, bottleneck=BottleneckOptions(name="identity"))
    return build_qu_unet(plain, _layer(model, names[0]).engine)


def _owner(model: nn.Module, name: str) -> tuple[str, nn.Module]:
    """Return name and module of what holds a layer; lists of layers are no such thing."""
    owner_name = name.rpartition(".")[0]
    owner = model.get_submodule(owner_name)
    of_layers = isinstance(owner, nn.ModuleList | nn.ModuleDict)
    return _owner(model, owner_name) if of_layers else (owner_name, owner)


def _layer(model: nn.Module, name: str) -> QuantumLayer:
    layer: Any = model.get_submodule(name)
    assert isinstance(layer, QuantumLayer)
    return layer


def _engine_of_rest(model: nn.Module, engine: Engine) -> Engine:
    """Return the engine of the other quantum layers, which may be another than the filter's."""
    others = [layer for name, layer in quantum_layers(model).items() if name != "quanvolution.filter"]
    return others[0].engine if others else engine
