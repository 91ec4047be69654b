"""`Probe`: a trained model whose quantum layers are recorded, then replaced, over the same images.

A layer is replaced by way of its engine, so the model itself is never changed. What a model computes before
the first layer that is replaced is the same in every pass: it is kept (`qhybrid.evaluation.diagnosis.reuse`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.base import Engine
from qhybrid.errors import EngineError
from qhybrid.evaluation.diagnosis.reuse import Given, KeptParts
from qhybrid.layers import QuantumLayer, all_experts, quantum_layers

KEPT_BYTES = 2**30
"""Memory for what is kept of the part before the layers."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a quantum layer that is to be replaced.

    Attributes:
        layer: Name of the layer.
        number: Which call of it in this forward pass, from 0.
        first: Place of the batch's first sample among all samples.
        samples: Samples in the batch; each has rows / samples rows, one after the other.
        spec: The circuit.
        inputs: Angles in radians, shape (rows, n_in).
        weights: Trained angles in radians, shape (n_w,).
        engine: The layer's own engine.
    """

    layer: str
    number: int
    first: int
    samples: int
    spec: CircuitSpec
    inputs: Tensor
    weights: Tensor
    engine: Engine

    def own(self) -> Tensor:
        """Return what the layer itself computes, shape (rows, n_obs)."""
        return self.engine.expectations(self.spec, self.inputs, self.weights)


Replacement = Callable[[Call], Tensor]
"""Returns the outputs of a call, shape (rows, n_obs)."""


class _Answering(Engine):
    """Stands in the place of a layer's engine, and hands its calls to a function."""

    kind = "replaced"
    complete = False

    def __init__(self, answer: Callable[[CircuitSpec, Tensor, Tensor], Tensor]) -> None:
        self._answer = answer

    def expectations(self, spec: CircuitSpec, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return what the function says."""
        return self._answer(spec, inputs, weights).to(inputs)

    def describe(self) -> dict[str, Any]:
        """Return the name alone: no values of this engine are ever kept."""
        return {"kind": self.kind}


@dataclass(frozen=True, eq=False)
class LayerRecord:
    """What one call of a quantum layer saw and said, for all samples.

    Attributes:
        inputs: Angles in radians, shape (N, R, n_in), with R rows a sample.
        outputs: Shape (N, R, n_obs).
    """

    inputs: Tensor
    outputs: Tensor


Records = Mapping[str, tuple[LayerRecord, ...]]
"""Records of every layer, one for each call of it in a forward pass."""


class Probe(nn.Module):
    """A trained model in whose forward passes quantum layers are recorded or replaced.

    The first pass records (`record`), all later ones (`replace`) must see the same images in the same
    batches.

    Args:
        model: The network; see `opened`.
        chosen: Names of the layers that are looked at.
        reuse: Whether the part before the first replaced layer is kept from the first pass.
    """

    def __init__(self, model: nn.Module, chosen: Iterable[str], *, reuse: bool = True) -> None:
        super().__init__()
        self.model = model
        self.size_multiple = getattr(model, "size_multiple", (1, 1))
        self.chosen = tuple(chosen)
        present = quantum_layers(model)
        self._layers: dict[str, QuantumLayer] = {name: present[name] for name in self.chosen}
        self._own: dict[str, Engine] = {}
        self._parts = KeptParts(model, self._layers, KEPT_BYTES) if reuse else None
        self._replacements: Mapping[str, Replacement] | None = None
        self._batches: list[tuple[int, ...]] = []
        self._recorded: dict[str, list[list[LayerRecord]]] = {}
        self._pass = 0
        self._counts: dict[str, int] = {}

    @contextmanager
    def opened(self) -> Iterator[Probe]:
        """Open the model for passes; engines, modes and torch's random state are as before at the end."""
        modes = {module: module.training for module in self.model.modules()}
        devices = sorted(
            {one.device.index or 0 for one in self.model.parameters() if one.device.type == "cuda"}
        )
        self._own = {name: layer.engine for name, layer in self._layers.items()}
        try:
            # Of an expert that is not chosen there would be no row of a sample to replace.
            with torch.random.fork_rng(devices), torch.no_grad(), all_experts(self.model):
                self.model.eval()
                yield self
        finally:
            for name, layer in self._layers.items():
                layer.engine = self._own[name]
            for module, mode in modes.items():
                module.training = mode
            if self._parts is not None:
                self._parts.clear()

    def record(self) -> None:
        """Begin the first pass: layers work as trained, and what they say is kept."""
        self._replacements = None
        self._batches, self._recorded, self._pass = [], {name: [] for name in self.chosen}, 0
        if self._parts is not None:
            self._parts.clear()

    def replace(self, replacements: Mapping[str, Replacement]) -> None:
        """Begin another pass over the same batches.

        Args:
            replacements: What some layers say instead; all others work as trained.
        """
        self._replacements, self._pass = replacements, 0

    @property
    def samples(self) -> int:
        """Samples of the first pass."""
        return sum(shape[0] for shape in self._batches)

    def records(self) -> dict[str, tuple[LayerRecord, ...]]:
        """Return what the layers saw and said in the first pass.

        Raises:
            EngineError: If the rows of a layer cannot be told to samples.
        """
        found = {}
        for name, batches in self._recorded.items():
            shapes = {tuple(tuple(one.inputs.shape[1:]) for one in calls) for calls in batches}
            if len(shapes) > 1:
                raise EngineError(
                    f"Quantum layer `{name}` must have as many rows for every sample, but has not: {shapes}. "
                    "Fix: leave it out with `--layer`."
                )
            calls = range(len(batches[0]) if batches else 0)
            found[name] = tuple(
                LayerRecord(
                    torch.cat([batch[number].inputs for batch in batches]),
                    torch.cat([batch[number].outputs for batch in batches]),
                )
                for number in calls
            )
        return found

    @property
    def guidance(self) -> nn.Module | None:
        """The model's own: what runs a model over scenes looks here for a frozen ViT."""
        found: nn.Module | None = getattr(self.model, "guidance", None)
        return found

    def forward(self, images: Tensor, token_maps: Tensor | None = None) -> Tensor:
        """Return the model's logits of a batch, layers recorded or replaced.

        Args:
            images: The batch, shape (B, C, H, W).
            token_maps: Those of a frozen ViT, (B, L, C', h, w), for a model with guidance.
        """
        given = (images,) if token_maps is None else (images, token_maps)
        place, self._pass = self._pass, self._pass + 1
        self._counts = dict.fromkeys(self.chosen, 0)
        if self._replacements is None:
            return self._recorded_pass(given)
        if place >= len(self._batches) or self._batches[place] != tuple(images.shape):
            raise EngineError("Every pass must see the batches of the first one, but this one sees others.")
        first = sum(shape[0] for shape in self._batches[:place])
        for name, layer in self._layers.items():
            instead = self._replacements.get(name)
            layer.engine = (
                self._own[name] if instead is None else self._answering(name, instead, first, len(images))
            )
        if self._parts is None:
            logits: Tensor = self.model(*given)
            return logits
        return self._parts.run(given, place, self._replacements)

    def _answering(self, name: str, given: Replacement, first: int, samples: int) -> Engine:
        own = self._own[name]

        def answer(spec: CircuitSpec, inputs: Tensor, weights: Tensor) -> Tensor:
            number = self._counts[name]
            self._counts[name] += 1
            return given(Call(name, number, first, samples, spec, inputs, weights, own))

        return _Answering(answer)

    def _recorded_pass(self, given: Given) -> Tensor:
        """Run a batch as trained, and keep what the layers say."""
        samples, kept = len(given[0]), {name: list[LayerRecord]() for name in self.chosen}
        if self._parts is not None and not self._batches:
            for layer in self._layers.values():  # what they say does not matter: no circuit is executed
                layer.engine = _Answering(_zeros)
            self._parts.trace(tuple(one[:1] for one in given))
        for name, layer in self._layers.items():

            def answer(spec: CircuitSpec, inputs: Tensor, weights: Tensor, name: str = name) -> Tensor:
                values = self._own[name].expectations(spec, inputs, weights)
                kept[name].append(_record(name, samples, inputs, values))
                return values

            layer.engine = _Answering(answer)
        logits: Tensor = self.model(*given) if self._parts is None else self._parts.record(given)
        silent = [name for name, calls in kept.items() if not calls]
        if silent:
            raise EngineError(
                f"Quantum layer(s) {', '.join(silent)} are never called by the model, so there is nothing to "
                "replace. Fix: name others with `--layer`."
            )
        for name, calls in kept.items():
            self._recorded[name].append(calls)
        self._batches.append(tuple(given[0].shape))
        if self._parts is not None and len(self._batches) == 1:
            self._check_reuse(given, logits)
        return logits

    def _check_reuse(self, given: Given, logits: Tensor) -> None:
        """Keep no parts of a model that gives other logits with them, such as one with a random part."""
        assert self._parts is not None
        for names in {frozenset([name]) for name in self.chosen} | {frozenset(self.chosen)}:
            self._counts = dict.fromkeys(self.chosen, 0)
            same: dict[str, Replacement] = {
                name: lambda call: self._recorded[call.layer][0][call.number].outputs.flatten(0, 1)
                for name in self.chosen
            }
            for name, layer in self._layers.items():
                layer.engine = self._answering(name, same[name], 0, len(given[0]))
            if not torch.equal(self._parts.run(given, 0, names), logits):
                self._parts = None
                return


def _zeros(spec: CircuitSpec, inputs: Tensor, weights: Tensor) -> Tensor:
    return inputs.new_zeros(len(inputs), spec.num_observables)


def _record(name: str, samples: int, inputs: Tensor, values: Tensor) -> LayerRecord:
    rows = len(inputs)
    if rows % samples:
        raise EngineError(
            f"Quantum layer `{name}` must have as many rows for every sample, but has {rows} rows for "
            f"{samples} samples. Fix: leave it out with `--layer`."
        )
    return LayerRecord(
        inputs.detach().reshape(samples, rows // samples, -1).cpu().clone(),
        values.detach().reshape(samples, rows // samples, -1).cpu().clone(),
    )
