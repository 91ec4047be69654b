"""Checks before anything is spent: what is sent computes what the model does, and the device can run it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from qiskit.quantum_info import Statevector

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import Device
from qhybrid.engines import make_engine
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits import PreparedCircuit, Pub
from qhybrid.hardware.decoding import observables_from
from qhybrid.hardware.simulation import NO_WEIGHTS, Simulation

Array = NDArray[np.float64]
PARITY = 1e-6
PARITY_POINTS = 3
LARGEST_STATE = 18
"""Qubits up to which the sent circuit's outcome probabilities are summed."""


def check_circuit(
    bound: CircuitSpec, prepared: PreparedCircuit, points: Array, device: Device | None
) -> dict[str, float | str]:
    """Check a prepared circuit on a few points.

    Args:
        bound: The layer's circuit with its weights bound.
        prepared: What would be sent.
        points: Input angles, shape (B, n_in).
        device: The device, None for a simulator.

    Returns:
        What was found, for the plan.

    Raises:
        HardwareError: If what is sent is not executable, or does not compute what the layer computes.
    """
    few = points[:PARITY_POINTS]
    _check_executable(prepared, device)
    return {
        "parity": _check_parity(bound, prepared, few),
        "probability_sum": _check_probabilities(prepared, few),
        "instructions": "all in the device's set" if device is not None else "simulator",
    }


def _check_executable(prepared: PreparedCircuit, device: Device | None) -> None:
    if device is None:
        return
    from qiskit_ibm_runtime.utils.utils import is_isa_circuit

    for variant in range(len(prepared.variants)):
        problem = is_isa_circuit(prepared.measured(variant), device.target)
        if problem:
            raise HardwareError(
                f"Circuit `{prepared.name}` must consist of instructions of {device.name}, but: "
                f"{problem} Fix: "
                "report this with the circuit; nothing was sent."
            )


def _check_parity(bound: CircuitSpec, prepared: PreparedCircuit, points: Array) -> float:
    """Compare the layer's observables with those of every copy of the mapped circuit, without noise."""
    exact = make_engine("exact")
    wanted = exact.expectations(bound, torch.as_tensor(points.copy()), NO_WEIGHTS).numpy()
    simulation = Simulation(noisy=False)
    strings = np.zeros((len(prepared.copies), len(points), len(prepared.strings.strings)))
    copies = len(prepared.copies)
    every = np.repeat(points, copies, axis=0)
    for index, variant in enumerate(prepared.variants):
        found = simulation.means(Pub(prepared, index, every), None)
        for copy in range(copies):
            strings[copy][:, list(variant.group)] = found[copy][:, : len(variant.group)]
    difference = max(
        float(np.abs(observables_from(prepared, part) - wanted).max(initial=0)) for part in strings
    )
    if not difference <= PARITY:
        raise HardwareError(
            f"Circuit `{prepared.name}` as it is sent must give the layer's observables within {PARITY}, but "
            f"differs by {difference:.2e}. Fix: report this with the circuit; nothing was sent."
        )
    return difference


def _check_probabilities(prepared: PreparedCircuit, points: Array) -> float:
    spec = prepared.copies[0].specs[0]
    if spec.num_qubits > LARGEST_STATE or not len(points):
        return 1.0
    values = prepared.angle_map(points[:1])[0]
    used = {p: v for p, v in zip(spec.input_params, values) if p in spec.circuit.parameters}
    total = float(Statevector(spec.circuit.assign_parameters(used)).probabilities().sum())
    if abs(total - 1) > PARITY:
        raise HardwareError(
            f"Outcome probabilities of circuit `{prepared.name}` must sum to 1, but sum to {total}. "
            "Fix: report "
            "this with the circuit; nothing was sent."
        )
    return total
