"""Formulas and dead angles against the spec's values, Qiskit's states, and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from analysis_cases import dense, qiskit_state
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import Statevector

from qhybrid.analysis.closed_form import formulas
from qhybrid.analysis.dead import dead_angles
from qhybrid.analysis.parameters import Settings
from qhybrid.analysis.structure import structure_of
from qhybrid.analysis.values import ExactValues
from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.circuits.pauli import single_qubit_observables
from qhybrid.errors import CircuitError


def found(spec, **ranges):
    own = Settings(spec, **ranges)
    return own, formulas(own, structure_of(spec).cones)


def dead(spec, **ranges):
    own = Settings(spec, **ranges)
    return dead_angles(own, ExactValues(own))


def test_the_filter_of_one_layer_has_the_four_formulas_of_its_one_cnot():
    """The published rows' filter: one CNOT, from qubit 1 to qubit 3."""
    spec = build_circuit("qcq_filter", filter="random_layers", structure_seed=42)
    assert [one.text for one in found(spec)[1]] == [
        "cos(pi x[0])",
        "cos(pi x[1] + 0.238)",
        "0.594 sin(pi x[2])",
        "cos(pi x[3]) cos(pi x[1] + 0.238)",
    ]
    assert structure_of(spec).untouched == (0,)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("qcq_filter", {}),
        ("qcq_filter", {"filter": "random_layers", "layers": 3}),
        ("qcq_classifier", {"reps": 2}),
        ("qcnn", {"num_qubits": 2, "convolution": "n3"}),
    ],
)
def test_formulas_of_named_circuits_are_qiskits_values(name, arguments):
    spec = build_circuit(name, **arguments)
    own, texts = found(spec)
    assert texts
    rows = own.draw(5, "test")
    for one in texts:
        place = [cone.observable for cone in structure_of(spec).cones].index(one.observable)
        states = [Statevector(qiskit_state(spec, row)) for row in rows.numpy()]
        expected = [state.expectation_value(spec.observables[place]).real for state in states]
        np.testing.assert_allclose(one.values(rows), expected, atol=1e-12)


def test_a_formula_that_would_be_too_long_is_none():
    """51 angles on two qubits."""
    (one,) = found(build_circuit("qcnn", num_qubits=2))[1]
    assert (one.terms, one.text, one.to_dict()["products"]) == (None, "", None)
    with pytest.raises(CircuitError, match="at most 3000 products"):
        one.values(torch.zeros(1, 60))


def small_circuits():
    @st.composite
    def specs(draw):
        qubits = draw(st.integers(1, 3))
        x, w = ParameterVector("x", 2), ParameterVector("w", 2)
        circuit = QuantumCircuit(qubits)
        for _ in range(draw(st.integers(0, 7))):
            one = draw(st.sampled_from([*x, *w, 2 * x[0] - 0.3, w[0] - x[1], 0.5 * w[1], x[0] * w[0], 1.1]))
            places = draw(st.permutations(range(qubits)))
            gate = draw(st.sampled_from(["rx", "ry", "rz", "h", "t", "sx", "cx", "crx", "rzz", "iswap"]))
            if gate in ("cx", "crx", "rzz", "iswap"):
                if qubits > 1:
                    parameters = [one] if gate in ("crx", "rzz") else []
                    getattr(circuit, gate)(*parameters, places[0], places[1])
            else:
                getattr(circuit, gate)(*([one] if gate[0] == "r" else []), places[0])
        labels = draw(st.lists(st.text("IXYZ", min_size=qubits, max_size=qubits), min_size=1, max_size=2))
        return CircuitSpec.from_circuit(circuit, list(x), list(w), labels)

    return specs()


@settings(max_examples=60, deadline=None)
@given(small_circuits())
def test_formulas_of_any_circuit_are_qiskits_values(spec):
    own, texts = found(spec, input_range=(-2.0, 2.0), weight_range=(-2.0, 2.0))
    assert len(texts) == spec.num_observables
    rows = own.draw(3, "test")
    states = [Statevector(qiskit_state(spec, row)) for row in rows.numpy()]
    for one, observable in zip(texts, spec.observables):
        expected = [state.expectation_value(observable).real for state in states]
        np.testing.assert_allclose(one.values(rows), expected, atol=1e-10)


