"""A user's gate that is called like one of Qiskit's does what its definition says, on every engine."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit, qasm2, qasm3
from qiskit.circuit import Gate, Parameter
from qiskit.circuit.library import PauliEvolutionGate, RXGate, RYGate, UnitaryGate
from qiskit.quantum_info import SparsePauliOp, Statevector

from qhybrid.circuits import CircuitSpec
from qhybrid.circuits.own_gates import with_own_names
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.errors import CircuitError
from qhybrid.noise import NoiseProfile

TAKEN = [
    "id", "barrier", "delay", "swap", "rx", "rzx", "z", "u", "cx", "measure", "reset", "initialize", "kraus",
    "global_phase", "unitary", "pauli", "mcx", "if_else", "save_expval",
]  # fmt: skip
ENGINES = [
    ("exact", {}),
    ("exact", {"method": "statevector"}),
    ("aer", {}),
    ("aer", {"method": "density_matrix"}),
]


def flip(name, qubits=1):
    """Return a gate that flips its qubits."""
    definition = QuantumCircuit(qubits)
    definition.x(range(qubits))
    gate = Gate(name, qubits, [])
    gate.definition = definition
    return gate


def value(spec, kind="exact", noise=None, **options):
    engine = make_engine(kind, noise=noise, **options)
    return float(engine.expectations(spec, torch.zeros(1, 0), torch.zeros(0))[0, 0])


def spec_of(circuit, observable="IZ"):
    return CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp(observable)])


@pytest.mark.filterwarnings("ignore:.*taken apart")
@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("nested", [False, True])
def test_a_taken_name_has_no_meaning(name, nested):
    qubits = 2 if name in ("swap", "rzx", "cx") else 1
    inner = QuantumCircuit(qubits, name="block")
    inner.append(flip(name, qubits), range(qubits))
    circuit = QuantumCircuit(2)
    circuit.append(inner.to_gate() if nested else flip(name, qubits), range(qubits))
    spec = spec_of(circuit)
    for kind, options in ENGINES:
        assert value(spec, kind, **options) == pytest.approx(-1)
    # Taken apart, it is one `x` gate on the qubit that is read: it shrinks by 1 - p.
    noise = NoiseProfile.depolarizing(p_1q=0.1, p_2q=0.2)
    for kind, options in (("exact", {}), ("aer", {"method": "density_matrix"})):
        noisy = value(spec, kind, noise, **options)
        assert noisy == pytest.approx(value(plain_flip(qubits), kind, noise, **options), abs=1e-9)
        assert -1 < noisy < -0.8


def plain_flip(qubits):
    circuit = QuantumCircuit(2)
    circuit.x(range(qubits))
    return spec_of(circuit)


def test_devices_run_the_definition():
    circuit = QuantumCircuit(2)
    circuit.append(flip("rx"), [0])
    circuit.append(flip("swap", 2), [0, 1])
    routed = spec_of(circuit).transpile(load_device("fake_torino"), seed=0)
    assert value(routed.restrict(routed.used_qubits)) == pytest.approx(1)


@pytest.mark.parametrize("reader", ["qasm2", "qasm3"])
def test_gates_of_openqasm_files(reader):
    if reader == "qasm2":
        circuit = qasm2.loads("OPENQASM 2.0;\ngate id a { U(pi,0,pi) a; }\nqreg q[1];\nid q[0];")
    else:
        circuit = qasm3.loads('OPENQASM 3.0;\ninclude "stdgates.inc";\ngate delay2 a { x a; }\n'
                              "gate ecr a { x a; }\nqubit[1] q;\necr q[0];")  # fmt: skip
    assert value(spec_of(circuit, "Z")) == pytest.approx(-1)


def test_free_parameters_reach_the_definition():
    angle = Parameter("a")
    definition = QuantumCircuit(1)
    definition.ry(2 * angle, 0)
    gate = Gate("rz", 1, [angle])
    gate.definition = definition
    circuit = QuantumCircuit(1)
    circuit.append(gate, [0])
    spec = CircuitSpec.from_circuit(circuit, [angle], [], [SparsePauliOp("Z")])
    for kind, options in ENGINES:
        found = make_engine(kind, **options).expectations(
            spec, torch.tensor([[0.3]], dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
        )
        assert float(found[0, 0]) == pytest.approx(np.cos(0.6), abs=1e-6)


class OnlyAMatrix(Gate):
    """A gate called like one of Qiskit's, with a matrix and nothing else."""

    def __init__(self):
        super().__init__("z", 1, [])

    def __array__(self, dtype=None, copy=None):
        return np.array([[0, 1], [1, 0]], dtype=complex)


def test_matrices_count_and_nothing_is_an_error():
    circuit = QuantumCircuit(1)
    circuit.append(OnlyAMatrix(), [0])
    assert value(spec_of(circuit, "Z")) == pytest.approx(-1)
    empty = QuantumCircuit(1)
    empty.append(Gate("rx", 1, []), [0])
    with pytest.raises(CircuitError, match="`rx` is called like a gate of Qiskit's.*Fix: give it a"):
        spec_of(empty, "Z")


