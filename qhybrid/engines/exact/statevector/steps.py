"""The steps of a statevector run: how one gate changes the state, and its exact reverse.

A state is a complex tensor of shape (2^n, B), samples last. The order of qubits in the first axis changes
from step to step, because a data-free gate leaves its own qubits in front rather than sorting them back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

Reversed = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""State before the gate, gradient with respect to it, gradient with respect to the gate's tensor."""


class Step(Protocol):
    """One gate."""

    @property
    def root(self) -> int:
        """Number of the gate's tensor among the plan's tensors."""
        ...

    def apply(self, tensor: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Return the state after the gate."""
        ...

    def reverse(self, tensor: torch.Tensor, state: torch.Tensor, grad: torch.Tensor) -> Reversed:
        """Step back from the state after the gate and the gradient with respect to it."""
        ...


@dataclass(frozen=True)
class MatrixStep:
    """A data-free matrix on the qubits at `axes`, which move to the front."""

    root: int
    axes: tuple[int, ...]
    num_qubits: int

    def apply(self, tensor: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Return the state after the gate."""
        return (self._square(tensor) @ self._rows(state)).reshape(state.shape)

    def reverse(self, tensor: torch.Tensor, state: torch.Tensor, grad: torch.Tensor) -> Reversed:
        """See `Step.reverse`."""
        matrix = self._square(tensor)
        back = matrix.mH
        size = 2 ** len(self.axes)
        rows, after = back @ state.reshape(size, -1), grad.reshape(size, -1)
        before = back @ after
        grad_tensor = (after @ rows.mH).reshape(tensor.shape)
        return self._unsorted(rows, state.shape), self._unsorted(before, state.shape), grad_tensor

    def _square(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.reshape(2 ** len(self.axes), 2 ** len(self.axes))

    @cached_property
    def _permutation(self) -> list[int]:
        rest = [axis for axis in range(self.num_qubits) if axis not in self.axes]
        return [*self.axes, *rest, self.num_qubits]

    @cached_property
    def _inverse(self) -> list[int]:
        return sorted(range(self.num_qubits + 1), key=self._permutation.__getitem__)

    @cached_property
    def _in_front(self) -> bool:
        return self.axes == tuple(range(len(self.axes)))

    def _rows(self, state: torch.Tensor) -> torch.Tensor:
        if not self._in_front:
            state = state.reshape(*(2,) * self.num_qubits, -1).permute(self._permutation)
        return state.reshape(2 ** len(self.axes), -1)

    def _unsorted(self, rows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        if not self._in_front:
            rows = rows.reshape(*(2,) * self.num_qubits, shape[1]).permute(self._inverse)
        return rows.reshape(shape)


@dataclass(frozen=True)
class SampleMatrixStep:
    """A 2 x 2 matrix of its own for every sample (or one for all), on the qubit at `axis`."""

    root: int
    axis: int
    num_qubits: int

    def apply(self, tensor: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Return the state after the gate."""
        zero, one = self._halves(state)
        return torch.stack(
            [tensor[0, 0] * zero + tensor[0, 1] * one, tensor[1, 0] * zero + tensor[1, 1] * one], dim=1
        ).reshape(state.shape)

    def reverse(self, tensor: torch.Tensor, state: torch.Tensor, grad: torch.Tensor) -> Reversed:
        """See `Step.reverse`."""
        back = tensor.transpose(0, 1).conj().resolve_conj()
        before, grad_before = self.apply(back, state), self.apply(back, grad)
        rows = [
            torch.stack([(after * half.conj()).sum(dim=(0, 1)) for half in self._halves(before)])
            for after in self._halves(grad)
        ]
        grad_tensor = torch.stack(rows)
        if tensor.dim() == 2:
            grad_tensor = grad_tensor.sum(dim=2)
        return before, grad_before, grad_tensor

    def _halves(self, state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return state.reshape(2**self.axis, 2, 2 ** (self.num_qubits - 1 - self.axis), state.shape[1]).unbind(
            1
        )


@dataclass(frozen=True)
class RotationStep:
    """exp(-i t P / 2) by a data-dependent angle on several qubits: cos(t/2) psi - i sin(t/2) P psi."""

    root: int
    axes: tuple[int, ...]
    letters: str
    num_qubits: int

    def apply(self, tensor: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Return the state after the gate."""
        return tensor[1] * state - 1j * tensor[2] * self._pauli(state)

    def reverse(self, tensor: torch.Tensor, state: torch.Tensor, grad: torch.Tensor) -> Reversed:
        """See `Step.reverse`."""
        turned = self._pauli(state)
        before = tensor[1] * state + 1j * tensor[2] * turned
        on_cosine = (grad * before.conj()).sum(dim=0)
        on_sine = (grad * (-1j * self._pauli(before)).conj()).sum(dim=0)
        grad_before = tensor[1] * grad + 1j * tensor[2] * self._pauli(grad)
        return before, grad_before, torch.stack([torch.zeros_like(on_cosine), on_cosine, on_sine])

    def _pauli(self, state: torch.Tensor) -> torch.Tensor:
        return apply_pauli(state, self.axes, self.letters, self.num_qubits)


def apply_pauli(state: torch.Tensor, axes: tuple[int, ...], letters: str, num_qubits: int) -> torch.Tensor:
    """Return P psi for a Pauli string with one letter an axis."""
    for axis, letter in zip(axes, letters):
        if letter == "I":
            continue
        halves = state.reshape(2**axis, 2, 2 ** (num_qubits - 1 - axis), state.shape[1])
        zero, one = halves.unbind(1)
        pair = {"X": (one, zero), "Y": (-1j * one, 1j * zero), "Z": (zero, -one)}[letter]
        state = torch.stack(pair, dim=1).reshape(state.shape)
    return state
