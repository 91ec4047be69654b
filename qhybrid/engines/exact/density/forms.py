"""Noisy gates as maps of one qubit, and as signed, scaled permutations of the Pauli strings of two.

A Clifford gate permutes Pauli strings up to a sign, depolarizing scales them; relaxation acts on each qubit.
A rotation by a string of two letters is a Clifford gate, a rotation of one qubit, and the gate's inverse.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qhybrid.engines.exact.native.constants import Turn, constant_gate
from qhybrid.engines.gates.expression import Angle
from qhybrid.engines.gates.pauli_transfer import Array, transfer_matrix
from qhybrid.engines.lowering import Primitive
from qhybrid.engines.noise.channels import channel_transfer, depolarizing, relaxation
from qhybrid.noise.paulis import ComplexArray

TOLERANCE = 1e-12
"""Entries below it count as zero where a permutation is recognised."""
_HADAMARD: ComplexArray = np.array([[1, 1], [1, -1]], dtype=complex) / np.sqrt(2)
_TO_Z: dict[str, ComplexArray] = {
    "X": _HADAMARD,
    "Y": _HADAMARD @ np.diag([1, -1j]),
    "Z": np.eye(2, dtype=complex),
}
"""Gates V with V P V^dagger = Z."""
_CX: ComplexArray = np.eye(4, dtype=complex)[[0, 3, 2, 1]]


@dataclass(frozen=True)
class Rotation:
    """exp(-i angle P / 2) of one qubit."""

    qubit: int
    letter: str
    angle: Angle


@dataclass(frozen=True)
class Constant:
    """A map of one qubit: its transfer matrix, shape (4, 4)."""

    qubit: int
    matrix: Array


@dataclass(frozen=True)
class Permutation:
    """A map of two qubits with at most one entry in each row and column of its transfer matrix.

    Attributes:
        qubits: The two qubits; the first is the most significant digit of an index.
        source: For each of the 16 strings the one that it comes from.
        scale: And the factor.
    """

    qubits: tuple[int, int]
    source: tuple[int, ...]
    scale: tuple[float, ...]


Form = Rotation | Constant | Permutation


class NoForm(Exception):
    """A gate or a channel that is not made of these forms."""


def forms_of(primitive: Primitive) -> Iterator[Form]:
    """Yield what a gate and the noise behind it are made of, in time order.

    Raises:
        NoForm: If it acts on more than two qubits, or has a channel on two qubits that mixes strings.
    """
    qubits = primitive.qubits
    if len(qubits) > 2:
        raise NoForm
    if primitive.angle is not None:
        yield from _turned(qubits, primitive.pauli, primitive.angle)
    elif primitive.matrix is not None:
        yield from _constant(qubits, primitive.matrix)
    if primitive.channel is not None:
        yield from _noise(primitive)


def _turned(qubits: tuple[int, ...], letters: str, angle: Angle) -> Iterator[Form]:
    places = [(qubit, letter) for qubit, letter in zip(qubits, letters) if letter != "I"]
    if len(places) == 1:
        yield Rotation(*places[0], angle)
        return
    there, back = _to_second(letters)
    pair = (qubits[0], qubits[1])
    yield Permutation(pair, *there)
    yield Rotation(qubits[1], "Z", angle)
    yield Permutation(pair, *back)


@lru_cache(maxsize=16)
def _to_second(letters: str) -> tuple[_Table, _Table]:
    """Return the Clifford gate that turns two letters into Z of the second qubit, and its inverse."""
    gate = _CX @ np.kron(_TO_Z[letters[1]], _TO_Z[letters[0]])
    there, back = permutation_of(transfer_matrix(gate)), permutation_of(transfer_matrix(gate.conj().T))
    assert there is not None
    assert back is not None
    return there, back


def _constant(qubits: tuple[int, ...], matrix: ComplexArray) -> Iterator[Form]:
    if len(qubits) == 1:
        yield Constant(qubits[0], transfer_matrix(matrix))
        return
    pair = (qubits[0], qubits[1])
    found = permutation_of(transfer_matrix(matrix))
    if found is not None:
        yield Permutation(pair, *found)
        return
    gate = constant_gate(matrix)
    assert gate is not None
    yield from _turns(pair, gate.turns)
    if gate.permutation is not None:
        moved = permutation_of(transfer_matrix(_of_bits(gate.permutation)))
        assert moved is not None
        yield Permutation(pair, *moved)
    yield from _turns(pair, gate.after)


def _turns(pair: tuple[int, int], turns: tuple[Turn, ...]) -> Iterator[Form]:
    for turn in turns:
        yield from _turned(pair, turn.letters, Angle(turn.angle))


def _of_bits(matrix: np.ndarray) -> ComplexArray:
    """Return the unitary of |bits> -> |matrix bits>, in Qiskit's order."""
    bits = np.array(list(itertools.product((0, 1), repeat=2)))[:, ::-1]
    result = np.zeros((4, 4), dtype=complex)
    result[bits @ matrix.T % 2 @ (1, 2), bits @ (1, 2)] = 1.0
    return result


def _noise(primitive: Primitive) -> Iterator[Form]:
    qubits, channel, error = primitive.qubits, primitive.channel, primitive.error
    assert channel is not None
    if len(qubits) == 1:
        yield Constant(qubits[0], channel)
        return
    pair = (qubits[0], qubits[1])
    whole = permutation_of(channel)
    if whole is not None:
        yield Permutation(pair, *whole)
        return
    if error is None:
        raise NoForm
    if error.p:
        yield _permutation(pair, depolarizing(error.p, 2))
    for qubit, decay in zip(qubits, error.relaxations):
        if decay is not None:
            yield Constant(qubit, relaxation(decay))
    for placed in error.channels:
        matrix = channel_transfer(placed.channel, len(placed.places))
        if len(placed.places) == 1:
            yield Constant(qubits[placed.places[0]], matrix)
        else:
            yield _permutation(pair, matrix)


def _permutation(pair: tuple[int, int], matrix: Array) -> Permutation:
    found = permutation_of(matrix)
    if found is None:
        raise NoForm
    return Permutation(pair, *found)


_Table = tuple[tuple[int, ...], tuple[float, ...]]


def permutation_of(matrix: Array) -> _Table | None:
    """Return (source, scale) of a matrix whose rows and columns have at most one entry each, else None.

    Zeros of the diagonal stay where they are, so that sources are a permutation; other zeros have no form.
    """
    large = np.abs(matrix) > TOLERANCE
    if (large.sum(axis=0) > 1).any() or (large.sum(axis=1) > 1).any():
        return None
    empty = ~large.any(axis=1)
    source = np.where(empty, np.arange(len(matrix)), large.argmax(axis=1))
    if len(set(source.tolist())) < len(source):
        return None
    scale = matrix[np.arange(len(matrix)), source]
    exact = np.where(np.abs(np.abs(scale) - 1.0) < TOLERANCE, np.sign(scale), scale)
    return tuple(source.tolist()), tuple(np.where(empty, 0.0, exact).tolist())
