"""What holds around every call of every engine, whoever wrote it.

- Autocast is off, in the call and in its backward pass.
- `torch.compile` compiles around the call: what is planned and kept from call to call is not to be traced.
- Recorders (`torch.jit.trace`, `torch.export`, `make_fx`) are refused: they miss what compiled kernels do.
- Torch's default device does not matter.
- Angles that are not finite although all inputs and weights are (the logarithm of -1, 1 / 0) are errors.

Calls that an engine knows to keep all of it by themselves go straight to it (`Engine.direct`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch._compile import _disable_dynamo

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.forward_over_reverse import is_batched_dual, with_own_gradient
from qhybrid.engines.gates.domains import check_angles, overflow_error
from qhybrid.engines.transforms import (
    all_finite,
    autocast_devices,
    gradients_by_twin,
    is_recorded,
    is_transformed,
    without_autocast,
)
from qhybrid.errors import EngineError

Expectations = Callable[..., torch.Tensor]


def guarded(expectations: Expectations) -> Expectations:
    """Return an engine's `expectations` with the rules of this module around it."""

    @functools.wraps(expectations)
    def call(
        engine: Any, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor, *rest: Any, **named: Any
    ) -> torch.Tensor:
        if torch.compiler.is_dynamo_compiling():
            return _not_compiled(call, engine, spec, inputs, weights, *rest, **named)
        if is_recorded():
            raise _recorded_error(spec)
        if not rest and not named and not is_transformed() and not autocast_devices():
            found: torch.Tensor | None = engine.direct(spec, inputs, weights)
            if found is not None:
                return found
        _check_tensors(inputs, weights)
        # The imaginary part of a conjugated tensor is a sign beside the memory of another one.
        inputs, weights = inputs.resolve_neg(), weights.resolve_neg()
        check_angles(spec, inputs, weights)

        def execute(some: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
            with _tables_on_cpu():
                return expectations(engine, spec, some, angles, *rest, **named)

        if autocast_devices():
            with without_autocast():
                values = _in_full_precision(execute, inputs, weights)
        else:
            values = execute(inputs, weights)
        if not rest and not named and (is_batched_dual(inputs) or is_batched_dual(weights)):
            values = with_own_gradient(execute, values, inputs, weights)
        if engine.complete and not all_finite(values) and all_finite(inputs) and all_finite(weights):
            raise overflow_error(spec)
        return values

    call.__dict__["is_guarded"] = True
    return call


def _tables_on_cpu() -> AbstractContextManager[Any]:
    """Undo torch's default device: an engine's device is that of its option and of its arguments."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


# What `torch.compiler.disable` is, but imported when it is needed: it takes a second.
@_disable_dynamo
def _not_compiled(call: Expectations, *arguments: Any, **named: Any) -> torch.Tensor:
    return call(*arguments, **named)


def _recorded_error(spec: CircuitSpec) -> EngineError:
    return EngineError(
        f"Circuit `{spec.name}` must be executed, but torch.jit.trace, torch.export, make_fx or a fake "
        "tensor mode asks for a record of its operations, which would miss what is compiled or drawn. Fix: "
        "torch.compile(model), which compiles around circuits; or record the layers before and after it."
    )


def _check_tensors(inputs: object, weights: object) -> None:
    for name, value in (("inputs", inputs), ("weights", weights)):
        if not isinstance(value, torch.Tensor):
            raise EngineError(
                f"Argument `{name}` must be a torch tensor, but is {_kind(value)}. Fix: torch.as_tensor(...)."
            )


def _kind(value: object) -> str:
    return f"of {type(value).__module__}.{type(value).__qualname__}"


def _in_full_precision(
    execute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], inputs: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Execute such that no later pass is rounded by autocast, which may still be on then.

    Backward passes run under the autocast of their own time. Here the gradient is one node that switches it
    off. Derivatives that torch composes by itself, of transforms and of gradients, are computed in float64,
    which autocast never touches.
    """
    if is_transformed():
        return execute(inputs.double(), weights.double()).to(inputs.dtype)
    if not torch.is_grad_enabled() or not (inputs.requires_grad or weights.requires_grad):
        return execute(inputs, weights)
    result: torch.Tensor = _FullPrecision.apply(execute, inputs, weights)  # type: ignore[no-untyped-call]
    return result


class _FullPrecision(torch.autograd.Function):
    """A call whose gradient is computed without autocast."""

    @staticmethod
    def forward(ctx: Any, execute: Expectations, *tensors: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors]
            values = execute(*leaves)
        ctx.execute, ctx.leaves, ctx.values = execute, leaves, values
        ctx.save_for_backward(*tensors)
        return values.detach()

    @staticmethod
    def backward(ctx: Any, *above: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with without_autocast():
            if torch.is_grad_enabled():
                return None, *gradients_by_twin(
                    lambda *some: ctx.execute(*(one.double() for one in some)).to(above[0].dtype),
                    ctx.saved_tensors,
                    ctx.needs_input_grad[1:],
                    above[0],
                )
            wanted = [leaf for leaf, want in zip(ctx.leaves, ctx.needs_input_grad[1:]) if want]
            found = iter(
                torch.autograd.grad(
                    ctx.values, wanted, above[0], retain_graph=True, allow_unused=True, materialize_grads=True
                )
            )
        return (None, *(next(found) if want else None for want in ctx.needs_input_grad[1:]))
