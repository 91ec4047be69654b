"""Execute statevectors in the compiled library; torch takes over for second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import torch

from qhybrid.engines.base import ordinary_tensors
from qhybrid.engines.exact.native.division import SAVED_BYTES, singles_up_to, state_entries, threads_for
from qhybrid.engines.exact.native.library import Kernels
from qhybrid.engines.exact.native.program import NativeProgram
from qhybrid.engines.exact.native.rotations import Rotations
from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.gates.expression import Angle
from qhybrid.engines.transforms import gradients_by_twin, is_transformed, is_vectorised, no_autocast

LARGEST_IDLE = 2**25
"""Bytes of final states up to which their memory is kept; above, allocators give it back to the system."""


class KeptStates:
    """Final states of one call; their memory serves the next call when nobody holds them any more.

    Memory of the same size that is asked for and freed in every call would be found in pieces, and the
    process would hold twice as much.

    Args:
        numbers: The memory.
        idle: Where it goes in the end.
    """

    __slots__ = ("_idle", "numbers")

    def __init__(self, numbers: torch.Tensor, idle: list[torch.Tensor]) -> None:
        self.numbers, self._idle = numbers, idle

    def __del__(self) -> None:
        """Keep the memory for the next call, in place of any other."""
        if self.numbers.nbytes > LARGEST_IDLE:
            return
        # Without a lock: this may happen at any moment, also while `_memory` is interrupted.
        self._idle[:] = [self.numbers]


class Twin(Protocol):
    """The torch version of an executor."""

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor, traced: bool = False) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B)."""
        ...


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
        self._dtype, self._make_twin = like.dtype, twin
        self._idle: list[list[torch.Tensor]] = [[] for _ in runs]
        self._twin: Twin | None = None
        distinct = list(
            dict.fromkeys(angle for run in runs for angle in run.angles if angle.tree is not None)
        )
        batched = [angle for angle in distinct if angle.batched]
        free = [angle for angle in distinct if not angle.batched]
        self._batched = AngleTable(batched, sizes[0], sizes[1], like) if batched else None
        self._free = AngleTable(free, sizes[0], sizes[1], like) if free else None
        rows = {angle: Angle(0.0, inputs=((sizes[0] + k, 1.0),)) for k, angle in enumerate(batched)}
        rows |= {angle: Angle(0.0, weights=((sizes[1] + k, 1.0),)) for k, angle in enumerate(free)}
        whole = (sizes[0] + len(batched), sizes[1] + len(free), sizes[2])
        self._programs = [
            NativeProgram(run, [rows.get(angle, angle) for angle in run.angles], whole, kernels)
            for run in runs
        ]

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B)."""
        if is_transformed():
            return self.twin(inputs, weights)
        result: torch.Tensor = _Adjoint.apply(self, inputs, weights, *self._trees(inputs, weights))  # type: ignore[no-untyped-call]
        return result

    @property
    def twin(self) -> Twin:
        """The torch version."""
        if self._twin is None:
            with ordinary_tensors():
                self._twin = self._make_twin()
        return self._twin

    def _trees(self, inputs: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return angles that are not affine: shape (K, B), and shape (L,)."""
        return (
            None if self._batched is None else self._batched.batched(inputs, weights),
            None if self._free is None else self._free.free(weights),
        )

    def forward(
        self, inputs: torch.Tensor, weights: torch.Tensor, keep: bool
    ) -> tuple[torch.Tensor, list[KeptStates | None]]:
        """Return the values, and the final states that were kept."""
        batch, results, kept = inputs.shape[1], [], []
        for program, idle in zip(self._programs, self._idle):
            entries = state_entries(program.num_qubits, batch, self._dtype.itemsize)
            saved = keep and entries * self._dtype.itemsize <= SAVED_BYTES
            states = KeptStates(self._memory(idle, entries), idle) if saved else None
            memory = None if states is None else states.numbers
            results.append(program.values(inputs, weights, memory, *self._division(program, batch)))
            kept.append(states)
        total = results[0]
        for result in results[1:]:
            total = total + result
        return total, kept

    def backward(
        self,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        grad: torch.Tensor,
        kept: Sequence[KeptStates | None],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vector-Jacobian products with inputs and weights."""
        found = []
        for program, states in zip(self._programs, kept):
            memory, division = (
                None if states is None else states.numbers,
                self._division(program, inputs.shape[1]),
            )
            found.append(program.gradients(inputs, weights, grad, memory, *division))
        grad_inputs, grad_weights = found[0]
        for some_inputs, some_weights in found[1:]:
            grad_inputs, grad_weights = grad_inputs + some_inputs, grad_weights + some_weights
        return grad_inputs, grad_weights

    def _memory(self, idle: list[torch.Tensor], entries: int) -> torch.Tensor:
        """Return memory for final states, that of an earlier call if it is as large."""
        with suppress(IndexError):  # There is none, or another thread was faster.
            memory = idle.pop()
            if memory.numel() == entries:
                return memory
        with ordinary_tensors():
            return torch.empty(entries, dtype=self._dtype)

    def _division(self, program: NativeProgram, batch: int) -> tuple[int, int]:
        """Return the number of threads, and of left-over samples up to which they are taken one by one."""
        singles = singles_up_to(program.num_qubits, self._dtype.itemsize)
        return threads_for(program.work * batch), singles


class _Adjoint(torch.autograd.Function):
    """Values forward; gradients by stepping state and gradient back together (adjoint differentiation)."""

    @staticmethod
    def forward(
        ctx: Any,
        executor: NativeExecutor,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        batched: torch.Tensor | None,
        free: torch.Tensor | None,
    ) -> torch.Tensor:
        rows = inputs.contiguous() if batched is None else torch.cat([inputs, batched])
        vector = weights.contiguous() if free is None else torch.cat([weights, free])
        values, kept = executor.forward(rows, vector, any(ctx.needs_input_grad))
        ctx.executor, ctx.kept = executor, kept
        ctx.save_for_backward(inputs, weights, rows, vector)
        return values

    @staticmethod
    @no_autocast
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, weights, rows, vector = ctx.saved_tensors
        if torch.is_grad_enabled() or is_vectorised(grads[0]):
            # Angles' trees are part of what the twin computes.
            twin = partial(ctx.executor.twin, traced=is_vectorised(grads[0]))
            found = gradients_by_twin(twin, (inputs, weights), ctx.needs_input_grad[1:3], grads[0])
            return None, *found, None, None
        grad_rows, grad_vector = ctx.executor.backward(rows, vector, grads[0].contiguous(), ctx.kept)
        count, length = inputs.shape[0], weights.shape[0]
        return (
            None,
            grad_rows[:count],
            grad_vector[:length],
            grad_rows[count:] if ctx.needs_input_grad[3] else None,
            grad_vector[length:] if ctx.needs_input_grad[4] else None,
        )
