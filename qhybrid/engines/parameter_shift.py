"""Derivatives of executed circuits by the parameter-shift rule, one call of the executor a derivative.

Every gate with an angle is a Pauli rotation exp(-i t P / 2) after lowering, for which
d<O>/dt = (<O>(t + pi/2) - <O>(t - pi/2)) / 2 holds exactly, noise that does not depend on t included. The
rule is applied to every occurrence of a parameter; torch carries the result on through the angles'
expressions. Shifted values are expectation values again, so the rule applied to them gives second
derivatives (Mari, Bromley and Killoran, arXiv 2008.06517, section III), from (2 S)^2 executions a sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from qhybrid.engines.gates.expression import Angle
from qhybrid.engines.transforms import is_transformed

Run = Callable[[torch.Tensor], torch.Tensor]
"""Takes angles in radians, shape (K, N), float64 on the CPU; returns expectation values, shape (n_obs, N)."""


class ParameterShift(torch.autograd.Function):
    """Expectation values of executed circuits, differentiable as often as wanted and in both modes."""

    @staticmethod
    def forward(angles: torch.Tensor, shifted: torch.Tensor, run: Run) -> torch.Tensor:
        """Execute.

        Args:
            angles: Angles in radians, shape (K, B).
            shifted: Indices of the angles whose derivative is wanted, shape (S,).
            run: The executor.

        Returns:
            Shape (n_obs, B).
        """
        values = run(angles.detach().to(device="cpu", dtype=torch.float64))
        # Forward derivatives must have the layout of their values.
        return values.to(device=angles.device, dtype=angles.dtype).contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor, Run], output: torch.Tensor) -> None:
        """Keep the angles for both directions of differentiation."""
        angles, shifted, ctx.run = inputs
        ctx.shape = output.shape
        ctx.save_for_backward(angles, shifted)
        ctx.save_for_forward(angles, shifted)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return the derivative with respect to the angles, from 2 * S * B executions in one call."""
        angles, shifted = ctx.saved_tensors
        if not len(shifted):
            return torch.zeros_like(angles), None, None
        parts = (_slopes(angles, shifted, ctx.run) * grads[0].unsqueeze(1)).sum(0)
        return torch.zeros_like(angles).index_add(0, shifted, parts), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor) -> torch.Tensor:
        """Return the derivative along a direction of the angles, from as many executions."""
        angles, shifted = ctx.saved_tensors
        if not len(shifted):
            return torch.zeros(ctx.shape, dtype=angles.dtype, device=angles.device)
        along = tangents[0].index_select(0, shifted)
        result: torch.Tensor = (_slopes(angles, shifted, ctx.run) * along).sum(1)
        return result

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], angles: torch.Tensor, shifted: torch.Tensor, run: Run
    ) -> tuple[torch.Tensor, int]:
        """Execute all copies of the samples in one call."""
        size, place = info.batch_size, in_dims[0]
        copies = angles.unsqueeze(1).expand(-1, size, -1) if place is None else angles.movedim(place, 1)
        values = shifted_expectations(copies.flatten(1), shifted, run)
        return values.reshape(len(values), *copies.shape[1:]), 1


def wanted_angles(angles: Sequence[Angle], inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the indices of the angles whose derivative may be asked for: each takes two executions a sample.

    Args:
        angles: The angles.
        inputs: Input angles.
        weights: Trainable angles.
    """
    anything = is_transformed()
    on_inputs, on_weights = (anything or tensor.requires_grad for tensor in (inputs, weights))
    wanted = [
        index
        for index, angle in enumerate(angles)
        if (angle.inputs and on_inputs) or (angle.weights and on_weights)
    ]
    return torch.as_tensor(wanted, dtype=torch.long)


def shifted_expectations(angles: torch.Tensor, shifted: torch.Tensor, run: Run) -> torch.Tensor:
    """Execute a circuit, differentiably; arguments and result as `ParameterShift.forward`."""
    result: torch.Tensor = ParameterShift.apply(angles, shifted, run)  # type: ignore[no-untyped-call]
    return result


def _slopes(angles: torch.Tensor, shifted: torch.Tensor, run: Run) -> torch.Tensor:
    """Return the derivatives of all values with respect to the shifted angles, shape (n_obs, S, B)."""
    count, batch = len(shifted), angles.shape[1]
    unit = torch.eye(len(angles), dtype=angles.dtype, device=angles.device)
    step = unit.index_select(1, shifted) * (math.pi / 2)
    moved = angles.unsqueeze(1) + torch.cat([step, -step], dim=1).unsqueeze(2)
    values = shifted_expectations(moved.flatten(1), shifted, run).reshape(-1, 2, count, batch)
    slopes: torch.Tensor = (values[:, 0] - values[:, 1]) / 2
    return slopes
