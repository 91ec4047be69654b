"""Gates as real tensors in the Pauli basis.

A state rho of k qubits is the vector v_P = Tr(P rho) over the 4^k Pauli strings P, so v of the identity is 1
and |0> is (1, 0, 0, 1). A gate U acts as the real matrix R_PQ = Tr(P U Q U^dagger) / 2^k. Tracing a qubit out
takes its identity component; reading an observable takes that Pauli's component.

A rotation exp(-i t P / 2) is R(t) = A + cos(t) B + sin(t) C with constant A, B, C, that is, one constant
tensor contracted with the feature vector (1, cos t, sin t).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from qhybrid.errors import CircuitError
from qhybrid.noise.paulis import PAULI, ComplexArray, pauli_matrix

Array = npt.NDArray[np.float64]

LETTERS = "IXYZ"
ZERO_STATE: Array = np.array([1.0, 0.0, 0.0, 1.0])
UNITARY_TOLERANCE = 1e-9


def transfer_matrix(operators: ComplexArray | Sequence[ComplexArray]) -> Array:
    """Return R_PQ = sum_K Tr(P K Q K^dagger) / 2^k of a gate or of a channel's Kraus operators.

    Args:
        operators: A unitary in Qiskit's order (first qubit of the gate = least significant bit), shape
            (2^k, 2^k), or Kraus operators of that shape.

    Returns:
        Real matrix of shape (4^k, 4^k); its row and column indices have the gate's FIRST qubit as the most
        significant base-4 digit.
    """
    several = [operators] if isinstance(operators, np.ndarray) else operators
    qubits = (several[0].shape[0].bit_length()) - 1
    total = sum(_superoperator(np.asarray(operator, dtype=complex), qubits) for operator in several)
    result = np.asarray(total)
    change = np.stack([PAULI[letter].T.reshape(4) for letter in LETTERS])
    back = np.linalg.inv(change)
    for qubit in range(qubits):
        result = np.moveaxis(np.tensordot(change, result, axes=(1, qubit)), 0, qubit)
        result = np.moveaxis(np.tensordot(result, back, axes=(qubits + qubit, 0)), -1, qubits + qubit)
    return np.ascontiguousarray(result.reshape(4**qubits, 4**qubits).real)


def _superoperator(operator: ComplexArray, qubits: int) -> ComplexArray:
    """Return K x conj(K) with one leg of size 4 (row bit, column bit) a qubit, first qubit first."""
    legs = operator.reshape((2,) * (2 * qubits))
    first_first = [qubits - 1 - q for q in range(qubits)] + [2 * qubits - 1 - q for q in range(qubits)]
    legs = legs.transpose(first_first)
    outer = np.multiply.outer(legs, legs.conj())
    order = [axis for q in range(qubits) for axis in (q, 2 * qubits + q)]
    order += [axis for q in range(qubits) for axis in (qubits + q, 3 * qubits + q)]
    return outer.transpose(order).reshape((4,) * (2 * qubits))


@cache
def rotation_tensor(label: str) -> Array:
    """Return the constant tensor of exp(-i t P / 2).

    Args:
        label: The Pauli string P, first letter on the gate's first qubit.

    Returns:
        Shape (4^k, 4^k, 3): R(t) = sum_f tensor[..., f] * (1, cos t, sin t)[f].
    """
    pauli = pauli_matrix(label)
    identity = np.eye(len(pauli))
    at_zero = transfer_matrix(identity.astype(complex))
    at_pi = transfer_matrix(-1j * pauli)
    at_half_pi = transfer_matrix((identity - 1j * pauli) / np.sqrt(2))
    constant, cosine = (at_zero + at_pi) / 2, (at_zero - at_pi) / 2
    result = np.stack([constant, cosine, at_half_pi - constant], axis=-1)
    result[np.abs(result) < 1e-15] = 0.0
    return result


def check_unitary(matrix: ComplexArray, name: str) -> None:
    """Check that a gate's matrix is unitary.

    Raises:
        CircuitError: If it is not, within 1e-9.
    """
    deviation = float(np.abs(matrix @ matrix.conj().T - np.eye(len(matrix))).max())
    if not deviation < UNITARY_TOLERANCE:
        raise CircuitError(f"Gate `{name}` must be unitary, but deviates from it by {deviation:.2e}.")
