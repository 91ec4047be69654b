"""The two filters of QuFeX (arXiv 2501.13165; gate for gate as in the authors' public experiment).

With n qubits, m = n // 2 and h = m // 2 both filters are

    encoding;  U1 on (0,1), (2,3), ... and then on (1,2), (3,4), ...;  V1 = CZ on (0,1), (2,3), ...;
    U2 on (0,2), (4,6), ... and then on (2,4), (6,8), ...;  V2 = CZ on (0,2), (4,6), ...

U1 and U2 are a rotation on each qubit of a pair and a CNOT from the first to the second; their four angles
are shared by all pairs. The CZ gates stand for pooling: nothing is measured on the way, and all qubits are
read.

    filter 1: RY(pi x_q);   U1 = CNOT [RX(t0) x RZ(t1)];  U2 = CNOT [RX(t2) x RY(t3)];  read <Z>
    filter 2: RZ(pi x_q) H; U1 = CNOT [RY(t0) x RX(t1)];  U2 = CNOT [RZ(t2) x RX(t3)];  read <X>
"""

from __future__ import annotations

import math

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector

from qhybrid.circuits.arguments import check_choice, check_integer
from qhybrid.circuits.pauli import single_qubit_observables
from qhybrid.circuits.spec import CircuitSpec

Pair = tuple[int, int]
Block = tuple[tuple[str, Parameter], tuple[str, Parameter]]
"""For the first and the second qubit of a pair: axis of the rotation, and its angle."""

NUM_ANGLES = 4
FEWEST_QUBITS = 4
"""Below 4 qubits U2 acts nowhere, and its angles would have no effect."""


def qufex_filter1(num_qubits: int = 8, observable: str = "Z") -> CircuitSpec:
    """Build QuFeX's first filter.

    Args:
        num_qubits: At least 4. The index rule leaves some qubits out of a step: at 6 qubits qubit 4 has no
            U2, and with an odd number the last qubit is encoded and read, nothing else.
        observable: Pauli letter that is read from every qubit; the authors' is `Z`.

    Returns:
        Inputs: values x_q, one a qubit, encoded as RY(pi x_q). Weights: t0 to t3, radians. Observables: one a
        qubit.

    Raises:
        CircuitError: If an argument is out of range.
    """
    _check_arguments(num_qubits, observable)
    circuit, inputs, t = _start("qufex_filter1", num_qubits)
    for qubit, value in enumerate(inputs):
        circuit.ry(math.pi * value, qubit)
    blocks: tuple[Block, Block] = ((("x", t[0]), ("z", t[1])), (("x", t[2]), ("y", t[3])))
    return _finish(circuit, inputs, t, blocks, observable)


def qufex_filter2(num_qubits: int = 8, observable: str = "X") -> CircuitSpec:
    """Build QuFeX's second filter.

    Args:
        num_qubits: At least 4; see `qufex_filter1`.
        observable: Pauli letter that is read from every qubit; the authors' is `X`, a third-party port has
            `Z`.

    Returns:
        Inputs: values x_q, one a qubit, encoded as H, then RZ(pi x_q). Weights: t0 to t3, radians.
        Observables: one a qubit.

    Raises:
        CircuitError: If an argument is out of range.
    """
    _check_arguments(num_qubits, observable)
    circuit, inputs, t = _start("qufex_filter2", num_qubits)
    for qubit, value in enumerate(inputs):
        circuit.h(qubit)
        circuit.rz(math.pi * value, qubit)
    blocks: tuple[Block, Block] = ((("y", t[0]), ("x", t[1])), (("z", t[2]), ("x", t[3])))
    return _finish(circuit, inputs, t, blocks, observable)


def first_sweep_pairs(num_qubits: int) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs of U1: (0,1), (2,3), ..., then (1,2), (3,4), ...; V1 acts on the former."""
    half = num_qubits // 2
    return [(2 * i, 2 * i + 1) for i in range(half)], [(2 * i - 1, 2 * i) for i in range(1, half)]


def second_sweep_pairs(num_qubits: int) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs of U2: (0,2), (4,6), ..., then (2,4), (6,8), ...; V2 acts on the former."""
    quarter = num_qubits // 2 // 2
    return [(4 * i, 4 * i + 2) for i in range(quarter)], [(4 * i - 2, 4 * i) for i in range(1, quarter)]


def _start(name: str, num_qubits: int) -> tuple[QuantumCircuit, ParameterVector, ParameterVector]:
    circuit = QuantumCircuit(num_qubits, name=name)
    return circuit, ParameterVector("x", num_qubits), ParameterVector("t", NUM_ANGLES)


def _finish(
    circuit: QuantumCircuit,
    inputs: ParameterVector,
    angles: ParameterVector,
    blocks: tuple[Block, Block],
    observable: str,
) -> CircuitSpec:
    sweeps = (first_sweep_pairs(circuit.num_qubits), second_sweep_pairs(circuit.num_qubits))
    for block, (pooled, between) in zip(blocks, sweeps, strict=True):
        circuit.barrier()
        for pair in [*pooled, *between]:
            for (axis, angle), qubit in zip(block, pair, strict=True):
                {"x": circuit.rx, "y": circuit.ry, "z": circuit.rz}[axis](angle, qubit)
            circuit.cx(*pair)
        for pair in pooled:
            circuit.cz(*pair)
    observables = single_qubit_observables(observable, circuit.num_qubits)
    return CircuitSpec(str(circuit.name), circuit, tuple(inputs), tuple(angles), observables)


def _check_arguments(num_qubits: int, observable: str) -> None:
    check_integer("num_qubits", num_qubits, FEWEST_QUBITS)
    check_choice("observable", observable, ("X", "Y", "Z"))
