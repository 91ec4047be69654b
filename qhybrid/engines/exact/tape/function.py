"""Value and gradient of a network as one node of torch's graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

from qhybrid.engines.base import ordinary_tensors
from qhybrid.engines.exact.program import Program
from qhybrid.engines.exact.readout import Output
from qhybrid.engines.exact.tape.angles import AngleMap
from qhybrid.engines.exact.tape.bound import Workspace
from qhybrid.engines.exact.tape.compile import Compiler
from qhybrid.engines.transforms import gradients_by_twin, is_vectorised, no_autocast

Twin = Callable[..., torch.Tensor]
"""Takes input rows (n_in, B), weights and channels; returns (n_obs, B), differentiable as often as wanted."""
THREADED_NUMBERS = 2**22
"""Numbers in a workspace from which torch's operations may use several threads: below, a step takes a few
milliseconds, and waking a sleeping thread for each of its operations takes longer than they do."""
LARGEST_IDLE = 2**28
"""Bytes of a network's workspaces that are kept for the next calls."""


class Lease:
    """A workspace on loan: it goes back when nobody holds the loan any more.

    Args:
        workspace: The workspace.
        give_back: Takes it back.
    """

    __slots__ = ("_give_back", "workspace")

    def __init__(self, workspace: Workspace, give_back: Callable[[Workspace], None]) -> None:
        self.workspace = workspace
        self._give_back = give_back

    def __del__(self) -> None:
        """Give the workspace back."""
        self._give_back(self.workspace)


