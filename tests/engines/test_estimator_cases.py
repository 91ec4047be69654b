"""What Qiskit's own tests ask of StatevectorEstimator, asked of both classes, and what ours has besides."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import real_amplitudes
from qiskit.primitives import StatevectorEstimator
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.quantum_info import Pauli, SparsePauliOp, Statevector

from qhybrid.engines import make_engine
from qhybrid.engines.faces import ExactEstimator
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

both = pytest.mark.parametrize("estimator", [StatevectorEstimator, ExactEstimator])
HAMILTONIANS = (
    SparsePauliOp(["II", "IZ", "XI"], [1, 2, 3]),
    SparsePauliOp("IZ"),
    SparsePauliOp(["ZI", "ZZ"]),
)
ANGLES = ([0, 1, 1, 2, 3, 5], [0, 1, 1, 2, 3, 5, 8, 13], [1, 2, 3, 4, 5, 6])


def ansatz(reps=2):
    circuit = QuantumCircuit(2)
    circuit.append(real_amplitudes(2, reps=reps), [0, 1])
    return circuit


def value(circuit, observable, angles=()):
    """The expectation value by Qiskit's Statevector."""
    return Statevector(circuit.assign_parameters(list(angles))).expectation_value(observable).real


@both
def test_values_of_pubs(estimator):
    first, second = ansatz(2), ansatz(3)
    h1, h2, h3 = HAMILTONIANS
    a1, a2, a3 = ANGLES
    result = (
        estimator()
        .run(
            [
                (first, h1, [a1]),
                (second, h1, a2),
                (first, [h2, h3], a1),
                (first, [h1, h3], [a1, a3]),
                (second, h2, a2),
                EstimatorPub(
                    first,
                    ObservablesArray.coerce([h1, h3]),
                    BindingsArray.coerce({tuple(first.parameters): [a1, a3]}),
                ),
            ]
        )
        .result()
    )
    expected = [
        [value(first, h1, a1)],
        value(second, h1, a2),
        [value(first, h2, a1), value(first, h3, a1)],
        [value(first, h1, a1), value(first, h3, a3)],
        value(second, h2, a2),
        [value(first, h1, a1), value(first, h3, a3)],
    ]
    for one, wanted in zip(result, expected):
        np.testing.assert_allclose(one.data.evs, wanted, atol=1e-12)
        assert np.shape(one.data.evs) == np.shape(wanted)


@both
@pytest.mark.parametrize("values", [None, [], [[]], np.array([]), np.array([[]]), [np.array([])]])
@pytest.mark.parametrize(
    "observables", ["Z", [["Z"], ["X"], ["I"]], [Pauli("Z"), "X", SparsePauliOp("Z", 2)]]
)
def test_circuits_without_parameters(estimator, values, observables):
    circuit = QuantumCircuit(1)
    circuit.x(0)
    pub = (circuit, observables, values)
    result = estimator().run([pub]).result()[0]
    reference = StatevectorEstimator().run([pub]).result()[0]
    assert result.data.evs.shape == reference.data.evs.shape
    np.testing.assert_allclose(result.data.evs, reference.data.evs, atol=1e-12)
    assert result.metadata["target_precision"] == 0


@both
@pytest.mark.parametrize("values", [[np.pi], np.array([np.pi]), [[np.pi]], {"x": np.pi}])
def test_one_parameter(estimator, values):
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    result = estimator().run([(circuit, "Z", values)]).result()
    np.testing.assert_allclose(result[0].data.evs, [-1] if np.ndim(values) == 2 else -1)


@both
def test_order_of_qubits(estimator):
    circuit = QuantumCircuit(2)
    circuit.x(0)
    result = estimator().run([(circuit, ["II", "ZI", "IZ"])]).result()
    np.testing.assert_allclose(result[0].data.evs, [1, 1, -1])


@both
def test_arguments_that_do_not_fit(estimator):
    one, two = QuantumCircuit(1), QuantumCircuit(2)
    face = estimator()
    for pub, precision in [
        ((one, "II"), None),
        ((one, "I", [[1e4]]), None),
        ((two, "II", [[1, 2]]), None),
        ((one, ["I", "II"], [[1]]), None),
        ((one, "I"), -1),
        ((one, 1j * SparsePauliOp("I")), 0.1),
    ]:
        with pytest.raises(ValueError):
            face.run([pub], precision=precision).result()
    with pytest.raises(ValueError, match="An invalid Estimator pub-like was given"):
        face.run((one, "I")).result()
    with pytest.raises(TypeError, match="precision"):
        face.run([(one, "I")], precision="a").result()


@both
def test_arrays_and_lists_of_values(estimator):
    circuit = ansatz()
    rows = np.random.default_rng(12).random((5, 6))
    observable = SparsePauliOp(["IZ", "XI", "ZY"], [1, 2, -1])
    expected = [value(circuit, observable, row) for row in rows]
    for given in (rows, rows.tolist(), list(rows)):
        result = estimator().run(iter([(circuit, observable, given)])).result()
        np.testing.assert_allclose(result[0].data.evs, expected, atol=1e-12)


@both
def test_an_integer_seed_starts_again_at_each_pub(estimator):
    pub = (ansatz(), HAMILTONIANS[0], [ANGLES[0]])
    wanted = StatevectorEstimator(default_precision=1.0, seed=1).run([pub]).result()[0].data.evs
    face = estimator(default_precision=1.0, seed=1)
    for result in (*face.run([pub]).result(), *face.run([pub, pub]).result()):
        np.testing.assert_allclose(result.data.evs, wanted, atol=1e-12)
    exact = face.run([pub], precision=0).result()[0]
    np.testing.assert_allclose(exact.data.evs, [value(*pub[:2], ANGLES[0])], atol=1e-12)
    assert exact.metadata["target_precision"] == 0


