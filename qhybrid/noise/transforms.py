"""Profiles made from profiles: rates multiplied, or some qubits alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qhybrid.noise.channels.base import saturated
from qhybrid.noise.sections import GateNoise, QubitNoise, renumbered
from qhybrid.noise.sites import ChannelNoise


def scaled(content: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Return a profile's content with rates multiplied and decay times divided; see `NoiseProfile.scale`."""
    result = _scaled_section(content, factor)
    for part in ("qubits", "gates"):
        result[part] = {key: _scaled_section(section, factor) for key, section in content[part].items()}
    return result


def scaled_channels(channels: Sequence[ChannelNoise], factor: float) -> tuple[ChannelNoise, ...]:
    """Return channels at another strength; none at all without noise."""
    return tuple(one.scaled(factor) for one in channels) if factor else ()


def restricted(
    qubits: Mapping[int, QubitNoise],
    gates: Mapping[str, GateNoise],
    channels: Sequence[ChannelNoise],
    chosen: Sequence[int],
) -> dict[str, Any]:
    """Return these parts of a profile for the chosen qubits alone, renumbered by their place in `chosen`."""
    place = {qubit: index for index, qubit in enumerate(chosen)}
    keys = {key: renumbered(key, place) for key in gates}
    sites = (one.restricted(place) for one in channels)
    return {
        "qubits": {place[q]: noise for q, noise in qubits.items() if q in place},
        "gates": {new: gates[key] for key, new in keys.items() if new is not None},
        "channels": tuple(one for one in sites if one is not None),
    }


def renumbered_names(names: Sequence[str], chosen: Sequence[int]) -> tuple[str, ...]:
    """Return names of values, as in `qubits.3.t1_us` or `gates.cz 3 4.p`, for the chosen qubits alone."""
    place = {qubit: index for index, qubit in enumerate(chosen)}
    found = []
    for name in names:
        part, key, value = name.split(".")
        if part == "gates":
            new = renumbered(key, place)
        else:
            new = str(place[int(key)]) if int(key) in place else None
        if new is not None:
            found.append(f"{part}.{new}.{value}")
    return tuple(found)


def _scaled_section(section: Mapping[str, Any], factor: float) -> dict[str, Any]:
    result = dict(section)
    for key, value in section.items():
        if value is None:
            continue
        if key in ("p", "p_1q", "p_2q"):
            result[key] = saturated(value, factor, 1.0)
        elif key.startswith("readout_"):
            result[key] = saturated(value, factor, 0.5)
        elif key in ("t1_us", "t2_us"):
            result[key] = value / factor if factor else None
    return result
