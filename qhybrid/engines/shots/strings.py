"""Observables as Pauli strings that are measured, grouped by the basis that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from qiskit.quantum_info import SparsePauliOp

from qhybrid.engines.exact.light_cone import pauli_terms
from qhybrid.engines.gates.pauli_transfer import Array

PauliString = tuple[tuple[int, int], ...]
"""Pairs (qubit, component), component 1, 2, 3 for X, Y, Z, by qubit."""


@dataclass(frozen=True)
class MeasuredStrings:
    """What has to be measured for some observables.

    Attributes:
        strings: Distinct Pauli strings other than the identity, T of them.
        coefficients: Observable o is offsets[o] + sum_t coefficients[o, t] <string t>, shape (n_obs, T).
        offsets: Identity parts, shape (n_obs,).
        bases: Groups of string indices; the strings of a group agree on every qubit and share their shots.
    """

    strings: tuple[PauliString, ...]
    coefficients: Array
    offsets: Array
    bases: tuple[tuple[int, ...], ...]


def measured_strings(observables: Sequence[SparsePauliOp], num_qubits: int) -> MeasuredStrings:
    """Split observables into strings, and group each into the first basis that it agrees with."""
    terms = pauli_terms(observables, range(num_qubits))
    strings = tuple(dict.fromkeys(term.letters for term in terms if term.letters))
    place = {string: index for index, string in enumerate(strings)}
    coefficients, offsets = np.zeros((len(observables), len(strings))), np.zeros(len(observables))
    for term in terms:
        if term.letters:
            coefficients[term.observable, place[term.letters]] += term.coefficient
        else:
            offsets[term.observable] += term.coefficient
    return MeasuredStrings(strings, coefficients, offsets, _bases(strings))


def _bases(strings: Sequence[PauliString]) -> tuple[tuple[int, ...], ...]:
    letters: list[dict[int, int]] = []
    groups: list[list[int]] = []
    for index, string in enumerate(strings):
        for known, group in zip(letters, groups):
            if all(known.get(qubit, letter) == letter for qubit, letter in string):
                known.update(string)
                group.append(index)
                break
        else:
            letters.append(dict(string))
            groups.append([index])
    return tuple(tuple(group) for group in groups)


def product_string(first: PauliString, second: PauliString) -> PauliString:
    """Return the product of two strings of one basis: letters they share cancel."""
    return tuple(sorted(set(first) ^ set(second)))


def as_observable(string: PauliString, num_qubits: int) -> SparsePauliOp:
    """Return a string as an operator."""
    letters = "".join("IXYZ"[letter] for _, letter in string)
    return SparsePauliOp.from_sparse_list(
        [(letters, [qubit for qubit, _ in string], 1.0)], num_qubits=num_qubits
    )
