"""Observables as text."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit.quantum_info import Operator, SparsePauliOp

from qhybrid.circuits.pauli import format_observable, parse_observable, single_qubit_observables
from qhybrid.errors import CircuitError

PAULIS = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


@st.composite
def observables(draw):
    """Draw any real Pauli sum on 1 to 4 qubits."""
    n = draw(st.integers(1, 4))
    labels = draw(st.lists(st.text("IXYZ", min_size=n, max_size=n), min_size=1, max_size=5))
    factors = st.floats(-1e6, 1e6, allow_nan=False)
    return SparsePauliOp(labels, draw(st.lists(factors, min_size=len(labels), max_size=len(labels))))


@given(observables())
def test_text_round_trip_is_exact(observable):
    back = parse_observable(format_observable(observable), observable.num_qubits)
    assert back.paulis.to_labels() == observable.paulis.to_labels()
    assert np.array_equal(back.coeffs, observable.coeffs)


@given(st.text(max_size=30))
def test_any_other_text_is_refused_cleanly(text):
    with contextlib.suppress(CircuitError):
        assert parse_observable(text, 3).num_qubits == 3


def test_letters_and_numbers_mean_the_tensor_product():
    observable = parse_observable("0.5 * Z0 Y2; -2e-1 * X1; 3 * I0", 3)
    # Qiskit's matrix order: qubit 0 is the last factor.
    expected = (
        0.5 * np.kron(np.kron(PAULIS["Y"], PAULIS["I"]), PAULIS["Z"])
        - 0.2 * np.kron(np.kron(PAULIS["I"], PAULIS["X"]), PAULIS["I"])
        + 3 * np.eye(8)
    )
    np.testing.assert_allclose(Operator(observable).data, expected)


def test_single_qubit_observables_are_letter_major():
    texts = [format_observable(o) for o in single_qubit_observables("ZX", 3)]
    assert texts == ["Z0", "Z1", "Z2", "X0", "X1", "X2"]


def test_a_label_of_qiskit_has_qubit_0_on_the_right():
    np.testing.assert_array_equal(
        Operator(parse_observable("XIZ", 3)).data, Operator(parse_observable("Z0 X2", 3)).data
    )
    with pytest.raises(
        CircuitError, match="one letter for each of the 3 qubits, the last one for qubit 0, but"
    ):
        parse_observable("XZ", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must look like"),
        ("Z", "must look like"),
        ("z0", "must look like"),
        ("Z0;", "must look like"),
        ("2 Z0", "must look like"),
        ("1j * Z0", "must look like"),
        ("nan * Z0", "must look like"),
        ("Z0 X0", "names a qubit twice"),
        ("Z0; X1 X1", "names a qubit twice"),
        ("Z3", "qubits 0 to 2, but names qubit 3"),
    ],
)
def test_bad_texts(text, message):
    with pytest.raises(CircuitError, match=message):
        parse_observable(text, 3)


def test_factors_are_written_as_short_as_they_are_read():
    """0.7, not 0.69999999999999996: names of observables are read by people, and label pictures."""
    observable = SparsePauliOp(["IZ", "XI", "II"], [0.7, -2.0, 1e-20])
    assert format_observable(observable) == "0.7 * Z0; -2 * X1; 1e-20 * I0"


def test_factors_without_end_are_refused():
    with pytest.raises(CircuitError, match="factor 1e400, which is too large"):
        parse_observable("1e400 * Z0", 1)
