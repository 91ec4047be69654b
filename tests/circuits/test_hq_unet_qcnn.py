"""The HQ-UNet circuit, gate for gate and number for number, against the paper's description."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit.quantum_info import Statevector

from qhybrid.circuits import build_circuit, list_circuits
from qhybrid.circuits.hq_unet_qcnn import horizontal_pairs, vertical_pairs
from qhybrid.errors import CircuitError

# Cells of the 4 x 4 grid, row-major:   0  1  2  3
#                                       4  5  6  7
#                                       8  9 10 11
#                                      12 13 14 15
ROWS = [
    (0, 1),
    (1, 2),
    (2, 3),
    (4, 5),
    (5, 6),
    (6, 7),
    (8, 9),
    (9, 10),
    (10, 11),
    (12, 13),
    (13, 14),
    (14, 15),
]
COLUMNS = [
    (0, 4),
    (4, 8),
    (8, 12),
    (1, 5),
    (5, 9),
    (9, 13),
    (2, 6),
    (6, 10),
    (10, 14),
    (3, 7),
    (7, 11),
    (11, 15),
]
EVEN_ODD_ROWS = [
    (0, 1),
    (2, 3),
    (1, 2),
    (4, 5),
    (6, 7),
    (5, 6),
    (8, 9),
    (10, 11),
    (9, 10),
    (12, 13),
    (14, 15),
    (13, 14),
]
EVEN_ODD_COLUMNS = [
    (0, 4),
    (8, 12),
    (4, 8),
    (1, 5),
    (9, 13),
    (5, 9),
    (2, 6),
    (10, 14),
    (6, 10),
    (3, 7),
    (11, 15),
    (7, 11),
]


def gates_of(spec):
    """List (gate, qubits, parameter names), barriers left out."""
    index = {qubit: place for place, qubit in enumerate(spec.circuit.qubits)}
    return [
        (
            step.operation.name,
            tuple(index[q] for q in step.qubits),
            tuple(p.name for p in step.operation.params),
        )
        for step in spec.circuit.data
        if step.operation.name != "barrier"
    ]


def filter_gates(pair, first_weight):
    """Write F(theta, phi) = [RY(phi1) x RY(phi2)] . CNOT . [RY(theta1) x RY(theta2)]: theta acts first."""
    first, second = pair
    theta_1, theta_2, phi_1, phi_2 = (f"w[{first_weight + k}]" for k in range(4))
    return [
        ("ry", (first,), (theta_1,)),
        ("ry", (second,), (theta_2,)),
        ("cx", (first, second), ()),
        ("ry", (first,), (phi_1,)),
        ("ry", (second,), (phi_2,)),
    ]


def encoding_gates(cells, letters="xyz"):
    return [
        (f"r{letter}", (cell,), (f"x[{len(letters) * cell + place}]",))
        for cell in range(cells)
        for place, letter in enumerate(letters)
    ]


class TestPaperCircuit:
    """Grid 4, everything else as in the paper."""

    def test_counts(self):
        spec = build_circuit("hq_unet_qcnn")
        assert (spec.num_qubits, spec.num_inputs, spec.num_weights, spec.num_observables) == (16, 48, 8, 32)
        counts = spec.circuit.count_ops()
        assert {name: counts[name] for name in ("rx", "ry", "rz", "cx")} == {
            "rx": 16,
            "ry": 112,
            "rz": 16,
            "cx": 24,
        }
        assert set(counts) <= {"rx", "ry", "rz", "cx", "barrier"}

    def test_gates_in_order(self):
        expected = encoding_gates(16)
        expected += [gate for pair in ROWS for gate in filter_gates(pair, 0)]
        expected += [gate for pair in COLUMNS for gate in filter_gates(pair, 4)]
        assert gates_of(build_circuit("hq_unet_qcnn")) == expected

    def test_parameter_order(self):
        spec = build_circuit("hq_unet_qcnn")
        assert [p.name for p in spec.input_params] == [f"x[{k}]" for k in range(48)]
        assert [p.name for p in spec.weight_params] == [f"w[{k}]" for k in range(8)]

    def test_observables_are_z_then_x_of_every_qubit(self):
        spec = build_circuit("hq_unet_qcnn")
        labels = [observable.paulis.to_labels() for observable in spec.observables]
        # Qiskit writes qubit 0 as the rightmost letter.
        assert labels[0] == ["I" * 15 + "Z"]
        assert labels[15] == ["Z" + "I" * 15]
        assert labels[16] == ["I" * 15 + "X"]
        assert labels == [["I" * (15 - q) + p + "I" * q] for p in "ZX" for q in range(16)]
        assert all(np.array_equal(observable.coeffs, [1]) for observable in spec.observables)


def test_pair_orders_written_out():
    assert horizontal_pairs(4) == ROWS
    assert vertical_pairs(4) == COLUMNS
    assert horizontal_pairs(4, "even_odd") == EVEN_ODD_ROWS
    assert vertical_pairs(4, "even_odd") == EVEN_ODD_COLUMNS


@pytest.mark.parametrize("grid", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("order", ["chain", "even_odd"])
def test_every_pair_of_neighbours_once(grid, order):
    neighbours = {
        ((r, c), (r + dr, c + dc))
        for r in range(grid)
        for c in range(grid)
        for dr, dc in ((0, 1), (1, 0))
        if r + dr < grid and c + dc < grid
    }
    pairs = horizontal_pairs(grid, order) + vertical_pairs(grid, order)
    assert {(divmod(a, grid), divmod(b, grid)) for a, b in pairs} == neighbours
    assert len(pairs) == len(neighbours) == 2 * grid * (grid - 1)


@pytest.mark.parametrize("grid", [1, 2, 3])
@pytest.mark.parametrize("order", ["chain", "even_odd"])
@pytest.mark.parametrize(("encoding", "readout"), [("xyz", "ZX"), ("y", "Z"), ("zx", "XYZ"), ("yy", "Y")])
@pytest.mark.parametrize("reps", [0, 1, 2])
def test_all_variants_gate_for_gate(grid, order, encoding, readout, reps):
    spec = build_circuit(
        "hq_unet_qcnn", grid=grid, pair_order=order, encoding=encoding, readout=readout, reps=reps
    )
    cells = grid * grid
    expected = encoding_gates(cells, encoding)
    for repetition in range(reps):
        expected += [
            gate for pair in horizontal_pairs(grid, order) for gate in filter_gates(pair, 8 * repetition)
        ]
        expected += [
            gate for pair in vertical_pairs(grid, order) for gate in filter_gates(pair, 8 * repetition + 4)
        ]
    assert gates_of(spec) == expected
    assert (spec.num_qubits, spec.num_inputs, spec.num_weights) == (cells, cells * len(encoding), 8 * reps)
    assert [o.paulis.to_labels()[0] for o in spec.observables] == [
        "I" * (cells - 1 - q) + p + "I" * q for p in readout for q in range(cells)
    ]


def rotation(letter, angle):
    """Write exp(-i angle P / 2) out as a matrix."""
    pauli = {"x": [[0, 1], [1, 0]], "y": [[0, -1j], [1j, 0]], "z": [[1, 0], [0, -1]]}[letter]
    return np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * np.array(pauli)


def apply(state, matrix, *axes):
    """Apply a matrix to the axes of a state tensor that has one axis a qubit, in qubit order."""
    k = len(axes)
    tensor = np.reshape(matrix, (2,) * (2 * k))
    return np.moveaxis(np.tensordot(tensor, state, axes=(range(k, 2 * k), axes)), range(k), axes)


def independent_expectations(grid, x, w):
    """Simulate the paper's equation with NumPy: outer products of 2 x 2 matrices, no Qiskit."""
    n = grid * grid
    state = np.zeros((2,) * n, dtype=complex)
    state[(0,) * n] = 1
    for cell in range(n):
        for place, letter in enumerate("xyz"):
            state = apply(state, rotation(letter, x[3 * cell + place]), cell)
    cnot = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    steps = [((r, c), (r, c + 1), w[:4]) for r in range(grid) for c in range(grid - 1)]
    steps += [((r, c), (r + 1, c), w[4:]) for c in range(grid) for r in range(grid - 1)]
    for one, two, (theta_1, theta_2, phi_1, phi_2) in steps:
        before = np.kron(rotation("y", theta_1), rotation("y", theta_2))
        after = np.kron(rotation("y", phi_1), rotation("y", phi_2))
        state = apply(state, after @ cnot @ before, grid * one[0] + one[1], grid * two[0] + two[1])
    z, x_matrix = np.diag([1, -1]), np.array([[0, 1], [1, 0]])
    return [np.vdot(state, apply(state, pauli, q)).real for pauli in (z, x_matrix) for q in range(n)]


