"""Checks before anything is spent: what is sent computes what the model does, and the device can run it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import Device
from qhybrid.engines import make_engine
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.decoding import observables_from
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.circuits.simulation import NO_WEIGHTS
from qhybrid.hardware.service_kinds import COMMON_RULES, ServiceRules

Array = NDArray[np.float64]
PARITY = 1e-6
PARITY_POINTS = 3
LARGEST_STATE = 18
"""Qubits up to which the sent circuit's outcome probabilities are summed."""


def check_circuit(
    bound: CircuitSpec,
    prepared: PreparedCircuit,
    points: Array,
    device: Device | None,
    rules: ServiceRules = COMMON_RULES,
) -> dict[str, float | str | None]:
    """Check a prepared circuit on a few points.

    Args:
        bound: The layer's circuit with its weights bound.
        prepared: What would be sent.
        points: Input angles, shape (B, n_in).
        device: The device, None for a simulator.
        rules: By which the service decides what is executable.

    Returns:
        What was found, for the plan.

    Raises:
        HardwareError: If what is sent is not executable, or does not compute what the layer computes.
    """
    few = points[:PARITY_POINTS]
    check_executable(prepared, device, rules)
    return {
        "parity": _check_parity(bound, prepared, few),
        "probability_sum": _check_probabilities(prepared, few),
        "instructions": "all in the device's set" if device is not None else "simulator",
    }


def check_executable(prepared: PreparedCircuit, device: Device | None, rules: ServiceRules) -> None:
    """Check that a device executes all that would be sent of a circuit.

    Raises:
        HardwareError: If it does not.
    """
    if device is None:
        return
    for variant in range(len(prepared.variants)):
        problem = rules.problem(prepared.measured(variant), device)
        if problem:
            raise HardwareError(
                f"Circuit `{prepared.name}` must consist of instructions of {device.name}, but: "
                f"{problem} Fix: report this with the circuit; nothing was sent."
            )


def _check_parity(bound: CircuitSpec, prepared: PreparedCircuit, points: Array) -> float:
    """Compare the layer's observables with what every copy in the sent circuits gives without noise."""
    exact = make_engine("exact")
    wanted = exact.expectations(bound, torch.as_tensor(points.copy()), NO_WEIGHTS).numpy()
    values = torch.as_tensor(prepared.angle_map(points))
    difference = 0.0
    for copy in range(len(prepared.copies)):
        strings = np.zeros((len(points), len(prepared.strings.strings)))
        for index, variant in enumerate(prepared.variants):
            spec = sent_part(prepared, index, copy)
            found = exact.expectations(spec, values, NO_WEIGHTS).numpy()
            strings[:, list(variant.group)] = found[:, : len(variant.group)]
        deviation = np.abs(observables_from(prepared, strings) - wanted)
        difference = max(difference, float(deviation.max(initial=0)))
    if not difference <= PARITY:
        raise HardwareError(
            f"Circuit `{prepared.name}` as it is sent must give the layer's observables within {PARITY}, but "
            f"differs by {difference:.2e}. Fix: report this with the circuit; nothing was sent."
        )
    return difference


def sent_part(prepared: PreparedCircuit, variant: int, copy: int) -> CircuitSpec:
    """Return what a sent circuit does with the bits of one copy, read from the sent circuit alone.

    Args:
        prepared: The circuit.
        variant: Which measured circuit.
        copy: Which copy.

    Returns:
        A circuit whose qubit q is the one that is read into the copy's bit q; its observables are the
        variant's Z strings.

    Raises:
        HardwareError: If a bit is not read, or a gate joins the copy's qubits with others.
    """
    sent = prepared.measured(variant)
    size = len(prepared.copies[copy].physical)
    read = {
        sent.find_bit(one.clbits[0]).index: one.qubits[0]
        for one in sent.data
        if one.operation.name == "measure"
    }
    own = [read.get(copy * size + bit) for bit in range(size)]
    place = {qubit: index for index, qubit in enumerate(own) if qubit is not None}
    circuit = QuantumCircuit(size, name=prepared.name)
    for one in sent.data:
        inside = [place[qubit] for qubit in one.qubits if qubit in place]
        if one.operation.name in ("measure", "barrier") or not inside:
            continue
        if len(inside) != len(one.qubits):
            raise HardwareError(
                f"Gates of circuit `{prepared.name}` must stay within its copies, but {one.operation.name} "
                "does not. Fix: report this with the circuit; nothing was sent."
            )
        circuit.append(one.operation, inside)
    if len(place) != size:
        raise HardwareError(
            f"Circuit `{prepared.name}` must read {size} qubits a copy, but reads {len(place)}. Fix: report "
            "this with the circuit; nothing was sent."
        )
    observables = prepared.copies[copy].specs[variant].observables
    return CircuitSpec(prepared.name, circuit, tuple(prepared.parameters(copy)), (), observables)


def _check_probabilities(prepared: PreparedCircuit, points: Array) -> float | None:
    """Return the sum of all outcomes' probabilities; None where there are too many to look at."""
    spec = prepared.copies[0].specs[0]
    if spec.num_qubits > LARGEST_STATE or not len(points):
        return None
    values = prepared.angle_map(points[:1])[0]
    used = {p: v for p, v in zip(spec.input_params, values) if p in spec.circuit.parameters}
    total = float(Statevector(spec.circuit.assign_parameters(used)).probabilities().sum())
    if abs(total - 1) > PARITY:
        raise HardwareError(
            f"Outcome probabilities of circuit `{prepared.name}` must sum to 1, but sum to {total}. "
            "Fix: report this with the circuit; nothing was sent."
        )
    return total
