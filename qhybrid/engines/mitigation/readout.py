"""Read-out correction from a noise profile.

A measured qubit with p01 = P(read 0 | prepared 1) and p10 = P(read 1 | prepared 0) shows r = c + s <P> with
c = p01 - p10 and s = 1 - p01 - p10 in place of <P>, whichever letter P is measured. So every factor P of an
observable is replaced by (P - c) / s; of a string of k letters this makes at most 2^k strings, all read from
the same shots. The mean is exact again; shot noise grows by about 1 / s a letter.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import torch
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.base import Engine
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

LONGEST_STRING = 16
"""Letters of one string up to which it is corrected: it becomes at most 2^16 strings."""
SMALLEST_SLOPE = 1e-3


class ReadoutCorrection(Engine):
    """Corrects the read-out errors of another engine; its gradients are those of the corrected values.

    Args:
        engine: The engine that reads with errors.
        profile: Where the errors are known from: qubits are the circuit's.
    """

    kind = "readout_correction"

    def __init__(self, engine: Engine, profile: NoiseProfile) -> None:
        self._engine = engine
        self._profile = profile
        self._corrected: dict[str, CircuitSpec] = {}

    def expectations(self, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the corrected expectation values, shape (B, n_obs); see `Engine.expectations`.

        Raises:
            EngineError: Also if an observable is too long, or a read-out too bad, to be corrected.
        """
        if spec.fingerprint not in self._corrected:
            observables = tuple(corrected_observable(one, self._profile) for one in spec.observables)
            self._corrected[spec.fingerprint] = replace(spec, observables=observables)
        return self._engine.expectations(self._corrected[spec.fingerprint], inputs, weights)

    def reseed(self, seed: int) -> None:
        """Draw from another seed from now on; see `Engine.reseed`."""
        self._engine.reseed(seed)

    def describe(self) -> dict[str, Any]:
        """Return what the corrected engine says of itself, and that it is corrected."""
        inner = self._engine.describe()
        below = inner.pop("mitigation", None)
        found = {"method": "readout", "profile": self._profile.fingerprint}
        return {**inner, "mitigation": found if below is None else {**found, "on": below}}

    def circuit_key(self, spec: CircuitSpec) -> str:
        """Return the hash of the corrected engine's circuit."""
        return self._engine.circuit_key(spec)


def corrected_observable(observable: SparsePauliOp, profile: NoiseProfile) -> SparsePauliOp:
    """Return the operator whose faulty read-out gives the observable on average.

    Args:
        observable: Observable on the circuit's qubits.
        profile: The read-out errors.

    Raises:
        EngineError: If a string has too many letters, or a read-out carries no information.
    """
    terms: dict[tuple[tuple[int, str], ...], complex] = {}
    for label, qubits, coefficient in observable.to_sparse_list():
        letters = [(qubit, letter) for letter, qubit in zip(label, qubits) if letter != "I"]
        if len(letters) > LONGEST_STRING:
            raise EngineError(
                f"Read-out correction takes strings of at most {LONGEST_STRING} letters, but an observable "
                f"has {len(letters)}. Fix: leave out the read-out correction."
            )
        choices = [_factors(place, *_line(profile, place[0])) for place in letters]
        for chosen in product(*choices):
            key = tuple(sorted(place for place, _ in chosen if place is not None))
            value = coefficient
            for _, factor in chosen:
                value = value * factor
            terms[key] = terms.get(key, 0.0) + value
    listed = [("".join(p for _, p in key), [q for q, _ in key], value) for key, value in terms.items()]
    return SparsePauliOp.from_sparse_list(listed, num_qubits=observable.num_qubits)


def _factors(place: tuple[int, str], c: float, s: float) -> list[tuple[tuple[int, str] | None, float]]:
    """Return the terms of (P - c) / s as pairs of letter (None: identity) and factor."""
    return [(place, 1 / s), *([(None, -c / s)] if c else [])]


def _line(profile: NoiseProfile, qubit: int) -> tuple[float, float]:
    """Return c and s of r = c + s <P>."""
    p01, p10 = profile.readout(qubit)
    slope = 1 - p01 - p10
    if abs(slope) < SMALLEST_SLOPE:
        raise EngineError(
            f"Read-outs of qubit {qubit} must depend on its state to be corrected, but noise profile "
            f"`{profile.name}` has p01 = {p01:g} and p10 = {p10:g}. Fix: a profile with "
            "smaller read-out errors."
        )
    return p01 - p10, slope
