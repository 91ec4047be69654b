"""Arms of an ablation: what can take the place of one quantum layer of a model, by name.

An arm is a function from a `Place` to what stands there instead. `register_arm` adds one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import nn

from qhybrid.circuits.disentangled import disentangled, entangling_gates
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.config import StrictModel
from qhybrid.errors import ConfigError
from qhybrid.layers import LayeredClassifier, PairwiseFilter, QuantumLayer, Quanvolution, SeparableFilter
from qhybrid.layers.controls import (
    FourierFeatures,
    HashedLayer,
    NeighbourMeans,
    SmallMLP,
    ZeroFilter,
)
from qhybrid.layers.mean_field import MeanField
from qhybrid.models.circuit_part import circuit_spec, frozen_layer
from qhybrid.models.removal import without_filter, without_module
from qhybrid.plugins import Registry

AS_IS = "as_is"
"""The model itself, which all arms are compared with; it is no key of `model.replace`."""


@dataclass(frozen=True, eq=False)
class Place:
    """A quantum layer in a model.

    Attributes:
        model: The model, in which other layers may have been replaced already.
        name: Dotted name of the layer.
        layer: The layer.
        options: Keys of the model.
        replaced: What is asked for of all layers, by their names.
    """

    model: nn.Module
    name: str
    layer: QuantumLayer
    options: StrictModel
    replaced: Mapping[str, str]

    @property
    def spec(self) -> CircuitSpec:
        """The circuit."""
        return self.layer.spec

    @property
    def fixed(self) -> bool:
        """Whether it is a fixed filter, of which nothing is trained."""
        return isinstance(self.model.get_submodule(self.name.rpartition(".")[0]), Quanvolution)

    @property
    def weights(self) -> int:
        """Trained numbers of the circuit."""
        return 0 if self.fixed else self.spec.num_weights

    def refuse(self, why: str) -> ConfigError:
        """Return the error for an arm that is not possible here."""
        return ConfigError(f"Layer `{self.name}`: {why}.")


@dataclass(frozen=True)
class Replacement:
    """What an arm has made.

    Attributes:
        words: What stands in the layer's place, for tables.
        module: It; None where the model itself was changed.
        model: The model without the layer, where that was changed.
    """

    words: str
    module: nn.Module | None = None
    model: nn.Module | None = None


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        description: One sentence for lists.
        make: Makes what stands in a layer's place.
        rebuilds: Whether it builds the model anew, which comes before all others.

    `make` raises ConfigError with the reason where the arm is not possible, or changes nothing.
    """

    description: str
    make: Callable[[Place], Replacement]
    rebuilds: bool = False


ARMS: Registry[Arm] = Registry("arm")
TWINS: Registry[Callable[[CircuitSpec], nn.Module | None]] = Registry("classical twin")
"""Classical twin of a named circuit; None where its size or weights are others than those of the twin."""


def register_arm(name: str, arm: Arm, *, replace: bool = False) -> Arm:
    """Add an arm that recipes and `qhybrid ablate` can name."""
    return ARMS.register(name, arm, replace=replace)


def _shown(module: Any) -> Replacement:
    return Replacement(module.words, module)


def _identity(place: Place) -> Replacement:
    return _shown(NeighbourMeans(place.spec.num_inputs, place.spec.num_observables))


def _zero(place: Place) -> Replacement:
    if place.fixed:
        raise place.refuse("zeros in place of a filter would leave nothing of the image")
    return _shown(ZeroFilter(place.spec.num_observables))


def _frozen(place: Place) -> Replacement:
    if not place.fixed:
        if not place.weights:
            raise place.refuse("its circuit has no angles to freeze")
        return Replacement(f"circuit, {place.weights} random angles", frozen_layer(place.layer))
    if place.spec.num_weights:
        redrawn = torch.empty(place.spec.num_weights).uniform_(-1, 1)
        return Replacement("filter with other angles", QuantumLayer(place.spec, place.layer.engine, redrawn))
    content: dict[str, Any] = getattr(getattr(place.options, "filter_part", None), "circuit", None) or {}
    arguments = content.get("arguments") or {}
    if "seed" not in arguments:
        raise place.refuse("its circuit has neither angles of its own nor an argument `seed` to draw others")
    seed = arguments["seed"] + 1
    spec = circuit_spec({**content, "arguments": {**arguments, "seed": seed}})
    return Replacement(f"filter of seed {seed}", QuantumLayer(spec, place.layer.engine))


