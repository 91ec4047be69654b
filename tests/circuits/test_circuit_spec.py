"""CircuitSpec: what it checks, and what its fingerprint depends on."""

from __future__ import annotations

import dataclasses

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.errors import CircuitError


def small_spec(first="a", second="w", factor=2.0, gate="rx", observable="ZI", name="small", swap=False):
    """Build a circuit whose first gate has an expression of both parameters as its angle."""
    a, w = Parameter(first), Parameter(second)
    circuit = QuantumCircuit(2, name=name)
    getattr(circuit, gate)(factor * a + w, 0)
    circuit.ry(w, 1)
    circuit.cx(*((1, 0) if swap else (0, 1)))
    return CircuitSpec.from_circuit(circuit, [a], [w], SparsePauliOp(observable))


def test_from_circuit_takes_one_observable_or_several():
    assert small_spec().num_observables == 1
    x = ParameterVector("x", 2)
    circuit = QuantumCircuit(2, name="two")
    circuit.rx(x[0], 0)
    circuit.rx(x[1], 1)
    spec = CircuitSpec.from_circuit(circuit, x, [], [SparsePauliOp("ZI"), SparsePauliOp("IZ")], name="mine")
    assert (spec.name, spec.num_qubits, spec.num_inputs, spec.num_weights) == ("mine", 2, 2, 0)
    assert spec.num_observables == 2


def test_parameter_in_no_list_is_named():
    circuit = QuantumCircuit(1, name="open")
    circuit.rx(Parameter("forgotten"), 0)
    with pytest.raises(CircuitError, match="`open` has parameter.*forgotten.*assign_parameters"):
        CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("Z"))


def test_parameter_in_both_lists_is_named():
    a = Parameter("a")
    circuit = QuantumCircuit(1)
    circuit.rx(a, 0)
    with pytest.raises(CircuitError, match="given once, but a appear"):
        CircuitSpec.from_circuit(circuit, [a], [a], SparsePauliOp("Z"))


def test_observable_of_another_size_gives_both_numbers():
    with pytest.raises(CircuitError, match=r"all 2 qubits of the circuit, but observable 0 has 1\. Fix"):
        small_spec(observable="Z")


def test_unused_parameters_are_allowed():
    spec = CircuitSpec.from_circuit(QuantumCircuit(1), [Parameter("x")], [Parameter("w")], SparsePauliOp("Z"))
    assert (spec.num_inputs, spec.num_weights) == (1, 1)


def test_fields_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        small_spec().name = "other"


@pytest.mark.parametrize(
    "same",
    [
        {"first": "zz", "second": "b"},
        {"first": "b", "second": "zz"},
        {"first": "w0", "second": "x0"},
        {"name": "other"},
    ],
)
def test_fingerprint_ignores_names(same):
    assert small_spec(**same).fingerprint == small_spec().fingerprint


@pytest.mark.parametrize(
    "other", [{"factor": 3.0}, {"factor": 2.0000000001}, {"gate": "ry"}, {"swap": True}, {"observable": "IZ"}]
)
def test_fingerprint_follows_content(other):
    assert small_spec(**other).fingerprint != small_spec().fingerprint


def test_fingerprint_follows_the_order_of_inputs():
    x = ParameterVector("x", 2)
    circuit = QuantumCircuit(1)
    circuit.rx(x[0], 0)
    circuit.ry(x[1], 0)
    specs = [CircuitSpec.from_circuit(circuit, order, [], SparsePauliOp("Z")) for order in (x[:], x[::-1])]
    assert specs[0].fingerprint != specs[1].fingerprint


def test_fingerprint_tells_all_variants_apart_and_repeats():
    variants = [
        {"grid": 2},
        {"grid": 3},
        {"grid": 4},
        {"grid": 4, "pair_order": "even_odd"},
        {"grid": 2, "encoding": "y"},
        {"grid": 2, "readout": "Z"},
        {"grid": 2, "readout": "XZ"},
        {"grid": 2, "reps": 2},
    ]
    prints = [build_circuit("hq_unet_qcnn", **variant).fingerprint for variant in variants]
    assert len(set(prints)) == len(variants)
    assert prints == [build_circuit("hq_unet_qcnn", **variant).fingerprint for variant in variants]
