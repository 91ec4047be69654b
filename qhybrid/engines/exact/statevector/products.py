"""Products of one-qubit operators on a statevector: wide strings that are read with errors.

Reading a letter with errors reads a Hermitian matrix M_q = sum_P row_P P (see `engines.noise.readout`). A
string on n qubits is their product, which would be up to 4^n Pauli strings; applied one after another they
cost n passes over the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qhybrid.engines.exact.light_cone import Row
from qhybrid.engines.exact.statevector.observables import MaskedPauli, PauliReader
from qhybrid.noise.paulis import PAULI

LETTERS = "IXYZ"


@dataclass(frozen=True)
class ProductString:
    """A product of Hermitian matrices: for each axis that has one, the row of its Pauli components."""

    rows: tuple[tuple[int, Row], ...]


class StateReader:
    """Expectation values of Pauli strings, then of products.

    Args:
        strings: The Pauli strings.
        products: The products.
        num_qubits: Number of qubits of the state.
        like: Real tensor that shows dtype and device.
    """

    def __init__(
        self,
        strings: Sequence[MaskedPauli],
        products: Sequence[ProductString],
        num_qubits: int,
        like: torch.Tensor,
    ) -> None:
        self._pauli = PauliReader(strings, num_qubits, like)
        self._count = len(strings)
        dtype = torch.complex128 if like.dtype == torch.float64 else torch.complex64
        self._products = [
            [(2**axis, torch.as_tensor(_matrix(row)).to(dtype).to(like.device)) for axis, row in one.rows]
            for one in products
        ]

    def values(self, state: torch.Tensor) -> torch.Tensor:
        """Return the values, shape (T, B), for a state of shape (2^n, B)."""
        found = self._pauli.values(state)
        if not self._products:
            return found
        rows = []
        for one in self._products:
            moved = _applied(one, state)
            rows.append((state.real * moved.real + state.imag * moved.imag).sum(dim=0))
        return torch.cat([found, torch.stack(rows)])

    def pull_back(self, state: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
        """Return 2 sum_t grad_t M_t psi, the gradient with respect to the state, for grad of shape (T, B)."""
        result = self._pauli.pull_back(state, grad[: self._count])
        for one, weight in zip(self._products, grad[self._count :]):
            result += 2 * weight * _applied(one, state)
        return result


def _matrix(row: Row) -> np.ndarray[tuple[int, ...], np.dtype[np.complex128]]:
    total: np.ndarray[tuple[int, ...], np.dtype[np.complex128]] = np.zeros((2, 2), dtype=complex)
    for value, letter in zip(row, LETTERS):
        total = total + value * PAULI[letter]
    return total


def _applied(product: Sequence[tuple[int, torch.Tensor]], state: torch.Tensor) -> torch.Tensor:
    """Return the product applied to a state; an axis is named by the number of blocks before it."""
    result, batch = state, state.shape[1]
    for blocks, matrix in product:
        zero, one = result.reshape(blocks, 2, -1, batch).unbind(1)
        result = torch.stack(
            [matrix[0, 0] * zero + matrix[0, 1] * one, matrix[1, 0] * zero + matrix[1, 1] * one], dim=1
        )
    return result.reshape(state.shape)
