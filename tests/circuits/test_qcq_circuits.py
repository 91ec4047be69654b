"""The circuits of QCQ-CNN: fixed filter and classifier."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator, SparsePauliOp, Statevector

from qhybrid.circuits import build_circuit
from qhybrid.circuits.qcq_filter import random_layers
from qhybrid.errors import CircuitError


def features_of(spec, pixels):
    state = Statevector(spec.circuit.assign_parameters(dict(zip(spec.input_params, pixels))))
    return [state.expectation_value(observable).real for observable in spec.observables]


def kinds(steps):
    return [(step.gate, *step.qubits) for step in steps]


class TestFilter:
    def test_is_fixed(self):
        spec = build_circuit("qcq_filter")
        assert (spec.num_qubits, spec.num_inputs, spec.num_weights, spec.num_observables) == (4, 4, 0, 4)
        assert [o.paulis.to_labels()[0] for o in spec.observables] == ["IIIZ", "IIZI", "IZII", "ZIII"]
        assert build_circuit("qcq_filter").fingerprint == spec.fingerprint

    @pytest.mark.parametrize("layers", [0, 1, 3])
    def test_equation_10_gate_for_gate(self, layers):
        spec = build_circuit("qcq_filter", layers=layers, seed=5)
        names = [step.operation.name for step in spec.circuit.data if step.operation.name != "barrier"]
        assert names == ["ry"] * 4 + layers * (["rz", "ry"] * 4 + ["cx"] * 3)
        # After four encoding gates and a barrier.
        angles = [float(step.operation.params[0]) for step in spec.circuit.data[5:] if step.operation.params]
        pixels = np.random.default_rng(layers).uniform(0, 1, 4)
        plain = QuantumCircuit(4)
        for qubit in range(4):
            plain.ry(np.pi * pixels[qubit], qubit)
        drawn = iter(angles)
        for _ in range(layers):
            for qubit in range(4):
                plain.rz(next(drawn), qubit)
                plain.ry(next(drawn), qubit)
            plain.cx([0, 1, 2], [1, 2, 3])
        state = Statevector(plain)
        expected = [state.expectation_value(SparsePauliOp("Z"), [qubit]).real for qubit in range(4)]
        np.testing.assert_allclose(features_of(spec, pixels), expected, atol=1e-12)

    def test_angles_follow_seed_and_range(self):
        def angles(**arguments):
            spec = build_circuit("qcq_filter", layers=40, **arguments)
            return np.array(
                [float(s.operation.params[0]) for s in spec.circuit.data[5:] if s.operation.params]
            )

        assert np.array_equal(angles(seed=3), angles(seed=3))
        assert not np.array_equal(angles(seed=3), angles(seed=4))
        assert 0 <= angles().min() < 0.1
        assert 6.18 < angles().max() <= 2 * np.pi
        assert set(angles(angle_range=[0.5, 0.5])) == {0.5}
        narrow = angles(angle_range=(-0.5, -0.25))
        assert -0.5 <= narrow.min() < narrow.max() <= -0.25

    def test_no_layers_is_the_cosine_of_the_pixel(self):
        pixels = np.array([0.0, 0.25, 0.5, 1.0])
        found = features_of(build_circuit("qcq_filter", layers=0), pixels)
        np.testing.assert_allclose(found, np.cos(np.pi * pixels), atol=1e-12)

    def test_random_layers_of_the_public_notebook(self):
        # The notebook shows the four features of a black patch for RandomLayers(weights (1, 4), seed 42):
        # 1, c, d, c. It does not show its angles.
        spec = build_circuit("qcq_filter", filter="random_layers", seed=1)
        found = features_of(spec, np.zeros(4))
        assert found[0] == pytest.approx(1)
        assert found[1] == pytest.approx(found[3])
        assert abs(found[1] - found[2]) > 0.01
        assert kinds(random_layers(4, 1, 4, 42)) == [
            ("ry", 1),
            ("rx", 2),
            ("cx", 1, 3),
            ("rz", 2),
            ("rx", 2),
        ]

    def test_random_layers_has_the_frequencies_of_its_law(self):
        steps = random_layers(5, 300, 4, seed=0)
        rotations = [step for step in steps if step.gate != "cx"]
        assert [(step.layer, step.rotation) for step in rotations] == [
            (layer, k) for layer in range(300) for k in range(4)
        ]
        assert len(rotations) / len(steps) == pytest.approx(0.7, abs=0.03)
        for gate in ("rx", "ry", "rz"):
            assert sum(step.gate == gate for step in rotations) / 1200 == pytest.approx(1 / 3, abs=0.05)
        assert {step.qubits[0] for step in rotations} == set(range(5))
        assert all(len(set(step.qubits)) == 2 for step in steps if step.gate == "cx")
        assert all(step.gate != "cx" for step in random_layers(1, 20, 2, seed=0))

    def test_structure_seed_changes_the_gates_and_seed_the_angles(self):
        def build(**seeds):
            return build_circuit("qcq_filter", filter="random_layers", layers=3, **seeds)

        assert build().circuit.count_ops() == build(seed=9).circuit.count_ops()
        assert build().fingerprint != build(seed=9).fingerprint
        names = [[s.operation.name for s in build(structure_seed=k).circuit.data] for k in (1, 2)]
        assert names[0] != names[1]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_qubits": 0}, "`num_qubits` must be an integer of at least 1"),
            ({"layers": -1}, "`layers` must be an integer of at least 0"),
            ({"seed": None}, "`seed` must"),
            ({"structure_seed": -1}, "`structure_seed` must"),
            ({"filter": "eq11"}, "`filter` must be `eq10` or `random_layers`, but is 'eq11'"),
            ({"angle_range": [1, 0]}, "`angle_range` must be two numbers, the smaller first"),
            ({"angle_range": [0, float("inf")]}, "`angle_range` must"),
            ({"angle_range": 3}, "`angle_range` must"),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises(CircuitError, match=message):
            build_circuit("qcq_filter", **arguments)


class TestClassifier:
    @pytest.mark.parametrize(("reps", "weights"), [(0, 2), (1, 4), (2, 6), (3, 8)])
    def test_counts(self, reps, weights):
        spec = build_circuit("qcq_classifier", reps=reps)
        assert (spec.num_inputs, spec.num_weights, spec.num_observables) == (2, weights, 1)
        counts = spec.circuit.count_ops()
        assert (counts["h"], counts["p"], counts["ry"]) == (4, 6, weights)
        assert counts["cx"] == spec.circuit.num_nonlocal_gates() == 4 + reps
        assert spec.observables[0] == SparsePauliOp("IZ")
        assert [p.name for p in spec.weight_params] == [f"w[{k}]" for k in range(weights)]
        assert [p.name for p in spec.input_params] == ["x[0]", "x[1]"]

    @pytest.mark.parametrize(("reps", "feature_map_reps"), [(1, 1), (2, 2), (3, 2)])
    def test_against_the_formula(self, reps, feature_map_reps):
        spec = build_circuit("qcq_classifier", reps=reps, feature_map_reps=feature_map_reps)
        rng = np.random.default_rng(reps)
        x, w = rng.uniform(-3, 3, 2), rng.uniform(-3, 3, 2 * (reps + 1))
        hadamards = np.kron([[1, 1], [1, -1]], [[1, 1], [1, -1]]) / 2
        # Phases of |q1 q0>: 2 x0 for q0, 2 x1 for q1, 2 (pi - x0)(pi - x1) for q0 xor q1.
        both = 2 * (np.pi - x[0]) * (np.pi - x[1])
        phases = np.exp(1j * np.array([0, 2 * x[0] + both, 2 * x[1] + both, 2 * x[0] + 2 * x[1]]))
        state = np.eye(4)[0].astype(complex)
        for _ in range(feature_map_reps):
            state = phases * (hadamards @ state)

        def turn(angle):
            c, s = np.cos(angle / 2), np.sin(angle / 2)
            return np.array([[c, -s], [s, c]])

        cnot = np.eye(4)[[0, 3, 2, 1]]
        for layer in range(reps + 1):
            if layer:
                state = cnot @ state
            state = np.kron(turn(w[2 * layer + 1]), turn(w[2 * layer])) @ state
        expected = np.sum(np.abs(state) ** 2 * [1, -1, 1, -1])
        bound = spec.circuit.assign_parameters(
            dict(zip(spec.input_params, x)) | dict(zip(spec.weight_params, w))
        )
        found = Statevector(bound).expectation_value(spec.observables[0]).real
        assert found == pytest.approx(expected, abs=1e-12)

    def test_more_qubits(self):
        spec = build_circuit("qcq_classifier", num_qubits=3, reps=1, feature_map_reps=1)
        assert (spec.num_inputs, spec.num_weights) == (3, 6)
        values = np.linspace(0, 1, 9)
        bound = spec.circuit.assign_parameters(dict(zip([*spec.input_params, *spec.weight_params], values)))
        assert Operator(bound).is_unitary()

    @pytest.mark.parametrize("arguments", [{"num_qubits": 1}, {"reps": -1}, {"feature_map_reps": 0}])
    def test_errors(self, arguments):
        with pytest.raises(CircuitError, match=f"`{next(iter(arguments))}` must be an integer"):
            build_circuit("qcq_classifier", **arguments)
