"""The noise of one instruction as it stands in a circuit: gates, explicit delays, identities."""

from __future__ import annotations

from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit.library import UnitaryGate

from qhybrid.circuits.standard_gates import standard_gates
from qhybrid.engines.noise.composites import taken_apart
from qhybrid.engines.noise.gate_names import NOTHING, noise_name
from qhybrid.engines.noise.waiting import delay_ns, scheduled
from qhybrid.noise import NoiseProfile
from qhybrid.noise.sections import GateError

DELAY_LABEL = "delay "
"""Label of the identity matrix that stands for a delay in circuits for Aer, followed by its nanoseconds."""
AFTER_LABEL = "after "
"""Label of the identity matrix that carries the noise of a gate which Aer runs in parts; its name follows."""
PART_LABEL = "part of a gate"
"""Label of those parts, which have no noise of their own."""


def noise_carrier(operation: Any, in_parts: bool, error: GateError, profile: NoiseProfile) -> Any:
    """Return the identity that carries the noise of a pause, or of a gate that runs in parts before it.

    Aer's model knows gates by name or label, so every gate, and every duration of a delay, needs one of its
    own; `instruction_error` reads it.

    Args:
        operation: The pause or gate.
        in_parts: Whether it is a gate in parts.
        error: Its noise.
        profile: Where it comes from.
    """
    if not in_parts and operation.name != "delay":
        return operation
    nanoseconds = delay_ns(operation, profile) if error.relaxes and not in_parts else 0.0
    delay = "" if in_parts else f"{DELAY_LABEL}{nanoseconds!r}"
    side = 2**operation.num_qubits
    return UnitaryGate(np.eye(side), label=delay or f"{AFTER_LABEL}{noise_name(operation)}")


def instruction_error(profile: NoiseProfile, operation: Any, qubits: tuple[int, ...]) -> GateError | None:
    """Return the noise after an instruction, None if there is none.

    Identities (`id`) are pauses without noise unless the profile lists them.

    Args:
        profile: The error rates.
        operation: The instruction's operation.
        qubits: The one or two qubits it acts on.

    Raises:
        EngineError: If a device's profile does not know the gate.
        CircuitError: If a delay that needs a duration has none in seconds.
    """
    name, kind = noise_name(operation), operation.name  # a label may be called like anything
    silent = kind in NOTHING or getattr(operation, "label", None) == PART_LABEL
    if silent or (kind == "id" and "id" not in profile.gate_names):
        return None
    if kind == "delay":
        # Without relaxation the duration does not matter, whatever its unit.
        relaxes = profile.idle_error(qubits[0], 1.0).relaxes
        error = profile.idle_error(qubits[0], delay_ns(operation, profile) if relaxes else 0.0)
    elif name.startswith(DELAY_LABEL):
        error = profile.idle_error(qubits[0], float(name.removeprefix(DELAY_LABEL)))
    else:
        error = profile.gate_error(name.removeprefix(AFTER_LABEL), qubits)
    return None if error.ideal else error


def as_executed(circuit: QuantumCircuit, profile: NoiseProfile | None) -> QuantumCircuit:
    """Return the circuit whose gates take noise: composites taken apart, with the delays of a schedule.

    Raises:
        CircuitError: If a composite gate cannot be written in the profile's basis.
        EngineError: If the profile is of a device, which must have all gates of the circuit, or lists noise
            of a gate on more than two qubits.
    """
    if profile is None:
        return circuit
    flat = _with_listed_labels(taken_apart(_with_listed_labels(circuit, profile), profile), profile)
    return flat if profile.idle == "none" else scheduled(flat, profile)


def _with_listed_labels(circuit: QuantumCircuit, profile: NoiseProfile) -> QuantumCircuit:
    """Return the circuit without labels, but for those of matrices whose noise the profile lists.

    The name of a standard gate of another size is not meant.
    """
    listed = set(profile.gate_names)
    kept: QuantumCircuit | None = None
    for index, instruction in enumerate(circuit.data):
        label = instruction.label
        if label is None or (instruction.name == "unitary" and label in listed and _fits(instruction)):
            continue
        kept = circuit.copy() if kept is None else kept
        operation = instruction.operation.to_mutable()
        operation.label = None
        kept.data[index] = instruction.replace(operation=operation)
    return circuit if kept is None else kept


def _fits(instruction: Any) -> bool:
    known = standard_gates().get(instruction.label)
    return known is None or known.num_qubits == len(instruction.qubits)