NAMES = {"cos": np.cos, "sin": np.sin, "pi": math.pi}


@settings(max_examples=40, deadline=None)
@given(small_circuits())
def test_the_text_of_a_formula_is_its_value_to_three_digits(spec):
    """Read back by Python after products get their signs."""
    import re

    own, texts = found(spec, input_range=(-2.0, 2.0), weight_range=(-2.0, 2.0))
    row = own.draw(1, "test")
    values = {f"{fact.name[0]}{fact.name[2]}": float(value) for fact, value in zip(own.facts, row[0])}
    for one in texts:
        text = re.sub(r"\[(\d)\]", r"\1", one.text)
        text = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", text)
        read = eval(text, {"__builtins__": {}}, {**NAMES, **values})
        # Each number has three digits; angles are at most about ten.
        assert read == pytest.approx(float(one.values(row)[0]), abs=0.02 * max(1, one.terms))


def test_dead_angles_of_the_classifier_are_those_behind_the_read_out():
    for reps in (1, 2, 3):
        assert dead(build_circuit("qcq_classifier", reps=reps)).dead == (f"w[{2 * reps + 1}]",)


def test_every_angle_of_hq_unets_circuit_is_alive():
    result = dead(build_circuit("hq_unet_qcnn"))
    assert (result.dead, result.unproved, result.trials) == ((), (), 16)


def test_a_rotation_that_commutes_with_what_is_read_is_dead_by_proof():
    x, (a, b, c, d) = Parameter("x"), ParameterVector("w", 4)
    circuit = QuantumCircuit(2)
    circuit.rz(a, 0)  # a phase: the qubit is |0>
    circuit.ry(x, 0)
    circuit.cx(0, 1)
    circuit.ry(d, 1)
    circuit.rz(b, 0)  # Z0 is read
    circuit.rzz(c, 0, 1)  # and so is nothing else
    spec = CircuitSpec.from_circuit(circuit, [x], [a, b, c, d], "IZ")
    result = dead(spec)
    assert result.dead == ("w[0]", "w[1]", "w[2]", "w[3]")
    assert result.unproved == ()
    both = CircuitSpec.from_circuit(circuit, [x], [a, b, c, d], ["IZ", "XI"])
    assert dead(both).dead == ("w[0]", "w[1]")


def test_what_cancels_is_seen_but_not_called_dead():
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    circuit.rx(w, 0)
    circuit.rx(-w, 0)
    result = dead(CircuitSpec.from_circuit(circuit, [x], [w], "Z"))
    assert (result.dead, result.unproved) == ((), ("w",))


def test_a_parameter_of_no_gate_is_dead():
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    assert dead(
        CircuitSpec("a", circuit, (x,), (w,), build_circuit("qcq_filter", num_qubits=1).observables)
    ).dead == ("w",)


@pytest.mark.parametrize("largest", [2048, 4, 0])
def test_proofs_by_letters_alone(monkeypatch, largest):
    """First and last rotations about Z of a deep circuit: phases of |0>, and Z behind CNOTs."""
    import qhybrid.analysis.dead as module

    monkeypatch.setattr(module, "LARGEST_SET", largest)
    spec = dense(4, 3)
    every = CircuitSpec("a", spec.circuit, (), spec.weight_params, single_qubit_observables("Z", 4))
    result = dead(every)
    assert result.dead == tuple(f"w[{i}]" for i in (0, 3, 6, 9, 26, 29, 32, 35))
    assert result.unproved == ()


@settings(max_examples=60, deadline=None)
@given(small_circuits(), st.sampled_from([2048, 0]))
def test_angles_with_a_gradient_are_never_called_dead(spec, largest):
    """`dead_angles` raises if a gradient contradicts its proof; gradients are the engine's."""
    own = Settings(spec, input_range=(-2.0, 2.0), weight_range=(-2.0, 2.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qhybrid.analysis.dead.LARGEST_SET", largest)
        result = dead_angles(own, ExactValues(own))
    gradients = ExactValues(own).gradients(own.draw(4, "other")).abs().amax((0, 1))
    for fact, size in zip(own.facts, gradients.tolist()):
        assert (fact.name in (*result.dead, *result.unproved)) == (size < 1e-10)
    assert torch.isfinite(gradients).all()
