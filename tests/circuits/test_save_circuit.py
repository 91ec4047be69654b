"""Circuits of Python as files of a workspace: what is written is what was given."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit.transpiler import CouplingMap

from qhybrid.circuits import CircuitSpec, build_circuit, export, list_circuits, load_circuit, save_circuit
from qhybrid.errors import CircuitError, WorkspaceError


@pytest.fixture(autouse=True)
def _workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def turned(order: str = "as written") -> CircuitSpec:
    x, w = ParameterVector("x", 2), [Parameter("b"), Parameter("a")]
    circuit = QuantumCircuit(2, name="turned")
    circuit.ry(x[0], 0)
    circuit.rx(x[1], 1)
    circuit.crz(w[0], 0, 1)
    circuit.ry(w[1], 1)
    weights = w if order == "as written" else w[::-1]
    return CircuitSpec.from_circuit(circuit, x, weights, ["ZI", "0.5 * X0 Y1; -0.25 * Z1", {"XX": 2.0}])


@pytest.mark.parametrize("order", ["as written", "reversed"])
def test_a_saved_circuit_has_the_values_of_the_given_one(order, tmp_path):
    """Inputs and weights in their order, observables with their factors; against Qiskit's statevector."""
    spec = turned(order)
    file = save_circuit(spec, "mine", description="Two qubits.")
    assert file == tmp_path.relative_to(tmp_path) / "circuits" / "mine.yaml"
    assert "inputs:\n- x\n" in file.read_text()
    found = build_circuit("mine")
    angles = np.array([0.3, -1.1, 0.7, 2.2])
    expected = {"x[0]": 0.3, "x[1]": -1.1}
    expected |= {"b": 0.7, "a": 2.2} if order == "as written" else {"a": 0.7, "b": 2.2}
    state = Statevector(spec.circuit.assign_parameters(expected))
    bound = dict(zip((*found.input_params, *found.weight_params), angles, strict=True))
    again = Statevector(found.circuit.assign_parameters(bound))
    wanted = [SparsePauliOp("ZI"), SparsePauliOp(["YX", "ZI"], [0.5, -0.25]), SparsePauliOp("XX", [2.0])]
    for observable, other in zip(wanted, found.observables, strict=True):
        assert again.expectation_value(other) == pytest.approx(state.expectation_value(observable))


@pytest.mark.parametrize("name", [*list_circuits()])
def test_every_circuit_of_the_package_survives(name):
    spec = build_circuit(name)
    save_circuit(spec, "copy")
    assert build_circuit("copy").fingerprint == spec.fingerprint


def test_files_are_kept_unless_told_otherwise(tmp_path):
    file = save_circuit(turned())
    assert file.name == "turned.yaml"
    before = file.read_bytes()
    with pytest.raises(
        WorkspaceError, match=r"turned\.qpy is there already\. Fix: another name, or overwrite"
    ):
        save_circuit(turned("reversed"))
    assert file.read_bytes() == before
    assert save_circuit(turned(), description="again") == file  # a script that runs again
    assert file.read_bytes() == before
    save_circuit(turned("reversed"), overwrite=True)
    assert file.read_bytes() != before


@pytest.mark.parametrize(("name", "why"), [("hq_unet_qcnn", "belongs to a builder"), ("a/b", "is none")])
def test_names_that_nobody_could_use_are_refused(name, why):
    with pytest.raises(CircuitError, match=why):
        save_circuit(turned(), name)


def test_parameters_with_alike_names_are_told_apart(tmp_path):
    """`x` would be the scalar, and half of a vector is not the vector."""
    x, scalar = ParameterVector("x", 2), Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.rx(x[0], 0)
    circuit.ry(scalar, 0)
    circuit.rz(x[1], 0)
    spec = CircuitSpec.from_circuit(circuit, [x[0]], [scalar, x[1]], ["Z0"], name="alike")
    save_circuit(spec)
    assert build_circuit("alike").fingerprint == spec.fingerprint


def test_a_circuit_that_would_be_another_one_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "format_observable", lambda observable: "Z0")
    with pytest.raises(CircuitError, match="must be the same"):
        save_circuit(turned())
    assert not (tmp_path / "circuits").exists()


def test_a_transpiled_circuit_keeps_its_observables(tmp_path):
    x = Parameter("x")
    circuit = QuantumCircuit(2)
    circuit.ry(x, 0)
    line = CouplingMap.from_line(4)
    routed = transpile(circuit, coupling_map=line, basis_gates=["rz", "sx", "cx"], initial_layout=[3, 1])
    spec = CircuitSpec.from_circuit(routed, [x], [], ["Z0", "Z1"])
    assert load_circuit(save_circuit(spec, "routed", tmp_path)).observables == spec.observables


def test_what_qpy_cannot_say_is_named(tmp_path):
    x = ParameterVector("x", 3)
    circuit = QuantumCircuit(1)
    circuit.ry(x[0], 0)
    circuit.rx(x[2], 0)
    with pytest.raises(CircuitError, match=r"no gate has x\[1\]"):
        save_circuit(CircuitSpec.from_circuit(circuit, x, [], "Z"), "gap", tmp_path)
    circuit.delay(100, 0, "ns")
    spec = CircuitSpec.from_circuit(circuit, [x[0], x[2]], [], "Z")
    with pytest.raises(CircuitError, match="delays in ns, but QPY keeps no units.*OpenQASM 3"):
        save_circuit(spec, "waits", tmp_path)
    assert not list(tmp_path.iterdir())
