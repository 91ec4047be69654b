"""Engines by name: making them, and adding others."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from qhybrid.engine_kinds import ENGINES, NEEDED_IN_SWEEPS, EngineKind, check_count, check_seed
from qhybrid.engines.base import Engine
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile, load_profile

_DEFAULTS: dict[str, Any] = {"noise": None, "shots": None, "seed": None, "device": "cpu", "dtype": None}


def register_engine(
    kind: str,
    factory: Callable[..., Engine],
    *,
    label: str = "",
    description: str = "",
    sweeps: bool | None = None,
    trajectories: bool = False,
    replace: bool = False,
) -> None:
    """Make an engine known to `make_engine`, recipes, sweeps and reports.

    Args:
        kind: Its name.
        factory: Class or function; its keyword arguments are the options that the engine honours.
        label: What tables and charts call it; the name if absent.
        description: One line for lists.
        sweeps: Whether sweeps can use it; absent: if the factory takes noise, shots and a seed.
        trajectories: Whether values under noise without shots are averages over random trajectories; the
            factory takes their number as `trajectories` then.
        replace: Whether it may take the place of another one.

    Raises:
        PluginError: If the name is taken.
    """
    if sweeps is None:
        sweeps = set(inspect.signature(factory).parameters) >= NEEDED_IN_SWEEPS
    label = label or kind.replace("_", " ")
    entry = EngineKind(factory, label, description, sweeps=sweeps, trajectories=trajectories)
    ENGINES.register(kind, entry, replace=replace)


def list_engines() -> tuple[str, ...]:
    """Return the names of all engines."""
    return ENGINES.names()


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
        kind: "exact", "aer", "routed", or another name of `list_engines()`.
        noise: A noise profile, its YAML file or its name in noise_profiles/, or None.
        shots: Number of samples an expectation value is estimated from; None for exact values.
        seed: Seed of everything random.
        device: Torch device of the arithmetic.
        dtype: Arithmetic, a torch dtype or "float32" or "float64"; None follows the inputs.
        **options: Options of this kind of engine.

    Raises:
        EngineError: If the kind or an option is unknown, a value is out of range, or the engine would ignore
            an argument.
    """
    _check_kind(kind)
    entry = ENGINES.get(kind, "Argument `kind`")
    known = entry.arguments()
    if isinstance(noise, str | Path):
        noise = load_profile(noise)
    if isinstance(dtype, str):
        dtype = _dtype(dtype)
    shots, seed = check_count(shots), check_seed(seed)
    if "trajectories" in options:
        options["trajectories"] = check_count(options["trajectories"], "trajectories")
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
    engine: Engine = entry.make(**wanted)
    return engine


def check_engine_given(engine: Any, name: str = "engine") -> Engine | None:
    """Return an engine that was given, or None.

    Args:
        engine: What was given.
        name: The argument, for the message.

    Raises:
        EngineError: If it is something else, such as the name of an engine.
    """
    if engine is None or isinstance(engine, Engine):
        return engine
    fix = f"make_engine({engine!r})" if isinstance(engine, str) else 'make_engine("exact")'
    raise EngineError(f"Argument `{name}` must be an Engine, but is {engine!r}. Fix: {fix}.")


def _check_kind(kind: object) -> None:
    if not isinstance(kind, str):
        raise EngineError(
            f"Argument `kind` must be the name of an engine, but is {kind!r}. Fix: one of "
            f"{', '.join(list_engines())}."
        )


def _dtype(name: str) -> torch.dtype:
    known = {"float32": torch.float32, "float64": torch.float64}
    if name not in known:
        raise EngineError(f"Argument `dtype` must be float32 or float64, but is {name!r}.")
    return known[name]
