"""Observables as Pauli terms, and the gates that each term can see.

Gates and channels are trace preserving, so whatever acts only on qubits that no read-out depends on drops
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from qiskit.quantum_info import SparsePauliOp

from qhybrid.errors import EngineError

IMAGINARY_TOLERANCE = 1e-12
Row = tuple[float, float, float, float]
"""A vector over the Pauli components I, X, Y, Z of one wire."""
UNIT_ROWS: tuple[Row, ...] = (
    (1.0, 0.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, 0.0),
    (0.0, 0.0, 1.0, 0.0),
    (0.0, 0.0, 0.0, 1.0),
)
LARGEST_EXPANSION = 64
"""Pauli strings that a string may become under read-out errors before it is kept as a product."""


class Gate(Protocol):
    """Anything that acts on wires."""

    @property
    def qubits(self) -> tuple[int, ...]:
        """The wires."""
        ...


@dataclass(frozen=True)
class PauliTerm:
    """One Pauli string of an observable.

    Attributes:
        observable: Index of the observable it belongs to.
        coefficient: Its real factor.
        letters: Pairs (wire, component), component 1, 2, 3 for X, Y, Z, ordered by wire; empty for the
            identity.
        rows: Where reading is noisy and the string is too wide to be written as a sum of strings: for each
            letter the row of `engines.noise.readout.readout_map` that takes its place; else empty.
    """

    observable: int
    coefficient: float
    letters: tuple[tuple[int, int], ...]
    rows: tuple[Row, ...] = ()

    @property
    def support(self) -> tuple[int, ...]:
        """Wires on which the string is not the identity."""
        return tuple(wire for wire, _ in self.letters)

    @property
    def vectors(self) -> tuple[Row, ...]:
        """For each wire of the support the vector that its Pauli vector is multiplied with."""
        return self.rows or tuple(UNIT_ROWS[letter] for _, letter in self.letters)


@dataclass(frozen=True, order=True)
class ReadOut:
    """What is wanted of a light cone: the state of its wires, or one number.

    Attributes:
        support: The wires.
        closing: For each wire the vector that closes its leg, so that a number is left; empty to leave all
            legs open, so that the state serves every string on these wires.
    """

    support: tuple[int, ...]
    closing: tuple[Row, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether a number is wanted."""
        return bool(self.closing)


def pauli_terms(observables: Sequence[SparsePauliOp], wire_of: Sequence[int]) -> list[PauliTerm]:
    """Split observables into Pauli strings on wires; equal strings of one observable are added up.

    Args:
        observables: Observables on the circuit's qubits.
        wire_of: The wire that holds each qubit at the end.

    Raises:
        EngineError: If a coefficient is complex or not finite.
    """
    terms = []
    for index, observable in enumerate(observables):
        total: dict[tuple[tuple[int, int], ...], complex] = {}
        for label, qubits, coefficient in observable.to_sparse_list():
            letters = tuple(
                sorted(
                    (wire_of[qubit], "IXYZ".index(letter))
                    for letter, qubit in zip(label, qubits)
                    if letter != "I"
                )
            )
            total[letters] = total.get(letters, 0.0) + complex(coefficient)
        for letters, coefficient in total.items():
            if not abs(coefficient.imag) <= IMAGINARY_TOLERANCE:
                raise EngineError(
                    f"Observables must have real coefficients, but observable {index} has "
                    f"{coefficient}. Fix: make it "
                    "Hermitian, or read real and imaginary part as two observables."
                )
            terms.append(PauliTerm(index, coefficient.real, letters))
    return terms


def light_cone(gates: Sequence[Gate], support: Sequence[int]) -> list[int]:
    """Return the indices of the gates that a read-out on `support` depends on, in time order."""
    seen = set(support)
    cone = []
    for index in range(len(gates) - 1, -1, -1):
        if not seen.isdisjoint(gates[index].qubits):
            seen.update(gates[index].qubits)
            cone.append(index)
    return cone[::-1]
