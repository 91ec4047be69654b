"""Execute a statevector plan; gradients undo its steps, so that memory does not grow with depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from qhybrid.engines.exact.execute import Executor
from qhybrid.engines.exact.statevector.plan import StatePlan, StateRun
from qhybrid.engines.exact.statevector.products import StateReader
from qhybrid.engines.exact.statevector.steps import Step
from qhybrid.engines.transforms import gradients_by_twin, is_transformed, is_vectorised, no_autocast

CHUNK_AMPLITUDES = 2**17
"""Amplitudes that are carried at once on a CPU, so that a state stays in the cache."""
EVERYTHING = 2**62


def chunk_samples(num_qubits: int, device_type: str) -> int:
    """Return the number of samples whose states are carried at once."""
    return max(1, CHUNK_AMPLITUDES >> num_qubits) if device_type == "cpu" else EVERYTHING


class StateRunner:
    """The steps and read-outs of one statevector.

    Args:
        steps: The gates.
        reader: The read-outs, on the order of qubits after the last step.
        num_qubits: Number of qubits of the state.
        batched: For every tensor of the steps, whether it has a batch axis.
        chunk: Samples that are carried at once.
        like: Complex tensor that shows dtype and device.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        reader: StateReader,
        num_qubits: int,
        batched: Sequence[bool],
        chunk: int,
        like: torch.Tensor,
    ) -> None:
        self.steps = list(steps)
        self.reader = reader
        self._num_qubits = num_qubits
        self._batched = list(batched)
        self._chunk = chunk
        self._like = like

    def __call__(self, tensors: Sequence[torch.Tensor], batch: int) -> torch.Tensor:
        """Return <P> of every string, shape (T, B), from the gates' tensors."""
        if is_transformed():
            return self.traced(tensors, batch)
        result: torch.Tensor = _AdjointRun.apply(self, batch, *tensors)  # type: ignore[no-untyped-call]
        return result

    def traced(self, tensors: Sequence[torch.Tensor], batch: int) -> torch.Tensor:
        """Compute the same, recorded by autograd throughout: for second derivatives and torch.func."""
        return self.reader.values(self.final_state(tensors, batch))

    def final_state(self, tensors: Sequence[torch.Tensor], batch: int) -> torch.Tensor:
        """Return the state after all steps, shape (2^n, B)."""
        state = self._like.new_zeros((2**self._num_qubits, batch))
        state[0] = 1.0
        for step in self.steps:
            state = step.apply(tensors[step.root], state)
        return state

    def final_states(self, batch: int) -> list[torch.Tensor]:
        """Return memory for the states after all steps, one for each range of `parts`, shape (2^n, B)."""
        size = 2**self._num_qubits
        counts = [part.stop - part.start for part, _ in self.parts([], batch)]
        whole = torch.split(self._like.new_empty(batch * size), [size * count for count in counts])
        return [numbers.view(size, count) for numbers, count in zip(whole, counts)]

    def is_batched(self, root: int) -> bool:
        """Return whether a gate's tensor has a batch axis."""
        return self._batched[root]

    def parts(self, tensors: Sequence[torch.Tensor], batch: int) -> list[tuple[slice, list[torch.Tensor]]]:
        """Return the sample ranges that are carried at once, and the gates' tensors of each."""
        ranges = [slice(start, min(start + self._chunk, batch)) for start in range(0, batch, self._chunk)]
        return [
            (part, [t[..., part] if batched else t for t, batched in zip(tensors, self._batched)])
            for part in ranges
        ]


class _AdjointRun(torch.autograd.Function):
    """Values forward; gradients by stepping state and gradient back together (adjoint differentiation)."""

    @staticmethod
    def forward(ctx: Any, runner: StateRunner, batch: int, *tensors: torch.Tensor) -> torch.Tensor:
        # One piece of memory for all final states: pieces between what every step frees would keep that from
        # being used again.
        finals, values = runner.final_states(batch), []
        for final, (part, some) in zip(finals, runner.parts(tensors, batch)):
            final.copy_(runner.final_state(some, part.stop - part.start))
            values.append(runner.reader.values(final))
        ctx.runner, ctx.batch, ctx.finals = runner, batch, finals
        ctx.save_for_backward(*tensors)
        return torch.cat(values, dim=1)

    @staticmethod
    @no_autocast
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        runner, tensors = ctx.runner, ctx.saved_tensors
        if torch.is_grad_enabled() or is_vectorised(grads[0]):
            found = gradients_by_twin(
                lambda *some: runner.traced(some, ctx.batch), tensors, ctx.needs_input_grad[2:], grads[0]
            )
            return None, None, *found
        total: list[torch.Tensor] = [torch.zeros_like(tensor) for tensor in tensors]
        for (part, some), final in zip(runner.parts(tensors, ctx.batch), ctx.finals):
            state, grad = final, runner.reader.pull_back(final, grads[0][:, part])
            for step in reversed(runner.steps):
                state, grad, found_grad = step.reverse(some[step.root], state, grad)
                place = total[step.root]
                (place[..., part] if runner.is_batched(step.root) else place).add_(found_grad)
        return (None, None, *total)


class StateExecutor:
    """Runs a statevector plan.

    Args:
        plan: The plan.
        sizes: Numbers of inputs, weights and observables.
        like: Real tensor that shows dtype and device.
    """

    def __init__(self, plan: StatePlan, sizes: tuple[int, int, int], like: torch.Tensor) -> None:
        self._plan = plan
        complex_dtype = torch.complex128 if like.dtype == torch.float64 else torch.complex64
        self._like = torch.empty(0, dtype=complex_dtype, device=like.device)
        self._executor = Executor(plan.program, sizes[0], sizes[1], self._like)
        roots = plan.program.roots
        self._used = sorted({root.register for root in roots if root.constant is None})
        self._constants = [
            None if root.constant is None else torch.as_tensor(root.constant).to(self._like) for root in roots
        ]
        self._runners = [self._runner(run, like) for run in plan.runs]
        terms = [term for run in plan.runs for term in run.terms]
        self._targets = torch.as_tensor([t for t, _ in terms], dtype=torch.long, device=like.device)
        self._factors = torch.as_tensor(
            [[c] for _, c in terms], dtype=like.dtype, device=like.device
        ).reshape(-1, 1)
        self._offset = like.new_zeros((sizes[2], 1))
        for observable, value in plan.constants:
            self._offset[observable] += value

    def _runner(self, run: StateRun, like: torch.Tensor) -> StateRunner:
        chunk = chunk_samples(run.num_qubits, like.device.type)
        reader = StateReader(run.strings, run.products, run.num_qubits, like)
        batched = [root.batched for root in self._plan.program.roots]
        return StateRunner(run.steps, reader, run.num_qubits, batched, chunk, self._like)

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor, traced: bool = False) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B).

        With `traced` autograd records every step.
        """
        registers = self._executor.registers(inputs, weights)
        members = {register: registers[register].unbind(0) for register in self._used}
        tensors = [
            members[root.register][root.position] if constant is None else constant
            for root, constant in zip(self._plan.program.roots, self._constants)
        ]
        batch = inputs.shape[1]
        result = self._offset.expand(-1, batch)
        values = [
            runner.traced(tensors, batch) if traced else runner(tensors, batch)
            for runner, run in zip(self._runners, self._plan.runs)
            if run.terms
        ]
        if not values:
            return result
        return result.index_add(0, self._targets, torch.cat(values) * self._factors)
