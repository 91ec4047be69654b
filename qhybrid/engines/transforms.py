"""What torch does around a call: autocast, `torch.func`, forward derivatives, several gradients at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch.autograd import forward_ad

P = ParamSpec("P")
R = TypeVar("R")


def autocast_devices() -> tuple[str, ...]:
    """Return the device types whose autocast is on."""
    return tuple(kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind))


@contextmanager
def without_autocast() -> Iterator[None]:
    """Switch autocast off on all devices: products in 8 or 11 bits are no expectation values."""
    with ExitStack() as stack:
        for kind in autocast_devices():
            stack.enter_context(torch.autocast(device_type=kind, enabled=False))
        yield


def no_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function run without autocast: the backward pass of an engine, which comes at any time."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not autocast_devices():
            return function(*args, **kwargs)
        with without_autocast():
            return function(*args, **kwargs)

    return call


def is_transformed(tensors: Iterable[torch.Tensor]) -> bool:
    """Return whether a transform of `torch.func` or a forward derivative is at work."""
    if torch._C._are_functorch_transforms_active():
        return True
    return forward_ad._current_level >= 0 and any(_has_tangent(tensor) for tensor in tensors)


def is_batched_gradient(above: torch.Tensor) -> bool:
    """Return whether several gradients are computed at once, by `torch.func` or `is_grads_batched`."""
    return torch._C._are_functorch_transforms_active() or torch._C._functorch.is_legacy_batchedtensor(above)


def all_finite(values: torch.Tensor) -> bool:
    """Return whether all values are finite; inside `vmap` values cannot be looked at, and pass."""
    values = values.detach()
    try:
        # One reduction where all is well: a sum that is finite has finite terms.
        return math.isfinite(values.sum().item()) or bool(torch.isfinite(values).all())
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        return True


def _has_tangent(tensor: torch.Tensor) -> bool:
    tangent: object = forward_ad.unpack_dual(tensor).tangent  # type: ignore[no-untyped-call]
    return tangent is not None


class _Plain(torch.autograd.Function):
    """A function of plain tensors without derivatives; `vmap` becomes more samples."""

    @staticmethod
    def forward(call: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> torch.Tensor:
        return call(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.mark_non_differentiable(output)
        ctx.count = len(inputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, ...]:
        return (None,) * ctx.count

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor) -> None:
        return None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], call: Callable[..., torch.Tensor], *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, int]:
        size = info.batch_size
        front = [
            tensor.expand(size, *tensor.shape) if place is None else tensor.movedim(place, 0)
            for tensor, place in zip(tensors, in_dims[1:])
        ]
        result = plain_call(call, *(tensor.flatten(0, 1) for tensor in front))
        return result.unflatten(0, front[0].shape[:2]), 0


def plain_call(call: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> torch.Tensor:
    """Call a function whose result has no derivative, such as a random draw, with plain tensors.

    Inside `torch.func.vmap` all copies of the samples are given at once.

    Args:
        call: Takes tensors with samples along axis 0; returns one.
        *tensors: Its arguments, each with as many samples.
    """
    result: torch.Tensor = _Plain.apply(call, *tensors)  # type: ignore[no-untyped-call]
    return result
