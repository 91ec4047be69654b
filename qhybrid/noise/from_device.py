"""The noise profile of a calibrated device, channel by channel that of Aer's `NoiseModel.from_backend`.

The service reports a gate's error as 1 - F, F the average fidelity of all that happens during the gate.
Relaxation explains a part of it, 1 - F_r. What is left is taken as depolarizing with

    p = d (F_r - F) / (d F_r - 1),    d = 2^k,

limited to the physical range; no depolarizing where relaxation alone is more than the reported error.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from statistics import median
from typing import Any

from qhybrid.circuits.transpile import DEAD_ERROR
from qhybrid.devices import Device, load_device
from qhybrid.devices.device import GateCalibration, QubitCalibration
from qhybrid.noise.channels.base import LARGEST_P
from qhybrid.noise.sections import SYMMETRIC, gate_key

READOUT_ROTATIONS = {"h": {}, "sdg": {"p": 0.0, "ns": 0.0}}
"""Reading X takes one pulse beside ideal rz gates, and reading Y another rz."""
DIGITS = 10
Rates = tuple[float, float]
"""Depolarizing parameter and duration in nanoseconds."""
Section = dict[str, float]


def calibrated_rates(backend: Any, symmetric_readout: bool = False) -> dict[str, Any]:
    """Return the content of a device's noise profile; see `NoiseProfile.from_backend`."""
    device, assumed = completed(_device(backend))
    if device.silent:
        warnings.warn(
            f"The calibration of {device.name} gives no {', '.join(device.silent)} at all, so that its "
            "profile has no noise of that kind.",
            stacklevel=1,  # the same place for all callers: Python shows a line once
        )
    rates = {(gate.name, gate.qubits): _rates(gate, device) for gate in device.gates if len(gate.qubits) <= 2}
    ones = {place: found for place, found in rates.items() if len(place[1]) == 1}
    ideal = {name for name, _ in ones} - {name for (name, _), found in ones.items() if found != (0.0, 0.0)}
    pulses = {place: found for place, found in ones.items() if place[0] not in ideal}
    pulse_ns = _most_common(ns for _, ns in pulses.values())
    own = {qubit: _own_rates(qubit, pulses) for (qubit,) in sorted({qubits for _, qubits in ones})}
    return {
        "name": device.name,
        "description": f"calibration of {device.name}, {device.num_qubits} qubits",
        "source": device.source,
        "date": device.date,
        "device": device.name,
        "gate_1q_ns": pulse_ns,
        "qubits": {
            qubit: _qubit_section(device.qubits[qubit], own[qubit], pulse_ns, symmetric_readout)
            for qubit in own
        },
        "gates": {
            **READOUT_ROTATIONS,
            **{
                name: ({"p": 0.0, "ns": 0.0} if name in ideal else {})
                for name in sorted({n for n, _ in ones})
            },
            **{
                gate_key(name, qubits): _section(found)
                for (name, qubits), found in pulses.items()
                if found != own[qubits[0]]
            },
            **_pair_sections({place: found for place, found in rates.items() if len(place[1]) == 2}),
        },
        "listed_only": True,
        **({"assumed": assumed} if assumed else {}),
    }


def completed(device: Device) -> tuple[Device, tuple[str, ...]]:
    """Return a device with its medians where its calibration has holes, and the names of these values.

    A value that the device reports nowhere stays unknown: then there is no noise of that kind.
    """
    qubits, assumed = list(device.qubits), list[str]()
    for key in QUBIT_VALUES:
        known = [value for one in qubits if (value := getattr(one, key)) is not None]
        for index, one in enumerate(qubits if known else []):
            if getattr(one, key) is None:
                qubits[index] = replace(one, **{key: median(known)})
                if key != "readout_error":
                    assumed.append(f"qubits.{index}.{key}")
    gates = list(device.gates)
    for key, name in (("error", "p"), ("ns", "ns")):
        measured: dict[str, list[float]] = {}
        for gate in device.gates:
            value = getattr(gate, key)
            if value is not None and (gate.error or 0.0) < DEAD_ERROR:
                measured.setdefault(gate.name, []).append(value)
        for index, gate in enumerate(gates):
            if getattr(gate, key) is None and gate.name in measured:
                value = median(measured[gate.name])
                gates[index] = replace(gate, error=value) if key == "error" else replace(gate, ns=value)
                assumed.append(f"gates.{gate_key(gate.name, gate.qubits)}.{name}")
    return replace(device, qubits=tuple(qubits), gates=tuple(gates)), tuple(dict.fromkeys(assumed))


