"""Execute statevectors in the compiled library; torch takes over for second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch

from qhybrid.engines.base import ordinary_tensors
from qhybrid.engines.exact.native.division import Division, division_of
from qhybrid.engines.exact.native.library import Kernels
from qhybrid.engines.exact.native.program import NativeProgram
from qhybrid.engines.exact.native.rotations import Rotations
from qhybrid.engines.transforms import gradients_by_twin, is_transformed, is_vectorised, no_autocast

LARGEST_IDLE = 2**25
"""Bytes of final states up to which their memory is kept; above, allocators give it back to the system."""
LARGEST_MEMORY = 64
"""Sizes of batches whose division is remembered."""


class KeptStates:
    """Final states of one call; their memory serves the next call when nobody holds them any more.

    Memory of the same size that is asked for and freed in every call would be found in pieces, and the
    process would hold twice as much.

    Args:
        numbers: The memory.
        idle: Where it goes in the end.
    """

    __slots__ = ("_idle", "_is_kept", "numbers")

    def __init__(self, numbers: torch.Tensor, idle: list[torch.Tensor]) -> None:
        self.numbers, self._idle, self._is_kept = numbers, idle, numbers.nbytes <= LARGEST_IDLE

    def __del__(self) -> None:
        """Keep the memory for the next call, in place of any other."""
        # Without a lock: this may happen at any moment, also while `memory` is interrupted.
        if self._is_kept:
            self._idle[:] = [self.numbers]


class Twin(Protocol):
    """The torch version of an executor."""

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor, traced: bool = False) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B)."""
        ...


class NotFiniteValues(Exception):
    """A parameter, an angle or a value is not finite."""


class NativeExecutor:
    """Runs all statevectors of a plan.

    Args:
        runs: The statevectors.
        sizes: Numbers of inputs, weights and observables.
        like: Real tensor that shows the dtype.
        kernels: The loaded library.
        twin: Makes the torch version of the same plan.
    """

    def __init__(
        self,
        runs: Sequence[Rotations],
        sizes: tuple[int, int, int],
        like: torch.Tensor,
        kernels: Kernels,
        twin: Callable[[], Twin],
    ) -> None:
        self.dtype, self._make_twin, self._runs = like.dtype, twin, runs
        self._idle: list[torch.Tensor] = []
        self._twin: Twin | None = None
        self._divisions: dict[tuple[int, int], Division] = {}
        self._program = NativeProgram(runs, sizes, like.dtype, kernels)

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B)."""
        if is_transformed():
            return self.twin(inputs, weights)
        return self.samples(inputs.t(), weights).t()

    def samples(self, inputs: torch.Tensor, weights: torch.Tensor, finite: bool = False) -> torch.Tensor:
        """Return the expectation values, shape (B, n_obs), as one operation.

        Args:
            inputs: Input angles of the executor's dtype, shape (B, n_in).
            weights: Trainable angles of the same dtype, shape (n_w,).
            finite: Whether to refuse what is not finite.

        Raises:
            NotFiniteValues: If it is.
        """
        if torch.is_grad_enabled() and (inputs.requires_grad or weights.requires_grad):
            result: torch.Tensor = _Adjoint.apply(self, inputs, weights, finite)  # type: ignore[no-untyped-call]
            return result
        return self.forward(inputs, weights, None, self.division(inputs.shape[0]), finite)

    @property
    def twin(self) -> Twin:
        """The torch version."""
        if self._twin is None:
            with ordinary_tensors():
                self._twin = self._make_twin()
        return self._twin

    def forward(
        self,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        states: KeptStates | None,
        division: Division,
        finite: bool,
    ) -> torch.Tensor:
        """Return the values, and leave the final states in their memory."""
        numbers = None if states is None else states.numbers
        values, is_finite = self._program.values(inputs, weights, numbers, division)
        if finite and not is_finite:
            raise NotFiniteValues
        return values

    def backward(
        self,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        above: torch.Tensor,
        states: KeptStates | None,
        division: Division,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vector-Jacobian products with inputs and weights."""
        numbers = None if states is None else states.numbers
        return self._program.gradients(inputs, weights, above, numbers, division)

    def division(self, batch: int) -> Division:
        """Return how a call with that many samples is divided."""
        key = batch, torch.get_num_threads()
        found = self._divisions.get(key)
        if found is None:
            if len(self._divisions) >= LARGEST_MEMORY:
                self._divisions.clear()
            found = self._divisions[key] = division_of(self._runs, batch, self.dtype.itemsize)
        return found

    def memory(self, entries: int) -> KeptStates | None:
        """Return memory for final states, that of an earlier call if it is as large."""
        if not entries:
            return None
        with suppress(IndexError):  # There is none, or another thread was faster.
            numbers = self._idle.pop()
            if numbers.numel() == entries:
                return KeptStates(numbers, self._idle)
        with ordinary_tensors():
            return KeptStates(torch.empty(entries, dtype=self.dtype, device="cpu"), self._idle)


class _Adjoint(torch.autograd.Function):
    """Values forward; gradients by stepping state and gradient back together (adjoint differentiation)."""

    @staticmethod
    def forward(
        ctx: Any, executor: NativeExecutor, inputs: torch.Tensor, weights: torch.Tensor, finite: bool
    ) -> torch.Tensor:
        division = executor.division(inputs.shape[0])
        states = executor.memory(division.entries)
        values = executor.forward(inputs, weights, states, division, finite)
        ctx.call = executor, states, division
        ctx.save_for_backward(inputs, weights)
        return values

    @staticmethod
    @no_autocast
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, weights = ctx.saved_tensors
        executor, states, division = ctx.call
        traced = is_vectorised(grads[0])
        if torch.is_grad_enabled() or traced:

            def twin(rows: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
                values: torch.Tensor = executor.twin(rows.t(), vector, traced=traced)
                return values.t()

            found = gradients_by_twin(twin, (inputs, weights), ctx.needs_input_grad[1:3], grads[0])
            return None, *found, None
        return None, *executor.backward(inputs, weights, grads[0], states, division), None
