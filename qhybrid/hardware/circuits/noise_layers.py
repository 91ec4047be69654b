"""Layers of two-qubit gates whose noise is learned, and what was learned of them; no service's own form.

A twirled circuit is a sequence of layers: gates on two qubits that act at the same time, and qubits that
wait meanwhile. Equal layers have equal noise, so each is learned once. What is learned is a Pauli-Lindblad
map: rates of Pauli strings on one qubit, and on two neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.hardware.circuits.prepared import MARK
from qhybrid.hardware.settings import Learning

Array = NDArray[np.float64]
ROUNDING = 1e-6


@dataclass(frozen=True, order=True)
class NoiseLayer:
    """One layer.

    Attributes:
        qubits: The device's qubits that it twirls, ascending.
        gates: Names and qubits of its gates; those of gates that are the same from both sides ascending.
        pairs: Neighbours among its qubits, each ascending.
    """

    qubits: tuple[int, ...]
    gates: tuple[tuple[str, tuple[int, int]], ...]
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from other layers."""
        return self.qubits, self.gates


@dataclass(frozen=True)
class LayerNoise:
    """What is known of the noise of a layer.

    Attributes:
        layer: The layer.
        terms: Letters of every Pauli string, and on which of the layer's qubits, counted from 0.
        rates: The rate of every string.
    """

    layer: NoiseLayer
    terms: tuple[tuple[str, tuple[int, ...]], ...]
    rates: tuple[float, ...]


@dataclass(frozen=True)
class NoiseWork:
    """What a learning job executes.

    Attributes:
        layers: The layers.
        executions: How often the device runs.
        seconds: QPU seconds that it is predicted to be billed.
    """

    layers: tuple[NoiseLayer, ...]
    executions: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        layers = [
            {"qubits": one.qubits, "gates": [[name, *q] for name, q in one.gates], "pairs": one.pairs}
            for one in self.layers
        ]
        return {"executions": self.executions, "seconds": self.seconds, "layers": layers}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> NoiseWork:
        """Return what `as_json` has written.

        Raises:
            ValueError, KeyError, TypeError: If it is damaged.
        """
        layers = tuple(
            NoiseLayer(
                tuple(one["qubits"]),
                tuple((str(name), (int(first), int(second))) for name, first, second in one["gates"]),
                tuple((int(first), int(second)) for first, second in one["pairs"]),
            )
            for one in content["layers"]
        )
        return cls(layers, int(content["executions"]), float(content["seconds"]))

    def mark(self, learning: Learning) -> str:
        """Return a text that says what a learning job learns: it is a tag of the job."""
        facts = ([one.key for one in self.layers], learning.model_dump(mode="json"))
        return f"{MARK}{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}"


class LearnedNoise:
    """The noise of all layers of a layout.

    Args:
        found: One for every layer.
    """

    def __init__(self, found: Sequence[LayerNoise]) -> None:
        self.found = tuple(found)

    @cached_property
    def _by_key(self) -> dict[tuple[Any, ...], LayerNoise]:
        return {one.layer.key: one for one in self.found}

    def of(self, layer: NoiseLayer) -> LayerNoise | None:
        """Return the noise of a layer; None if it was not learned."""
        return self._by_key.get(layer.key)


def checked_noise(work: NoiseWork, found: Sequence[tuple[int, Any, Any]]) -> LearnedNoise:
    """Return what was learned, if it can be what was asked for.

    Args:
        work: What was asked for.
        found: For every layer the number of qubits, the strings (letters, places) and their rates.

    Raises:
        ValueError: If it is the noise of other layers, or none at all.
    """
    if len(found) != len(work.layers):
        raise ValueError(f"the noise of {len(found)} layers came back, but {len(work.layers)} were asked for")
    learned = []
    for layer, (count, terms, rates) in zip(work.layers, found, strict=True):
        values = np.asarray(rates, dtype=np.float64)
        if count != len(layer.qubits) or len(values) != len(terms):
            raise ValueError(f"the noise of {count} qubits came back for a layer of {len(layer.qubits)}")
        if not np.isfinite(values).all() or values.min(initial=0.0) < -ROUNDING:
            raise ValueError("rates of errors came back that are negative, or no numbers")
        if values.sum() > len(layer.qubits):
            raise ValueError(f"{values.sum():.3g} errors in a layer of {len(layer.qubits)} qubits came back")
        strings = tuple((str(letters), tuple(int(place) for place in places)) for letters, places in terms)
        for letters, places in strings:
            _check_string(layer, letters, places)
        learned.append(LayerNoise(layer, strings, tuple(np.maximum(values, 0.0).tolist())))
    return LearnedNoise(learned)


def _check_string(layer: NoiseLayer, letters: str, places: tuple[int, ...]) -> None:
    """Check that a string acts on one qubit of a layer, or on two neighbours.

    Raises:
        ValueError: If it does not: the qubits came in another order, or those of another layer.
    """
    inside = len(letters) == len(places) and all(0 <= place < len(layer.qubits) for place in places)
    if not inside or not set(letters) <= set("IXYZ"):
        raise ValueError(f"a string {letters} on places {list(places)} came back")
    qubits = tuple(
        sorted(layer.qubits[p] for p, letter in zip(places, letters, strict=True) if letter != "I")
    )
    known = {*layer.pairs, *(tuple(sorted(pair)) for _, pair in layer.gates)}
    if len(qubits) > 2 or (len(qubits) == 2 and qubits not in known):
        raise ValueError(f"errors on qubits {list(qubits)} together came back, which are no neighbours")
