"""Re-executing a model around results that arrive later.

Every quantum layer that runs on the device gets a recording engine. A call whose result is known returns it;
any other returns NaN and is noted as a request. A call that sees NaN (it depends on a result that is missing)
returns NaN and notes nothing, so one pass over the samples finds everything that can be executed now, in all
layers: one round. Passes are repeated until no request is left.

Samples pass one by one: results must not depend on how samples are grouped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.base import Engine
from qhybrid.errors import ConfigError
from qhybrid.hardware.model.requests import LayerCircuit, RequestLog
from qhybrid.layers import quantum_layers

Progress = Callable[[int, int], None]


class RecordingEngine(Engine):
    """Engine of one layer in a pass; see the module."""

    kind = "recording"
    complete = False

    def __init__(self, layer: str, log: RequestLog) -> None:
        self._layer, self._log = layer, log

    def expectations(self, spec: CircuitSpec, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return results that are known, shape (B, n_obs), or NaN."""
        angles = np.ascontiguousarray(inputs.detach().cpu().numpy(), dtype=np.float64)
        if not len(angles):
            return inputs.new_zeros((0, spec.num_observables))
        found = self._log.ask(self._layer, LayerCircuit.of(spec, weights), angles)
        if found is None:
            return inputs.new_full((len(inputs), spec.num_observables), float("nan"))
        return torch.as_tensor(found, dtype=inputs.dtype, device=inputs.device)

    def describe(self) -> dict[str, Any]:
        """Return kind and layer."""
        return {"kind": self.kind, "layer": self._layer}


class WaitingEngine(Engine):
    """Engine of a layer that stays on the simulator: NaN where a result of the device is missing before it.

    Args:
        engine: The layer's own.
    """

    kind = "waiting"
    complete = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def expectations(self, spec: CircuitSpec, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return expectation values, shape (B, n_obs), or NaN where inputs are missing."""
        there = torch.isfinite(inputs).all(dim=1)
        if bool(there.all()):
            return self._engine.expectations(spec, inputs, weights)
        result = inputs.new_full((len(inputs), spec.num_observables), float("nan"))
        if bool(there.any()):
            result[there] = self._engine.expectations(spec, inputs[there], weights).to(result.dtype)
        return result

    def describe(self) -> dict[str, Any]:
        """Return what the layer's own engine says."""
        return self._engine.describe()

    def circuit_key(self, spec: CircuitSpec) -> str:
        """Return the hash of the own engine's circuit."""
        return self._engine.circuit_key(spec)


@contextmanager
def recording(model: nn.Module, layers: Sequence[str], log: RequestLog) -> Iterator[None]:
    """Let layers of a model record while the block runs, and all others wait for their results.

    Raises:
        ConfigError: If the model has no quantum layer, or none of a given name.
    """
    chosen = _chosen(model, layers)
    every = quantum_layers(model)
    before = {name: layer.engine for name, layer in every.items()}
    try:
        for name, layer in every.items():
            layer.engine = RecordingEngine(name, log) if name in chosen else WaitingEngine(before[name])
        yield
    finally:
        for name, layer in every.items():
            layer.engine = before[name]


def run_pass(
    model: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    log: RequestLog,
    progress: Progress | None = None,
    token_maps: Tensor | None = None,
) -> list[Tensor | None]:
    """Pass all samples through the model once.

    Args:
        model: In evaluation mode.
        images: Shape (N, C, H, W).
        layers: Quantum layers that record.
        log: What is known; its `new` then holds what can be executed now.
        progress: Called with (samples done, samples).
        token_maps: Those of a frozen ViT, (N, L, C', h, w), for a model with one.

    Returns:
        The output of every sample (without the batch dimension); None where a result is missing.
    """
    outputs: list[Tensor | None] = []
    with recording(model, layers, log), torch.no_grad():
        for sample in range(len(images)):
            log.begin(sample)
            one = slice(sample, sample + 1)
            output = (model(images[one]) if token_maps is None else model(images[one], token_maps[one]))[0]
            outputs.append(output if bool(torch.isfinite(output).all()) else None)
            if progress is not None:
                progress(sample + 1, len(images))
    return outputs


def fixed_layers(model: nn.Module, image: Tensor) -> list[str]:
    """Return the quantum layers of a model's fixed filter: those that its `fixed_features` calls."""
    features = getattr(model, "fixed_features", None)
    if features is None:
        return []
    log = RequestLog()
    with recording(model, list(quantum_layers(model)), log), torch.no_grad():
        features(image[None])
    return sorted(log.calls)


def _chosen(model: nn.Module, layers: Sequence[str]) -> Mapping[str, Any]:
    present = quantum_layers(model)
    unknown = [name for name in layers if name not in present]
    if unknown or not layers:
        raise ConfigError(
            "Layers for the device must be quantum layers of the model "
            f"({', '.join(present) or 'it has none'}), "
            f"but are {', '.join(layers) or 'none'}. Fix: --layer NAME with one of these."
        )
    return {name: present[name] for name in layers}
