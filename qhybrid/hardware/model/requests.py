"""What a re-execution of the model asked for, and what has come back."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, qpy
from torch import Tensor

from qhybrid.circuits.modifiers import as_matrices, means_its_matrix
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
        old_keys: Keys that earlier versions gave it.
    """

    key: str
    spec: CircuitSpec
    weights: Array
    old_keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: CircuitSpec, weights: Tensor) -> LayerCircuit:
        """Return the circuit of a call."""
        values = np.ascontiguousarray(weights.detach().cpu().numpy(), dtype="<f8")
        key, *old = (
            hashlib.sha256(one.encode() + values.tobytes()).hexdigest()[:16]
            for one in (spec.fingerprint, *spec.old_fingerprints)
        )
        return cls(key, spec, values, tuple(old))

    def bound(self) -> CircuitSpec:
        """Return the circuit with its weights as numbers."""
        return self.spec.bound(self.weights.tolist())


@dataclass
class RequestLog:
    """Requests that are known, their results, and the requests of this pass.

    Attributes:
        requests: Known requests.
        results: Their observables, shape (rows, n_obs), as far as they have come back.
        new: Requests of this pass that were not known.
        circuits: Circuits that the calls of this pass used, by key.
        written: Circuits that a plan holds, with their weights bound, by key.
        sample: The sample that is passing.
        calls: Calls of each layer for that sample so far.
    """

    requests: dict[Key, Request] = field(default_factory=dict)
    results: dict[Key, Array] = field(default_factory=dict)
    new: dict[Key, Request] = field(default_factory=dict)
    circuits: dict[str, LayerCircuit] = field(default_factory=dict)
    written: Mapping[str, CircuitSpec] = field(default_factory=dict)
    sample: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)

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
        circuit = self._as_written(circuit)
        self.circuits[circuit.key] = circuit
        known = self.requests.get(key) or self.new.get(key)
        if known is None:
            self.new[key] = Request(*key, circuit.key, angles)
            return None
        _check_same(known, circuit.key, angles)
        return self.results.get(key)

    def _as_written(self, circuit: LayerCircuit) -> LayerCircuit:
        """Return the circuit under the key that a plan of an earlier version holds it by.

        Old keys do not say all that decides a value, so the circuit in the plan must be the same.
        """
        if circuit.key not in self._keys:
            found = next((key for key in circuit.old_keys if self._is_written(key, circuit)), circuit.key)
            self._keys[circuit.key] = found
        return replace(circuit, key=self._keys[circuit.key])

    def _is_written(self, key: str, circuit: LayerCircuit) -> bool:
        written = self.written.get(key)
        given = circuit.spec.given_bound(circuit.weights.tolist())
        if written is None or not means_its_matrix(given):
            return False
        return written.fingerprint == _as_read_back(circuit.spec, given).fingerprint


def _as_read_back(spec: CircuitSpec, circuit: QuantumCircuit) -> CircuitSpec:
    """Return a circuit as it is read from the file of an old plan."""
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    buffer.seek(0)
    read = as_matrices(qpy.load(buffer)[0])
    by_name = {parameter.name: parameter for parameter in read.parameters}
    inputs = tuple(by_name.get(one.name) or one for one in spec.input_params)
    return replace(spec, circuit=read, input_params=inputs, weight_params=())


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
