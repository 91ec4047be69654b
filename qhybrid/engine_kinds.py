"""The engines by name: what recipes, sweeps, commands and reports call them.

`qhybrid.engines.make_engine` makes them, `qhybrid.engines.register_engine` adds others.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qhybrid.errors import EngineError
from qhybrid.plugins import Registry, resolved

NEEDED_IN_SWEEPS = frozenset({"noise", "shots", "seed"})
"""Arguments that a sweep gives to an engine."""


@dataclass(frozen=True)
class EngineKind:
    """One kind of engine.

    Attributes:
        factory: Class or function that makes it, or `module:name` of one that is imported when needed.
        label: What tables and charts call it.
        description: One line for lists.
        preset: Options that this name stands for.
        sweeps: Whether a sweep can use it: the factory must take noise, shots and a seed.
        trajectories: Whether values under noise without shots are averages over random trajectories, the
            number of which is an option `trajectories`.
    """

    factory: Callable[..., Any] | str
    label: str
    description: str
    preset: Mapping[str, Any] = field(default_factory=dict)
    sweeps: bool = False
    trajectories: bool = False

    def arguments(self) -> list[str]:
        """Return the names of the arguments that may be given."""
        names = inspect.signature(resolved(self.factory)).parameters
        return [name for name in names if name not in self.preset]

    def make(self, **arguments: Any) -> Any:
        """Make the engine."""
        return resolved(self.factory)(**self.preset, **arguments)


ENGINES: Registry[EngineKind] = Registry("engine", EngineError)


def engine_label(kind: str) -> str:
    """Return what tables call an engine; its name if it is not known here."""
    return ENGINES.get(kind).label if kind in ENGINES else kind


def check_engine(kind: str) -> str:
    """Return the name of an engine that is known.

    Raises:
        EngineError: If it is not; the message has a near name.
    """
    ENGINES.get(kind)
    return kind


def check_sweep_engine(kind: str) -> str:
    """Return the name of an engine that sweeps can use.

    Raises:
        EngineError: If it is not known, or cannot be used in sweeps.
    """
    if not ENGINES.get(kind).sweeps:
        usable = ", ".join(name for name, one in ENGINES.items() if one.sweeps)
        raise EngineError(f"engine {kind!r} cannot be used in a sweep. Fix: choose one of {usable}")
    return kind


def check_count(value: Any, name: str = "shots") -> int | None:
    """Return a number of shots or of trajectories, or None.

    Args:
        value: A whole number of any integer type.
        name: The argument, for the message.

    Raises:
        EngineError: If it is not a whole number of at least 1; True is none.
    """
    number = None if value is None else _whole(value)
    if value is not None and (number is None or number < 1):
        raise EngineError(
            f"Argument `{name}` must be a whole number of at least 1, but is {value!r}. Fix: "
            f"{name}=1024; None gives exact values."
        )
    return number


def check_seed(value: Any) -> int | None:
    """Return a seed, or None.

    Raises:
        EngineError: If it is not a whole number of at least 0; True is none.
    """
    number = None if value is None else _whole(value)
    if value is not None and (number is None or number < 0):
        raise EngineError(
            f"Argument `seed` must be a whole number of at least 0, but is {value!r}. Fix: seed=0, or leave "
            "it out."
        )
    return number


def _whole(value: Any) -> int | None:
    """Return an integer of any type as Python's own: seeds are hashed with the name of their type."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


_AER = "qhybrid.engines.aer:AerEngine"
for _name, _kind in {
    "exact": EngineKind(
        "qhybrid.engines.exact.engine:ExactEngine",
        "exact",
        "exact values with or without noise, by torch; differentiable",
        sweeps=True,
    ),
    "aer": EngineKind(_AER, "Aer", "Qiskit Aer; its method is an option"),
    "aer_density_matrix": EngineKind(
        _AER,
        "Aer density matrix",
        "Qiskit Aer, exact values under noise",
        {"method": "density_matrix"},
        sweeps=True,
    ),
    "aer_trajectories": EngineKind(
        _AER,
        "Aer trajectories",
        "Qiskit Aer, statevectors with random errors",
        {"method": "statevector"},
        sweeps=True,
        trajectories=True,
    ),
    "routed": EngineKind(
        "qhybrid.engines.routed:RoutedEngine",
        "routed",
        "as a device executes it: routed to its couplings, with its noise",
    ),
    "runtime": EngineKind(
        "qhybrid.hardware.engine:RuntimeEngine", "device", "one job a call on a fake or real device"
    ),
}.items():
    ENGINES.register(_name, _kind)
