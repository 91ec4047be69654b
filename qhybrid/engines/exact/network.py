"""Run a network plan: by its tape, or by torch operations where those are needed or cheaper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.autograd import forward_ad

from qhybrid.engines.exact.execute import NetworkExecutor, in_parts
from qhybrid.engines.exact.program import Program
from qhybrid.engines.exact.readout import Output
from qhybrid.engines.exact.tape.function import LARGEST_IDLE, TapedNetwork

LARGEST_TAPE = 2**22
"""Entries of all registers of a sample up to which a tape is compiled: beyond, calls do not count."""


class Network:
    """A network plan for one dtype and device.

    Values and gradients come from the tape as long as its memory can be kept from call to call. Larger
    batches and programs, transforms of `torch.func`, forward derivatives and derivatives of gradients run by
    torch operations, which give memory back as they go.

    Args:
        program: The plan's program.
        outputs: How results are read from its roots.
        sizes: Numbers of inputs, weights and observables.
        like: Real tensor that shows dtype and device.
        part: Most samples that torch operations carry at once; larger batches keep no intermediates.
    """

    def __init__(
        self,
        program: Program,
        outputs: Sequence[Output],
        sizes: tuple[int, int, int],
        like: torch.Tensor,
        part: int,
    ) -> None:
        self._twin = NetworkExecutor(program, outputs, sizes, like)
        self._part = part
        small = bool(program.instructions) and program.entries <= LARGEST_TAPE
        self._taped = TapedNetwork(program, outputs, sizes, like, self._twin) if small else None

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor, *channels: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B)."""
        batch, taped = inputs.shape[1], self._taped
        tensors = (inputs, weights, *channels)
        if taped and taped.nbytes(batch) <= LARGEST_IDLE and not _is_transformed(tensors):
            return taped(inputs, weights, *channels)
        if batch <= self._part:
            return self._twin(inputs, weights, *channels)
        return in_parts(self._twin, inputs, self._part, weights, *channels)


def _is_transformed(tensors: Sequence[torch.Tensor]) -> bool:
    """Return whether a transform of `torch.func` or a forward derivative is at work."""
    if torch._C._are_functorch_transforms_active():
        return True
    return any(_has_tangent(tensor) for tensor in tensors)


def _has_tangent(tensor: torch.Tensor) -> bool:
    tangent: object = forward_ad.unpack_dual(tensor).tangent  # type: ignore[no-untyped-call]
    return tangent is not None
