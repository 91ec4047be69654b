"""Observables written as text, such as `Z0`, `X3` or `0.5 * Z0 Z1`; the number is the qubit's index."""

from __future__ import annotations

import re
from collections.abc import Iterable

from qiskit.quantum_info import SparsePauliOp

from qhybrid.errors import CircuitError

_FACTOR = re.compile(r"([IXYZ])(\d+)")
_TERM = re.compile(r"^(?:([+-]?\d*\.?\d+(?:[eE][+-]?\d+)?)\s*\*\s*)?((?:[IXYZ]\d+\s*)+)$")


def single_qubit_observables(letters: str, num_qubits: int) -> tuple[SparsePauliOp, ...]:
    """Return one observable a letter and qubit, all qubits of the first letter first.

    Args:
        letters: For example ``"ZX"`` for Z0, Z1, ..., X0, X1, ...
        num_qubits: Number of qubits of the circuit.
    """
    return tuple(
        SparsePauliOp.from_sparse_list([(letter, [qubit], 1.0)], num_qubits=num_qubits)
        for letter in letters
        for qubit in range(num_qubits)
    )


def parse_observable(text: str, num_qubits: int) -> SparsePauliOp:
    """Read one observable from text.

    Args:
        text: Terms joined by ``;``, each an optional real factor and Pauli letters with qubit indices:
            ``Z0``, ``0.5 * Z0 Z1; -0.5 * X2``.
        num_qubits: Number of qubits of the circuit.

    Raises:
        CircuitError: If the text cannot be read, names a qubit twice, or a qubit the circuit does not have.
    """
    terms = []
    for part in text.split(";"):
        match = _TERM.match(part.strip())
        if match is None:
            raise CircuitError(f"Observable {text!r} must look like `Z0` or `0.5 * Z0 Z1; -0.5 * X2`.")
        factors = [(letter, int(qubit)) for letter, qubit in _FACTOR.findall(match.group(2))]
        qubits = [qubit for _, qubit in factors]
        if len(set(qubits)) < len(qubits):
            raise CircuitError(f"Observable {text!r} names a qubit twice in one term.")
        if max(qubits) >= num_qubits:
            raise CircuitError(
                f"Observable {text!r} must act on qubits 0 to {num_qubits - 1}, but names qubit "
                f"{max(qubits)}."
            )
        terms.append(("".join(letter for letter, _ in factors), qubits, float(match.group(1) or 1.0)))
    return SparsePauliOp.from_sparse_list(terms, num_qubits=num_qubits)


def format_observable(observable: SparsePauliOp) -> str:
    """Write an observable as text that `parse_observable` reads back."""
    parts = []
    for letters, qubits, factor in observable.to_sparse_list():
        pairs = sorted(zip(qubits, letters, strict=True))
        paulis = " ".join(f"{letter}{qubit}" for qubit, letter in pairs) or "I0"
        parts.append(paulis if factor == 1 else f"{complex(factor).real:.17g} * {paulis}")
    return "; ".join(parts)


def parse_observables(texts: Iterable[str], num_qubits: int) -> tuple[SparsePauliOp, ...]:
    """Read several observables from text; see `parse_observable`."""
    return tuple(parse_observable(text, num_qubits) for text in texts)
