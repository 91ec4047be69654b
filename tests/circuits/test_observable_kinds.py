"""Observables of every kind that Qiskit has, against the matrix of the same operator."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import Operator, Pauli, PauliList, ScalarOp, SparseObservable, SparsePauliOp

from qhybrid.circuits import CircuitSpec
from qhybrid.circuits.pauli import sparse_observable
from qhybrid.errors import CircuitError

PLAIN = SparsePauliOp.from_list([("ZI", 0.5), ("XY", -0.25)])
WAYS = {
    "sparse": PLAIN,
    "operator": Operator(PLAIN),
    "matrix": PLAIN.to_matrix(),
    "sparse_observable": SparseObservable.from_sparse_pauli_op(PLAIN),
    "mapping": {"ZI": 0.5, "XY": -0.25},
    "text": "0.5 * Z1; -0.25 * Y0 X1",
}


def turned() -> QuantumCircuit:
    x = ParameterVector("x", 2)
    circuit = QuantumCircuit(2)
    circuit.ry(x[0], 0)
    circuit.rx(x[1], 1)
    return circuit


def spec_of(observables, circuit: QuantumCircuit | None = None) -> CircuitSpec:
    circuit = circuit or turned()
    return CircuitSpec.from_circuit(circuit, list(circuit.parameters), [], observables)


@pytest.mark.parametrize("way", WAYS)
def test_one_operator_in_every_way_it_may_be_given(way):
    (found,) = spec_of(WAYS[way]).observables
    np.testing.assert_allclose(found.to_matrix(), PLAIN.to_matrix(), atol=1e-12)
    (listed,) = spec_of([WAYS[way]]).observables
    assert listed == found


@pytest.mark.parametrize(
    ("given", "label", "factor"),
    [("ZI", "ZI", 1), ("-XY", "XY", -1), (Pauli("-ZZ"), "ZZ", -1), (ScalarOp((2, 2), 3), "II", 3)],
)
def test_labels_and_paulis_keep_their_order_and_sign(given, label, factor):
    (found,) = spec_of(given).observables
    np.testing.assert_allclose(found.to_matrix(), factor * Operator(Pauli(label)).data, atol=1e-12)


def test_lists_may_mix_kinds_and_a_pauli_list_is_several():
    found = spec_of(["Z0", Pauli("ZI"), Operator(Pauli("XX")), SparsePauliOp("IY")]).observables
    assert [one.paulis.to_labels() for one in found] == [["IZ"], ["ZI"], ["XX"], ["IY"]]
    assert spec_of(PauliList(["ZI", "XX"])).observables == (SparsePauliOp("ZI"), SparsePauliOp("XX"))


def test_every_kind_follows_the_layout_of_a_transpiled_circuit():
    placed = transpile(turned(), coupling_map=[[0, 1], [1, 2]], initial_layout=[2, 0], optimization_level=0)
    for given in ("ZI", Pauli("ZI"), Operator(Pauli("ZI")), "Z1"):
        assert spec_of(given, placed).observables == (SparsePauliOp("IIZ"),)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Operator(np.array([[0, 1], [0, 0]])), "Hermitian"),
        ({"ZI": 1j}, "Hermitian"),
        ({"ZI": complex(0, float("nan"))}, "Hermitian"),
        (Pauli("iZZ"), "Hermitian"),
        (np.ones((3, 3)), "but is"),
        (PauliList(["ZI", "XX"]), "several observables"),
        (3.5, "of type float"),
        (None, "of type NoneType"),
        ("Q0", "must look like"),
    ],
)
def test_what_is_no_observable_is_refused(given, message):
    with pytest.raises(CircuitError, match=message):
        sparse_observable(given, 2)


@pytest.mark.parametrize("given", [7, None, [None], ["ZZZ"]])
def test_what_does_not_fit_is_refused_at_once(given):
    with pytest.raises(CircuitError):
        spec_of(given)


def test_a_spec_itself_takes_sums_of_pauli_strings_alone():
    circuit = turned()
    with pytest.raises(CircuitError, match="from_circuit"):
        CircuitSpec("plain", circuit, tuple(circuit.parameters), (), (Pauli("ZI"),))
