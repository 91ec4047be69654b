"""A noise profile in a few numbers, for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from qhybrid.noise.profile import NoiseProfile

LABELS = {
    "p_1q": "one-qubit gates, p",
    "t1_us": "T1, us",
    "t2_us": "T2, us",
    "gate_1q_ns": "one-qubit gates, ns",
    "readout_p01": "read 0 after 1",
    "readout_p10": "read 1 after 0",
}


@dataclass(frozen=True)
class RateSummary:
    """One rate over all qubits or pairs.

    Attributes:
        label: What it is, with its unit.
        smallest: Smallest value.
        median: Median.
        largest: Largest value.
    """

    label: str
    smallest: float
    median: float
    largest: float


def summary(profile: NoiseProfile) -> tuple[RateSummary, ...]:
    """Return smallest, median and largest value of every rate that is not zero everywhere.

    Over the qubits and pairs of a device; of other profiles over the values that are written, the one of all
    other qubits among them. Listed channels come last.
    """
    rows = []
    for key, label in LABELS.items():
        own = getattr(profile, key)
        listed = (getattr(qubit, key) for qubit in profile.qubits.values())
        values = [own if value is None else value for value in listed]
        if not (profile.listed_only and values):
            values.append(own)  # of all other qubits
        rows += _row(label, [value for value in values if value is not None])
    pairs = _pairs(profile)
    rows += _row("two-qubit gates, p", [p for _, p in pairs] if profile.listed_only else [profile.p_2q])
    kinds = [noise.ns for noise in profile.gates.values() if noise.ns and profile.listed_only and pairs]
    rows += _row("two-qubit gates, ns", kinds or [profile.gate_2q_ns])
    return (*rows, *([] if profile.listed_only else _own_gates(profile)), *_channels(profile))


def _channels(profile: NoiseProfile) -> list[RateSummary]:
    """Return every rate of every listed channel; 0 is shown too."""
    return [
        RateSummary(f"{one.label}, {rate}{f', {unit}' if unit else ''}", value, value, value)
        for one in profile.channels
        for (rate, value), unit in zip(one.channel.rates.items(), one.channel.units.values(), strict=True)
    ]


def _own_gates(profile: NoiseProfile) -> list[RateSummary]:
    """Return the rates of gates with values of their own: 0 is shown too, it takes the place of others."""
    found: dict[str, list[float]] = {}
    for key, noise in profile.gates.items():
        for rate, value in (("p", noise.p), ("ns", noise.ns)):
            if value is not None:
                found.setdefault(f"gate {key.split()[0]}, {rate}", []).append(value)
    return [
        RateSummary(label, min(values), statistics.median(values), max(values))
        for label, values in found.items()
    ]


def worst_gates(profile: NoiseProfile, count: int) -> tuple[tuple[str, float], ...]:
    """Return the two-qubit gates with the largest depolarizing parameters, worst first."""
    return tuple(sorted(_pairs(profile), key=lambda pair: -pair[1])[:count])


def _pairs(profile: NoiseProfile) -> list[tuple[str, float]]:
    return [
        (key, noise.p)
        for key, noise in profile.gates.items()
        if len(key.split()) == 3 and noise.p is not None
    ]


def _row(label: str, values: Iterable[float]) -> list[RateSummary]:
    found = list(values)
    if not any(found):
        return []
    return [RateSummary(label, min(found), statistics.median(found), max(found))]
