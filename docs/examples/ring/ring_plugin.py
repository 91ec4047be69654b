"""The ring circuit as a plugin, for any number of qubits.

QHYBRID_PLUGINS=ring_plugin.py qhybrid circuits show ring --arg num_qubits=8
"""

from __future__ import annotations

from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector

from qhybrid.circuits import CircuitSpec, register_circuit
from qhybrid.circuits.pauli import single_qubit_observables

__version__ = "1.0"


def ring(num_qubits: int = 4, layers: int = 2) -> CircuitSpec:
    """Ring with CRX gates and data re-uploading.

    Args:
        num_qubits: Number of qubits; each takes one input angle, in every layer anew.
        layers: Times that the data are uploaded and the gates go around.

    Returns:
        Inputs: one angle a qubit, radians. Weights: one angle a qubit and layer, radians. Observables: <Z> of
        each qubit.
    """
    inputs, weights = ParameterVector("x", num_qubits), ParameterVector("w", layers * num_qubits)
    circuit = QuantumCircuit(num_qubits)
    for layer in range(layers):
        for qubit in range(num_qubits):
            circuit.ry(inputs[qubit], qubit)
        for qubit in range(num_qubits):
            circuit.crx(weights[layer * num_qubits + qubit], qubit, (qubit + 1) % num_qubits)
    observables = single_qubit_observables("Z", num_qubits)
    return CircuitSpec.from_circuit(circuit, list(inputs), list(weights), observables, name="ring")


register_circuit("ring", ring)
