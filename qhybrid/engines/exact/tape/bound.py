"""A tape bound to memory for one number of samples: with prepared views, a step is nothing but its call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from qhybrid.engines.exact.tape.compile import Tape
from qhybrid.engines.exact.tape.recorder import Step
from qhybrid.engines.exact.tape.rows import (
    BATCHED,
    BATCHED_GRADIENT,
    FREE,
    FREE_GRADIENT,
    SCRATCH,
    View,
    runs,
)

Call = Callable[[], object]
_INTO: dict[str, Callable[..., torch.Tensor]] = {"bmm": torch.bmm, "mul": torch.mul}


class Workspace:
    """Memory and prepared calls of one execution.

    Args:
        tape: The tape.
        batch: Number of samples, at least 1.
        like: Real tensor that shows dtype and device.

    Attributes:
        batch: Number of samples.
        key: What calls must have in common to share it: number of samples and CUDA stream.
    """

    def __init__(self, tape: Tape, batch: int, like: torch.Tensor) -> None:
        self.batch = batch
        self.key = batch, 0
        self._tape = tape
        self._arenas = {
            FREE: like.new_empty(tape.rows[0]),
            BATCHED: like.new_empty(tape.rows[1] * batch),
        }
        for start, values in tape.constants:
            flat = torch.as_tensor(values.reshape(-1)).to(like)
            self._arenas[FREE][start : start + len(flat)] = flat
        for arena, (start, count), samples in zip((FREE, BATCHED), tape.ones, (1, batch)):
            self._arenas[arena][start * samples : (start + count) * samples] = 1.0
        self._features = [[self._view(view) for view in pair] for pair in tape.features]
        self._channels = [self._view(view) for view in tape.channels]
        self._slopes: list[list[torch.Tensor]] = []
        if any(step.out.arena == SCRATCH for step in tape.forward):
            self._open_scratch()
        self._forward = [self._call(step) for step in tape.forward]
        self._zeros: list[Call] = []
        self._backward: dict[bool, list[Call]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of its memory."""
        return sum(arena.nbytes for arena in self._arenas.values())

    @property
    def values(self) -> torch.Tensor:
        """All batched values, shape (rows, B)."""
        return self._arenas[BATCHED].view(-1, self.batch)

    def run_forward(
        self,
        batched_angles: torch.Tensor | None,
        free_angles: torch.Tensor | None,
        channels: Sequence[torch.Tensor],
    ) -> None:
        """Compute all values.

        Args:
            batched_angles: Angles in radians, shape (K, B), or None if there are none.
            free_angles: Shape (K,), or None if there are none.
            channels: Channels on one and on two qubits, or nothing.
        """
        for angles, (cosine, sine) in zip((batched_angles, free_angles), self._features):
            if angles is not None:
                torch.cos(angles, out=cosine)
                torch.sin(angles, out=sine)
        for channel, place in zip(channels, self._channels):
            place.copy_(channel)
        for call in self._forward:
            call()

    def run_backward(self, rows: torch.Tensor, slopes: torch.Tensor, with_free: bool) -> None:
        """Compute the gradients of features and channels.

        Args:
            rows: Rows whose gradient is given.
            slopes: Their gradient, shape (len(rows), B).
            with_free: Whether gradients of data-free tensors are wanted.
        """
        if FREE_GRADIENT not in self._arenas:
            self._open_gradients()
        if with_free not in self._backward:
            steps = [step for step in self._tape.backward if with_free or not step.free]
            self._backward[with_free] = [self._call(step) for step in steps]
        for call in self._zeros:
            call()
        self._arenas[BATCHED_GRADIENT].view(-1, self.batch).index_add_(0, rows, slopes)
        for call in self._backward[with_free]:
            call()

    def angle_gradient(self, which: int) -> torch.Tensor:
        """Return the gradient of batched (0) or of free (1) angles, shape (K, B) or (K,)."""
        (cosine, sine), (on_cosine, on_sine) = self._features[which], self._slopes[which]
        return torch.mul(on_sine, cosine).addcmul_(on_cosine, sine, value=-1.0)

    def channel_gradients(self) -> list[torch.Tensor]:
        """Return copies of the gradients of the channels on one and on two qubits."""
        return [self._view(view.gradient).clone() for view in self._tape.channels]

    def _open_gradients(self) -> None:
        for arena in (FREE, BATCHED):
            self._arenas[arena + FREE_GRADIENT] = torch.empty_like(self._arenas[arena])
        if SCRATCH not in self._arenas:
            self._open_scratch()
        self._slopes = [[self._view(view.gradient) for view in pair] for pair in self._tape.features]
        for arena, unset, samples in zip((FREE, BATCHED), self._tape.unset, (1, self.batch)):
            for start, stop in runs(unset):
                self._zeros.append(
                    self._arenas[arena + FREE_GRADIENT][start * samples : stop * samples].zero_
                )

    def _open_scratch(self) -> None:
        self._arenas[SCRATCH] = self._arenas[BATCHED].new_empty(self._tape.scratch * self.batch)

    def _view(self, view: View) -> torch.Tensor:
        memory, batch = self._arenas[view.arena], self.batch
        if not view.batched:
            found = memory.as_strided(view.sizes, view.strides, view.offset)
            return found.transpose(-1, -2) if view.transposed else found
        strides = [stride * batch for stride in view.strides]
        if view.merged:
            sizes = (*view.sizes[:-1], view.sizes[-1] * batch)
            found = memory.as_strided(sizes, (*strides[:-1], 1), view.offset * batch)
            return found.transpose(-1, -2) if view.transposed else found
        found = memory.as_strided((*view.sizes, batch), (*strides, 1), view.offset * batch)
        return found.transpose(-2, -3) if view.transposed else found

    def _call(self, step: Step) -> Call:
        """Return a step as a call without arguments."""
        out = self._view(step.out)
        operands = [self._view(view) for view in step.operands]
        index = torch.as_tensor(() if step.index is None else step.index, dtype=torch.long, device=out.device)
        if step.kind in _INTO:
            return partial(_INTO[step.kind], *operands, out=out)
        if step.kind in ("sum", "sum_samples"):
            dims, keep = (step.dims, True) if step.kind == "sum" else ((-1,), False)
            return partial(torch.sum, operands[0], dims, keepdim=keep, out=out)
        if step.kind == "take":
            return partial(torch.index_select, operands[0], 0, index, out=out)
        if step.kind in ("place", "put"):
            return partial(out.index_copy_ if step.kind == "place" else out.index_add_, 0, index, operands[0])
        if step.kind in ("sample_bmm", "add_sample_bmm"):
            return partial(_sample_product, out, operands[0], operands[1], step.kind == "add_sample_bmm")
        if step.kind == "spread":
            return partial(out.copy_, operands[0].unsqueeze(-1))
        onto: dict[str, Callable[..., torch.Tensor]] = {
            "add_bmm": out.baddbmm_,
            "add_mul": out.addcmul_,
            "add": out.add_,
            "copy": out.copy_,
        }
        return partial(onto[step.kind], *operands)


def _sample_product(out: torch.Tensor, first: torch.Tensor, second: torch.Tensor, add: bool) -> None:
    """Multiply (n, m, k, B) by (n, k, r, B) sample by sample, into (n, m, r, B).

    Operands are copied to the layout of `bmm`, which would otherwise be called once for every sample.
    """
    stack, m, k, batch = first.shape
    left = first.permute(0, 3, 1, 2).contiguous().view(stack * batch, m, k)
    right = second.permute(0, 3, 1, 2).contiguous().view(stack * batch, k, -1)
    result = torch.bmm(left, right).view(stack, batch, m, -1).permute(0, 2, 3, 1)
    if add:
        out.add_(result)
    else:
        out.copy_(result)
