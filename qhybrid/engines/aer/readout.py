"""What is read from Aer: saved expectation values, or counts of measured bases."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from qiskit import QuantumCircuit

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.gates.pauli_transfer import Array
from qhybrid.engines.noise.readout import ROTATIONS, noisy_observable, strings_as_read
from qhybrid.engines.shots.strings import measured_strings
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

LARGEST_EXPANSION = 8192
"""Pauli strings that observables may become under read-out errors: Aer passes over the state for each."""


class Readout(Protocol):
    """Extends a circuit by its read-outs, and computes observables from results."""

    def circuits(self, circuit: QuantumCircuit) -> list[QuantumCircuit]:
        """Return the circuits to run."""
        ...

    def values(self, results: list[Any]) -> Array:
        """Return the observables, shape (n_obs, N), from one Aer result a circuit with N experiments each."""
        ...


class SavedExpectations:
    """Exact expectation values of the simulated state; read-out errors enter through the observables."""

    def __init__(self, spec: CircuitSpec, noise: NoiseProfile | None) -> None:
        if noise is not None:
            _check_expansion(spec, noise)
        self._observables = [
            observable if noise is None else noisy_observable(observable, noise)
            for observable in spec.observables
        ]

    def circuits(self, circuit: QuantumCircuit) -> list[QuantumCircuit]:
        """Return one circuit that saves all expectation values."""
        result = circuit.copy()
        for index, observable in enumerate(self._observables):
            result.save_expectation_value(observable, range(circuit.num_qubits), label=f"o{index}")
        return [result] if self._observables else []

    def values(self, results: list[Any]) -> Array:
        """Return the saved values, shape (n_obs, N)."""
        result = results[0]
        columns = range(len(result.results))
        rows = [[result.data(column)[f"o{o}"] for column in columns] for o in range(len(self._observables))]
        return np.asarray(np.real(rows), dtype=float)


def _check_expansion(spec: CircuitSpec, noise: NoiseProfile) -> None:
    """Refuse observables that would become very many strings, before they do.

    Raises:
        EngineError: With the number of strings.
    """
    count = strings_as_read(spec.observables, noise)
    if count > LARGEST_EXPANSION:
        raise EngineError(
            f"Observables of circuit `{spec.name}` must become at most {LARGEST_EXPANSION:,} Pauli strings "
            f"under the profile's read-out errors, but become {count:,}: each letter is two where p01 and "
            "p10 differ. Fix: make_engine('exact', noise=...), which reads them letter by letter, or shots."
        )


class MeasuredBases:
    """Estimates from counts: one circuit for every basis that some Pauli strings share."""

    def __init__(self, spec: CircuitSpec) -> None:
        self._measured = measured_strings(spec.observables, spec.num_qubits)
        self._num_qubits = spec.num_qubits

    def circuits(self, circuit: QuantumCircuit) -> list[QuantumCircuit]:
        """Return the circuit with the rotations and measurements of each basis."""
        return [self._with_basis(circuit, group) for group in self._measured.bases]

    def _with_basis(self, circuit: QuantumCircuit, group: tuple[int, ...]) -> QuantumCircuit:
        letters = {qubit: letter for index in group for qubit, letter in self._measured.strings[index]}
        result = circuit.copy()
        for qubit, letter in sorted(letters.items()):
            for gate in ROTATIONS["IXYZ"[letter]]:
                result.append(gate, [qubit])
        result.measure_all(add_bits=True)
        return result

    def values(self, results: list[Any]) -> Array:
        """Return the estimates, shape (n_obs, N)."""
        columns = max((len(result.results) for result in results), default=1)
        strings = np.zeros((len(self._measured.strings), columns))
        for group, result in zip(self._measured.bases, results):
            for column in range(len(result.results)):
                strings[list(group), column] = self._estimates(group, result.get_counts(column))
        return self._measured.coefficients @ strings + self._measured.offsets[:, None]

    def _estimates(self, group: tuple[int, ...], counts: dict[str, int]) -> Array:
        """Return the means of the strings of one basis, shape (G,)."""
        bits = np.array([[bit == "1" for bit in reversed(outcome)] for outcome in counts], dtype=bool)
        weights = np.array(list(counts.values()), dtype=float)
        means = []
        for index in group:
            qubits = [qubit for qubit, _ in self._measured.strings[index]]
            signs = 1.0 - 2.0 * (bits[:, qubits].sum(axis=1) % 2)
            means.append(float(signs @ weights / weights.sum()))
        return np.array(means)
