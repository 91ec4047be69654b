"""The QCNN: measurement-free pooling equals pooling with measurements, and no angle is without effect."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import DensityMatrix, Operator, Statevector, partial_trace

from qhybrid.circuits import build_circuit
from qhybrid.circuits.qcnn import layers_of
from qhybrid.errors import CircuitError


def value_of(spec, inputs, weights):
    values = dict(zip(spec.input_params, inputs)) | dict(zip(spec.weight_params, weights))
    return Statevector(spec.circuit.assign_parameters(values)).expectation_value(spec.observables[0]).real


def unitary(angles, convolution):
    """Return the two-qubit unitary of a convolution, first qubit least significant."""
    pair = QuantumCircuit(2)
    if convolution == "n3":
        a, b, c = angles
        pair.rz(-np.pi / 2, 1)
        pair.cx(1, 0)
        pair.rz(a, 0)
        pair.ry(b, 1)
        pair.cx(0, 1)
        pair.ry(c, 1)
        pair.cx(1, 0)
        pair.rz(np.pi / 2, 0)
        return Operator(pair)

    def turns(qubit, three):
        for name, angle in zip(("ry", "rz", "ry"), three):
            getattr(pair, name)(angle, qubit)

    turns(0, angles[0:3])
    turns(1, angles[3:6])
    pair.cx(0, 1)
    pair.ry(angles[6], 0)
    pair.rz(angles[7], 1)
    pair.cx(1, 0)
    pair.ry(angles[8], 0)
    pair.cx(0, 1)
    turns(0, angles[9:12])
    turns(1, angles[12:15])
    return Operator(pair)


def with_measurements(num_qubits, inputs, weights, convolution, shared):
    """Average over outcomes: project the leaving qubit, rotate its neighbour accordingly, drop it."""
    encoding = QuantumCircuit(num_qubits)
    for qubit, value in enumerate(inputs):
        encoding.ry(np.pi * value, qubit)
    state = DensityMatrix(encoding)
    angles = list(weights)
    size = {"su4": 15, "n3": 3}[convolution]
    active = num_qubits
    while active > 1:
        places = range(active)
        pairs = [(i, i + 1) for i in places[::2]] + [
            (i, (i + 1) % active) for i in places[1::2] if active > 2
        ]
        groups = [[angles.pop(0) for _ in range(size)] for _ in ([0] if shared else pairs)]
        for k, pair in enumerate(pairs):
            state = state.evolve(unitary(groups[0 if shared else k], convolution), list(pair))
        pools = [[angles.pop(0) for _ in range(2)] for _ in ([0] if shared else places[::2])]
        for k in range(active // 2):
            total = 0
            for outcome, angle in enumerate(pools[0 if shared else k]):
                projector = Operator(np.diag([1 - outcome, outcome]).astype(complex))
                turn = QuantumCircuit(1)
                turn.rx(angle, 0)
                total = total + state.evolve(projector, [2 * k + 1]).evolve(turn, [2 * k]).data
            state = DensityMatrix(total)
        state = partial_trace(state, list(places[1::2]))
        active //= 2
    assert not angles
    return (state.data[0, 0] - state.data[1, 1]).real


@pytest.mark.parametrize("num_qubits", [2, 4])
@pytest.mark.parametrize("convolution", ["su4", "n3"])
@pytest.mark.parametrize("shared", [True, False])
def test_equals_pooling_with_measurements(num_qubits, convolution, shared):
    spec = build_circuit("qcnn", num_qubits=num_qubits, convolution=convolution, shared=shared)
    rng = np.random.default_rng(num_qubits)
    inputs, weights = rng.uniform(0, 1, num_qubits), rng.uniform(-3, 3, spec.num_weights)
    expected = with_measurements(num_qubits, inputs, weights, convolution, shared)
    assert value_of(spec, inputs, weights) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("convolution", ["su4", "n3"])
@pytest.mark.parametrize("shared", [True, False])
def test_every_angle_has_an_effect(convolution, shared):
    spec = build_circuit("qcnn", num_qubits=4, convolution=convolution, shared=shared)
    rng = np.random.default_rng(0)
    inputs, weights = rng.uniform(0, 1, 4), rng.uniform(-3, 3, spec.num_weights)
    before = value_of(spec, inputs, weights)
    for k in range(spec.num_weights):
        assert abs(value_of(spec, inputs, weights + 0.5 * np.eye(len(weights))[k]) - before) > 1e-8


def test_paper_size():
    spec = build_circuit("qcnn")
    assert (spec.num_qubits, spec.num_inputs, spec.num_weights, spec.num_observables) == (8, 8, 51, 1)
    assert spec.observables[0].paulis.to_labels() == ["IIIIIIIZ"]
    # Three CNOTs a convolution on 8 + 4 + 1 pairs, two CZs a pooling on 4 + 2 + 1 pairs.
    counts = spec.circuit.count_ops()
    assert (counts["cx"], counts["cz"]) == (3 * 13, 2 * 7)
    assert build_circuit("qcnn", convolution="n3").num_weights == 3 * 5
    assert build_circuit("qcnn", convolution="n3", shared=False).num_weights == 13 * 3 + 7 * 2


def test_layers_written_out():
    assert layers_of(8) == [
        (
            [(0, 1), (2, 3), (4, 5), (6, 7), (1, 2), (3, 4), (5, 6), (7, 0)],
            [(1, 0), (3, 2), (5, 4), (7, 6)],
        ),
        ([(0, 2), (4, 6), (2, 4), (6, 0)], [(2, 0), (6, 4)]),
        ([(0, 4)], [(4, 0)]),
    ]


def test_leaving_qubits_are_not_touched_again():
    spec = build_circuit("qcnn")
    seen_after = {}
    for step in spec.circuit.data:
        if step.operation.name != "barrier":
            for qubit in step.qubits:
                seen_after[spec.circuit.find_bit(qubit).index] = step.operation.name
    # The last gate of a leaving qubit is its CZ; that of the qubit that stays, the pooling's RX.
    assert seen_after == {0: "rx"} | dict.fromkeys(range(1, 8), "cz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_qubits": 6}, "`num_qubits` must be a power of two, but is 6"),
        ({"num_qubits": 1}, "`num_qubits` must be an integer of at least 2"),
        ({"convolution": "su2"}, "`convolution` must be `su4` or `n3`"),
        ({"shared": 1}, "`shared` must be true or false, but is 1"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(CircuitError, match=message):
        build_circuit("qcnn", **arguments)
