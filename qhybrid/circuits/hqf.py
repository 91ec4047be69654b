"""The circuits of HQF-Net (arXiv 2604.06715): three experts on a grid of cells, and one for skip connections.

Our reconstruction: the paper's abstract names local, global and directional experts and quantum skip
connections, and says nothing of qubits, gates or angles. What we chose follows HQ-UNet, by the same authors:
one qubit a cell, row-major, RX(f1) RY(f2) RZ(f3), Z and X of every qubit. The two-qubit filter is

    F(theta, alpha, phi) = [RY(phi1) x RY(phi2)] RZX(alpha) [RY(theta1) x RY(theta2)]

with RZX(alpha) = exp(-i alpha/2 Z x X), first qubit Z. HQ-UNet's filter has a CNOT there, which is RZX(pi/2)
up to rotations of one qubit. Here all angles zero are the identity: the circuit is its encoding alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector

from qhybrid.circuits.arguments import check_choice, check_integer, is_word
from qhybrid.circuits.hq_unet_qcnn import Pair, horizontal_pairs, vertical_pairs
from qhybrid.circuits.pauli import single_qubit_observables
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import CircuitError

ANGLES_PER_FILTER = 5


def hqf_local(grid: int = 4, encoding: str = "xyz", readout: str = "ZX") -> CircuitSpec:
    """Build the local expert: filters inside blocks of 2 x 2 cells, rows of a block, then its columns.

    Our reconstruction; see the module. An odd grid leaves the last row and column in blocks of their own.

    Args:
        grid: Cells along one side; the circuit has grid**2 qubits.
        encoding: Rotation axes of one cell, in the order of its features.
        readout: Pauli letters that are read from every qubit.

    Returns:
        Inputs: cell-major, len(encoding) a cell, radians. Weights: [theta1, theta2, alpha, phi1, phi2] of the
        row pass, then of the column pass. Observables: the first letter on qubits 0, 1, ..., then the next.

    Raises:
        CircuitError: If an argument is out of range.
    """
    check_integer("grid", grid, 1)
    inside = range(0, grid - 1, 2)
    rows = [(grid * row + left, grid * row + left + 1) for row in range(grid) for left in inside]
    columns = [(grid * up + column, grid * (up + 1) + column) for column in range(grid) for up in inside]
    return _expert("hqf_local", grid, encoding, readout, (rows, columns))


def hqf_global(grid: int = 4, encoding: str = "xyz", readout: str = "ZX") -> CircuitSpec:
    """Build the global expert: filters between cells half a grid apart, then through the centre.

    Our reconstruction; see the module. Three passes: cells of a row half a grid apart, cells of a column half
    a grid apart, and every cell with the one opposite through the centre of the grid.

    Args:
        grid: Cells along one side; the circuit has grid**2 qubits.
        encoding: Rotation axes of one cell, in the order of its features.
        readout: Pauli letters that are read from every qubit.

    Returns:
        As `hqf_local`, with the weights of three passes.

    Raises:
        CircuitError: If an argument is out of range.
    """
    check_integer("grid", grid, 1)
    cells, stride = grid * grid, max(1, grid // 2)
    starts = range(grid - stride)
    rows = [(grid * row + left, grid * row + left + stride) for row in range(grid) for left in starts]
    columns = [(grid * up + column, grid * (up + stride) + column) for column in range(grid) for up in starts]
    opposite = [(cell, cells - 1 - cell) for cell in range(cells // 2)]
    return _expert("hqf_global", grid, encoding, readout, (rows, columns, opposite))


def hqf_directional(
    grid: int = 4, pair_order: str = "chain", encoding: str = "xyz", readout: str = "ZX"
) -> CircuitSpec:
    """Build the directional expert: HQ-UNet's pass along all rows, then its pass down all columns.

    Our reconstruction; see the module.

    Args:
        grid: Cells along one side; the circuit has grid**2 qubits.
        pair_order: Order of pairs inside a pass, as in `hq_unet_qcnn`: `chain` or `even_odd`.
        encoding: Rotation axes of one cell, in the order of its features.
        readout: Pauli letters that are read from every qubit.

    Returns:
        As `hqf_local`.

    Raises:
        CircuitError: If an argument is out of range.
    """
    check_integer("grid", grid, 1)
    check_choice("pair_order", pair_order, ("chain", "even_odd"))
    passes = (horizontal_pairs(grid, pair_order), vertical_pairs(grid, pair_order))
    return _expert("hqf_directional", grid, encoding, readout, passes)


def hqf_qskip(
    num_qubits: int = 4, layers: int = 2, encoding: str = "xyz", readout: str = "ZX"
) -> CircuitSpec:
    """Build the circuit that gates the channels of a skip connection (QSkip).

    Our reconstruction. Its size is that of the skip gate of arXiv 2605.15370: 4 qubits, two layers that each
    enter the same data anew. A layer is the encoding, RY(w) on every qubit, and RZX(w) on the pairs of a
    ring (0, 1), (1, 2), ..., (n - 1, 0); all angles zero leave the encodings alone.

    Args:
        num_qubits: Qubits; fewer than three have no ring, but a chain.
        layers: Layers, each with all inputs and with its own weights.
        encoding: Rotation axes of one qubit, in the order of its features.
        readout: Pauli letters that are read from every qubit.

    Returns:
        Inputs: qubit-major, len(encoding) a qubit, radians. Weights: of each layer the RY of all qubits, then
        the RZX of all pairs. Observables: the first letter on qubits 0, 1, ..., then the next.

    Raises:
        CircuitError: If an argument is out of range.
    """
    check_integer("num_qubits", num_qubits, 1)
    check_integer("layers", layers, 1)
    _check_words(encoding, readout)
    ring = [(one, (one + 1) % num_qubits) for one in range(num_qubits if num_qubits > 2 else num_qubits - 1)]
    inputs = ParameterVector("x", num_qubits * len(encoding))
    weights = ParameterVector("w", layers * (num_qubits + len(ring)))
    circuit = QuantumCircuit(num_qubits, name="hqf_qskip")
    angles = iter(weights)
    for layer in range(layers):
        if layer:
            circuit.barrier()
        _append_encoding(circuit, encoding, inputs)
        for qubit in range(num_qubits):
            circuit.ry(next(angles), qubit)
        for first, second in ring:
            circuit.rzx(next(angles), first, second)
    observables = single_qubit_observables(readout, num_qubits)
    return CircuitSpec("hqf_qskip", circuit, tuple(inputs), tuple(weights), observables)


def _expert(
    name: str, grid: int, encoding: str, readout: str, passes: Sequence[Sequence[Pair]]
) -> CircuitSpec:
    """Build an encoding and passes of filters, with angles shared inside a pass."""
    _check_words(encoding, readout)
    inputs = ParameterVector("x", grid * grid * len(encoding))
    weights = ParameterVector("w", len(passes) * ANGLES_PER_FILTER)
    circuit = QuantumCircuit(grid * grid, name=name)
    _append_encoding(circuit, encoding, inputs)
    for number, pairs in enumerate(passes):
        circuit.barrier()
        angles = weights[number * ANGLES_PER_FILTER : (number + 1) * ANGLES_PER_FILTER]
        for first, second in pairs:
            _append_filter(circuit, first, second, angles)
    observables = single_qubit_observables(readout, grid * grid)
    return CircuitSpec(name, circuit, tuple(inputs), tuple(weights), observables)


def _append_encoding(circuit: QuantumCircuit, encoding: str, inputs: Sequence[Parameter]) -> None:
    features = iter(inputs)
    for qubit in range(circuit.num_qubits):
        for letter in encoding:
            rotate = {"x": circuit.rx, "y": circuit.ry, "z": circuit.rz}[letter]
            rotate(next(features), qubit)


def _append_filter(circuit: QuantumCircuit, first: int, second: int, angles: Sequence[Parameter]) -> None:
    theta_1, theta_2, alpha, phi_1, phi_2 = angles
    circuit.ry(theta_1, first)
    circuit.ry(theta_2, second)
    circuit.rzx(alpha, first, second)
    circuit.ry(phi_1, first)
    circuit.ry(phi_2, second)


def _check_words(encoding: str, readout: str) -> None:
    if not is_word(encoding, "xyz"):
        raise CircuitError(f"Argument `encoding` must be a text of letters x, y and z, but is {encoding!r}.")
    if not is_word(readout, "XYZ") or len(set(readout)) < len(readout):
        raise CircuitError(
            f"Argument `readout` must be a text of distinct letters X, Y, Z, but is {readout!r}."
        )
