"""Pauli matrices and strings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ComplexArray = npt.NDArray[np.complex128]

PAULI: dict[str, ComplexArray] = {
    "I": np.eye(2, dtype=complex),
    "X": np.array([[0, 1], [1, 0]], dtype=complex),
    "Y": np.array([[0, -1j], [1j, 0]], dtype=complex),
    "Z": np.array([[1, 0], [0, -1]], dtype=complex),
}


def pauli_matrix(label: str) -> ComplexArray:
    """Return the matrix, in Qiskit's order, of a Pauli string whose first letter acts on the first qubit."""
    result = np.eye(1, dtype=complex)
    for letter in label:
        result = np.kron(PAULI[letter], result)
    return result
