"""The classifier circuit of QCQ-CNN (doi 10.1038/s41598-025-13417-1, equations 15 to 19)."""

from __future__ import annotations

from qiskit import QuantumCircuit
from qiskit.circuit.library import real_amplitudes, zz_feature_map

from qhybrid.circuits.arguments import check_integer
from qhybrid.circuits.pauli import parse_observables
from qhybrid.circuits.spec import CircuitSpec


def qcq_classifier(num_qubits: int = 2, reps: int = 2, feature_map_reps: int = 2) -> CircuitSpec:
    """Build a ZZ feature map followed by real amplitudes.

    Both parts are Qiskit's own: `zz_feature_map` (full entanglement) and `real_amplitudes` (CNOTs from the
    last pair to the first).

    Args:
        num_qubits: Number of features, at least 2; the paper has 2.
        reps: Repetitions of the ansatz; 1, 2, 3 are the paper's depths 3, 5, 7 with 4, 6, 8 angles.
        feature_map_reps: Repetitions of the feature map; Qiskit's default is 2.

    Returns:
        Inputs: one feature a qubit, radians. Weights: (reps + 1) * num_qubits RY angles, radians, layer by
        layer; those of the last layer on qubits other than 0 do not reach the output. Observable: Z of
        qubit 0.

    Raises:
        CircuitError: If an argument is out of range.
    """
    check_integer("num_qubits", num_qubits, 2)
    check_integer("reps", reps, 0)
    check_integer("feature_map_reps", feature_map_reps, 1)
    features = zz_feature_map(num_qubits, reps=feature_map_reps, parameter_prefix="x")
    ansatz = real_amplitudes(num_qubits, reps=reps, parameter_prefix="w")
    circuit = QuantumCircuit(num_qubits, name="qcq_classifier")
    circuit.compose(features, inplace=True)
    circuit.barrier()
    circuit.compose(ansatz, inplace=True)
    return CircuitSpec(
        "qcq_classifier",
        circuit,
        tuple(features.parameters),
        tuple(ansatz.parameters),
        parse_observables(["Z0"], num_qubits),
    )
