"""Gates that cannot be executed are refused with a remedy when a circuit becomes a spec."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Gate, Parameter
from qiskit.circuit.library import HamiltonianGate
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_machine_learning.circuit.library import raw_feature_vector

from qhybrid.circuits import CircuitSpec
from qhybrid.errors import CircuitError


class Broken(Gate):
    """A gate whose definition cannot be made."""

    def __init__(self, *params):
        super().__init__("broken", 1, list(params))

    def _define(self):
        raise ValueError("no idea")


def spec_of(circuit):
    observable = SparsePauliOp("Z" * circuit.num_qubits)
    return CircuitSpec.from_circuit(circuit, list(circuit.parameters), [], observable)


@pytest.mark.parametrize("wrapped", [False, True])
def test_amplitudes_of_data_are_refused(wrapped):
    circuit = raw_feature_vector(4)
    if wrapped:
        outer = QuantumCircuit(2)
        outer.append(circuit.to_instruction(), [0, 1])
        circuit = outer
    with pytest.raises(CircuitError, match="parameters into amplitudes.*Fix: encode them as angles"):
        spec_of(circuit)


def test_initialize_of_used_qubits_is_refused_and_its_remedy_works():
    amplitudes = np.array([0.6, 0.8])
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.initialize(amplitudes)
    with pytest.raises(CircuitError, match=r"`initialize`, which resets.*Fix: circuit\.prepare_state"):
        spec_of(circuit)
    fixed = QuantumCircuit(1)
    fixed.prepare_state(amplitudes)
    assert Statevector(spec_of(fixed).circuit).equiv(Statevector(amplitudes))


@pytest.mark.parametrize("params", [(), (Parameter("t"),)])
def test_definitions_that_raise_are_refused(params):
    circuit = QuantumCircuit(1)
    circuit.append(Broken(*params), [0])
    with pytest.raises(CircuitError, match=r"gate `broken`.*ValueError: no idea.*Fix: "):
        spec_of(circuit)


def test_a_matrix_takes_the_place_of_a_definition_where_nothing_is_free():
    circuit = QuantumCircuit(1)
    circuit.append(HamiltonianGate(np.diag([1.0, -1.0]), 0.3), [0])
    assert spec_of(circuit).num_inputs == 0
    circuit.append(HamiltonianGate(np.diag([1.0, -1.0]), Parameter("t")), [0])
    with pytest.raises(CircuitError, match="`hamiltonian`.*while its parameters are free"):
        spec_of(circuit)
