"""A matrix product for every sample, samples last.

Plain `bmm` on such a layout falls back to one call a sample, forward and backward, because no axis of its
matrices is contiguous. Here operands and gradients are brought into its layout first.
"""

from __future__ import annotations

from typing import Any

import torch

LARGEST_ELEMENTWISE = 2
"""Multiply-adds an entry up to which two tensors with samples are contracted element by element."""


class SampleProduct(torch.autograd.Function):
    """(n, m, k, B) times (n, k, r, B) to (n, m, r, B), differentiable as often as wanted, in both modes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the products."""
        stack, m, k, batch = first.shape
        r = second.shape[2]
        left = first.permute(0, 3, 1, 2).contiguous().view(stack * batch, m, k)
        right = second.permute(0, 3, 1, 2).contiguous().view(stack * batch, k, r)
        return torch.bmm(left, right).view(stack, batch, m, r).permute(0, 2, 3, 1).contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
        """Keep the operands for both directions of differentiation."""
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of both operands."""
        first, second = ctx.saved_tensors
        return sample_product(grads[0], second.transpose(1, 2)), sample_product(
            first.transpose(1, 2), grads[0]
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor) -> torch.Tensor:
        """Return the derivative along tangents of both operands."""
        first, second = ctx.saved_tensors
        return sample_product(tangents[0], second) + sample_product(first, tangents[1])


def sample_product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Multiply matrices sample by sample.

    Args:
        first: Shape (n, m, k, B).
        second: Shape (n, k, r, B).

    Returns:
        Shape (n, m, r, B).
    """
    result: torch.Tensor = SampleProduct.apply(first, second)  # type: ignore[no-untyped-call]
    return result
