"""Dead angles: parameters that no observable depends on, proved by the circuit and confirmed by gradients.

Proof. Observables are followed back through the circuit as sets of Pauli strings, without their factors. A
gate that commutes with all strings that reach it changes nothing, whatever its angle; neither does a gate
outside of the light cone. A rotation about Z or ZZ on qubits that are still |0> is a global phase.

A zero gradient in a sample is no proof, and a proof is checked by a sample: an angle is called dead where
both agree.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from qiskit.quantum_info import SparsePauliOp

from qhybrid.analysis.parameters import Settings
from qhybrid.analysis.values import ExactValues
from qhybrid.engines.exact.light_cone import pauli_terms
from qhybrid.engines.gates.pauli_transfer import transfer_matrix
from qhybrid.engines.lowering import Lowered, Primitive
from qhybrid.errors import CircuitError

LARGEST_SET = 2048
"""Pauli strings that are followed; of more only the letters on each qubit are."""
LARGEST_GATE = 4
"""Qubits of a constant gate up to which its effect on strings is worked out."""
ZERO = 1e-10
"""Derivative below which an angle has no effect, in a sample."""
TRIALS = 16

String = tuple[int, int]
"""Masks of a Pauli string: wires with X or Y, wires with Z or Y."""


@dataclass(frozen=True)
class DeadAngles:
    """Parameters without effect.

    Attributes:
        dead: Names of those that provably change no observable; confirmed by gradients, if there are any.
        unproved: Names of those whose gradient is zero in every trial without a proof.
        trials: Random settings of the confirmation; 0 where gradients cannot be computed.
        note: Why they cannot; empty where they were.
    """

    dead: tuple[str, ...]
    unproved: tuple[str, ...]
    trials: int
    note: str = ""


def dead_angles(settings: Settings, values: ExactValues) -> DeadAngles:
    """Return the parameters that no observable depends on.

    Args:
        settings: The circuit.
        values: Its expectation values.

    Raises:
        CircuitError: If a gradient contradicts the proof.
    """
    alive = {place for gate in live_rotations(settings) for place, _ in gate.angle.inputs}  # type: ignore[union-attr]
    names = [one.name for one in settings.facts]
    proved = [name for place, name in enumerate(names) if place not in alive]
    if not values.complete:
        return DeadAngles(tuple(proved), (), 0, values.refusal)
    trials = values.affordable(TRIALS, gradients=True)
    gradients = values.gradients(settings.draw(trials, "dead angles"))
    largest = gradients.abs().flatten(0, 1).amax(0) if gradients.numel() else torch.zeros(len(names))
    still = [name for name, size in zip(names, largest.tolist()) if size <= ZERO]
    wrong = sorted(set(proved) - set(still))
    if wrong:
        raise CircuitError(
            f"Angles {', '.join(wrong)} of circuit `{settings.spec.name}` must be without effect by its "
            "light cones, but have gradients. Fix: please report this circuit."
        )
    return DeadAngles(tuple(proved), tuple(name for name in still if name not in proved), trials)


def live_rotations(settings: Settings) -> list[Primitive]:
    """Return the rotations with a parameter that are not proved to be without effect, in time order."""
    lowered, observables = settings.lowered, settings.spec.observables
    phases = _phases_on_zeros(lowered)
    found = [gate for index, gate in _seen(lowered, observables) if index not in phases]
    return [gate for gate in found[::-1] if gate.angle is not None]


def _seen(lowered: Lowered, observables: Sequence[SparsePauliOp]) -> Iterable[tuple[int, Primitive]]:
    """Yield the gates that do not commute with everything that is read behind them, the last one first."""
    read: set[String] = set()
    for term in pauli_terms(observables, lowered.wire_of):
        flips = sum(1 << wire for wire, letter in term.letters if letter in (1, 2))
        signs = sum(1 << wire for wire, letter in term.letters if letter in (2, 3))
        read.add((flips, signs))
    strings: set[String] | None = read
    letters: dict[int, int] = {}
    for index in range(len(lowered.primitives) - 1, -1, -1):
        gate = lowered.primitives[index]
        large = gate.angle is None and len(gate.qubits) > LARGEST_GATE
        if strings is not None and (large or len(strings) > LARGEST_SET):
            letters = _letters_of(strings, lowered.num_qubits)
            strings = None
        if strings is None:
            if _changes(gate, letters):
                yield index, gate
            continue
        before = _before(gate, strings)
        if before is not None:  # else it commutes with all of them
            strings = before
            yield index, gate


def _letters_of(strings: Iterable[String], wires: int) -> dict[int, int]:
    """Return for each wire which letters some strings have there: bits 0, 1, 2, 3 for I, X, Y, Z."""
    letters = dict.fromkeys(range(wires), 0)
    for x, z in strings:
        for wire in range(wires):
            letters[wire] |= 1 << _letter(x >> wire & 1, z >> wire & 1)
    return letters


def _changes(gate: Primitive, letters: dict[int, int]) -> bool:
    """Return whether a gate may change a string of these letters, and add the letters that it may give.

    All combinations of the letters count, which are more than the strings there are: what commutes with all
    of them commutes with these.
    """
    if all(letters[wire] == 1 for wire in gate.qubits):  # outside of the light cone
        return False
    if gate.angle is not None:
        turn = ["IXYZ".index(letter) for letter in gate.pauli]
        if all(letters[wire] & ~(1 | 1 << letter) == 0 for wire, letter in zip(gate.qubits, turn)):
            return False
        for wire, letter in zip(gate.qubits, turn):
            # The product of two letters is the exclusive or of their numbers.
            products = (1 << (own ^ letter) for own in range(4) if letters[wire] >> own & 1)
            letters[wire] |= sum(set(products))
        return True
    if len(gate.qubits) > LARGEST_GATE:
        letters.update(dict.fromkeys(gate.qubits, 15))
        return True
    assert gate.matrix is not None
    table = _table(gate.matrix.tobytes(), len(gate.qubits))
    found, changed = dict.fromkeys(gate.qubits, 0), False
    own = [[one for one in range(4) if letters[wire] >> one & 1] for wire in gate.qubits]
    for combination in itertools.product(*own):
        number = 0
        for letter in combination:
            number = 4 * number + letter
        after, same = table[number]
        changed |= not same
        for several in after:
            for wire, letter in zip(gate.qubits, several):
                found[wire] |= 1 << letter
    letters.update(found)
    return changed


def _before(gate: Primitive, strings: set[String]) -> set[String] | None:
    """Return all strings that a gate may make of some, going back; None if it leaves all as they are."""
    if gate.angle is not None:
        flips = sum(1 << wire for wire, letter in zip(gate.qubits, gate.pauli) if letter in "XY")
        signs = sum(1 << wire for wire, letter in zip(gate.qubits, gate.pauli) if letter in "YZ")
        turned = {
            (x ^ flips, z ^ signs)
            for x, z in strings
            if ((x & signs).bit_count() + (z & flips).bit_count()) % 2
        }
        return strings | turned if turned else None
    result: set[String] = set()
    changed = False
    assert gate.matrix is not None
    table = _table(gate.matrix.tobytes(), len(gate.qubits))
    for x, z in strings:
        number = 0
        for wire in gate.qubits:
            number = 4 * number + _letter(x >> wire & 1, z >> wire & 1)
        own, same = table[number]
        changed |= not same
        mask = sum(1 << wire for wire in gate.qubits)
        for letters in own:
            flips = signs = 0
            for wire, letter in zip(gate.qubits, letters):
                flips |= (letter in (1, 2)) << wire
                signs |= (letter in (2, 3)) << wire
            result.add((x & ~mask | flips, z & ~mask | signs))
    return result if changed else None


@cache
def _table(content: bytes, count: int) -> list[tuple[list[tuple[int, ...]], bool]]:
    """Return for every Pauli string in front of a matrix what it becomes behind, and whether that is itself.

    Heisenberg's picture: P becomes U^dagger P U, whose factors are row P of the transfer matrix.
    """
    matrix = np.frombuffer(content, dtype=complex).reshape(2**count, 2**count)
    rows = transfer_matrix(matrix)
    result = []
    for number, row in enumerate(rows):
        places = np.flatnonzero(np.abs(row) > 1e-12).tolist()
        letters = [tuple(place >> 2 * (count - 1 - k) & 3 for k in range(count)) for place in places]
        result.append((letters, places == [number] and bool(row[number] > 0)))
    return result


def _letter(x: int, z: int) -> int:
    """Return 0, 1, 2, 3 for I, X, Y, Z."""
    return (0, 1, 3, 2)[x + 2 * z]


def _phases_on_zeros(lowered: Lowered) -> set[int]:
    """Return the rotations that only give a phase, as all of their qubits are |0> and their letters Z."""
    moved: set[int] = set()
    found = set()
    for index, gate in enumerate(lowered.primitives):
        diagonal = gate.angle is not None and set(gate.pauli) <= set("Z")
        if diagonal and moved.isdisjoint(gate.qubits):
            found.add(index)
        elif not _keeps_zeros(gate, moved):
            moved.update(gate.qubits)
    return found


def _keeps_zeros(gate: Primitive, moved: set[int]) -> bool:
    """Return whether all qubits of a gate are |0> before it and after it."""
    if gate.matrix is None or not moved.isdisjoint(gate.qubits):
        return False
    return bool(np.abs(gate.matrix[1:, 0]).max(initial=0.0) < 1e-12)
