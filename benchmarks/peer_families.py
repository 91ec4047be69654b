"""The families of circuits that the exact engine is compared on, and the batches of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.noise import NoiseProfile

RING_16 = [(node, (node + 1) % 16) for node in range(16)]
CUBIC_16 = [*RING_16, *((node, node + 8) for node in range(8))]
"""Edges of a 3-regular graph on 16 nodes."""


@dataclass(frozen=True)
class Family:
    """A circuit that grows with nothing but its batch.

    Attributes:
        build: Makes the circuit.
        batches: Numbers of samples of a step.
        peers: Names of the peers it is run on; the others cannot, or take minutes a sample.
        layer_gates: Gates of one repeated layer at the circuit's end, for peers that scan; 0 for none.
        noise: Depolarizing rates after every one- and two-qubit gate, or None.
    """

    build: Callable[[], CircuitSpec]
    batches: tuple[int, ...]
    peers: tuple[str, ...]
    layer_gates: int = 0
    noise: tuple[float, float] | None = None

    def profile(self) -> NoiseProfile | None:
        """Return the noise as a profile."""
        return None if self.noise is None else NoiseProfile.depolarizing(*self.noise)


def each_z(num_qubits: int) -> list[SparsePauliOp]:
    """Return Z of every qubit as an observable of its own."""
    return [SparsePauliOp.from_sparse_list([("Z", [q], 1.0)], num_qubits) for q in range(num_qubits)]


def rings(
    num_qubits: int, layers: int, entangler: str, *, upload: bool = False, wide: bool = False
) -> CircuitSpec:
    """RY(x), then layers of RY, RZ and a ring of CX or CRY; `upload` puts RY(x) in front of every layer."""
    angles = 3 if entangler == "cry" else 2
    x, w = ParameterVector("x", num_qubits), ParameterVector("w", angles * num_qubits * layers)
    circuit, free = QuantumCircuit(num_qubits), iter(w)
    for layer in range(layers):
        if upload or layer == 0:
            for qubit in range(num_qubits):
                circuit.ry(x[qubit], qubit)
        for qubit in range(num_qubits):
            circuit.ry(next(free), qubit)
        for qubit in range(num_qubits):
            circuit.rz(next(free), qubit)
        for qubit in range(num_qubits):
            pair = (qubit, (qubit + 1) % num_qubits)
            circuit.cry(next(free), *pair) if entangler == "cry" else circuit.cx(*pair)
    observables = [SparsePauliOp("Z" * num_qubits)] if wide else each_z(num_qubits)
    return CircuitSpec.from_circuit(circuit, list(x), list(w), observables)


def zz_map(num_qubits: int) -> CircuitSpec:
    """Qiskit's ZZFeatureMap (2 repetitions, full) and RealAmplitudes (3, reverse linear), every Z."""
    x, w = ParameterVector("x", num_qubits), ParameterVector("w", 4 * num_qubits)
    circuit = QuantumCircuit(num_qubits)
    for _ in range(2):
        for qubit in range(num_qubits):
            circuit.h(qubit)
            circuit.p(2 * x[qubit], qubit)
        for a in range(num_qubits):
            for b in range(a + 1, num_qubits):
                circuit.cx(a, b)
                circuit.p(2 * (np.pi - x[a]) * (np.pi - x[b]), b)
                circuit.cx(a, b)
    for layer in range(4):
        for qubit in range(num_qubits):
            circuit.ry(w[layer * num_qubits + qubit], qubit)
        if layer < 3:
            for qubit in reversed(range(num_qubits - 1)):
                circuit.cx(qubit, qubit + 1)
    return CircuitSpec.from_circuit(circuit, list(x), list(w), each_z(num_qubits))


def qaoa() -> CircuitSpec:
    """QAOA of depth 2 on a 3-regular graph of 16 nodes: four angles in, one sum of 24 ZZ out."""
    x = ParameterVector("x", 4)
    circuit = QuantumCircuit(16)
    circuit.h(range(16))
    for layer in range(2):
        for a, b in CUBIC_16:
            circuit.rzz(x[2 * layer], a, b)
        for qubit in range(16):
            circuit.rx(2 * x[2 * layer + 1], qubit)
    cut = SparsePauliOp.from_sparse_list([("ZZ", list(edge), 1.0) for edge in CUBIC_16], 16)
    return CircuitSpec.from_circuit(circuit, list(x), [], [cut])


def chain(num_qubits: int) -> CircuitSpec:
    """A GHZ chain behind RY(x), with RY(w) after it; Z on all qubits is the one observable."""
    x, w = ParameterVector("x", num_qubits), ParameterVector("w", num_qubits)
    circuit = QuantumCircuit(num_qubits)
    for qubit in range(num_qubits):
        circuit.ry(x[qubit], qubit)
    circuit.h(0)
    for qubit in range(num_qubits - 1):
        circuit.cx(qubit, qubit + 1)
    for qubit in range(num_qubits):
        circuit.ry(w[qubit], qubit)
    return CircuitSpec.from_circuit(circuit, list(x), list(w), [SparsePauliOp("Z" * num_qubits)])


DENSE = ("flagquantum", "tensorcircuit", "lightning", "qulacs")
SMALL = (*DENSE, "fastqml")
SCAN = ("flagquantum", "tensorcircuit scan", "lightning", "qulacs")
CONES = ("recurrence by hand", "lightning", "qulacs", "tensorcircuit light cones")
NOISY = ("aer density matrix, value only", "default.mixed")

FAMILIES: dict[str, Family] = {
    "hq_unet": Family(lambda: build_circuit("hq_unet_qcnn"), (1, 64, 1024), CONES),
    "qufex_8": Family(lambda: build_circuit("qufex_filter1", num_qubits=8), (1, 64, 576), SMALL),
    "qufex_12": Family(lambda: build_circuit("qufex_filter1", num_qubits=12), (1, 64, 576), DENSE),
    "qcq": Family(lambda: build_circuit("qcq_classifier"), (1, 10, 64, 1024), SMALL),
    "tiny": Family(lambda: rings(8, 3, "cry"), (1, 32, 1024), SMALL),
    "hea_10": Family(lambda: rings(10, 4, "cx"), (1, 64, 1024), SMALL),
    "hea_10_wide": Family(lambda: rings(10, 4, "cx", wide=True), (1, 64), DENSE),
    "hea_14": Family(lambda: rings(14, 4, "cx"), (1, 64), DENSE),
    "hea_18": Family(lambda: rings(18, 4, "cx"), (1,), DENSE),
    "hea_20": Family(lambda: rings(20, 4, "cx"), (1,), DENSE),
    "zz_6": Family(lambda: zz_map(6), (1, 64, 1024), SMALL),
    "zz_10": Family(lambda: zz_map(10), (1, 64), DENSE),
    "qaoa": Family(qaoa, (1, 8), (*DENSE, "tensorcircuit light cones")),
    "deep": Family(lambda: rings(4, 100, "cx"), (1, 256, 1024), SCAN, layer_gates=12),
    "deep_upload": Family(lambda: rings(4, 100, "cx", upload=True), (1, 256, 1024), SCAN, layer_gates=16),
    "chain_24": Family(lambda: chain(24), (1, 32), ("aer mps, value only",)),
    "noisy_8": Family(lambda: rings(8, 3, "cx"), (16,), NOISY, noise=(0.001, 0.01)),
    "noisy_10": Family(lambda: rings(10, 4, "cx"), (16,), NOISY, noise=(0.001, 0.01)),
}
"""By name; one entry makes a row of every batch."""
