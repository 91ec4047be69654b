"""Angles that may leave their domain: log(x), 1 / x, x ** 0.5, asin(x), exp(x).

Inputs and weights are finite, but what an expression makes of them need not be. An engine would go on with
it to NaN, or to a number that means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.gates.expression import Angle, Tree, evaluate
from qhybrid.engines.lowering import lower
from qhybrid.engines.transforms import all_finite, is_vmapped
from qhybrid.errors import CircuitError, NotFiniteError

PARTIAL = frozenset({"log", "asin", "acos", "exp"})
"""Functions that are not finite for all finite arguments; `exp` overflows."""
LARGEST_MEMORY = 1024
"""Circuits that are remembered."""
_KNOWN: dict[str, tuple[Angle, ...]] = {}


def is_partial(tree: Tree) -> bool:
    """Return whether an expression may be NaN or infinite for finite parameters."""
    kind = tree[0]
    if kind in ("number", "input", "weight"):
        return False
    if kind == "pow":
        exponent = tree[2]
        whole = exponent[0] == "number" and float(exponent[1]).is_integer() and exponent[1] >= 0
        return not whole or is_partial(tree[1])
    return kind in PARTIAL or any(is_partial(part) for part in tree[1:])


def partial_angles(spec: CircuitSpec) -> tuple[Angle, ...]:
    """Return the distinct angles of a circuit that may not be finite."""
    found = _KNOWN.get(spec.fingerprint)
    if found is None:
        found = _partial_angles(spec)
        if len(_KNOWN) >= LARGEST_MEMORY:
            _KNOWN.clear()
        _KNOWN[spec.fingerprint] = found
    return found


def _partial_angles(spec: CircuitSpec) -> tuple[Angle, ...]:
    try:
        primitives = lower(spec).primitives
    except CircuitError:
        return ()  # the engine says what is wrong, or knows more instructions
    angles = dict.fromkeys(one.angle for one in primitives if one.angle is not None)
    return tuple(angle for angle in angles if angle.tree is not None and is_partial(angle.tree))


def check_angles(spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> None:
    """Check that all angles are finite where inputs and weights are.

    Costs nothing for circuits whose angles are finite anyway. Rows with inputs that are not finite are left
    to the engine.

    Args:
        spec: The circuit.
        inputs: Input angles in radians, shape (B, n_in).
        weights: Trainable angles in radians, shape (n_w,).

    Raises:
        NotFiniteError: With the parameters of the first angle that is not finite, and their values.
    """
    angles = partial_angles(spec)
    fits = inputs.shape[1:] == (spec.num_inputs,) and weights.shape == (spec.num_weights,)
    if not angles or not fits or not len(inputs):
        return  # what does not fit is the engine's to say
    with torch.no_grad():
        rows, fixed = inputs.detach().t(), weights.detach().to(inputs.device, inputs.dtype)
        values = torch.stack(
            [evaluate(angle.tree or (), rows, fixed).expand(len(inputs)) for angle in angles]
        )
        if all_finite(values):
            return
        if any(is_vmapped(one) for one in (values, inputs, weights)):
            if all_finite(inputs) and all_finite(weights):
                raise _vmap_error(spec, angles)
            return
        there = torch.isfinite(inputs).all(1) & torch.isfinite(weights).all()
        bad = (~torch.isfinite(values) & there).nonzero()
        if len(bad):
            number, sample = bad[0].tolist()
            raise _error(spec, angles[number], values[number, sample].item(), sample, rows[:, sample], fixed)


def _error(
    spec: CircuitSpec, angle: Angle, value: float, sample: int, row: torch.Tensor, weights: torch.Tensor
) -> NotFiniteError:
    parts = _values(angle.inputs, spec.input_params, row)
    parts += _values(angle.weights, spec.weight_params, weights)
    where = f" in sample {sample}" if angle.inputs else ""
    return NotFiniteError(
        f"Every angle of circuit `{spec.name}` must be finite, but one that depends on {', '.join(parts)} is "
        f"{value}{where}. Fix: keep the parameter where its expression in the circuit is defined, or write "
        "another expression."
    )


def _vmap_error(spec: CircuitSpec, angles: Sequence[Angle]) -> NotFiniteError:
    names = [spec.input_params[index].name for angle in angles for index, _ in angle.inputs]
    names += [spec.weight_params[index].name for angle in angles for index, _ in angle.weights]
    shown = ", ".join(f"`{name}`" for name in dict.fromkeys(names))
    return NotFiniteError(
        f"Every angle of circuit `{spec.name}` must be finite, but inside vmap one that depends on some of "
        f"{shown} is not. Fix: keep the parameters where their expressions in the circuit are defined; a "
        "call without vmap names the sample."
    )


def _values(
    factors: Sequence[tuple[int, float]], parameters: Sequence[object], values: torch.Tensor
) -> list[str]:
    names = [getattr(parameter, "name", "") for parameter in parameters]
    return [f"`{names[index]}` = {values[index].item():.6g}" for index, _ in factors]


def overflow_error(spec: CircuitSpec) -> NotFiniteError:
    """Return the error for values that are not finite although inputs and weights are."""
    names = [parameter.name for parameter in (*spec.input_params, *spec.weight_params)]
    shown = ", ".join(f"`{name}`" for name in names[:8]) + (", ..." if len(names) > 8 else "")
    return NotFiniteError(
        f"Values of circuit `{spec.name}` must be finite, but are not: an angle left the range of its number "
        f"type (parameters {shown}). Fix: scale the inputs, or use dtype=torch.float64."
    )
