"""Constant gates on one or two qubits as rotations by constant angles and permutations of basis states."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from qiskit.synthesis import OneQubitEulerDecomposer, TwoQubitWeylDecomposition

from qhybrid.noise.paulis import PAULI, ComplexArray

TOLERANCE = 1e-12
"""Entries below it count as zero where a gate's form is recognised."""


@dataclass(frozen=True)
class Turn:
    """exp(-i angle P / 2), P's letters in the order of the gate's qubits."""

    letters: str
    angle: float


@dataclass(frozen=True)
class ConstantGate:
    """Rotations, then |bits> -> |permutation bits> (a matrix over GF(2), first qubit first), then others."""

    turns: tuple[Turn, ...]
    permutation: np.ndarray | None = None
    after: tuple[Turn, ...] = ()


def constant_gate(matrix: ComplexArray) -> ConstantGate | None:
    """Return a gate's form up to a global phase, or None if it acts on more than two qubits.

    Args:
        matrix: Its unitary in Qiskit's order (first qubit = least significant bit).
    """
    if matrix.shape not in ((2, 2), (4, 4)):
        return None
    return _form(np.ascontiguousarray(matrix, dtype=complex).tobytes())


@lru_cache(maxsize=4096)
def _form(entries: bytes) -> ConstantGate:
    flat = np.frombuffer(entries, dtype=complex)
    if flat.size == 4:
        return ConstantGate(tuple(_one_qubit(flat.reshape(2, 2), "{}")))
    matrix = flat.reshape(4, 4)
    return _monomial(matrix) or _weyl(matrix)


def _one_qubit(matrix: ComplexArray, place: str) -> list[Turn]:
    """Return a rotation about one axis where the gate is one, else RZ RY RZ."""
    root = np.sqrt(complex(np.linalg.det(matrix)))
    special = matrix / root
    cosine = np.trace(special).real / 2
    parts = {letter: (1j * np.trace(PAULI[letter] @ special)).real / 2 for letter in "XYZ"}
    large = [letter for letter, part in parts.items() if abs(part) > TOLERANCE]
    if not large:
        return []
    if len(large) == 1:
        return [Turn(place.format(large[0]), 2 * float(np.arctan2(parts[large[0]], cosine)))]
    theta, phi, lam = OneQubitEulerDecomposer("ZYZ").angles(matrix)
    angles = [("Z", lam), ("Y", theta), ("Z", phi)]
    return [Turn(place.format(letter), float(angle)) for letter, angle in angles if abs(angle) > TOLERANCE]


def _monomial(matrix: ComplexArray) -> ConstantGate | None:
    """Return the form of a matrix with one entry a row: phases, and a permutation of the four basis states.

    All such permutations are affine: |bits> -> |matrix bits + shift>.
    """
    large = np.abs(matrix) > TOLERANCE
    if not (large.sum(axis=0) == 1).all():
        return None
    image = large.argmax(axis=0)
    phases = np.angle(matrix[image, np.arange(4)])
    signs = np.array([[1 - 2 * ((i >> bit) & 1) for bit in range(2)] for i in range(4)])
    turns = [
        Turn(letters, float(-2 * np.mean(phases * column)))
        for letters, column in (
            ("ZI", signs[:, 0]),
            ("IZ", signs[:, 1]),
            ("ZZ", signs[:, 0] * signs[:, 1]),
        )
    ]
    shift = image[0]
    columns = [image[1] ^ shift, image[2] ^ shift]
    permutation = np.array([[(column >> bit) & 1 for column in columns] for bit in range(2)])
    flips = "".join("X" if (shift >> bit) & 1 else "I" for bit in range(2))
    after = [Turn(letters, np.pi) for letters in _single(flips)]
    linear = None if (permutation == np.eye(2)).all() else permutation
    return ConstantGate(tuple(turn for turn in turns if abs(turn.angle) > TOLERANCE), linear, tuple(after))


def _single(letters: str) -> list[str]:
    return [
        "I" * place + letter + "I" * (len(letters) - 1 - place)
        for place, letter in enumerate(letters)
        if letter != "I"
    ]


def _weyl(matrix: ComplexArray) -> ConstantGate:
    """Return the canonical decomposition: one-qubit gates around exp(i (a XX + b YY + c ZZ))."""
    found = TwoQubitWeylDecomposition(matrix, fidelity=None)
    before = _one_qubit(found.K2r, "{}I") + _one_qubit(found.K2l, "I{}")
    middle = [
        Turn(2 * letter, -2 * float(angle)) for letter, angle in zip("XYZ", (found.a, found.b, found.c))
    ]
    after = _one_qubit(found.K1r, "{}I") + _one_qubit(found.K1l, "I{}")
    turns = [*before, *(turn for turn in middle if abs(turn.angle) > TOLERANCE), *after]
    return ConstantGate(tuple(turns))


def matrix_of(gate: ConstantGate) -> ComplexArray:
    """Return the unitary of a form up to a global phase, in Qiskit's order."""
    size = max((len(turn.letters) for turn in (*gate.turns, *gate.after)), default=2)
    result = np.eye(2**size, dtype=complex)
    for turn in gate.turns:
        result = _rotation(turn) @ result
    if gate.permutation is not None:
        bits = np.array(list(itertools.product((0, 1), repeat=2)))[:, ::-1]
        images = bits @ gate.permutation.T % 2
        moved = np.zeros_like(result)
        moved[images @ (1, 2), bits @ (1, 2)] = 1.0
        result = moved @ result
    for turn in gate.after:
        result = _rotation(turn) @ result
    return result


def _rotation(turn: Turn) -> ComplexArray:
    pauli = np.eye(1, dtype=complex)
    for letter in turn.letters:
        pauli = np.kron(PAULI[letter], pauli)
    half = turn.angle / 2
    return np.asarray(np.cos(half) * np.eye(len(pauli)) - 1j * np.sin(half) * pauli)
