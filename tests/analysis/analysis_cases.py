"""Small circuits with known figures."""

from __future__ import annotations

import math

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector

from qhybrid.circuits import CircuitSpec


def turn(factor: float = 1.0, uploads: int = 1, between: str = "") -> CircuitSpec:
    """One qubit, `uploads` rotations RY(factor x) with a trained rotation between them, Z."""
    x, w = ParameterVector("x", 1), ParameterVector("w", max(0, uploads - 1) if between else 0)
    circuit = QuantumCircuit(1)
    for number in range(uploads):
        circuit.ry(factor * x[0], 0)
        if between and number < uploads - 1:
            getattr(circuit, between)(w[number], 0)
    return CircuitSpec.from_circuit(circuit, list(x), list(w), "Z")


def product(qubits: int, observable: str = "all") -> CircuitSpec:
    """RY of an own weight on every qubit; Z on all of them, or on qubit 0 alone."""
    w = ParameterVector("w", qubits)
    circuit = QuantumCircuit(qubits)
    for qubit, angle in enumerate(w):
        circuit.ry(angle, qubit)
    label = "Z" * qubits if observable == "all" else "I" * (qubits - 1) + "Z"
    return CircuitSpec.from_circuit(circuit, [], list(w), label)


def ghz(qubits: int) -> CircuitSpec:
    """The GHZ state, without parameters."""
    circuit = QuantumCircuit(qubits)
    circuit.h(0)
    for qubit in range(qubits - 1):
        circuit.cx(qubit, qubit + 1)
    return CircuitSpec.from_circuit(circuit, [], [], "Z" * qubits)


def w_state(qubits: int) -> CircuitSpec:
    """The W state, without parameters."""
    circuit = QuantumCircuit(qubits)
    circuit.x(0)
    for qubit in range(qubits - 1):
        circuit.cry(2 * math.acos(math.sqrt(1 / (qubits - qubit))), qubit, qubit + 1)
        circuit.cx(qubit + 1, qubit)
    return CircuitSpec.from_circuit(circuit, [], [], "Z" * qubits)


def idle(qubits: int = 1) -> CircuitSpec:
    """Nothing but an X: one state, whatever is drawn."""
    circuit = QuantumCircuit(qubits)
    circuit.x(0)
    return CircuitSpec.from_circuit(circuit, [], [], "I" * (qubits - 1) + "Z")


def dense(qubits: int, layers: int) -> CircuitSpec:
    """Any rotation on every qubit and a ring of CNOTs, `layers` times: near to Haar-random. Z of qubit 0."""
    w = ParameterVector("w", 3 * qubits * layers)
    circuit = QuantumCircuit(qubits)
    for place, angle in enumerate(w):
        qubit = place // 3 % qubits
        (circuit.rz, circuit.ry, circuit.rz)[place % 3](angle, qubit)
        if qubits > 1 and place % (3 * qubits) == 3 * qubits - 1:
            for control in range(qubits if qubits > 2 else 1):
                circuit.cx(control, (control + 1) % qubits)
    return CircuitSpec.from_circuit(circuit, [], list(w), "I" * (qubits - 1) + "Z")


def qiskit_state(spec: CircuitSpec, row: np.ndarray) -> np.ndarray:
    """Amplitudes from Qiskit's Statevector for a row of inputs and weights; qubit 0 least significant."""
    from qiskit.quantum_info import Statevector

    names = (*spec.input_params, *spec.weight_params)
    values = {one: float(value) for one, value in zip(names, row) if one in spec.circuit.parameters}
    return np.asarray(Statevector(spec.circuit.assign_parameters(values)).data)
