"""PennyLane as a peer: lightning.qubit by adjoint differentiation; default.mixed under noise."""

from __future__ import annotations

import pennylane as qml
import torch
from peer_circuits import gates_of, observables_of
from peer_families import Family
from peer_steps import Step, torch_step

from qhybrid.circuits import CircuitSpec

FIXED = {"h": qml.Hadamard, "x": qml.PauliX, "cx": qml.CNOT, "cz": qml.CZ}
ROTATIONS = {
    "rx": qml.RX,
    "ry": qml.RY,
    "rz": qml.RZ,
    "p": qml.PhaseShift,
    "crx": qml.CRX,
    "cry": qml.CRY,
    "crz": qml.CRZ,
    "rzz": qml.IsingZZ,
}


def _observables(spec: CircuitSpec) -> list[qml.operation.Operator]:
    found = []
    for terms in observables_of(spec):
        products = [
            qml.prod(*(getattr(qml, letter)(qubit) for letter, qubit in letters)) for _, letters in terms
        ]
        found.append(qml.dot([factor for factor, _ in terms], products) if len(terms) > 1 else products[0])
    return found


def _apply(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> None:
    for gate in gates_of(spec):
        if gate.radians is None:
            FIXED[gate.name](wires=gate.qubits)
        else:
            ROTATIONS[gate.name](gate.radians(inputs, weights), wires=gate.qubits)
        if family.noise is not None:
            _depolarize(gate.qubits, family.noise[len(gate.qubits) - 1])


def _depolarize(qubits: tuple[int, ...], rate: float) -> None:
    """Apply rho -> (1 - p) rho + p I / 2^k, as Qiskit counts p: every Pauli with p / 4^k."""
    if len(qubits) == 1:
        qml.DepolarizingChannel(3 * rate / 4, wires=qubits)
        return
    paulis = [torch.eye(2, dtype=torch.complex128), *(torch.as_tensor(m) for m in _PAULIS)]
    share = [1 - 15 * rate / 16] + [rate / 16] * 15
    kraus = [share[4 * a + b] ** 0.5 * torch.kron(paulis[a], paulis[b]) for a in range(4) for b in range(4)]
    qml.QubitChannel([k.numpy() for k in kraus], wires=qubits)


_PAULIS = [qml.matrix(letter(0)) for letter in (qml.PauliX, qml.PauliY, qml.PauliZ)]


def lightning(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return a step of lightning.qubit, sample by sample, with a device VJP."""
    options = {"diff_method": "adjoint", "device_vjp": True}
    return _each("lightning.qubit", options, spec, family, inputs, weights)


def mixed(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return a step of default.mixed by backpropagation, sample by sample."""
    return _each("default.mixed", {"diff_method": "backprop"}, spec, family, inputs, weights)


def _each(
    device: str,
    options: dict[str, object],
    spec: CircuitSpec,
    family: Family,
    inputs: torch.Tensor,
    weights: torch.Tensor,
) -> Step:
    observables = _observables(spec)

    @qml.qnode(qml.device(device, wires=spec.num_qubits), interface="torch", **options)
    def circuit(row: torch.Tensor, weights: torch.Tensor) -> list[qml.measurements.ExpectationMP]:
        _apply(spec, family, row, weights)
        return [qml.expval(observable) for observable in observables]

    return torch_step(
        lambda inputs, weights: torch.stack([torch.stack(circuit(row, weights)) for row in inputs]),
        inputs.double(),
        weights.double(),
    )
