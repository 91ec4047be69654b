"""A circuit as rotations by Pauli strings on the bits of a state's index, fused to few passes over the state.

Gates that permute basis states (CX, SWAP, the permutation in iSWAP) cost nothing: they change the linear
map between a qubit's value and the bits of the index. With it, exp(-i t P / 2) acts as another Pauli string
P' = i^{n_Y} X^x Z^z: it mixes the pairs i, i ^ x, with a sign by the parity of i & z, or is a phase where
x = 0.

Rotations of the same pairs become one operation: one matrix, or two, between which the parity of i & select
chooses. So RZ, RY and a controlled RY behind them are a single pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qhybrid.engines.exact.light_cone import PauliTerm
from qhybrid.engines.exact.native.constants import Turn, constant_gate
from qhybrid.engines.gates.expression import Angle
from qhybrid.engines.lowering import Primitive

X, Y, Z = 0, 1, 2
LETTERS = {"X": (1, 0), "Y": (1, 1), "Z": (0, 1)}
LONGEST_SEARCH = 64
"""Operations that are looked through for one that takes a rotation in."""


@dataclass(frozen=True)
class Factor:
    """A rotation about one axis of a pair: exp(-i sign t P / 2), with a sign for each branch."""

    axis: int
    angle: int
    signs: tuple[int, int]


@dataclass
class Pair:
    """A matrix (or one for each branch) on the pairs i, i ^ flips.

    Attributes:
        flips: Mask of the bits that differ within a pair.
        signs: Mask whose parity is the pair's bit; it has an odd number of bits in common with `flips`.
        select: Mask whose parity is the branch, an even number of bits in common with `flips`; 0 for none.
        factors: The matrix, in time order.
    """

    flips: int
    signs: int
    select: int
    factors: list[Factor]


@dataclass
class Phase:
    """Commuting rotations by strings of Z: (mask, angle, sign)."""

    terms: list[tuple[int, int, int]]


@dataclass(frozen=True)
class String:
    """A Pauli string i^{num_y} X^flips Z^signs that is read, and (observable, coefficient) where it is."""

    flips: int
    signs: int
    num_y: int
    terms: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Rotations:
    """One statevector.

    Attributes:
        num_qubits: Bits of the index.
        angles: Distinct angles.
        operations: In time order.
        strings: What is read at the end.
        constants: Terms without a string: (observable, value).
    """

    num_qubits: int
    angles: tuple[Angle, ...]
    operations: tuple[Pair | Phase, ...]
    strings: tuple[String, ...]
    constants: tuple[tuple[int, float], ...] = ()

    @property
    def work(self) -> float:
        """Amplitudes that all operations touch, a sample; a phase counts a third."""
        passes = sum(1.0 if isinstance(operation, Pair) else 0.4 for operation in self.operations)
        return (passes + len({string.flips for string in self.strings})) * 2.0**self.num_qubits


def rotations_of(
    primitives: Sequence[Primitive], qubits: Sequence[int], terms: Sequence[PauliTerm]
) -> Rotations | None:
    """Write gates as rotations, or return None where a gate has no such form.

    Args:
        primitives: Gates in time order, without noise.
        qubits: The wires they act on; the last one is the index's lowest bit.
        terms: What is read.
    """
    builder = _Builder(qubits)
    for primitive in primitives:
        if primitive.angle is not None:
            letters = list(zip(primitive.qubits, primitive.pauli))
            builder.rotate(letters, primitive.angle)
            continue
        assert primitive.matrix is not None
        gate = constant_gate(primitive.matrix)
        if gate is None:
            return None
        for turn in gate.turns:
            builder.turn(primitive.qubits, turn)
        if gate.permutation is not None:
            builder.permute(primitive.qubits, gate.permutation)
        for turn in gate.after:
            builder.turn(primitive.qubits, turn)
    return builder.finished(terms)


@dataclass
class _Builder:
    """Collects operations; `flips` and `signs` hold the strings of X and Z of every qubit on the index."""

    qubits: Sequence[int]
    flips: dict[int, int] = field(default_factory=dict)
    signs: dict[int, int] = field(default_factory=dict)
    angles: dict[Angle, int] = field(default_factory=dict)
    operations: list[Pair | Phase] = field(default_factory=list)
    mixed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for place, qubit in enumerate(reversed(self.qubits)):
            self.flips[qubit] = self.signs[qubit] = 1 << place

    def turn(self, qubits: Sequence[int], turn: Turn) -> None:
        """Add a constant rotation."""
        self.rotate(list(zip(qubits, turn.letters)), Angle(turn.angle))

    def rotate(self, letters: Sequence[tuple[int, str]], angle: Angle) -> None:
        """Add exp(-i angle P / 2)."""
        flips, signs, num_y = self._string(letters)
        if not flips and not any((known & signs).bit_count() % 2 for known in self.mixed):
            return  # all basis states that the state consists of so far have the same sign
        number = self.angles.setdefault(angle, len(self.angles))
        sign = 1 if num_y % 4 < 2 else -1
        if not flips:
            self._add_phase(signs, number)
        elif (flips & signs).bit_count() % 2:
            self.mixed.add(flips)
            self._add(flips, signs, 0, Factor(Y, number, (sign, sign)))
        else:
            self.mixed.add(flips)
            self._add(flips, None, signs, Factor(X, number, (sign, -sign if signs else sign)))

    def permute(self, qubits: Sequence[int], matrix: np.ndarray) -> None:
        """Follow |bits> -> |matrix bits| with a matrix over GF(2), first qubit first."""
        first, second = qubits
        inverse = _inverse(matrix)
        flips, signs = dict(self.flips), dict(self.signs)
        for place, qubit in enumerate(qubits):
            self.flips[qubit] = (flips[first] if inverse[0, place] else 0) ^ (
                flips[second] if inverse[1, place] else 0
            )
            self.signs[qubit] = (signs[first] if matrix[place, 0] else 0) ^ (
                signs[second] if matrix[place, 1] else 0
            )

    def finished(self, terms: Sequence[PauliTerm]) -> Rotations:
        """Return the program."""
        strings: dict[tuple[int, int, int], list[tuple[int, float]]] = {}
        constants = []
        for term in terms:
            letters = [(qubit, "IXYZ"[letter]) for qubit, letter in term.letters]
            if any(letter != "Z" for qubit, letter in letters if qubit not in self.flips):
                continue
            key = self._string([(qubit, letter) for qubit, letter in letters if qubit in self.flips])
            if key[0] or key[1]:
                strings.setdefault(key, []).append((term.observable, term.coefficient))
            else:
                constants.append((term.observable, term.coefficient))
        found = tuple(String(*key, tuple(several)) for key, several in strings.items())
        return Rotations(
            len(self.qubits), tuple(self.angles), tuple(self.operations), found, tuple(constants)
        )

    def _string(self, letters: Sequence[tuple[int, str]]) -> tuple[int, int, int]:
        """Return (x, z, n_Y modulo 4) of a string on the index."""
        flips = signs = num_y = 0
        for qubit, letter in letters:
            if letter == "I":
                continue
            flip, sign = LETTERS[letter]
            flips ^= self.flips[qubit] if flip else 0
            signs ^= self.signs[qubit] if sign else 0
            num_y += letter == "Y"
        return flips, signs, num_y % 4

    def _add_phase(self, signs: int, angle: int) -> None:
        """Put a rotation by Z's into the last operation that takes it, or behind what it does not pass."""
        for operation in self.operations[: -LONGEST_SEARCH - 1 : -1]:
            if isinstance(operation, Phase):
                operation.terms.append((signs, angle, 1))
                return
            if self._joins(operation, signs, operation.signs ^ signs):
                same = signs == operation.signs
                operation.factors.append(Factor(Z, angle, (1, 1 if same else -1)))
                return
            if (operation.flips & signs).bit_count() % 2:
                break
        self.operations.append(Phase([(signs, angle, 1)]))

    @staticmethod
    def _joins(operation: Pair, signs: int, select: int) -> bool:
        """Whether Z's on `signs` are the pair's Z, but for a sign by `select`, which then is the branch."""
        if not (operation.flips & signs).bit_count() % 2:
            return False
        if _only_x(operation):
            operation.signs, select = signs, 0  # no factor has used the pair's bit yet: it may be any
        if select and operation.select not in (0, select):
            return False
        operation.select = operation.select or select
        return True

    def _add(self, flips: int, signs: int | None, select: int, factor: Factor) -> None:
        """Put a rotation of pairs into the last operation of the same pairs that it can reach."""
        for operation in self.operations[: -LONGEST_SEARCH - 1 : -1]:
            if isinstance(operation, Phase):
                if any((flips & mask).bit_count() % 2 for mask, _, _ in operation.terms):
                    break
                continue
            if operation.flips == flips and self._joined(operation, signs, select, factor):
                return
            if not _commute(operation, flips, signs, select):
                break
        if signs is None:
            signs = 1 << (flips.bit_length() - 1)
        self.operations.append(Pair(flips, signs, select, [factor]))

    def _joined(self, operation: Pair, signs: int | None, select: int, factor: Factor) -> bool:
        if signs is None:
            if select and operation.select not in (0, select):
                return False
            operation.select = operation.select or select
            # Without a selector of its own the rotation is the same in both branches.
            operation.factors.append(factor)
            return True
        if not self._joins(operation, signs, operation.signs ^ signs):
            return False
        other = operation.signs ^ signs
        plus = factor.signs[0]
        operation.factors.append(replace(factor, signs=(plus, -plus if other else plus)))
        return True


def _commute(operation: Pair, flips: int, signs: int | None, select: int) -> bool:
    """Whether a rotation of pairs commutes with all that an operation may do."""
    own = [mask for mask in (signs, select) if mask]
    used = 0 if _only_x(operation) else operation.signs
    if any((flips & mask).bit_count() % 2 for mask in (used, operation.select)):
        return False
    return not any((operation.flips & mask).bit_count() % 2 for mask in own)


def _only_x(operation: Pair) -> bool:
    return all(factor.axis == X for factor in operation.factors)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of a 2 x 2 matrix over GF(2)."""
    return np.array([[matrix[1, 1], matrix[0, 1]], [matrix[1, 0], matrix[0, 0]]])
