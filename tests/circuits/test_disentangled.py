"""A circuit without its gates on two or more qubits, against circuits written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Gate, Parameter, ParameterVector
from qiskit.circuit.library import UnitaryGate, XGate, efficient_su2, zz_feature_map
from qiskit.quantum_info import SparsePauliOp, Statevector, partial_trace, random_unitary

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.circuits.disentangled import disentangled, entangling_gates
from qhybrid.errors import CircuitError

NAMED = {
    "hq_unet_qcnn": {"grid": 2},
    "qcnn": {},
    "qcq_classifier": {"reps": 3},
    "qcq_filter": {"layers": 2},
    "qufex_filter1": {},
    "qufex_filter2": {},
}


def values(spec, inputs, weights):
    """Return all expectation values from Qiskit's state vector."""
    parameters = dict(zip([*spec.input_params, *spec.weight_params], [*inputs, *weights], strict=True))
    bound = spec.circuit.assign_parameters(
        {one: parameters[one] for one in parameters if one in spec.circuit.parameters}
    )
    state = Statevector(bound)
    return np.array([state.expectation_value(one).real for one in spec.observables])


def random_values(spec, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(-3, 3, spec.num_inputs), generator.uniform(-3, 3, spec.num_weights)


def test_two_qubits_by_hand():
    x, w = ParameterVector("x", 2), ParameterVector("w", 2)
    circuit = QuantumCircuit(2)
    circuit.ry(x[0], 0)
    circuit.ry(x[1], 1)
    circuit.crx(w[0], 0, 1)
    circuit.cx(1, 0)
    circuit.rx(w[1], 0)
    spec = CircuitSpec.from_circuit(circuit, x, w, ["ZI", "IZ", "ZZ"])
    found = disentangled(spec)
    assert dict(found.circuit.count_ops()) == {"ry": 2, "rx": 1}
    a, b, c, d = 0.3, -1.1, 0.7, 2.0
    first, second = math.cos(a) * math.cos(d), math.cos(b)
    assert values(found, (a, b), (c, d)) == pytest.approx([second, first, first * second], abs=1e-12)


def test_parameters_and_observables_stay_and_dead_angles_change_nothing():
    x, w = ParameterVector("x", 1), ParameterVector("w", 3)
    circuit = QuantumCircuit(2)
    circuit.ry(x[0], 0)
    circuit.crz(w[0], 0, 1)
    circuit.rx(w[1], 1)
    circuit.rxx(w[2] + x[0], 0, 1)
    spec = CircuitSpec.from_circuit(circuit, x, w, ["ZI", "IX", "YY"])
    found = disentangled(spec)
    assert (found.input_params, found.weight_params) == (spec.input_params, spec.weight_params)
    assert found.observables == spec.observables
    assert set(found.circuit.parameters) == {x[0], w[1]}
    first, second = values(found, (0.4,), (1, 2, 3)), values(found, (0.4,), (-1, 2, 0.5))
    assert first == pytest.approx(second, abs=1e-12)


@pytest.mark.parametrize("name", NAMED)
def test_named_circuits_become_products(name):
    spec = build_circuit(name, **NAMED[name])
    assert entangling_gates(spec) > 0
    found = disentangled(spec)
    assert entangling_gates(found) == 0
    inputs, weights = random_values(spec)
    bound = found.circuit.assign_parameters(
        {
            one: value
            for one, value in zip([*spec.input_params, *spec.weight_params], [*inputs, *weights])
            if one in found.circuit.parameters
        }
    )
    state = Statevector(bound)
    others = list(range(spec.num_qubits))
    for qubit in range(spec.num_qubits):
        rest = [one for one in others if one != qubit]
        assert partial_trace(state, rest).purity().real == pytest.approx(1, abs=1e-12)


def test_zz_feature_map_keeps_only_its_one_qubit_gates():
    x = ParameterVector("x", 3)
    spec = CircuitSpec.from_circuit(zz_feature_map(3, 1).assign_parameters(x), x, [], ["IIX", "IYI"])
    found = disentangled(spec)
    # H then P(2 x): the Bloch vector is (cos 2x, sin 2x, 0). What stands between two CNOTs is kept:
    # P(2 (pi - x0)(pi - x1)) and P(2 (pi - x0)(pi - x2)), P(2 (pi - x1)(pi - x2)) on the targets.
    x0, x1, x2 = 0.2, 0.5, -0.4
    angle = 2 * x1 + 2 * (math.pi - x0) * (math.pi - x1)
    expected = [math.cos(2 * x0), math.sin(angle)]
    assert values(found, (x0, x1, x2), ()) == pytest.approx(expected, abs=1e-12)


def test_composites_are_taken_apart_and_standard_gates_are_not():
    inner = efficient_su2(3, reps=1)
    circuit = QuantumCircuit(4)
    circuit.append(inner.to_gate(), [3, 1, 0])
    circuit.swap(0, 2)  # of three CNOTs by its definition, and of U1 and U3 for `crz`: they go whole
    circuit.crz(0.3, 1, 2)
    spec = CircuitSpec.from_circuit(circuit, [], list(inner.parameters), ["IIIZ", "ZIII"])
    assert entangling_gates(spec) == 4
    by_hand = QuantumCircuit(4)
    for row in range(2):
        for place, qubit in enumerate((3, 1, 0)):
            by_hand.ry(inner.parameters[6 * row + place], qubit)
            by_hand.rz(inner.parameters[6 * row + 3 + place], qubit)
    expected = CircuitSpec.from_circuit(by_hand, [], list(inner.parameters), ["IIIZ", "ZIII"])
    _, weights = random_values(spec)
    found = disentangled(spec)
    assert set(found.circuit.count_ops()) == {"ry", "rz"}
    assert values(found, (), weights) == pytest.approx(values(expected, (), weights), abs=1e-12)


def test_matrices_controlled_gates_and_boxes():
    circuit = QuantumCircuit(3)
    circuit.append(UnitaryGate(random_unitary(2, seed=1)), [0])
    circuit.append(UnitaryGate(random_unitary(4, seed=2)), [0, 1])
    circuit.append(XGate().control(2), [0, 1, 2])
    pair = QuantumCircuit(2, name="pair")
    pair.h(0)
    pair.cz(0, 1)
    pair.ry(0.4, 1)
    with circuit.box():
        circuit.append(pair.to_instruction(), [1, 2])
    own = Gate("own", 2, [])
    own.definition = pair
    circuit.append(own, [2, 0])
    found = disentangled(CircuitSpec.from_circuit(circuit, [], [], ["IIZ"]))
    names = dict(found.circuit.count_ops())
    names.pop("barrier", None)  # a box leaves them
    assert names == {"unitary": 1, "h": 2, "ry": 2}


def test_a_circuit_without_entangling_gates_stays():
    x = Parameter("x")
    circuit = QuantumCircuit(2)
    circuit.rx(x, 0)
    circuit.barrier()
    circuit.rz(0.2, 1)
    spec = CircuitSpec.from_circuit(circuit, [x], [], ["IZ"])
    assert entangling_gates(spec) == 0
    assert disentangled(spec).fingerprint == spec.fingerprint


def test_a_measurement_is_refused():
    circuit = QuantumCircuit(1, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    with pytest.raises(CircuitError, match="must be unitary to be disentangled, but one holds `measure`"):
        disentangled(CircuitSpec("measured", circuit, (), (), (SparsePauliOp("Z"),)))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 4), st.permutations(range(3)), st.floats(-3, 3)), max_size=12))
def test_any_circuit_gives_products_of_its_values(gates):
    circuit = QuantumCircuit(3)
    for kind, (first, second, third), angle in gates:
        if kind == 0:
            circuit.ry(angle, first)
        elif kind == 1:
            circuit.rx(angle, first)
        elif kind == 2:
            circuit.cx(first, second)
        elif kind == 3:
            circuit.rzz(angle, first, second)
        else:
            circuit.ccx(first, second, third)
    observables = [SparsePauliOp(label) for label in ("IIZ", "IXI", "ZII", "IXZ", "ZXI", "ZXZ")]
    found = values(disentangled(CircuitSpec.from_circuit(circuit, [], [], observables)), (), ())
    a, b, c = found[:3]
    assert found[3:] == pytest.approx([a * b, b * c, a * b * c], abs=1e-12)