def _no_entanglement(place: Place) -> Replacement:
    count = entangling_gates(place.spec)
    if not count:
        raise place.refuse("its circuit has no gate on two or more qubits")
    layer = QuantumLayer(disentangled(place.spec), place.layer.engine, place.layer.weight.detach())
    return Replacement(f"circuit without its {count} gates on two or more qubits", layer)


def _twin(place: Place) -> Replacement:
    spec = place.spec
    own = None if place.fixed or spec.name not in TWINS else TWINS.get(spec.name)(spec)
    if own is not None:
        return Replacement(f"{type(own).__name__} of {place.weights} weights", own)
    return _shown(HashedLayer(spec.num_inputs, spec.num_observables, place.weights))


def _mlp(place: Place) -> Replacement:
    return _shown(SmallMLP(place.spec.num_inputs, place.spec.num_observables, place.weights))


def _fourier(place: Place) -> Replacement:
    return _shown(FourierFeatures(place.spec.num_inputs, place.spec.num_observables, place.weights))


def _removed(place: Place) -> Replacement:
    words, model = without_module(place.model, place.name, place.options, place.replaced)
    return Replacement(words, model=model)


def _classical_filter(place: Place) -> Replacement:
    if not place.fixed:
        raise place.refuse("it is no fixed filter")
    words, model = without_filter(place.model, place.options, "products")
    return Replacement(words, model=model)


def _twin_of_hq_unet(spec: CircuitSpec) -> nn.Module | None:
    side = isqrt(spec.num_inputs // 3)
    fits = (spec.num_inputs, spec.num_observables, spec.num_weights) == (3 * side**2, 2 * side**2, 8)
    return SeparableFilter(side) if fits else None


def _twin_of_classifier(spec: CircuitSpec) -> nn.Module | None:
    fits = (spec.num_inputs, spec.num_observables) == (2, 1) and spec.num_weights % 2 == 0
    return LayeredClassifier(spec.num_weights // 2 - 1) if fits else None


def _twin_of_qufex(spec: CircuitSpec) -> nn.Module | None:
    fits = spec.num_inputs == spec.num_observables >= 4 and spec.num_weights == 4
    return PairwiseFilter(spec.num_inputs) if fits else None


def _twin_of_hqf(spec: CircuitSpec) -> nn.Module | None:
    return MeanField(spec) if MeanField.fits(spec) else None


TWINS.register("hq_unet_qcnn", _twin_of_hq_unet)
TWINS.register("qcq_classifier", _twin_of_classifier)
TWINS.register("qufex_filter1", _twin_of_qufex)
TWINS.register("qufex_filter2", _twin_of_qufex)
for _name in ("hqf_local", "hqf_global", "hqf_directional", "hqf_qskip"):
    TWINS.register(_name, _twin_of_hqf)

register_arm(
    "identity", Arm("Its inputs in place of its outputs; means of neighbours where numbers differ", _identity)
)
register_arm("zero", Arm("Zeros in place of its outputs", _zero))
register_arm("frozen", Arm("Random angles that are not trained; of a fixed filter other ones", _frozen))
register_arm("no_entanglement", Arm("The circuit without its gates on two or more qubits", _no_entanglement))
register_arm("twin", Arm("Its classical twin, or a dense layer of as many shared weights", _twin))
register_arm("mlp", Arm("A small MLP of about as many weights", _mlp))
register_arm("fourier", Arm("Random Fourier features of its inputs", _fourier))
register_arm("removed", Arm("The network without the module that holds it", _removed, rebuilds=True))
register_arm(
    "classical_filter",
    Arm("In place of a fixed filter, raw values and their products", _classical_filter, rebuilds=True),
)
