"""Qubits that wait: delays as written, and the delays of a schedule (`idle: scheduled` of a profile)."""

from __future__ import annotations

from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import Delay

from qhybrid.engines.noise.gate_names import NOTHING, noise_name
from qhybrid.errors import CircuitError
from qhybrid.noise import NoiseProfile

NANOSECONDS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0, "ps": 1e-3}
SHORTEST_NS = 1e-6
"""Gaps below this are rounding."""


def delay_ns(operation: Any, profile: NoiseProfile) -> float:
    """Return the duration of a delay in nanoseconds.

    Raises:
        CircuitError: If it is a parameter, or in units of a device's clock that the profile does not say.
    """
    duration, unit = operation.duration, operation.unit
    if unit == "dt" and profile.dt_ns is not None and not getattr(duration, "parameters", None):
        return float(duration) * profile.dt_ns
    if unit not in NANOSECONDS or getattr(duration, "parameters", None):
        raise CircuitError(
            f"Under relaxation noise a delay must have a duration in s, ms, us or ns, but one is {duration} "
            f"{unit}. Fix: convert it, or give `dt_ns` of noise profile `{profile.name}` if it is in steps "
            "of a device's clock. QPY files keep no units of delays, OpenQASM 3 does (`delay[100ns]`)."
        )
    return float(duration) * NANOSECONDS[unit]


def scheduled(circuit: QuantumCircuit, profile: NoiseProfile) -> QuantumCircuit:
    """Return the circuit with delays in all gaps of a schedule as late as possible.

    Gates last as long as the profile says. All qubits are read at the end; a barrier's qubits wait for each
    other. A qubit that no gate has touched yet is in its ground state and gets no delay.

    Args:
        circuit: A flat circuit of one- and two-qubit gates.
        profile: The durations.
    """
    late = _ends_before_readout(circuit, profile)
    started: dict[int, float] = {}
    result = circuit.copy_empty_like()
    for instruction, end in zip(circuit.data, late, strict=True):
        qubits = [circuit.find_bit(qubit).index for qubit in instruction.qubits]
        begin = end + _length(instruction.operation, tuple(qubits), profile)
        if instruction.operation.name != "barrier":
            for qubit in qubits:
                _wait(result, qubit, started.get(qubit, begin) - begin)
                started[qubit] = end
        result.append(instruction)
    for qubit, end in started.items():
        _wait(result, qubit, end)
    return result


def _wait(circuit: QuantumCircuit, qubit: int, ns: float) -> None:
    if ns > SHORTEST_NS:
        circuit.append(Delay(ns, unit="ns"), [qubit])


def _ends_before_readout(circuit: QuantumCircuit, profile: NoiseProfile) -> list[float]:
    """Return for each instruction how long before the read-out it ends, in nanoseconds."""
    free = [0.0] * circuit.num_qubits
    ends = []
    for instruction in reversed(circuit.data):
        qubits = tuple(circuit.find_bit(qubit).index for qubit in instruction.qubits)
        end = max((free[qubit] for qubit in qubits), default=0.0)
        ends.append(end)
        for qubit in qubits:
            free[qubit] = end + _length(instruction.operation, qubits, profile)
    return ends[::-1]


def _length(operation: Any, qubits: tuple[int, ...], profile: NoiseProfile) -> float:
    if operation.name in NOTHING:
        return 0.0
    if operation.name == "delay":
        return delay_ns(operation, profile)
    return profile.duration_ns(noise_name(operation), qubits)
