"""Examples of every kind of noise channel, and Kraus operators applied by hand."""

from __future__ import annotations

import math

import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator

from qhybrid.circuits import CircuitSpec
from qhybrid.noise import CHANNELS, NoiseChannel, NoiseProfile, Rate

EXAMPLES = {
    "thermal_relaxation": [
        {"ns": 300.0, "t1_us": 2.0, "t2_us": 1.5},
        {"ns": 300.0, "t1_us": 2.0},
        {"ns": 300.0, "t2_us": 1.5},
        {"ns": 300.0, "t1_us": 2.0, "t2_us": 4.0},
    ],
    "pauli": [
        {"probabilities": {"X": 0.03, "Y": 0.01, "Z": 0.06}},
        {"probabilities": {"ZX": 0.05, "IY": 0.02, "XX": 0.01}},
    ],
    "coherent_rotation": [{"axis": axis, "angle_rad": 0.17} for axis in ("X", "Y", "Z", "XX", "ZZ", "ZX")],
}
"""Kinds whose fields are not all rates, or that differ by their settings; others need no example here."""


def examples(kind: str) -> list[NoiseChannel]:
    """Return channels of a kind: those listed above, else 0.1 (and 0.02) for every rate."""
    channel = CHANNELS.get(kind)
    if kind in EXAMPLES:
        return [channel(**fields) for fields in EXAMPLES[kind]]
    rates = channel.rate_fields()
    return [channel(**{name: size * value(rate) for name, rate in rates.items()}) for size in (0.1, 0.02)]


def value(rate: Rate) -> float:
    return 10.0 if rate.law == "divided" else 1.0


def all_examples() -> list[tuple[str, NoiseChannel]]:
    return [(f"{kind}-{i}", one) for kind in CHANNELS.names() for i, one in enumerate(examples(kind))]


def embedded(matrix: np.ndarray, qubits: list[int], num_qubits: int) -> np.ndarray:
    """Return a matrix on some qubits, on all of them; first qubit least significant everywhere."""
    size = 2**num_qubits
    result = np.zeros((size, size), dtype=complex)
    for column in range(size):
        own = sum((column >> qubit & 1) << place for place, qubit in enumerate(qubits))
        rest = column & ~sum(1 << qubit for qubit in qubits)
        for row in range(len(matrix)):
            place = rest | sum((row >> i & 1) << qubit for i, qubit in enumerate(qubits))
            result[place, column] += matrix[row, own]
    return result


def apply(operators: list[np.ndarray], rho: np.ndarray, qubits: list[int]) -> np.ndarray:
    num_qubits = int(math.log2(len(rho)))
    whole = [embedded(np.asarray(one), qubits, num_qubits) for one in operators]
    return sum(one @ rho @ one.conj().T for one in whole)


def noisy_gate(rho, matrix, qubits, profile):
    """Return the state after a gate and all channels of a profile, which act after every gate they fit."""
    rho = apply([matrix], rho, qubits)
    for site in profile.channels:
        channel = site.channel
        if len(qubits) in channel.sizes:
            rho = apply(channel.kraus(len(qubits)), rho, qubits)
        elif 1 in channel.sizes:
            for qubit in qubits:
                rho = apply(channel.kraus(1), rho, [qubit])
    return rho


def by_hand(circuit: QuantumCircuit, labels: list[str], profile: NoiseProfile) -> np.ndarray:
    """Return what reading Pauli strings gives: noisy rotations to Z, then faulty measurements."""
    rho = np.zeros((2**circuit.num_qubits,) * 2, dtype=complex)
    rho[0, 0] = 1.0
    for instruction in circuit.data:
        qubits = [circuit.find_bit(qubit).index for qubit in instruction.qubits]
        rho = noisy_gate(rho, Operator(instruction.operation).data, qubits, profile)
    return np.array([read(rho, label, profile) for label in labels])


def read(rho, label, profile):
    rotations = {"X": ["h"], "Y": ["sdg", "h"], "Z": []}
    matrices = {"h": np.array([[1, 1], [1, -1]]) / np.sqrt(2), "sdg": np.diag([1, -1j])}
    total = np.eye(len(rho), dtype=complex)
    for qubit, letter in enumerate(reversed(label)):
        if letter == "I":
            continue
        for name in rotations[letter]:
            rho = noisy_gate(rho, matrices[name], [qubit], profile)
        p01, p10 = profile.readout(qubit)
        seen = np.diag([1 - 2 * p10, -1 + 2 * p01]).astype(complex)
        total = total @ embedded(seen, [qubit], int(math.log2(len(rho))))
    return float(np.trace(total @ rho).real)


LABELS = ["IZ", "ZI", "IX", "YI", "XY", "ZZ"]


def small_spec() -> CircuitSpec:
    """Two qubits, gates on one and two of them, two inputs and a weight; read in X, Y and Z."""
    from qiskit.circuit import Parameter
    from qiskit.quantum_info import SparsePauliOp

    x, y, w = Parameter("x"), Parameter("y"), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.rx(x, 0)
    circuit.ry(w, 1)
    circuit.cx(0, 1)
    circuit.rzz(y, 1, 0)
    circuit.h(0)
    circuit.crx(w, 1, 0)
    return CircuitSpec.from_circuit(circuit, [x, y], [w], [SparsePauliOp(label) for label in LABELS])


def bound(spec: CircuitSpec, inputs, weights) -> QuantumCircuit:
    values = dict(zip([*spec.input_params, *spec.weight_params], [*inputs, *weights]))
    return spec.circuit.assign_parameters({p: float(v) for p, v in values.items()})