class TapedNetwork:
    """Runs a network plan with a reverse pass of its own.

    Args:
        program: The plan's program.
        outputs: How results are read from its roots.
        sizes: Numbers of inputs, weights and observables.
        like: Real tensor that shows dtype and device.
        twin: The same function by torch operations: for derivatives of gradients.
    """

    def __init__(
        self,
        program: Program,
        outputs: Sequence[Output],
        sizes: tuple[int, int, int],
        like: torch.Tensor,
        twin: Twin,
    ) -> None:
        self.twin = twin
        self._like = like
        self._tape = Compiler(program, outputs, sizes[2]).compile()
        self._maps = [
            AngleMap(angles, batched, sizes[0], sizes[1], like) if angles else None
            for angles, batched in ((program.batched_angles, True), (program.free_angles, False))
        ]
        tape, device = self._tape, like.device
        self._rows = torch.as_tensor(tape.factors.ravel(), device=device)
        self._shape = tape.factors.shape
        self._targets = torch.as_tensor(tape.targets, device=device)
        self._coefficients = torch.as_tensor(tape.coefficients).to(like).unsqueeze(1)
        self._plain = tape.targets.tolist() == list(range(sizes[2])) and set(tape.coefficients) <= {1.0}
        self._idle: list[Workspace] = []

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor, *channels: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B).

        Args:
            inputs: Input rows, transposed, shape (n_in, B), B at least 1.
            weights: Weight vector, shape (n_w,).
            *channels: Channels on one and on two qubits, if the program has any.
        """
        tensors = (inputs, weights, *channels)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            result: torch.Tensor = _Taped.apply(self, *tensors)  # type: ignore[no-untyped-call]
            return result
        with torch.no_grad():
            return self.values(inputs, weights, channels)[0]

    def nbytes(self, batch: int) -> int:
        """Return the memory of value and gradient of a batch."""
        free, batched = self._tape.rows
        return self._like.itemsize * (2 * free + (2 * batched + self._tape.scratch) * batch)

    def values(
        self, inputs: torch.Tensor, weights: torch.Tensor, channels: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, Lease]:
        """Return the values, and the loan of the memory that holds what the gradient needs."""
        lease = Lease(self._take(inputs.shape[1]), self._give_back)
        workspace = lease.workspace
        angles = [None if one is None else one(inputs, weights) for one in self._maps]
        with self._threads(inputs.shape[1]):
            workspace.run_forward(angles[0], angles[1], channels)
        values = self._factors(workspace).prod(0) if self._shape[0] > 1 else self._factors(workspace)[0]
        if not self._plain:
            empty = values.new_zeros(self._tape.num_observables, inputs.shape[1])
            values = empty.index_add_(0, self._targets, values * self._coefficients)
        return values, lease

    def gradients(
        self,
        workspace: Workspace,
        tensors: Sequence[torch.Tensor],
        above: torch.Tensor,
        wanted: Sequence[bool],
    ) -> list[torch.Tensor | None]:
        """Return gradients of inputs, weights and channels; None for those not wanted.

        Args:
            workspace: It holds the values.
            tensors: Inputs, weights and, if the program has any, channels.
            above: Gradient of the result, shape (n_obs, B).
            wanted: Which of the tensors need a gradient.
        """
        slopes = above if self._plain else above.index_select(0, self._targets) * self._coefficients
        if self._shape[0] > 1:
            slopes = torch.cat([slopes * rest for rest in _others(self._factors(workspace))])
        with_free = any(wanted[1:])
        with self._threads(above.shape[1]):
            workspace.run_backward(self._rows, slopes, with_free)
        found: list[torch.Tensor | None] = [None, None, *[None] * len(wanted[2:])]
        for which, angles in enumerate(self._maps[: 1 + with_free]):
            if angles is not None:
                parts = angles.slopes(tensors[0], tensors[1], workspace.angle_gradient(which))
                found[:2] = [_sum(*pair) for pair in zip(found, parts)]
        if any(wanted[2:]):
            found[2:] = workspace.channel_gradients()
        missing = [torch.zeros_like(one) if slope is None else slope for one, slope in zip(tensors, found)]
        return [slope if want else None for slope, want in zip(missing, wanted)]

    @contextmanager
    def _threads(self, batch: int) -> Iterator[None]:
        """Keep a small network on one thread."""
        threads = torch.get_num_threads()
        if threads == 1 or self.nbytes(batch) >= THREADED_NUMBERS * self._like.itemsize:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def _give_back(self, workspace: Workspace) -> None:
        """Keep a workspace for the next call with as many samples, in place of those used longest ago."""
        # Without a lock: a loan may end at any moment, also while the collector interrupts `_take`.
        self._idle.append(workspace)
        while self._idle and sum(one.nbytes for one in tuple(self._idle)) > LARGEST_IDLE:
            self._idle.pop(0)

    def _factors(self, workspace: Workspace) -> torch.Tensor:
        return workspace.values.index_select(0, self._rows).view(*self._shape, workspace.batch)

    def _take(self, batch: int) -> Workspace:
        key = batch, _stream(self._like)
        for workspace in tuple(self._idle):
            if workspace.key == key:
                with suppress(ValueError):  # Somebody else was faster.
                    self._idle.remove(workspace)
                    return workspace
        with ordinary_tensors():
            workspace = Workspace(self._tape, batch, self._like)
        workspace.key = key
        return workspace


class _Taped(torch.autograd.Function):
    """Value by the tape; gradient by the tape; gradient of the gradient by the twin."""

    @staticmethod
    def forward(
        ctx: Any,
        network: TapedNetwork,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        *channels: torch.Tensor,
    ) -> torch.Tensor:
        values, lease = network.values(inputs, weights, channels)
        ctx.network, ctx.lease = network, lease
        ctx.save_for_backward(inputs, weights, *channels)
        return values

    @staticmethod
    @no_autocast
    def backward(ctx: Any, *above: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, weights, *channels = ctx.saved_tensors
        if torch.is_grad_enabled() or is_vectorised(above[0]):
            return None, *gradients_by_twin(
                ctx.network.twin, ctx.saved_tensors, ctx.needs_input_grad[1:], above[0]
            )
        network: TapedNetwork = ctx.network
        lease, ctx.lease = ctx.lease, None
        if lease is None:
            _, lease = network.values(inputs, weights, channels)
        wanted = ctx.needs_input_grad[1:]
        return None, *network.gradients(lease.workspace, (inputs, weights, *channels), above[0], wanted)


def _sum(first: torch.Tensor | None, second: torch.Tensor | None) -> torch.Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _others(factors: torch.Tensor) -> list[torch.Tensor]:
    """Return for every factor the product of the others, for factors along axis 0."""
    parts = factors.unbind(0)
    found = []
    for own in range(len(parts)):
        rest = [part for place, part in enumerate(parts) if place != own]
        product = rest[0]
        for part in rest[1:]:
            product = product * part
        found.append(product)
    return found


def _stream(like: torch.Tensor) -> int:
    """Return the CUDA stream at work, 0 elsewhere: only calls of one stream may share memory."""
    return torch.cuda.current_stream(like.device).cuda_stream if like.is_cuda else 0