QUBIT_VALUES = ("t1_us", "t2_us", "readout_p01", "readout_p10", "readout_error")


def _device(backend: Any) -> Device:
    if isinstance(backend, Device):
        return backend
    return load_device(backend) if isinstance(backend, str) else Device.from_backend(backend)


def _rates(gate: GateCalibration, device: Device) -> Rates:
    # Rounding must not leave the physical range.
    largest = LARGEST_P[len(gate.qubits)]
    return min(_rounded(_depolarizing(gate, device)), largest), _rounded(gate.ns or 0.0)


def _depolarizing(gate: GateCalibration, device: Device) -> float:
    """Return the depolarizing parameter that explains what relaxation leaves of the reported error."""
    dim = 1 << len(gate.qubits)
    entanglement_fidelity = 1.0
    for qubit in gate.qubits:
        t1, t2 = decay_times(device.qubits[qubit])
        t = (gate.ns or 0.0) / 1000
        entanglement_fidelity *= (1 + math.exp(-t / t1) + 2 * math.exp(-t / t2)) / 4
    left = (dim * entanglement_fidelity + 1) / (dim + 1)
    error = min(gate.error or 0.0, dim / (dim + 1))
    if not error > 1 - left:
        return 0.0
    return dim * (error - (1 - left)) / (dim * left - 1)


def decay_times(qubit: QubitCalibration) -> Rates:
    """Return T1 and T2 in microseconds as they are used: T2 at most 2 T1, infinity where nothing is known."""
    t1 = math.inf if qubit.t1_us is None else qubit.t1_us
    return t1, min(2 * t1, math.inf if qubit.t2_us is None else qubit.t2_us)


def _own_rates(qubit: int, pulses: dict[tuple[str, tuple[int, ...]], Rates]) -> Rates:
    """Return the rates that most one-qubit gates of a qubit have."""
    found = Counter(rates for (_, qubits), rates in pulses.items() if qubits == (qubit,))
    return found.most_common(1)[0][0] if found else (0.0, 0.0)


def _qubit_section(calibration: QubitCalibration, own: Rates, usual_ns: float, symmetric: bool) -> Section:
    t1, t2 = decay_times(calibration)
    section: Section = {"p_1q": own[0]}
    if own[1] != usual_ns:
        section["gate_1q_ns"] = own[1]
    if math.isfinite(t1):
        section["t1_us"] = _rounded(t1)
    if math.isfinite(t2):
        section["t2_us"] = min(_rounded(t2), 2 * _rounded(t1))
    p01, p10 = calibration.readout_p01, calibration.readout_p10
    if symmetric:
        p01 = p10 = calibration.readout_error
    if p01 == p10 == 1:  # a failed calibration: nothing is read, where 1 and 1 would be a perfect read-out
        p01 = p10 = 0.5
    return section | {"readout_p01": _rounded(p01 or 0.0), "readout_p10": _rounded(p10 or 0.0)}


def _pair_sections(pairs: dict[tuple[str, tuple[int, ...]], Rates]) -> dict[str, Section]:
    """Return the sections of two-qubit gates: the usual duration once, each pair once if that says all."""
    sections: dict[str, Section] = {}
    usual: dict[str, float] = {}
    for name in sorted({name for name, _ in pairs}):
        usual[name] = _most_common(ns for (other, _), (_, ns) in pairs.items() if other == name)
        sections[name] = {"ns": usual[name]}
    for (name, qubits), (p, ns) in pairs.items():
        reverse = pairs.get((name, qubits[::-1]))
        if name in SYMMETRIC and qubits[0] > qubits[1] and reverse == (p, ns):
            continue
        sections[gate_key(name, qubits)] = {"p": p, **({} if ns == usual[name] else {"ns": ns})}
    return sections


def _section(rates: Rates) -> Section:
    return {"p": rates[0], "ns": rates[1]}


def _most_common(values: Iterable[float]) -> float:
    counted = Counter(values).most_common(1)
    return counted[0][0] if counted else 0.0


def _rounded(value: float) -> float:
    """Return a number with few enough digits to be read, and far more than were measured."""
    return float(f"{value:.{DIGITS}g}")