def test_a_renamed_gate_of_qiskits_is_what_its_class_says():
    gate = RXGate(np.pi).to_mutable()
    gate.name = "rz"
    circuit = QuantumCircuit(1)
    circuit.append(gate, [0])
    assert value(spec_of(circuit, "Z")) == pytest.approx(-1)


def test_what_tells_the_truth_stays_as_it_is():
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.cx(0, 1, ctrl_state=0)
    circuit.append(RYGate(0.3).control(2), [0, 1, 2])
    circuit.append(UnitaryGate(np.eye(2), label="mine"), [0])
    circuit.barrier()
    kept = with_own_names(circuit)
    assert kept is not circuit
    assert kept == circuit


def test_a_spec_owns_its_circuit():
    circuit = QuantumCircuit(1)
    circuit.x(0)
    spec = spec_of(circuit, "Z")
    before = spec.fingerprint
    circuit.x(0)
    assert value(spec) == pytest.approx(-1)
    assert spec.fingerprint == before != spec_of(circuit, "Z").fingerprint


@pytest.mark.parametrize("make", [spec_of, lambda circuit, one: CircuitSpec("a", circuit, (), (), (one,))])
def test_a_spec_owns_its_observables(make):
    circuit, observable = QuantumCircuit(1), SparsePauliOp(["Z", "X"], [1.0, 0.5])
    spec = make(circuit, observable)
    observable.coeffs[0] = 3.0
    observable.paulis.x[0, 0] = True
    assert value(spec) == pytest.approx(1)
    assert spec.observables == (SparsePauliOp(["Z", "X"], [1.0, 0.5]),)
    assert spec.fingerprint != make(circuit, observable).fingerprint


def test_an_evolution_is_its_definition_bound_or_free():
    time = Parameter("t")
    operator = SparsePauliOp(["XI", "ZZ", "IY"], [0.7, 1.1, 0.4])
    free = QuantumCircuit(2)
    free.append(PauliEvolutionGate(operator, time), [0, 1])
    bound = free.assign_parameters({time: 0.8})
    right = Statevector(bound.decompose(reps=3)).expectation_value(SparsePauliOp("IZ")).real
    spec = CircuitSpec.from_circuit(free, [time], [], [SparsePauliOp("IZ")])
    for kind, options in ENGINES:
        symbolic = make_engine(kind, **options).expectations(
            spec, torch.tensor([[0.8]], dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
        )
        assert float(symbolic[0, 0]) == pytest.approx(right, abs=1e-9)
        assert value(spec_of(bound), kind, **options) == pytest.approx(right, abs=1e-6)


class OwnDefinition(RXGate):
    """A class of a user's that inherits the matrix of a standard gate and says another definition."""

    def _define(self):
        self.definition = QuantumCircuit(1)
        self.definition.x(0)


class OwnMatrix(RYGate):
    """A class of a user's that inherits the definition of a standard gate and has another matrix."""

    def __array__(self, dtype=None, copy=None):
        """Return the matrix of `x`."""
        return np.array([[0, 1], [1, 0]], dtype=complex)


class Contradiction(Gate):
    """A gate whose definition and matrix differ; with an angle of 0 they agree."""

    def __init__(self, angle):
        super().__init__("both", 1, [angle])

    def _define(self):
        self.definition = QuantumCircuit(1)
        self.definition.ry(self.params[0], 0)

    def __array__(self, dtype=None, copy=None):
        """Return the matrix of another rotation."""
        return RXGate(self.params[0]).to_matrix()


@pytest.mark.parametrize("gate", [OwnDefinition(0.3), OwnMatrix(0.3)])
def test_what_a_class_says_itself_counts(gate):
    circuit = QuantumCircuit(1)
    circuit.append(gate, [0])
    noise = NoiseProfile.depolarizing(p_1q=0.1)
    for kind, options in ENGINES:
        assert value(spec_of(circuit, "Z"), kind, **options) == pytest.approx(-1)
    for kind, options in (("exact", {}), ("aer", {"method": "density_matrix"})):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert abs(value(spec_of(circuit, "Z"), kind, noise, **options)) <= 0.9 + 1e-9


@pytest.mark.parametrize("angle", [0.3, Parameter("a")])
def test_contradictions_are_refused(angle):
    circuit = QuantumCircuit(1)
    circuit.append(Contradiction(angle), [0])
    with pytest.raises(CircuitError, match="`both` has a definition and a matrix, which must be the same"):
        CircuitSpec.from_circuit(circuit, list(circuit.parameters), [], [SparsePauliOp("Z")])


def test_specs_of_specs_stay_as_they_are():
    circuit = QuantumCircuit(2)
    circuit.append(flip("id"), [0])
    circuit.append(flip("x").control(1, annotated=True), [0, 1])
    spec = spec_of(circuit)
    assert spec_of(spec.circuit).fingerprint == spec.fingerprint
