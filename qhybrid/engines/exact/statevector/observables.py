"""Pauli strings on a statevector: <P> for many P at once, and their action weighted by a gradient.

P|i> = i^{n_Y} (-1)^{z.i} |i xor x> with bit masks x (letters X, Y) and z (letters Y, Z), so all strings of
one x share the products conj(psi_{i xor x}) psi_i; those are then added with signs by one real matrix
product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

SIGN_ENTRIES = 2**24
"""Entries of one sign matrix; more strings are taken in parts."""


@dataclass(frozen=True)
class MaskedPauli:
    """A Pauli string: flipped bits, signed bits, and number of Y letters. Bit n-1-a belongs to axis a."""

    flips: int
    signs: int
    num_y: int


def masked(axes_and_letters: Sequence[tuple[int, int]], num_qubits: int) -> MaskedPauli:
    """Return the masks of a string given as (axis, component), component 1, 2, 3 for X, Y, Z."""
    flips = signs = num_y = 0
    for axis, letter in axes_and_letters:
        bit = 1 << (num_qubits - 1 - axis)
        flips |= bit if letter in (1, 2) else 0
        signs |= bit if letter in (2, 3) else 0
        num_y += letter == 2
    return MaskedPauli(flips, signs, num_y)


@dataclass(frozen=True)
class _Group:
    """Strings that flip the same bits.

    Attributes:
        source: Index i xor x for every i, shape (2^n,), or None without flips.
        signs: (-1)^{z.i}, shape (T, 2^n).
        real: Whether the products' real part counts (even number of Y), shape (T, 1).
        factor: +1 or -1, shape (T, 1).
        positions: Places of the strings in the result, shape (T,).
    """

    source: torch.Tensor | None
    signs: torch.Tensor
    real: torch.Tensor
    factor: torch.Tensor
    positions: torch.Tensor


class PauliReader:
    """Expectation values of Pauli strings.

    Args:
        strings: The strings.
        num_qubits: Number of qubits of the state.
        like: Real tensor that shows dtype and device.
    """

    def __init__(self, strings: Sequence[MaskedPauli], num_qubits: int, like: torch.Tensor) -> None:
        self._count = len(strings)
        by_flips: dict[int, list[int]] = {}
        for position, string in enumerate(strings):
            by_flips.setdefault(string.flips, []).append(position)
        largest = max(1, SIGN_ENTRIES >> num_qubits)
        self._groups = [
            _group([strings[position] for position in part], part, num_qubits, like)
            for positions in by_flips.values()
            for part in (positions[start : start + largest] for start in range(0, len(positions), largest))
        ]

    def values(self, state: torch.Tensor) -> torch.Tensor:
        """Return <P> of every string, shape (T, B), for a state of shape (2^n, B)."""
        parts, positions = [], []
        for group in self._groups:
            if group.source is None:
                total = group.signs @ (state.real.square() + state.imag.square())
            else:
                moved = state.index_select(0, group.source)
                product = torch.complex(moved.real, -moved.imag) * state  # a lazy conj() has no forward mode
                total = torch.where(group.real, group.signs @ product.real, group.signs @ product.imag)
            parts.append(total * group.factor)
            positions.append(group.positions)
        if not parts:
            return state.real.new_zeros((0, state.shape[1]))
        return torch.cat(parts).index_select(0, torch.argsort(torch.cat(positions)))

    def pull_back(self, state: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
        """Return 2 sum_t grad_t P_t psi, the gradient with respect to the state, for grad of shape (T, B)."""
        result = torch.zeros_like(state)
        for group in self._groups:
            weight = grad.index_select(0, group.positions) * group.factor * 2
            if group.source is None:
                result += (group.signs.t() @ weight) * state
                continue
            on_real = group.signs.t() @ torch.where(group.real, weight, 0.0)
            on_imaginary = group.signs.t() @ torch.where(group.real, 0.0, weight)
            result += (torch.complex(on_real, -on_imaginary) * state).index_select(0, group.source)
        return result


def _group(
    strings: Sequence[MaskedPauli], positions: Sequence[int], num_qubits: int, like: torch.Tensor
) -> _Group:
    index = np.arange(2**num_qubits, dtype=np.int64)
    signs = np.stack([1.0 - 2.0 * (np.bitwise_count(index & string.signs) % 2) for string in strings])
    phases = [string.num_y % 4 for string in strings]
    flips = strings[0].flips
    return _Group(
        source=torch.as_tensor(index ^ flips, device=like.device) if flips else None,
        signs=torch.as_tensor(signs, dtype=like.dtype, device=like.device),
        real=torch.as_tensor([[phase % 2 == 0] for phase in phases], device=like.device),
        factor=torch.as_tensor(
            [[1.0 if phase in (0, 3) else -1.0] for phase in phases], dtype=like.dtype, device=like.device
        ),
        positions=torch.as_tensor(positions, dtype=torch.long, device=like.device),
    )
