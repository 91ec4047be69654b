"""Run a circuit's steps on a batch of states; go back by undoing them: memory does not grow with depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from qhybrid.engines.exact.statevector.observables import PauliReader
from qhybrid.engines.exact.statevector.steps import Step


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
        reader: PauliReader,
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
        if torch._C._are_functorch_transforms_active():
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
        finals = [
            runner.final_state(some, part.stop - part.start) for part, some in runner.parts(tensors, batch)
        ]
        ctx.runner, ctx.batch, ctx.finals = runner, batch, finals
        ctx.save_for_backward(*tensors)
        return torch.cat([runner.reader.values(state) for state in finals], dim=1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        runner, tensors = ctx.runner, ctx.saved_tensors
        if torch.is_grad_enabled():
            wanted = [tensor for tensor in tensors if tensor.requires_grad]
            values = runner.traced(tensors, ctx.batch)
            found = iter(torch.autograd.grad(values, wanted, grads[0], create_graph=True, allow_unused=True))
            return (None, None, *(next(found) if tensor.requires_grad else None for tensor in tensors))
        total: list[torch.Tensor] = [torch.zeros_like(tensor) for tensor in tensors]
        for (part, some), final in zip(runner.parts(tensors, ctx.batch), ctx.finals):
            state, grad = final, runner.reader.pull_back(final, grads[0][:, part])
            for step in reversed(runner.steps):
                state, grad, found_grad = step.reverse(some[step.root], state, grad)
                place = total[step.root]
                (place[..., part] if runner.is_batched(step.root) else place).add_(found_grad)
        return (None, None, *total)
