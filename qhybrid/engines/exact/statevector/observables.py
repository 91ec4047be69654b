"""Pauli strings on a statevector: <P> for many P at once, and their action weighted by a gradient.

P|i> = i^{n_Y} (-1)^{z.i} |i xor x> with bit masks x (letters X, Y) and z (letters Y, Z), so all strings of
one x share the products conj(psi_{i xor x}) psi_i; those are then added with signs by real matrix products.
The sign of an index is that of its high bits times that of its low bits: tables grow with neither 2^n nor
the number of strings times 2^n.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

LOW_BITS = 12
"""Bits of an index whose signs are one matrix; those of the bits above are another."""
PARTIAL_SUMS = 2**22
"""Partial sums that are held at once, over strings, high bits and samples."""


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
        shape: The state's shape with neighbouring axes joined where all or none of them are flipped.
        flipped: Which of these are flipped.
        high: Signs of the high bits, shape (T, 2^(n - low)).
        low: Signs of the low bits, shape (T, 2^low).
        mixed: Whether any string has an odd number of Y, so that the products' imaginary part counts.
        real: Whether the products' real part counts (even number of Y), shape (T, 1).
        factor: +1 or -1, shape (T, 1).
        positions: Places of the strings in the result, shape (T,).
    """

    shape: tuple[int, ...]
    flipped: tuple[int, ...]
    high: torch.Tensor
    low: torch.Tensor
    mixed: bool
    real: torch.Tensor
    factor: torch.Tensor
    positions: torch.Tensor

    def moved(self, state: torch.Tensor) -> torch.Tensor:
        """Return the state with the bits flipped, psi_{i xor x}."""
        return state.reshape(*self.shape, state.shape[1]).flip(self.flipped).reshape(state.shape)

    def signed_sums(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return sum_i (-1)^{z.i} numbers_i for every string, shape (T, B), for numbers of shape (2^n, B)."""
        if self.high.shape[1] == 1:
            return self.low @ numbers
        batch = numbers.shape[1]
        blocks = numbers.reshape(self.high.shape[1], -1, batch)
        return torch.cat(
            [
                (self.high[part].t().unsqueeze(2) * torch.matmul(self.low[part], blocks)).sum(dim=0)
                for part in self._parts(batch)
            ]
        )

    def spread(self, weights: torch.Tensor) -> torch.Tensor:
        """Return sum_t (-1)^{z_t.i} weights_t, shape (2^n, B), for weights of shape (T, B)."""
        if self.high.shape[1] == 1:
            return self.low.t() @ weights
        batch = weights.shape[1]
        total: torch.Tensor | None = None
        for part in self._parts(batch):
            one = torch.matmul(self.low[part].t(), self.high[part].t().unsqueeze(2) * weights[part])
            total = one if total is None else total + one
        assert total is not None  # a group has at least one string
        return total.reshape(-1, batch)

    def _parts(self, batch: int) -> list[slice]:
        step = max(1, PARTIAL_SUMS // (self.high.shape[1] * max(batch, 1)))
        return [slice(start, start + step) for start in range(0, len(self.high), step)]


class PauliReader:
    """Expectation values of Pauli strings.

    Args:
        strings: The strings.
        num_qubits: Number of qubits of the state.
        like: Real tensor that shows dtype and device.
    """

    def __init__(self, strings: Sequence[MaskedPauli], num_qubits: int, like: torch.Tensor) -> None:
        by_flips: dict[int, list[int]] = {}
        for position, string in enumerate(strings):
            by_flips.setdefault(string.flips, []).append(position)
        self._groups = [
            _group([strings[position] for position in positions], positions, num_qubits, like)
            for positions in by_flips.values()
        ]
        order = [position for positions in by_flips.values() for position in positions]
        self._order = torch.as_tensor(np.argsort(order), dtype=torch.long, device=like.device)

    def values(self, state: torch.Tensor) -> torch.Tensor:
        """Return <P> of every string, shape (T, B), for a state of shape (2^n, B)."""
        parts = []
        for group in self._groups:
            if not group.flipped:
                total = group.signed_sums(state.real.square() + state.imag.square())
            else:
                moved = group.moved(state)
                product = torch.complex(moved.real, -moved.imag) * state  # a lazy conj() has no forward mode
                total = group.signed_sums(product.real)
                if group.mixed:
                    total = torch.where(group.real, total, group.signed_sums(product.imag))
            parts.append(total * group.factor)
        if not parts:
            return state.real.new_zeros((0, state.shape[1]))
        return torch.cat(parts).index_select(0, self._order)

    def pull_back(self, state: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
        """Return 2 sum_t grad_t P_t psi, the gradient with respect to the state, for grad of shape (T, B)."""
        result = torch.zeros_like(state)
        for group in self._groups:
            weight = grad.index_select(0, group.positions) * group.factor * 2
            if not group.flipped:
                result += group.spread(weight) * state
                continue
            on_real = group.spread(torch.where(group.real, weight, 0.0))
            on_imaginary = torch.zeros_like(on_real)
            if group.mixed:
                on_imaginary = group.spread(torch.where(group.real, 0.0, weight))
            result += group.moved(torch.complex(on_real, -on_imaginary) * state)
        return result


def _group(
    strings: Sequence[MaskedPauli], positions: Sequence[int], num_qubits: int, like: torch.Tensor
) -> _Group:
    low = min(num_qubits, LOW_BITS)
    phases = [string.num_y % 4 for string in strings]
    flips = [strings[0].flips >> (num_qubits - 1 - axis) & 1 for axis in range(num_qubits)]
    runs = [(flip, len(list(own))) for flip, own in itertools.groupby(flips)]
    return _Group(
        shape=tuple(2**length for _, length in runs),
        flipped=tuple(place for place, (flip, _) in enumerate(runs) if flip),
        high=_signs([string.signs >> low for string in strings], num_qubits - low, like),
        low=_signs([string.signs & (2**low - 1) for string in strings], low, like),
        mixed=any(phase % 2 for phase in phases),
        real=torch.as_tensor([[phase % 2 == 0] for phase in phases], device=like.device),
        factor=torch.as_tensor(
            [[1.0 if phase in (0, 3) else -1.0] for phase in phases], dtype=like.dtype, device=like.device
        ),
        positions=torch.as_tensor(positions, dtype=torch.long, device=like.device),
    )


def _signs(masks: Sequence[int], bits: int, like: torch.Tensor) -> torch.Tensor:
    """Return (-1)^{z.i} for every mask z and index i, shape (T, 2^bits)."""
    index = np.arange(2**bits, dtype=np.int64)
    parity = np.bitwise_count(index & np.array(masks, dtype=np.int64)[:, None]) % 2
    return torch.as_tensor(1.0 - 2.0 * parity, dtype=like.dtype, device=like.device)
