"""Forward derivatives of gradients, several at once: `hessian(..., outer_jacobian_strategy="forward-mode")`.

Torch would carry the batch of directions through its own graph of the gradient, and stops at operations that
it cannot batch in that way. Here the gradient u^T J is one operation. Its derivative along a direction t
needs reverse passes alone, which take several directions at once: the Hessian of u^T f is symmetric, so the
derivative is the gradient of u^T J for t above it; along a direction s of u it is the gradient of f for s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from qhybrid.engines.transforms import no_autocast
from qhybrid.errors import EngineError

Call = Callable[..., torch.Tensor]


def is_batched_dual(tensor: torch.Tensor) -> bool:
    """Return whether a tensor that needs a gradient has several forward derivatives at once."""
    if forward_ad._current_level < 0 or not tensor.requires_grad:
        return False
    tangent = forward_ad.unpack_dual(tensor).tangent  # type: ignore[no-untyped-call]
    return tangent is not None and bool(torch._C._functorch.is_legacy_batchedtensor(tangent))


def with_own_gradient(call: Call, values: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
    """Return values with their forward derivatives, and with a gradient that is one operation.

    Args:
        call: What made the values; differentiable twice in reverse mode.
        values: Its result.
        tensors: What it was given.
    """
    primal, tangent = forward_ad.unpack_dual(values)  # type: ignore[no-untyped-call]
    alone = primal.detach()
    if tangent is not None:
        alone = forward_ad.make_dual(alone, tangent)  # type: ignore[no-untyped-call]
    result: torch.Tensor = _Values.apply(call, alone, *tensors)  # type: ignore[no-untyped-call]
    return result


class _Values(torch.autograd.Function):
    """Values as they are; forward derivatives are theirs."""

    @staticmethod
    def forward(ctx: Any, call: Call, values: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.call = call
        ctx.save_for_backward(*tensors)
        return values.clone()

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: torch.Tensor | None) -> torch.Tensor | None:
        return None if tangents[0] is None else tangents[0].clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        slopes = _Slopes.apply(ctx.call, grads[0], *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        wanted = zip(slopes, ctx.needs_input_grad[2:])
        return None, None, *(slope if want else None for slope, want in wanted)


class _Slopes(torch.autograd.Function):
    """u^T J for u `above`."""

    @staticmethod
    @no_autocast
    def forward(
        ctx: Any, call: Call, above: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.call = call
        ctx.save_for_forward(above, *tensors)
        values, leaves = _recorded(call, tensors)
        return _gradients([values], leaves, [above.detach()])

    @staticmethod
    @no_autocast
    def jvp(ctx: Any, _: None, *tangents: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        above, *tensors = ctx.saved_tensors
        values, leaves = _recorded(ctx.call, tensors)
        slopes = _gradients([values], leaves, [above.detach()], create=True)
        outputs, directions = [], []
        for output, tangent in zip((values, *slopes), tangents, strict=True):
            if tangent is not None and output.requires_grad:
                outputs.append(output)
                directions.append(tangent)
        return _gradients(outputs, leaves, directions)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise EngineError(
            "A second derivative by hessian(..., outer_jacobian_strategy='forward-mode') must not be "
            "differentiated again. Fix: torch.func.hessian(function)(inputs)."
        )


def _recorded(call: Call, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the values, and new leaves that they depend on."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        return call(*leaves), leaves


def _gradients(
    outputs: Sequence[torch.Tensor],
    by: Sequence[torch.Tensor],
    above: Sequence[torch.Tensor],
    create: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Return the sum of the outputs' gradients; zeros where none depends on a tensor."""
    with torch.set_grad_enabled(create):
        return torch.autograd.grad(
            outputs, by, above, create_graph=create, allow_unused=True, materialize_grads=True
        )
