"""Re-executing a model around results that arrive later.

Every quantum layer that runs on the device gets a recording engine. A call whose result is known returns it;
any other returns NaN and is noted as a request. A call that sees NaN (it depends on a result that is missing)
returns NaN and notes nothing, so one pass over the samples finds everything that can be executed now, in all
layers: one round. Passes are repeated until no request is left.

Samples pass one by one: results must not depend on how samples are grouped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.base import Engine
from qhybrid.errors import ConfigError, HardwareError
from qhybrid.hardware.ledger import Request
from qhybrid.layers import quantum_layers

Array = NDArray[np.float64]
Key = tuple[int, str, int]
Progress = Callable[[int, int], None]

TOLERANCE = 1e-4
"""Largest difference in radians between the angles that were asked for and those of a re-run."""


@dataclass(frozen=True, eq=False)
class LayerCircuit:
    """A circuit with the weights of a layer.

    Attributes:
        key: Hash of circuit, observables and weights.
        spec: The circuit.
        weights: Angles in radians, shape (n_w,).
    """

    key: str
    spec: CircuitSpec
    weights: Array

    @classmethod
    def of(cls, spec: CircuitSpec, weights: Tensor) -> LayerCircuit:
        """Return the circuit of a call."""
        values = np.ascontiguousarray(weights.detach().cpu().numpy(), dtype="<f8")
        digest = hashlib.sha256(spec.fingerprint.encode() + values.tobytes())
        return cls(digest.hexdigest()[:16], spec, values)


@dataclass
class Book:
    """Requests that are known, their results, and the requests of this pass.

    Attributes:
        requests: Known requests.
        results: Their observables, shape (rows, n_obs), as far as they have come back.
        new: Requests of this pass that were not known.
        circuits: Circuits that the calls of this pass used, by key.
        sample: The sample that is passing.
        calls: Calls of each layer for that sample so far.
    """

    requests: dict[Key, Request] = field(default_factory=dict)
    results: dict[Key, Array] = field(default_factory=dict)
    new: dict[Key, Request] = field(default_factory=dict)
    circuits: dict[str, LayerCircuit] = field(default_factory=dict)
    sample: int = 0
    calls: dict[str, int] = field(default_factory=dict)

    def begin(self, sample: int) -> None:
        """Let the next sample pass."""
        self.sample, self.calls = sample, {}

    def ask(self, layer: str, circuit: LayerCircuit, angles: Array) -> Array | None:
        """Return the result of a call, or note it as a request.

        Raises:
            HardwareError: If the call was recorded with another circuit or other angles.
        """
        call = self.calls.get(layer, 0)
        self.calls[layer] = call + 1
        if not np.isfinite(angles).all():
            return None
        key = (self.sample, layer, call)
        self.circuits[circuit.key] = circuit
        known = self.requests.get(key) or self.new.get(key)
        if known is None:
            self.new[key] = Request(*key, circuit.key, angles)
            return None
        _check_same(known, circuit.key, angles)
        return self.results.get(key)


class RecordingEngine(Engine):
    """Engine of one layer in a pass; see the module."""

    kind = "recording"

    def __init__(self, layer: str, book: Book) -> None:
        self._layer, self._book = layer, book

    def expectations(self, spec: CircuitSpec, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return results that are known, shape (B, n_obs), or NaN."""
        angles = np.ascontiguousarray(inputs.detach().cpu().numpy(), dtype=np.float64)
        if not len(angles):
            return inputs.new_zeros((0, spec.num_observables))
        found = self._book.ask(self._layer, LayerCircuit.of(spec, weights), angles)
        if found is None:
            return inputs.new_full((len(inputs), spec.num_observables), float("nan"))
        return torch.as_tensor(found, dtype=inputs.dtype, device=inputs.device)

    def describe(self) -> dict[str, Any]:
        """Return kind and layer."""
        return {"kind": self.kind, "layer": self._layer}


@contextmanager
def recording(model: nn.Module, layers: Sequence[str], book: Book) -> Iterator[None]:
    """Let layers of a model record while the block runs.

    Raises:
        ConfigError: If the model has no quantum layer, or none of a given name.
    """
    chosen = _chosen(model, layers)
    before = {name: layer.engine for name, layer in chosen.items()}
    try:
        for name, layer in chosen.items():
            layer.engine = RecordingEngine(name, book)
        yield
    finally:
        for name, layer in chosen.items():
            layer.engine = before[name]


def run_pass(
    model: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    book: Book,
    progress: Progress | None = None,
) -> list[Tensor | None]:
    """Pass all samples through the model once.

    Args:
        model: In evaluation mode.
        images: Shape (N, C, H, W).
        layers: Quantum layers that record.
        book: What is known; its `new` then holds what can be executed now.
        progress: Called with (samples done, samples).

    Returns:
        The output of every sample (without the batch dimension); None where a result is missing.
    """
    outputs: list[Tensor | None] = []
    with recording(model, layers, book), torch.no_grad():
        for sample in range(len(images)):
            book.begin(sample)
            output = model(images[sample : sample + 1])[0]
            outputs.append(output if bool(torch.isfinite(output).all()) else None)
            if progress is not None:
                progress(sample + 1, len(images))
    return outputs


def fixed_layers(model: nn.Module, image: Tensor) -> list[str]:
    """Return the quantum layers of a model's fixed filter: those that its `fixed_features` calls."""
    features = getattr(model, "fixed_features", None)
    if features is None:
        return []
    book = Book()
    with recording(model, list(quantum_layers(model)), book), torch.no_grad():
        features(image[None])
    return sorted(book.calls)


def _chosen(model: nn.Module, layers: Sequence[str]) -> Mapping[str, Any]:
    present = quantum_layers(model)
    unknown = [name for name in layers if name not in present]
    if unknown or not layers:
        raise ConfigError(
            "Layers for the device must be quantum layers of the model "
            f"({', '.join(present) or 'it has none'}), "
            f"but are {', '.join(layers) or 'none'}."
        )
    return {name: present[name] for name in layers}


def _check_same(known: Request, circuit: str, angles: Array) -> None:
    place = f"sample {known.sample}, layer `{known.layer}`, call {known.call}"
    fix = (
        "Fix: use the weights, samples and version of the plan; results that were paid for are in the ledger."
    )
    if known.circuit != circuit or known.angles.shape != angles.shape:
        raise HardwareError(
            f"{place}: a re-run must execute the circuit that was recorded, but does not. {fix}"
        )
    difference = float(np.abs(known.angles - angles).max(initial=0.0))
    if difference > TOLERANCE:
        raise HardwareError(
            f"{place}: a re-run must reproduce the recorded angles within {TOLERANCE} rad, but differs by "
            f"{difference:.3g}. {fix}"
        )
