"""Engines by name; rooms above may add their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from qhybrid.engines.base import Engine
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile, load_profile

_FACTORIES: dict[str, Callable[..., Engine]] = {}
_DEFAULTS: dict[str, Any] = {"noise": None, "shots": None, "seed": None, "device": "cpu", "dtype": None}


def register_engine(kind: str, factory: Callable[..., Engine]) -> None:
    """Make an engine known to `make_engine`.

    Args:
        kind: Its name.
        factory: Class or function; its keyword arguments are the options that the engine honours.
    """
    _FACTORIES[kind] = factory


def list_engines() -> tuple[str, ...]:
    """Return the names of all engines."""
    return tuple(sorted(_FACTORIES))


def make_engine(
    kind: str,
    noise: NoiseProfile | str | Path | None = None,
    shots: int | None = None,
    seed: int | None = None,
    device: str = "cpu",
    dtype: torch.dtype | str | None = None,
    **options: Any,
) -> Engine:
    """Create an engine.

    Args:
        kind: "exact", "aer", "routed", or another registered name.
        noise: A noise profile, its YAML file or its name in noise_profiles/, or None.
        shots: Number of samples an expectation value is estimated from; None for exact values.
        seed: Seed of everything random.
        device: Torch device of the arithmetic.
        dtype: Arithmetic, a torch dtype or "float32" or "float64"; None follows the inputs.
        **options: Options of this kind of engine.

    Raises:
        EngineError: If the kind or an option is unknown, or the engine would ignore an argument.
    """
    if kind not in _FACTORIES:
        raise EngineError(f"Argument `kind` must be one of {', '.join(list_engines())}, but is {kind!r}.")
    known = list(inspect.signature(_FACTORIES[kind]).parameters)
    if isinstance(noise, str | Path):
        noise = load_profile(noise)
    if isinstance(dtype, str):
        dtype = _dtype(dtype)
    given = {"noise": noise, "shots": shots, "seed": seed, "device": device, "dtype": dtype}
    wanted = {
        name: value for name, value in given.items() if name in known or value != _DEFAULTS[name]
    } | options
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise EngineError(
            f"Engine `{kind}` takes {', '.join(f'`{name}`' for name in known)}, but was given "
            f"{', '.join(f'`{name}`' for name in unknown)}, which it would ignore."
        )
    return _FACTORIES[kind](**wanted)


def _dtype(name: str) -> torch.dtype:
    known = {"float32": torch.float32, "float64": torch.float64}
    if name not in known:
        raise EngineError(f"Argument `dtype` must be float32 or float64, but is {name!r}.")
    return known[name]
