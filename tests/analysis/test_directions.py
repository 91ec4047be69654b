"""Ranks and effective dimension against the spec, Qiskit's states and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from analysis_cases import dense, product, qiskit_state, turn
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector

from qhybrid.analysis import text as sections
from qhybrid.analysis.directions import (
    dimension_of,
    effective_dimension,
    jacobian_rank,
    quantum_fisher,
    quantum_rank,
)
from qhybrid.analysis.estimates import Estimate, NotComputed
from qhybrid.analysis.parameters import Settings
from qhybrid.analysis.states import StateVectors
from qhybrid.analysis.values import ExactValues
from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.errors import ConfigError


def prepared(spec):
    own = Settings(spec)
    return own, ExactValues(own), StateVectors(own.lowered, own.count)


@pytest.mark.parametrize(("reps", "angles", "rank"), [(1, 4, 3), (2, 6, 4), (3, 8, 4)])
def test_the_classifiers_third_repetition_adds_nothing(reps, angles, rank):
    """Its real rotations turn Z0's two-dimensional eigenspace in R^4: dim Gr(2, 4) = 4 is all there is."""
    own, values, _ = prepared(build_circuit("qcq_classifier", reps=reps))
    found = jacobian_rank(own, values)
    assert (found.rank, found.columns, found.note) == (rank, angles, "")
    assert found.reached == found.settings == 8
    assert found.smallest > 1e3 * found.next


def test_quantum_fisher_information_is_that_of_finite_differences():
    spec = build_circuit("qcq_classifier", reps=1)
    own, _, states = prepared(spec)
    rows = own.draw(2, "test")
    found = quantum_fisher(own, states, rows).numpy()
    for row, matrix in zip(rows.numpy(), found):

        def derivative(place, row=row):
            step = np.zeros(own.count)
            step[place] = 1e-5
            return (qiskit_state(spec, row + step) - qiskit_state(spec, row - step)) / 2e-5

        state = qiskit_state(spec, row)
        slopes = [derivative(place) for place in own.weights]
        expected = [
            [4 * (np.vdot(a, b) - np.vdot(a, state) * np.vdot(state, b)).real for b in slopes] for a in slopes
        ]
        np.testing.assert_allclose(matrix, expected, atol=1e-8)


def test_quantum_fisher_information_of_one_rotation_is_one():
    own, _, states = prepared(product(3))
    np.testing.assert_allclose(
        quantum_fisher(own, states, own.draw(2, "t")), np.stack([np.eye(3)] * 2), atol=1e-12
    )


def test_ranks_of_states():
    """A state of n qubits has 2 (2^n - 1) directions; a phase is none."""
    own, _, states = prepared(dense(2, 4))
    found = quantum_rank(own, states, 1)
    assert (found.rank, found.columns) == (6, 24)
    w = ParameterVector("w", 2)
    circuit = QuantumCircuit(1)
    circuit.rz(w[0], 0)
    circuit.ry(w[1], 0)
    own, _, states = prepared(CircuitSpec.from_circuit(circuit, [], list(w), "Z"))
    assert quantum_rank(own, states, 1).rank == 1


def test_many_inputs_show_directions_that_one_does_not():
    x, w = ParameterVector("x", 1), ParameterVector("w", 2)
    circuit = QuantumCircuit(1)
    circuit.ry(x[0], 0)
    circuit.ry(w[0], 0)
    circuit.ry(w[1], 0)
    same = CircuitSpec.from_circuit(circuit, list(x), list(w), "Z")
    own, values, states = prepared(same)
    assert quantum_rank(own, states, 8).rank == 1
    assert jacobian_rank(own, values).rank == 1
    own, _, states = prepared(build_circuit("qcq_classifier", reps=2))
    assert quantum_rank(own, states, 1).rank == 5
    assert quantum_rank(own, states, 8).rank == 6


def test_a_function_of_no_weight_says_so():
    w = ParameterVector("w", 2)
    circuit = QuantumCircuit(1)
    circuit.rz(w[0], 0)
    circuit.rz(w[1], 0)
    own, values, states = prepared(CircuitSpec.from_circuit(circuit, [], list(w), "Z"))
    assert jacobian_rank(own, values).rank == 0
    assert "nothing depends on a weight" in jacobian_rank(own, values).note
    assert quantum_rank(own, states, 1).rank == 0
    assert "zero" in str(effective_dimension(own, values))
    own, values, states = prepared(turn())
    for found in (jacobian_rank(own, values), quantum_rank(own, states, 1), effective_dimension(own, values)):
        assert isinstance(found, NotComputed)
        assert "no weights" in str(found)


@pytest.mark.parametrize(("size", "data"), [(1, 100), (4, 1000), (10, 10**6)])
def test_the_effective_dimension_of_identity_fisher(size, data):
    kappa = data / (2 * math.pi * math.log(data))
    found = dimension_of(np.stack([np.eye(size)] * 5), data)
    assert found.value == pytest.approx(size * math.log(1 + kappa) / math.log(kappa))
    assert found.error == pytest.approx(0.0, abs=1e-12)
    # Its scale does not matter, nor do weights that nothing depends on: one over d of d is left of rank 1.
    assert dimension_of(np.stack([7 * np.eye(size)] * 5), data).value == pytest.approx(found.value)


