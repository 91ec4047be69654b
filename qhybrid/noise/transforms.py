"""Profiles made from profiles: rates multiplied, or some qubits alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qhybrid.noise.sections import GateNoise, QubitNoise, gate_key


def scaled(content: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Return a profile's content with rates multiplied and decay times divided; see `NoiseProfile.scale`."""
    result = _scaled_section(content, factor)
    for part in ("qubits", "gates"):
        result[part] = {key: _scaled_section(section, factor) for key, section in content[part].items()}
    return result


def restricted(
    qubits: Mapping[int, QubitNoise], gates: Mapping[str, GateNoise], chosen: Sequence[int]
) -> dict[str, Any]:
    """Return `qubits` and `gates` of the chosen qubits alone, renumbered by their place in `chosen`."""
    place = {qubit: index for index, qubit in enumerate(chosen)}
    kept: dict[str, GateNoise] = {}
    for key, noise in gates.items():
        name, *words = key.split()
        if all(int(word) in place for word in words):
            kept[gate_key(name, [place[int(word)] for word in words])] = noise
    return {"qubits": {place[q]: noise for q, noise in qubits.items() if q in place}, "gates": kept}


def _scaled_section(section: Mapping[str, Any], factor: float) -> dict[str, Any]:
    result = dict(section)
    for key, value in section.items():
        if value is None:
            continue
        if key in ("p", "p_1q", "p_2q"):
            result[key] = _saturated(value, factor, 1.0)
        elif key.startswith("readout_"):
            result[key] = _saturated(value, factor, 0.5)
        elif key in ("t1_us", "t2_us"):
            result[key] = value / factor if factor else None
    return result


def _saturated(value: float, factor: float, bound: float) -> float:
    return value if factor >= 1 and value > bound else min(value * factor, bound)