@pytest.mark.parametrize("grid", [1, 2, 3])
def test_expectations_equal_an_independent_simulation(grid):
    spec = build_circuit("hq_unet_qcnn", grid=grid)
    random = np.random.default_rng(grid)
    x, w = random.uniform(-np.pi, np.pi, spec.num_inputs), random.uniform(-np.pi, np.pi, 8)
    bound = spec.circuit.assign_parameters(
        dict(zip(spec.input_params, x))
        | {p: v for p, v in zip(spec.weight_params, w) if p in spec.circuit.parameters}
    )
    state = Statevector(bound)
    values = [state.expectation_value(observable).real for observable in spec.observables]
    np.testing.assert_allclose(values, independent_expectations(grid, x, w), atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": 0}, "`grid` must be .*at least 1, but is 0"),
        ({"grid": 2.5}, "`grid` must be an integer"),
        ({"grid": "4"}, "`grid` must be an integer"),
        ({"reps": -1}, "`reps` must be .*at least 0, but is -1"),
        ({"reps": None}, "`reps` must be an integer"),
        ({"pair_order": "snake"}, "`pair_order` must be `chain` or `even_odd`, but is 'snake'"),
        ({"encoding": ""}, "`encoding` must be a text of letters x, y and z"),
        ({"encoding": "xyw"}, "`encoding` must .*'xyw'"),
        ({"encoding": 3}, "`encoding` must .*3"),
        ({"readout": "ZZ"}, "`readout` must be a text of distinct letters"),
        ({"readout": "A"}, "`readout` must"),
        ({"readout": ""}, "`readout` must"),
        ({"readout": ["Z"]}, "`readout` must"),
        ({"rows": 4}, "has no argument.* rows. Its arguments: grid, pair_order"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(CircuitError, match=message):
        build_circuit("hq_unet_qcnn", **arguments)


def test_unknown_circuit_lists_the_known_ones():
    with pytest.raises(CircuitError, match="'nothing' is unknown.*hq_unet_qcnn"):
        build_circuit("nothing")
    assert "hq_unet_qcnn" in list_circuits()
