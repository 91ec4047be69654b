"""Run a network plan: by its tape, or by torch operations where those are needed or cheaper."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qhybrid.engines.exact.execute import NetworkExecutor, in_parts
from qhybrid.engines.exact.program import Program
from qhybrid.engines.exact.readout import Output
from qhybrid.engines.exact.tape.function import LARGEST_IDLE, TapedNetwork
from qhybrid.engines.transforms import is_transformed

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

    Attributes:
        twin: The same function by torch operations alone.
    """

    def __init__(
        self,
        program: Program,
        outputs: Sequence[Output],
        sizes: tuple[int, int, int],
        like: torch.Tensor,
        part: int,
    ) -> None:
        self.twin = NetworkExecutor(program, outputs, sizes, like)
        self.part = part
        small = bool(program.instructions) and program.entries <= LARGEST_TAPE
        self._taped = TapedNetwork(program, outputs, sizes, like, self.twin) if small else None

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor, *channels: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B)."""
        batch, taped = inputs.shape[1], self._taped
        if taped and taped.nbytes(batch) <= LARGEST_IDLE and not is_transformed():
            return taped(inputs, weights, *channels)
        if batch <= self.part:
            return self.twin(inputs, weights, *channels)
        return in_parts(self.twin, inputs, self.part, weights, *channels)
