"""What a re-execution of the model asked for, and what has come back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import HardwareError
from qhybrid.hardware.ledger import Request

Array = NDArray[np.float64]
Key = tuple[int, str, int]

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
class RequestLog:
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


def _check_same(known: Request, circuit: str, angles: Array) -> None:
    place = f"sample {known.sample}, layer `{known.layer}`, call {known.call}"
    fix = (
        "Fix: use the weights, samples and version of the plan, or make a new plan; results that were paid "
        "for are in the ledger."
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
