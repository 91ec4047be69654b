"""Noise rates as tensors: which channels of a circuit depend on them, and how.

The circuit is lowered once under a probe, the profile with a number of its own in the place of every rate
that is asked for. Wherever such a number (or its double: T2 is 2 T1 by default) turns up among a gate's error
rates, that rate enters there. When the circuit is executed, all distinct channels are computed at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch

from qhybrid.config import validated
from qhybrid.engines.noise.instructions import instruction_error
from qhybrid.engines.noise.readout import ROTATIONS
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile
from qhybrid.noise.sections import GateError

RATES = ("p", "p_1q", "p_2q", "t1_us", "t2_us", "readout_p01", "readout_p10")
"""Fields of a profile, of its qubits and of its gates that may be given as tensors."""
QUIET = GateError(0.0, (None,))
Leaf = tuple[str, int]
"""("channel 1" or "channel 2" or "readout", index among the distinct ones)."""


def check_rates(profile: NoiseProfile | None, rates: Mapping[str, torch.Tensor]) -> NoiseProfile:
    """Check names and values of rates, and return the profile that they belong to.

    Raises:
        EngineError: If there is no profile, a name is not one of its rates, or a rate is no number.
        ConfigError: If the profile with these values would not be valid.
    """
    if profile is None:
        raise EngineError(
            "Argument `rates` must belong to a noise profile, but the engine has none. Fix: "
            "make_engine('exact', noise=NoiseProfile.depolarizing(p_1q=0.01))."
        )
    for name, rate in rates.items():
        if not isinstance(rate, torch.Tensor) or rate.ndim or not rate.is_floating_point():
            raise EngineError(
                f"Rate `{name}` must be a floating-point tensor without dimensions, but is {rate!r}."
            )
    try:
        values = {name: float(rate.detach()) for name, rate in rates.items()}
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        return profile
    validated(NoiseProfile, _changed(profile, values).model_dump(), f"`{profile.name}` with rates")
    return profile


def _changed(profile: NoiseProfile, values: Mapping[str, float]) -> NoiseProfile:
    """Return a profile with other values, which are not checked; names are `p_2q` or `qubits.3.t1_us`."""
    own: dict[str, object] = {}
    sections: dict[str, dict[Any, Any]] = {"qubits": dict(profile.qubits), "gates": dict(profile.gates)}
    for name, value in values.items():
        section, _, rest = name.partition(".")
        key, _, field = rest.rpartition(".")
        place: Any = int(key) if section == "qubits" and key.isdecimal() else key
        if not rest and name in RATES and name in type(profile).model_fields:
            own[name] = value
            continue
        found = sections.get(section, {}).get(place)
        if found is None or field not in RATES or field not in type(found).model_fields:
            raise EngineError(
                f"Argument `rates` must name rates of noise profile `{profile.name}`, but one is {name!r}. "
                "Fix: use names such as p_2q, t1_us, readout_p01, qubits.0.t1_us, gates.cx.p; sections of "
                "qubits and gates must be in the profile."
            )
        sections[section][place] = found.model_copy(update={field: value})
    return profile.model_copy(update={**own, **sections})


class RateLayout:
    """The distinct channels of one circuit, by where their numbers come from.

    Args:
        profile: The engine's profile.
        names: The rates that are given as tensors.

    Attributes:
        probe: The profile to lower the circuit with.
    """

    def __init__(self, profile: NoiseProfile, names: Sequence[str]) -> None:
        self.names = tuple(names)
        # Between 0.3 and 0.6, so that doubles are apart, and numbers that nobody writes into a profile.
        marks = {
            name: 0.3 + math.pi / 11 * (place + 1) / (len(names) + 1) for place, name in enumerate(names)
        }
        self.probe = _changed(profile, marks)
        count = len(marks)
        self._slot = {mark: place for place, mark in enumerate(marks.values())}
        self._slot |= {2 * mark: count + place for place, mark in enumerate(marks.values())}
        self._first = 2 * count
        self.constants: list[float] = []
        self.errors: dict[int, list[GateError]] = {1: [QUIET], 2: []}
        self.readouts: list[tuple[float, float, int, int]] = []

    def channel(self, error: GateError) -> Leaf:
        """Return the leaf of a gate's noise."""
        size = len(error.relaxations)
        return f"channel {size}", _place(self.errors[size], error)

    def readout(self, qubit: int) -> Leaf:
        """Return the leaf of a qubit's read-out: the map of `engines.noise.readout.readout_map`."""
        errors = [instruction_error(self.probe, gate, (qubit,)) or QUIET for gate in ROTATIONS["Y"]]
        dagger, hadamard = (_place(self.errors[1], error) for error in errors)
        return "readout", _place(self.readouts, (*self.probe.readout(qubit), hadamard, dagger))

    def slot(self, value: float) -> int:
        """Return the place of a number: a rate, a rate's double, or a constant."""
        if value not in self._slot:
            self._slot[value] = self._first + len(self.constants)
            self.constants.append(value)
        return self._slot[value]


T = TypeVar("T")


def _place(items: list[T], item: T) -> int:
    if item not in items:
        items.append(item)
    return items.index(item)
