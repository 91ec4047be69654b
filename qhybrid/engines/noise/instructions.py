"""The noise of one instruction as it stands in a circuit: gates, explicit delays, identities."""

from __future__ import annotations

from typing import Any

from qiskit import QuantumCircuit

from qhybrid.engines.noise.waiting import delay_ns, scheduled
from qhybrid.noise import NoiseProfile
from qhybrid.noise.sections import GateError

DELAY_LABEL = "delay "
"""Label of the identity matrix that stands for a delay in circuits for Aer, followed by its nanoseconds."""
NOTHING = frozenset({"barrier", "global_phase"})


def noise_name(operation: Any) -> str:
    """Return the name a gate's noise goes by: for a labelled matrix its label, as in Aer."""
    label = getattr(operation, "label", None)
    return str(label) if operation.name == "unitary" and label else str(operation.name)


def delay_label(operation: Any) -> str:
    """Return the label that stands for a delay; `instruction_error` reads it."""
    return f"{DELAY_LABEL}{delay_ns(operation)!r}"


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
    name = noise_name(operation)
    if name in NOTHING or (name == "id" and "id" not in profile.gates):
        return None
    if name == "delay":
        # Without relaxation the duration does not matter, whatever its unit.
        relaxes = not profile.idle_error(qubits[0], 1.0).ideal
        error = profile.idle_error(qubits[0], delay_ns(operation) if relaxes else 0.0)
    elif name.startswith(DELAY_LABEL):
        error = profile.idle_error(qubits[0], float(name.removeprefix(DELAY_LABEL)))
    else:
        error = profile.gate_error(name, qubits)
    return None if error.ideal else error


def as_executed(circuit: QuantumCircuit, profile: NoiseProfile | None) -> QuantumCircuit:
    """Return the circuit with the delays of a schedule, where the profile asks for them."""
    return circuit if profile is None or profile.idle == "none" else scheduled(circuit, profile)
