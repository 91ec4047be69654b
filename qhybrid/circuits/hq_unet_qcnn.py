"""The non-pooling QCNN of HQ-UNet (arXiv 2604.27206, figure 2 and equation 1).

One qubit a cell of a square grid, row-major: qubit q = grid * row + column. Per cell the encoding applies
RX(f1), RY(f2), RZ(f3). The two-qubit filter

    F(theta, phi) = [RY(phi1) x RY(phi2)] CNOT [RY(theta1) x RY(theta2)]

then runs over all horizontal neighbours (F_R) and over all vertical neighbours (F_C), with angles shared
inside a pass. No qubit is dropped.

The paper fixes the filter, the encoding and the read-out. The order of pairs inside a pass, repetitions, and
the reduced encodings and read-outs of its future work are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector

from qhybrid.circuits.arguments import check_choice, check_integer, is_word
from qhybrid.circuits.pauli import single_qubit_observables
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import CircuitError

ANGLES_PER_FILTER = 4
Pair = tuple[int, int]


def hq_unet_qcnn(
    grid: int = 4,
    pair_order: str = "chain",
    encoding: str = "xyz",
    readout: str = "ZX",
    reps: int = 1,
) -> CircuitSpec:
    """Build the HQ-UNet bottleneck circuit.

    Args:
        grid: Cells along one side; the circuit has grid**2 qubits.
        pair_order: `chain` takes the pairs of a line from left to right (top to bottom); `even_odd` takes
            pairs (0,1), (2,3), ... and then (1,2), (3,4), ...
        encoding: Rotation axes of one cell, in the order of its features: `xyz` is the paper's, `y` has one
            feature.
        readout: Pauli letters that are read from every qubit: `ZX` is the paper's.
        reps: Repetitions of row pass and column pass, each with its own angles; the paper has 1.

    Returns:
        Inputs: cell-major, len(encoding) a cell, radians. Weights: [theta1, theta2, phi1, phi2] of F_R, then
        of F_C, for each repetition. Observables: the first letter on qubits 0, 1, ..., then the next letter.

    Raises:
        CircuitError: If an argument is out of range.
    """
    _check_arguments(grid, pair_order, encoding, readout, reps)
    inputs = ParameterVector("x", grid * grid * len(encoding))
    weights = ParameterVector("w", reps * 2 * ANGLES_PER_FILTER)
    circuit = QuantumCircuit(grid * grid, name="hq_unet_qcnn")
    for cell in range(grid * grid):
        for axis, letter in enumerate(encoding):
            rotate = {"x": circuit.rx, "y": circuit.ry, "z": circuit.rz}[letter]
            rotate(inputs[cell * len(encoding) + axis], cell)
    angles = iter(weights)
    for _ in range(reps):
        for pairs in (horizontal_pairs(grid, pair_order), vertical_pairs(grid, pair_order)):
            circuit.barrier()
            filter_angles = [next(angles) for _ in range(ANGLES_PER_FILTER)]
            for pair in pairs:
                _append_filter(circuit, pair, filter_angles)
    observables = single_qubit_observables(readout, grid * grid)
    return CircuitSpec("hq_unet_qcnn", circuit, tuple(inputs), tuple(weights), observables)


def horizontal_pairs(grid: int, pair_order: str = "chain") -> list[Pair]:
    """Return the (control, target) pairs of the row pass, row after row."""
    return [
        (grid * row + left, grid * row + left + 1)
        for row in range(grid)
        for left in _line_order(grid, pair_order)
    ]


def vertical_pairs(grid: int, pair_order: str = "chain") -> list[Pair]:
    """Return the (control, target) pairs of the column pass, column after column."""
    return [
        (grid * upper + column, grid * (upper + 1) + column)
        for column in range(grid)
        for upper in _line_order(grid, pair_order)
    ]


def _line_order(grid: int, pair_order: str) -> list[int]:
    firsts = list(range(grid - 1))
    return firsts if pair_order == "chain" else firsts[0::2] + firsts[1::2]


def _append_filter(circuit: QuantumCircuit, pair: Pair, angles: Sequence[Parameter]) -> None:
    theta_1, theta_2, phi_1, phi_2 = angles
    first, second = pair
    circuit.ry(theta_1, first)
    circuit.ry(theta_2, second)
    circuit.cx(first, second)
    circuit.ry(phi_1, first)
    circuit.ry(phi_2, second)


def _check_arguments(grid: int, pair_order: str, encoding: str, readout: str, reps: int) -> None:
    check_integer("grid", grid, 1)
    check_integer("reps", reps, 0)
    check_choice("pair_order", pair_order, ("chain", "even_odd"))
    if not is_word(encoding, "xyz"):
        raise CircuitError(f"Argument `encoding` must be a text of letters x, y and z, but is {encoding!r}.")
    if not is_word(readout, "XYZ") or len(set(readout)) < len(readout):
        raise CircuitError(
            f"Argument `readout` must be a text of distinct letters X, Y, Z, but is {readout!r}."
        )
