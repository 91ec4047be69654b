"""Observables in all the ways they may be given: Qiskit's operators, labels, and text such as `0.5 * Z0 Z1`.

In text the number is the qubit's index; in a label such as `IZX` the rightmost letter is qubit 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Operator, PauliList, SparseObservable, SparsePauliOp
from qiskit.quantum_info.operators.base_operator import BaseOperator

from qhybrid.errors import CircuitError

_FACTOR = re.compile(r"([IXYZ])(\d+)")
_TERM = re.compile(r"^(?:([+-]?\d*\.?\d+(?:[eE][+-]?\d+)?)\s*\*\s*)?((?:[IXYZ]\d+\s*)+)$")
_LABEL = re.compile(r"^[+-]?[IXYZ]+$")
LARGEST_IMAGINARY = 1e-10
"""Imaginary part of a coefficient that is taken for rounding."""

ObservableLike = BaseOperator | SparseObservable | Mapping[str, complex] | str
"""A `SparsePauliOp`, `Pauli`, `Operator` or another operator of Qiskit, a label, text, or {label: factor}."""


def sparse_observable(given: Any, num_qubits: int) -> SparsePauliOp:
    """Return one observable as a sum of Pauli strings.

    Args:
        given: What `ObservableLike` lists, or a matrix.
        num_qubits: Number of qubits of the circuit; what text refers to.

    Raises:
        CircuitError: If it is none of these, or has to be converted and is not Hermitian.
    """
    if isinstance(given, SparsePauliOp):
        return given  # engines refuse complex factors
    if isinstance(given, str) and not _LABEL.match(given):
        return parse_observable(given, num_qubits)
    try:
        found = _converted(given)
    except (QiskitError, TypeError, ValueError) as error:
        raise CircuitError(
            "An observable must be a SparsePauliOp, a Pauli, an Operator, a label such as 'ZI' or text such "
            f"as `0.5 * Z0 Z1`, but is {given!r} ({error})."
        ) from error
    largest = float(np.abs(found.coeffs.imag).max(initial=0.0))
    if not largest <= LARGEST_IMAGINARY * max(1.0, float(np.abs(found.coeffs).max(initial=0.0))):
        raise CircuitError(
            f"An observable must be Hermitian, with real factors of its Pauli strings, but {given!r} is not. "
            "Fix: give real and imaginary part as two observables."
        )
    return found


def sparse_observables(given: Any, num_qubits: int) -> tuple[SparsePauliOp, ...]:
    """Return one observable or several, such as a list or a `PauliList`, as sums of Pauli strings.

    Raises:
        CircuitError: As `sparse_observable`.
    """
    kinds = BaseOperator | SparseObservable | Mapping | str | np.ndarray
    one = isinstance(given, kinds) and not isinstance(given, PauliList)
    try:
        several = [given] if one else list(given)
    except TypeError:
        several = [given]
    return tuple(sparse_observable(each, num_qubits) for each in several)


def _converted(given: Any) -> SparsePauliOp:
    if isinstance(given, PauliList):
        raise TypeError("a PauliList is several observables")
    if isinstance(given, SparseObservable):
        return SparsePauliOp.from_sparse_observable(given)
    if isinstance(given, Mapping):
        return SparsePauliOp.from_list(list(given.items()))
    if isinstance(given, np.ndarray):
        return SparsePauliOp.from_operator(Operator(given))
    if not isinstance(given, BaseOperator | str):
        raise TypeError(f"of type {type(given).__name__}")
    try:
        return SparsePauliOp(given)
    except (QiskitError, TypeError, ValueError):
        return SparsePauliOp.from_operator(Operator(given))


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
            ``Z0``, ``0.5 * Z0 Z1; -0.5 * X2``. Or one label of Qiskit, a letter a qubit: ``IIZ`` is ``Z0``.
        num_qubits: Number of qubits of the circuit.

    Raises:
        CircuitError: If the text cannot be read, names a qubit twice, or a qubit the circuit does not have.
    """
    terms = []
    if re.fullmatch("[IXYZ]+", text) and num_qubits > 1:
        return _labelled(text, num_qubits)
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
        factor = float(match.group(1) or 1.0)
        if not math.isfinite(factor):
            raise CircuitError(f"Observable {text!r} has factor {match.group(1)}, which is too large.")
        terms.append(("".join(letter for letter, _ in factors), qubits, factor))
    return SparsePauliOp.from_sparse_list(terms, num_qubits=num_qubits)


def _labelled(label: str, num_qubits: int) -> SparsePauliOp:
    """Return the observable of a label of Qiskit, which must have a letter for every qubit."""
    if len(label) != num_qubits:
        raise CircuitError(
            f"Observable {label!r} must look like `Z0` or `0.5 * Z0 Z1; -0.5 * X2`, or be a label with one "
            f"letter for each of the {num_qubits} qubits, the last one for qubit 0, but has {len(label)}."
        )
    return SparsePauliOp(label)


def format_observable(observable: SparsePauliOp) -> str:
    """Write an observable as text that `parse_observable` reads back."""
    parts = []
    for letters, qubits, factor in observable.to_sparse_list():
        pairs = sorted(zip(qubits, letters, strict=True))
        paulis = " ".join(f"{letter}{qubit}" for qubit, letter in pairs) or "I0"
        size = repr(float(complex(factor).real)).removesuffix(".0")  # shortest text of the same number
        parts.append(paulis if factor == 1 else f"{size} * {paulis}")
    return "; ".join(parts)


def parse_observables(texts: Iterable[str], num_qubits: int) -> tuple[SparsePauliOp, ...]:
    """Read several observables from text; see `parse_observable`."""
    return tuple(parse_observable(text, num_qubits) for text in texts)
