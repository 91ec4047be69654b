"""What torch does around a call: autocast, `torch.func`, forward derivatives, several gradients at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch.autograd import forward_ad

P = ParamSpec("P")
R = TypeVar("R")
Call = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


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


def is_transformed() -> bool:
    """Return whether transforms of `torch.func` or forward-mode differentiation are at work."""
    level: int = forward_ad._current_level
    return bool(torch._C._are_functorch_transforms_active()) or level >= 0


def is_recorded() -> bool:
    """Return whether torch writes down operations instead of, or besides, executing them."""
    if torch._C._get_tracing_state() is not None:
        return True
    if not torch._C._len_torch_dispatch_stack():
        return False
    keys = torch._C._TorchDispatchModeKey
    return any(torch._C._get_dispatch_mode(key) is not None for key in (keys.PROXY, keys.FAKE))


def is_vectorised(above: torch.Tensor) -> bool:
    """Return whether a gradient stands for several at once, as in `jacobian(vectorize=True)`."""
    batched: bool = torch._C._functorch.is_legacy_batchedtensor(above)
    return batched or torch._C._are_functorch_transforms_active()


def all_finite(values: torch.Tensor) -> bool:
    """Return whether all values are finite, inside `vmap` those of all copies."""
    values = values.detach()
    if is_vmapped(values):
        found: list[bool] = []
        _Look.apply(found.append, values)  # type: ignore[no-untyped-call]
        return all(found)
    # One reduction where all is well: a sum that is finite has finite terms.
    return math.isfinite(values.sum().item()) or bool(torch.isfinite(values).all())


class _Look(torch.autograd.Function):
    """Looks at the values of all copies inside `vmap`, however many of them there are around each other."""

    @staticmethod
    def forward(tell: Callable[[bool], None], values: torch.Tensor) -> torch.Tensor:
        tell(all_finite(values))
        return values.new_zeros(())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[None, int | None], tell: Callable[[bool], None], values: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        tell(all_finite(values))
        return values.new_zeros(()), None


def is_vmapped(values: torch.Tensor) -> bool:
    """Return whether a tensor stands for several copies inside `vmap`: its numbers cannot be looked at."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(values):
        if functorch.is_batchedtensor(values):
            return True
        values = functorch.get_unwrapped(values)
    return False


def gradients_by_twin(
    twin: Callable[..., torch.Tensor],
    tensors: Sequence[torch.Tensor],
    wanted: Sequence[bool],
    above: torch.Tensor,
) -> tuple[torch.Tensor | None, ...]:
    """Return a backward pass by torch operations, which can be differentiated again where grad mode is on.

    Args:
        twin: Computes the same values from the same tensors, recorded by autograd.
        tensors: What the forward pass was given.
        wanted: Which of them need a gradient; others get None.
        above: Gradient of the values.
    """
    create = torch.is_grad_enabled()
    with torch.enable_grad():
        # One argument may be made of another (inputs of weights). Each gradient is that of its own place, so
        # the twin gets views: autograd does not pass through them to what an argument is made of.
        places = [tensor.view_as(tensor) for tensor in tensors]
        values = twin(*places)
        if not values.requires_grad:  # No value depends on any of them.
            zeros = [torch.zeros_like(tensor) for tensor in tensors]
            return tuple(zero if want else None for zero, want in zip(zeros, wanted))
        found = iter(
            torch.autograd.grad(
                values, [place for place, want in zip(places, wanted) if want], above,
                create_graph=create, retain_graph=True, allow_unused=True, materialize_grads=True,
            )
        )  # fmt: skip
    return tuple(next(found) if want else None for want in wanted)


class _Product(torch.autograd.Function):
    """A matrix product, which autocast rounds in no pass."""

    generate_vmap_rule = True

    @staticmethod
    @no_autocast
    def forward(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return first @ second

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, constant_product(ctx.saved_tensors[0].t(), grads[0])

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor) -> torch.Tensor:
        return constant_product(ctx.saved_tensors[0], tangents[1])


def constant_product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Multiply a constant matrix with a vector or matrix; autocast rounds neither value nor derivatives."""
    if not autocast_devices() and not torch.is_grad_enabled():
        return first @ second
    result: torch.Tensor = _Product.apply(first, second)  # type: ignore[no-untyped-call]
    return result


class _Plain(torch.autograd.Function):
    """Values without derivatives; `vmap` becomes more samples."""

    @staticmethod
    def forward(call: Call, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return call(inputs, weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, None, None]:
        return None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor) -> None:
        return None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[None, int | None, int | None],
        call: Call,
        inputs: torch.Tensor,
        weights: torch.Tensor,
    ) -> tuple[torch.Tensor, int]:
        size, (_, place, weight_place) = info.batch_size, in_dims
        copies = inputs.expand(size, *inputs.shape) if place is None else inputs.movedim(place, 0)
        if weight_place is None:
            together = plain_values(call, copies.flatten(0, 1), weights)
            return together.reshape(*copies.shape[:2], -1), 0
        pairs = zip(copies.unbind(0), weights.unbind(weight_place))
        return torch.stack([plain_values(call, *pair) for pair in pairs]), 0


def plain_values(call: Call, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return values that are drawn at random and have no derivative, whatever transform is at work.

    Inside `torch.func.vmap` all copies of the samples are drawn at once, each for itself.

    Args:
        call: Takes plain tensors, inputs of shape (B, n_in) and weights of shape (n_w,); returns one of
            shape (B, n_obs).
        inputs: Input angles.
        weights: Trainable angles.
    """
    result: torch.Tensor = _Plain.apply(call, inputs, weights)  # type: ignore[no-untyped-call]
    return result
