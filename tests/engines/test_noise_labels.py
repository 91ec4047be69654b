"""Labels decide nothing, except that of a matrix whose noise the profile lists."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Gate, Parameter
from qiskit.circuit.library import CXGate, PauliGate, RXGate, UnitaryGate, XGate
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.errors import CircuitError, EngineError
from qhybrid.noise import NoiseProfile

F64 = torch.float64
X = np.array([[0, 1], [1, 0]])
LABELS = ["delay 5", "delay", "after cx", "part of a gate", "id", "barrier", "global_phase", "measure", "h"]
ENGINES = [("exact", {}), ("aer", {"method": "density_matrix"})]
pytestmark = pytest.mark.filterwarnings("ignore:.*taken apart")


def values(gate, profile, label="IZ"):
    """<Z> after one gate, on both engines."""
    circuit = QuantumCircuit(max(2, gate.num_qubits))
    circuit.append(gate, range(gate.num_qubits))
    observable = SparsePauliOp("I" * (circuit.num_qubits - 2) + label)
    spec = CircuitSpec.from_circuit(circuit, list(circuit.parameters), [], observable)
    inputs = torch.full((1, spec.num_inputs), np.pi, dtype=F64)
    nothing = torch.zeros(0, dtype=F64)
    return [
        make_engine(kind, noise=profile, **options).expectations(spec, inputs, nothing).item()
        for kind, options in ENGINES
    ]


@pytest.mark.parametrize("label", LABELS)
def test_labels_decide_nothing(label):
    profile = NoiseProfile.depolarizing(p_1q=0.1, p_2q=0.2)
    for gate in (XGate(label=label), RXGate(Parameter("t"), label=label), UnitaryGate(X, label=label)):
        assert values(gate, profile) == pytest.approx([-0.9, -0.9], abs=1e-9)
    assert values(CXGate(label=label), profile) == pytest.approx([0.8, 0.8], abs=1e-9)


@pytest.mark.parametrize("label", ["mine", "id", "h", "delay"])
def test_a_matrix_takes_the_noise_of_a_label_that_the_profile_lists(label):
    profile = NoiseProfile(p_1q=0.1, gates={label: {"p": 0.3}})
    assert values(UnitaryGate(X, label=label), profile) == pytest.approx([-0.7, -0.7], abs=1e-9)
    if label not in ("mine", "delay"):  # the name of no gate, and nowhere in the circuit, is an error
        assert values(XGate(label=label), profile) == pytest.approx([-0.9, -0.9], abs=1e-9)
        assert values(UnitaryGate(X), profile) == pytest.approx([-0.9, -0.9], abs=1e-9)


def test_the_name_of_a_gate_of_another_size_is_not_meant():
    profile = NoiseProfile(p_2q=0.2, gates={"x": {"p": 0.3}})
    assert values(UnitaryGate(np.kron(np.eye(2), X), label="x"), profile) == pytest.approx([-0.8, -0.8])


def test_a_listed_label_within_a_composite_gate_is_refused():
    block = QuantumCircuit(1, name="block")
    block.append(UnitaryGate(X, label="h"), [0])
    with pytest.raises(EngineError, match="lists gate `h`.*inside a composite"):
        values(block.to_gate(), NoiseProfile(gates={"h": {"p": 0.3}}))


def test_labels_within_composite_gates_decide_nothing():
    block = QuantumCircuit(1, name="block")
    block.append(XGate(label="part of a gate"), [0])
    assert values(block.to_gate(), NoiseProfile.depolarizing(p_1q=0.1)) == pytest.approx([-0.9, -0.9])


def test_pauli_gates_take_noise():
    """`pauli` is taken apart, into one x on each qubit; where it is listed, its noise follows once."""
    apart = NoiseProfile.depolarizing(p_1q=0.1, p_2q=0.5)
    assert values(PauliGate("XX"), apart) == pytest.approx([-0.9, -0.9])
    listed = NoiseProfile(p_1q=0.1, gates={"pauli": {"p": 0.25}})
    assert values(PauliGate("XX"), listed) == pytest.approx([-0.75, -0.75])
    assert values(PauliGate("XX"), listed, "ZZ") == pytest.approx([0.75, 0.75])


class Three(Gate):
    """A gate on three qubits that has a matrix alone."""

    def __init__(self):
        super().__init__("three", 3, [])

    def __array__(self, dtype=None, copy=None):
        """Flip all qubits."""
        return np.eye(8)[::-1].astype(complex)


def test_large_matrices_without_a_definition_are_refused_under_noise_alone():
    assert values(Three(), None) == pytest.approx([-1, -1])
    with pytest.raises(CircuitError, match="`three` acts on 3 and has a matrix and no definition.*Fix"):
        values(Three(), NoiseProfile.depolarizing(p_1q=0.1))


def test_every_name_of_aers_instructions_is_taken():
    from qiskit_aer import AerSimulator

    from qhybrid.circuits.own_gates import is_taken

    assert all(is_taken(name) for name in AerSimulator().operation_names)