@both
@pytest.mark.parametrize("seed", [None, 3])
def test_equal_pubs_are_drawn_independently(estimator, seed):
    """With a generator, and without a seed; an integer would start again."""
    pub = (ansatz(), ["ZZ", "ZZ"], ANGLES[0])
    face = estimator(seed=None if seed is None else np.random.default_rng(seed))
    found = np.concatenate([r.data.evs for r in face.run([pub, pub, pub], precision=0.1).result()])
    assert len(set(found)) == 6


@both
def test_metadata(estimator):
    first, second = QuantumCircuit(2), QuantumCircuit(2)
    second.metadata = {"a": 1}
    result = estimator().run([(first, "ZZ"), (second, "ZZ", None, 0.2)], precision=0.1).result()
    assert result.metadata == {"version": 2}
    assert result[0].metadata == {"target_precision": 0.1, "circuit_metadata": first.metadata}
    assert result[1].metadata == {"target_precision": 0.2, "circuit_metadata": {"a": 1}}


@both
def test_empty_arrays(estimator):
    assert len(estimator().run([]).result()) == 0
    result = estimator().run([(ansatz(), "ZZ", np.zeros((0, 6)))]).result()
    assert result[0].data.evs.shape == (0,)


# Ours alone


def test_projectors():
    circuit = QuantumCircuit(2)
    circuit.ry(0.8, 0)
    circuit.cx(0, 1)
    observables = ["00", "1+", {"0Z": 0.5, "rl": -2.0}]
    operators = ObservablesArray(observables)
    found = ExactEstimator().run([(circuit, observables)]).result()[0].data.evs
    state = Statevector(circuit)
    expected = [
        sum(c * state.expectation_value(projector(label)).real for label, c in operators[place].items())
        for place in range(3)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def projector(label):
    """A product of Pauli matrices and projectors as a matrix."""
    from qiskit.quantum_info import Operator

    matrix = np.eye(1)
    for letter in label:
        if letter in "IXYZ":
            matrix = np.kron(matrix, Pauli(letter).to_matrix())
        else:
            state = Statevector.from_label(letter).data
            matrix = np.kron(matrix, np.outer(state, state.conj()))
    return Operator(matrix)


def test_standard_deviations_without_shots():
    data = ExactEstimator().run([(ansatz(), ["ZZ", "XX"], ANGLES[0])]).result()[0].data
    assert (data.stds == 0).all()
    data = ExactEstimator().run([(ansatz(), ["ZZ", "XX"], ANGLES[0])], precision=0.3).result()[0].data
    assert (data.stds == 0.3).all()


@pytest.mark.parametrize("law", ["joint", "independent"])
@pytest.mark.parametrize("noise", [None, NoiseProfile(readout_p01=0.1, readout_p10=0.2)])
def test_standard_deviations_of_shots(law, noise):
    """Against the spread of repeated estimates; a sum of strings of one basis has their covariances."""
    circuit = ansatz()
    observables = [
        SparsePauliOp("IZ"),
        SparsePauliOp(["ZI", "ZZ", "II"], [1.0, -0.8, 3.0]),
        SparsePauliOp(["IZ", "XI", "YY"], [0.5, 0.7, -0.2]),
        SparsePauliOp("II"),
    ]
    engine = make_engine("exact", shots=50, seed=3, shots_law=law, noise=noise)
    repeats = 3000
    result = (
        ExactEstimator(engine).run([(circuit, observables, np.tile(ANGLES[0], (repeats, 1, 1)))]).result()[0]
    )
    assert result.data.evs.shape == (repeats, 4)
    assert (result.data.stds == result.data.stds[0]).all()
    seen = result.data.evs.std(axis=0)
    np.testing.assert_allclose(result.data.stds[0], seen, rtol=0.08, atol=1e-12)
    assert result.metadata["shots"] == 50
    if noise is None:
        expected = np.sqrt((1 - value(circuit, SparsePauliOp("IZ"), ANGLES[0]) ** 2) / 50)
        assert result.data.stds[0, 0] == pytest.approx(expected, rel=1e-9)


def test_equal_pubs_have_their_own_shots():
    estimator = ExactEstimator(make_engine("exact", shots=10**6, seed=0))
    pub = (ansatz(), ["ZZ", "IX"], ANGLES[0])
    first, second = estimator.run([pub, pub]).result()
    assert not np.array_equal(first.data.evs, second.data.evs)
    np.testing.assert_allclose(first.data.evs, second.data.evs, atol=0.01)
    both_ = estimator.run([pub], precision=0.5).result()[0].data
    np.testing.assert_allclose(both_.stds, np.sqrt(first.data.stds**2 + 0.25))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "exact"}, "must be an exact engine"),
        ({"default_precision": -1}, "at least 0"),
        ({"default_precision": float("nan")}, "at least 0"),
        ({"default_precision": "a"}, "at least 0"),
        ({"seed": "a"}, "whole number"),
        ({"seed": -1}, "whole number"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(EngineError, match=message):
        ExactEstimator(**arguments)


def test_properties():
    estimator = ExactEstimator(default_precision=0.5, seed=7)
    assert (estimator.default_precision, estimator.seed) == (0.5, 7)
