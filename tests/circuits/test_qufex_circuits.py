"""QuFeX's filters, gate for gate against the pairs written out, and against a plain construction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from qiskit.quantum_info import SparsePauliOp, Statevector

from qhybrid.circuits import build_circuit
from qhybrid.errors import CircuitError

# The index rule, by hand: pairs of U1 (V1 acts on the even ones), pairs of U2 (V2 likewise).
U1 = {
    4: ([(0, 1), (2, 3)], [(1, 2)]),
    5: ([(0, 1), (2, 3)], [(1, 2)]),
    6: ([(0, 1), (2, 3), (4, 5)], [(1, 2), (3, 4)]),
    8: ([(0, 1), (2, 3), (4, 5), (6, 7)], [(1, 2), (3, 4), (5, 6)]),
    12: ([(2 * i, 2 * i + 1) for i in range(6)], [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)]),
}
U2 = {
    4: ([(0, 2)], []),
    5: ([(0, 2)], []),
    6: ([(0, 2)], []),
    8: ([(0, 2), (4, 6)], [(2, 4)]),
    12: ([(0, 2), (4, 6), (8, 10)], [(2, 4), (6, 8)]),
}
AXES = {"qufex_filter1": (("rx", "rz"), ("rx", "ry")), "qufex_filter2": (("ry", "rx"), ("rz", "rx"))}
LETTER = {"qufex_filter1": "Z", "qufex_filter2": "X"}
TWO_QUBIT_GATES = {4: 7, 5: 7, 6: 10, 8: 16, 12: 25}

names = pytest.mark.parametrize("name", sorted(AXES))
sizes = pytest.mark.parametrize("num_qubits", sorted(U1))


def gates_of(spec):
    index = {qubit: place for place, qubit in enumerate(spec.circuit.qubits)}
    return [
        (step.operation.name, tuple(index[q] for q in step.qubits), tuple(map(str, step.operation.params)))
        for step in spec.circuit.data
        if step.operation.name != "barrier"
    ]


def expected_gates(name, num_qubits):
    gates = []
    for qubit in range(num_qubits):
        if name == "qufex_filter1":
            gates.append(("ry", (qubit,), (f"{math.pi}*x[{qubit}]",)))
        else:
            gates += [("h", (qubit,), ()), ("rz", (qubit,), (f"{math.pi}*x[{qubit}]",))]
    for step, (pooled, between) in enumerate((U1[num_qubits], U2[num_qubits])):
        for first, second in pooled + between:
            gates.append((AXES[name][step][0], (first,), (f"t[{2 * step}]",)))
            gates.append((AXES[name][step][1], (second,), (f"t[{2 * step + 1}]",)))
            gates.append(("cx", (first, second), ()))
        gates += [("cz", pair, ()) for pair in pooled]
    return gates


def plain_state(name, inputs, t):
    """Multiply matrices onto a tensor with one axis a qubit."""
    n = len(inputs)
    state = np.zeros((2,) * n, complex)
    state[(0,) * n] = 1
    pauli = {"x": [[0, 1], [1, 0]], "y": [[0, -1j], [1j, 0]], "z": [[1, 0], [0, -1]]}

    def apply(matrix, *qubits):
        nonlocal state
        matrix = np.asarray(matrix).reshape((2,) * (2 * len(qubits)))
        state = np.moveaxis(
            np.tensordot(matrix, state, (range(len(qubits), 2 * len(qubits)), qubits)),
            range(len(qubits)),
            qubits,
        )

    def rotate(axis, angle, qubit):
        apply(np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * np.array(pauli[axis[1]]), qubit)

    for qubit, value in enumerate(inputs):
        if name == "qufex_filter1":
            rotate("ry", np.pi * value, qubit)
        else:
            apply(np.array([[1, 1], [1, -1]]) / np.sqrt(2), qubit)
            rotate("rz", np.pi * value, qubit)
    for step, (pooled, between) in enumerate((U1[n], U2[n])):
        for first, second in pooled + between:
            rotate(AXES[name][step][0], t[2 * step], first)
            rotate(AXES[name][step][1], t[2 * step + 1], second)
            apply(np.eye(4)[[0, 1, 3, 2]], first, second)
        for pair in pooled:
            apply(np.diag([1, 1, 1, -1]), *pair)
    # Qiskit counts qubit 0 as the least significant bit.
    return state.transpose(range(n)[::-1]).reshape(-1)


@names
@sizes
def test_gate_for_gate(name, num_qubits):
    assert gates_of(build_circuit(name, num_qubits=num_qubits)) == expected_gates(name, num_qubits)


@names
@sizes
def test_counts(name, num_qubits):
    spec = build_circuit(name, num_qubits=num_qubits)
    assert spec.circuit.num_nonlocal_gates() == TWO_QUBIT_GATES[num_qubits]
    assert (spec.num_inputs, spec.num_weights, spec.num_observables) == (num_qubits, 4, num_qubits)


@names
@sizes
def test_state_against_a_plain_construction(name, num_qubits):
    spec = build_circuit(name, num_qubits=num_qubits)
    rng = np.random.default_rng(num_qubits)
    inputs, t = rng.uniform(-2, 2, num_qubits), rng.uniform(-4, 4, 4)
    values = dict(zip(spec.input_params, inputs)) | dict(zip(spec.weight_params, t))
    state = Statevector(spec.circuit.assign_parameters(values))
    assert abs(np.vdot(state.data, plain_state(name, inputs, t))) == pytest.approx(1, abs=1e-10)


@names
def test_every_qubit_is_read(name):
    letter = LETTER[name]
    labels = [o.paulis.to_labels()[0] for o in build_circuit(name, num_qubits=4).observables]
    assert labels == [f"III{letter}", f"II{letter}I", f"I{letter}II", f"{letter}III"]
    other = build_circuit(name, num_qubits=4, observable="Y")
    assert other.observables[1] == SparsePauliOp("IIYI")


@names
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_qubits": 3}, "`num_qubits` must be an integer of at least 4, but is 3"),
        ({"num_qubits": 8.0}, "`num_qubits` must be an integer"),
        ({"num_qubits": True}, "`num_qubits` must be an integer"),
        ({"observable": "ZX"}, "`observable` must be `X` or `Y` or `Z`, but is 'ZX'"),
        ({"observable": None}, "`observable` must be"),
        ({"reps": 2}, r"no argument\(s\) reps"),
    ],
)
def test_errors(name, arguments, message):
    with pytest.raises(CircuitError, match=message):
        build_circuit(name, **arguments)
