"""PennyLane as a peer: lightning.qubit by adjoint differentiation, default.qubit by backpropagation."""

from __future__ import annotations

from collections.abc import Callable

import pennylane as qml
import torch
from peer_circuits import gates_of, letters_of

from qhybrid.circuits import CircuitSpec

Run = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
PAULIS = {"X": qml.PauliX, "Y": qml.PauliY, "Z": qml.PauliZ}
FIXED = {"h": qml.Hadamard, "cx": qml.CNOT, "cz": qml.CZ}
ROTATIONS = {"rx": qml.RX, "ry": qml.RY, "rz": qml.RZ}


def _node(spec: CircuitSpec, device: str, **options: object) -> Run:
    gates, letters = gates_of(spec), letters_of(spec)

    @qml.qnode(qml.device(device, wires=spec.num_qubits), interface="torch", **options)
    def circuit(inputs: torch.Tensor, weights: torch.Tensor) -> list[qml.measurements.ExpectationMP]:
        for gate in gates:
            if gate.angle is None:
                FIXED[gate.name](wires=gate.qubits)
            else:
                ROTATIONS[gate.name](gate.radians(inputs, weights), wires=gate.qubits)
        return [qml.expval(PAULIS[letter](qubit)) for letter, qubit in letters]

    return circuit


def lightning(spec: CircuitSpec) -> Run:
    """Return expectation values by lightning.qubit, sample by sample, with a device VJP."""
    circuit = _node(spec, "lightning.qubit", diff_method="adjoint", device_vjp=True)
    return lambda inputs, weights: torch.stack([torch.stack(circuit(row, weights)) for row in inputs])


def default_backprop(spec: CircuitSpec) -> Run:
    """Return expectation values by default.qubit, the batch broadcast, recorded by torch."""
    circuit = _node(spec, "default.qubit", diff_method="backprop")
    return lambda inputs, weights: torch.stack(list(circuit(inputs, weights)), dim=1)
