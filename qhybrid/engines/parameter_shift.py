"""Gradients of executed circuits by the parameter-shift rule, one call of the executor a backward pass.

Every gate with an angle is a Pauli rotation exp(-i t P / 2) after lowering, for which
d<O>/dt = (<O>(t + pi/2) - <O>(t - pi/2)) / 2 holds exactly, noise that does not depend on t included. The
rule is applied to every occurrence of a parameter; torch carries the result on through the angles'
expressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

Run = Callable[[torch.Tensor], torch.Tensor]
"""Takes angles in radians, shape (K, N), float64 on the CPU; returns expectation values, shape (n_obs, N)."""


class ParameterShift(torch.autograd.Function):
    """Expectation values of executed circuits; the backward pass is a vector-Jacobian product."""

    @staticmethod
    def forward(ctx: Any, angles: torch.Tensor, shifted: torch.Tensor, run: Run) -> torch.Tensor:
        """Execute.

        Args:
            ctx: Autograd context.
            angles: Angles in radians, shape (K, B).
            shifted: Indices of the angles whose derivative is wanted, shape (S,).
            run: The executor.

        Returns:
            Shape (n_obs, B).
        """
        ctx.save_for_backward(angles, shifted)
        ctx.run = run
        return _executed(run, angles)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return the derivative with respect to the angles, from 2 * S * B executions in one call."""
        angles, shifted = ctx.saved_tensors
        result = torch.zeros_like(angles)
        count, batch = len(shifted), angles.shape[1]
        if count and batch:
            moved = angles.unsqueeze(1).repeat(1, 2 * count, 1)
            position = torch.arange(count)
            moved[shifted, position] += math.pi / 2
            moved[shifted, count + position] -= math.pi / 2
            values = _executed(ctx.run, moved.reshape(len(angles), -1)).reshape(-1, 2, count, batch)
            difference = (values[:, 0] - values[:, 1]) / 2
            result[shifted] = torch.einsum("osb,ob->sb", difference, grad)
        return result, None, None


def shifted_expectations(angles: torch.Tensor, shifted: torch.Tensor, run: Run) -> torch.Tensor:
    """Execute a circuit, differentiably; arguments and result as `ParameterShift.forward`."""
    result: torch.Tensor = ParameterShift.apply(angles, shifted, run)  # type: ignore[no-untyped-call]
    return result


def _executed(run: Run, angles: torch.Tensor) -> torch.Tensor:
    values = run(angles.detach().to(device="cpu", dtype=torch.float64))
    return values.to(device=angles.device, dtype=angles.dtype)