def test_the_effective_dimension_of_other_fishers_by_hand():
    kappa = 1000 / (2 * math.pi * math.log(1000))
    flat = np.zeros((3, 4, 4))
    flat[:, 0, 0] = 1
    assert dimension_of(flat, 1000).value == pytest.approx(math.log(1 + 4 * kappa) / math.log(kappa))
    unequal = np.stack([np.eye(1), 3 * np.eye(1)])
    expected = 2 * math.log((math.sqrt(1 + kappa / 2) + math.sqrt(1 + 1.5 * kappa)) / 2) / math.log(kappa)
    assert dimension_of(unequal, 1000).value == pytest.approx(expected)


def test_rotations_of_their_own_have_the_full_dimension():
    """F(w) of product(1) is sin^2 w: by quadrature."""
    own, values, _ = prepared(product(1))
    found = effective_dimension(own, values)
    kappa = 1000 / (2 * math.pi * math.log(1000))
    angles = (np.arange(10_000) + 0.5) * 2 * math.pi / 10_000
    expected = 2 * math.log(np.sqrt(1 + kappa * 2 * np.sin(angles) ** 2).mean()) / math.log(kappa)
    assert abs(found.value.value - expected) < 4 * found.value.error
    assert isinstance(found.value, Estimate)
    assert (found.weights, found.data, found.inputs) == (1, 1000, 1)


@pytest.mark.parametrize(("data", "gamma"), [(1, 1.0), (60, 1.0), (1000, 0.0), (1000, 1.5), (1000, 0.01)])
def test_too_few_data_are_refused(data, gamma):
    own, values, _ = prepared(product(1))
    with pytest.raises(ConfigError, match="needs gamma in"):
        effective_dimension(own, values, data, gamma)


def test_equal_layers_have_dimensions_in_order():
    dimensions = []
    for reps in (1, 2):
        own, values, _ = prepared(build_circuit("qcq_classifier", reps=reps))
        dimensions.append(effective_dimension(own, values).value)
    assert dimensions[0].value + 3 * dimensions[0].error < dimensions[1].value


def uploads(weights):
    """One qubit that reads its input between rotations of their own weights: many directions."""
    x, w = ParameterVector("x", 1), ParameterVector("w", weights)
    circuit = QuantumCircuit(1)
    for number, angle in enumerate(w):
        circuit.ry(angle, 0)
        circuit.rz((number + 1) * x[0], 0)
        circuit.rx(0.3, 0)
    return CircuitSpec.from_circuit(circuit, list(x), list(w), "Z")


def test_a_rank_that_the_number_of_inputs_bounds_says_so(monkeypatch):
    """One input of one output shows one direction of eight; that the others add nothing would be wrong."""
    own, values, _ = prepared(uploads(8))
    whole = jacobian_rank(own, values)
    assert (whole.rank, whole.bounded) == (8, False)
    monkeypatch.setattr("qhybrid.analysis.values.BUDGET", 2.0)
    few = jacobian_rank(own, values)
    assert (few.rank, few.inputs, few.settings, few.bounded) == (1, 1, 2, True)
    assert "bounded by the sample" in few.note
    said = sections.rank_text("outputs", few)
    assert "rank at least 1 of 8 weights, what the other 7 add is not known" in said
    assert "add nothing" not in said


def test_states_of_few_inputs_do_not_bound_the_rank_of_all(monkeypatch):
    """Eight inputs of one qubit show 16 directions at most, of 24 weights."""
    own, _, states = prepared(uploads(24))
    found = quantum_rank(own, states, 8)
    assert (found.inputs, found.bounded) == (24, False)
    assert found.rank > 16
    monkeypatch.setattr("qhybrid.analysis.directions.QFI_WORK", 1.2 * 8 * states.work * (1 + 3 * 24))
    few = quantum_rank(own, states, 8)
    assert (few.rank, few.inputs, few.bounded) == (16, 8, True)


def test_the_effective_dimension_of_few_inputs_is_within_its_error(monkeypatch):
    """64 inputs of one output hide directions of 51 weights, and the spread over weights does not show it."""
    own, values, _ = prepared(build_circuit("qcnn"))
    usual = effective_dimension(own, values)
    assert usual.inputs == 408
    monkeypatch.setattr("qhybrid.analysis.directions.FISHER_ROWS", 1)
    few = effective_dimension(own, values)
    assert few.inputs == 64
    assert abs(few.value.value - usual.value.value) < 2 * few.value.error


def test_an_effective_dimension_of_too_few_gradients_is_refused(monkeypatch):
    own, values, _ = prepared(build_circuit("qcnn"))
    monkeypatch.setattr("qhybrid.analysis.values.BUDGET", 2e6)
    assert "needs the gradients of at least 51 inputs" in effective_dimension(own, values).reason
    monkeypatch.setattr("qhybrid.analysis.values.BUDGET", 2.0)
    assert "multiply-adds for 10 settings" in effective_dimension(own, values).reason
