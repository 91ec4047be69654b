"""Draw outcomes of a basis from their multinomial law, and count Pauli strings in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from qhybrid.engines.gates.pauli_transfer import Array

SIGN_ENTRIES = 2**22
"""Entries of one block of signs or outcomes."""


class StringCounts:
    """Counts how often Z strings read +1 in shots of the same outcomes.

    Args:
        masks: For every string its qubits, bit j for the j-th measured one.
        num_qubits: Number of measured qubits, k.
        shots: Number of shots, N.
    """

    def __init__(self, masks: Sequence[int], num_qubits: int, shots: int) -> None:
        self._masks = list(masks)
        self._num_qubits = num_qubits
        self._shots = shots

    def __call__(self, probabilities: Array, size: int, generators: Iterable[np.random.Generator]) -> Array:
        """Return the counts of some samples, shape (size, T).

        Args:
            probabilities: Of the outcomes, shape (size, 2^k), or (1, 2^k) if all samples have the same.
            size: Number of samples.
            generators: One a sample.
        """
        if self._shots < 2**self._num_qubits:
            return self._by_shots(probabilities, size, generators)
        return self._by_outcomes(probabilities, size, generators)

    def _by_shots(self, probabilities: Array, size: int, generators: Iterable[np.random.Generator]) -> Array:
        """Draw every shot; sorted uniforms come from the spacings of a Poisson process."""
        limits = np.cumsum(probabilities, axis=1)
        result = np.empty((size, len(self._masks)))
        block = max(1, SIGN_ENTRIES // self._shots)
        outcomes = np.empty((min(block, size), self._shots), dtype=np.int64)
        start = 0
        for place, generator in enumerate(generators):
            limit = limits[place if len(limits) > 1 else 0]
            times = generator.standard_exponential(self._shots + 1).cumsum()
            uniforms = times[:-1] * (limit[-1] / times[-1])
            outcomes[place - start] = np.searchsorted(limit, uniforms, side="right")
            if place - start == len(outcomes) - 1 or place == size - 1:
                drawn = np.minimum(outcomes[: place - start + 1], len(limit) - 1)
                for string, mask in enumerate(self._masks):
                    odd = _parity(drawn & mask, self._num_qubits).sum(axis=1)
                    result[start : place + 1, string] = self._shots - odd
                start = place + 1
        return result

    def _by_outcomes(
        self, probabilities: Array, size: int, generators: Iterable[np.random.Generator]
    ) -> Array:
        """Draw the counts of the outcomes."""
        # The likeliest outcome comes last: what is left for it is never a difference of nearly equal numbers.
        rows = np.arange(len(probabilities))
        likeliest = probabilities.argmax(axis=1)
        ordered = probabilities.copy()
        ordered[rows, likeliest], ordered[:, -1] = probabilities[:, -1], probabilities[rows, likeliest]
        counts = np.empty((size, 2**self._num_qubits))
        for place, generator in enumerate(generators):
            counts[place] = generator.multinomial(self._shots, ordered[place if len(rows) > 1 else 0])
        rows = np.arange(size)
        counts[rows, likeliest], counts[:, -1] = counts[:, -1].copy(), counts[rows, likeliest]
        return self._even(counts)

    def _even(self, counts: Array) -> Array:
        """Return in how many shots each string reads +1, from the counts of the outcomes."""
        outcomes = np.arange(2**self._num_qubits)
        block = max(1, SIGN_ENTRIES >> self._num_qubits)
        parts = []
        for start in range(0, len(self._masks), block):
            masks = np.array(self._masks[start : start + block])
            even = 1 - _parity(outcomes[:, None] & masks, self._num_qubits)
            parts.append(counts @ even.astype(float))
        return np.concatenate(parts, axis=1)


def _parity(bits: np.typing.NDArray[np.int64], width: int) -> np.typing.NDArray[np.int64]:
    """Return whether the number of set bits is odd, as 0 or 1."""
    shift = 1
    while shift < width:
        bits = bits ^ (bits >> shift)
        shift *= 2
    return bits & 1
