"""Noise rates as tensors: which channels of a circuit depend on them, and how.

The circuit is lowered once under a probe, the profile with a number of its own in the place of every rate
that is asked for. Wherever such a number (or its double: T2 is 2 T1 by default) turns up among a gate's error
rates, that rate enters there. A listed channel with such a rate is replaced by a `RatedChannel`. When the
circuit is executed, all distinct channels are computed at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch

from qhybrid.config import validated
from qhybrid.engines.noise.instructions import instruction_error
from qhybrid.engines.noise.readout import ROTATIONS
from qhybrid.errors import EngineError
from qhybrid.noise import Depolarizing, NoiseChannel, NoiseProfile
from qhybrid.noise.paulis import ComplexArray
from qhybrid.noise.sections import GateError

RATES = ("p", "p_1q", "p_2q", "t1_us", "t2_us", "readout_p01", "readout_p10")
"""Fields of a profile, of its qubits and of its gates that may be given as tensors."""
QUIET = GateError(0.0, (None,))
Leaf = tuple[str, int]
"""("channel 1" or "channel 2" or "readout", index among the distinct ones)."""
CHANNEL_RATES = "channels"


class RatedChannel(NoiseChannel):
    """Stands for a channel some of whose rates are tensors.

    Attributes:
        channel: The channel.
        names: For each of its rates that is a tensor the name among the arguments.
    """

    kind: ClassVar[str] = "rated"
    channel: NoiseChannel
    names: dict[str, str]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those of the channel."""
        return self.channel.sizes

    def kraus(self, num_qubits: int) -> list[ComplexArray]:
        """Not the identity, whatever the rates are: the channel stays in the plan."""
        return Depolarizing(p=0.5).kraus(num_qubits)


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
    sections: dict[str, dict[Any, Any]] = {
        "qubits": dict(profile.qubits),
        "gates": dict(profile.gates),
        CHANNEL_RATES: dict(enumerate(profile.channels)),
    }
    for name, value in values.items():
        section, _, rest = name.partition(".")
        if not rest and name in RATES and name in type(profile).model_fields:
            own[name] = value
            continue
        if section == CHANNEL_RATES:
            place, rate = channel_rate(profile, name)
            site = sections[section][place]
            sections[section][place] = site.model_copy(
                update={"channel": site.channel.with_rates({rate: value})}
            )
            continue
        key, _, field = rest.rpartition(".")
        place = int(key) if section == "qubits" and key.isdecimal() else key  # type: ignore[assignment]
        found = sections.get(section, {}).get(place)
        if found is None or field not in RATES or field not in type(found).model_fields:
            raise _unknown(profile, name)
        sections[section][place] = found.model_copy(update={field: value})
    channels = tuple(sections.pop(CHANNEL_RATES).values())
    return profile.model_copy(update={**own, **sections, "channels": channels})


def channel_rate(profile: NoiseProfile, name: str) -> tuple[int, str]:
    """Return the place of a channel in the profile and the name of its rate, for `channels.0.gamma`.

    Raises:
        EngineError: If there is no such rate, or its kind gives no gradients.
    """
    place, _, rate = name.partition(".")[2].partition(".")
    if not place.isdecimal() or int(place) >= len(profile.channels):
        raise _unknown(profile, name)
    channel = profile.channels[int(place)].channel
    if rate not in channel.rates:
        raise _unknown(profile, name)
    if type(channel).transfer is NoiseChannel.transfer:
        raise EngineError(
            f"Rate `{name}` can be no tensor: channels of kind `{channel.kind}` have Kraus operators alone. "
            f"Fix: a method `transfer` in {type(channel).__name__}, or rates among "
            f"{', '.join(_nameable(profile))}."
        )
    return int(place), rate


def _nameable(profile: NoiseProfile) -> list[str]:
    """Return the rates of a profile that may be tensors."""
    channels = [
        f"{CHANNEL_RATES}.{place}.{rate}"
        for place, site in enumerate(profile.channels)
        if type(site.channel).transfer is not NoiseChannel.transfer
        for rate in site.channel.rates
    ]
    gates = [f"gates.{key}.p" for key in profile.gates]
    qubits = [f"qubits.{key}.{rate}" for key in profile.qubits for rate in RATES[1:] if rate != "p_2q"]
    return [*RATES[1:], *channels, *gates[:2], *qubits[:2]]


def _unknown(profile: NoiseProfile, name: str) -> EngineError:
    return EngineError(
        f"Argument `rates` must name rates of noise profile `{profile.name}`, but one is {name!r}. Fix: use "
        "names such as p_2q, t1_us, readout_p01, qubits.0.t1_us, gates.cx.p, channels.0.RATE; sections of "
        f"qubits and gates, and channels, must be in the profile: {', '.join(_nameable(profile))}."
    )


def _rated(profile: NoiseProfile, names: Sequence[str]) -> NoiseProfile:
    """Return the profile with a `RatedChannel` for every channel that a name belongs to."""
    asked: dict[int, dict[str, str]] = {}
    for name in names:
        place, rate = channel_rate(profile, name)
        asked.setdefault(place, {})[rate] = name
    channels = [
        site.model_copy(update={"channel": RatedChannel(channel=site.channel, names=asked[place])})
        if place in asked
        else site
        for place, site in enumerate(profile.channels)
    ]
    return profile.model_copy(update={"channels": tuple(channels)})


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
        listed = [name for name in names if name.startswith(f"{CHANNEL_RATES}.")]
        marks = {
            name: 0.3 + math.pi / 11 * (place + 1) / (len(names) + 1) for place, name in enumerate(names)
        }
        self.probe = _rated(
            _changed(profile, {name: mark for name, mark in marks.items() if name not in listed}), listed
        )
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
