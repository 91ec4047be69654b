"""A quantum convolutional network (Cong, Choi, Lukin, Nature Physics 15, 1273, 2019) for classical data.

Convolution: one two-qubit unitary on all neighbouring pairs, even pairs first, closed to a ring. Pooling:
half of the qubits leave; in place of a measurement whose outcome s chooses the rotation V_s = RX(a_s) of the
neighbour, the rotation is controlled by the leaving qubit, which nothing touches afterwards (deferred
measurement). Convolution and pooling repeat until one qubit is left, and Z is read from it.

Cong et al. leave the unitaries open. `su4` is a general two-qubit unitary of 15 angles, which with 2 angles a
pooling makes 51 at 8 qubits, as in Hur, Kim, Park (arXiv 2108.00661). `n3` is the 3-angle core of such a
unitary, exp(i (a XX + b YY + c ZZ)) up to constant local gates (Vatan and Williams, quant-ph/0308006), as in
Qiskit's QCNN tutorial.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector

from qhybrid.circuits.arguments import check_choice, check_integer
from qhybrid.circuits.pauli import parse_observables
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import CircuitError

Pair = tuple[int, int]
ANGLES = {"su4": 15, "n3": 3}
POOLING_ANGLES = 2


def qcnn(num_qubits: int = 8, convolution: str = "su4", shared: bool = True) -> CircuitSpec:
    """Build the network.

    Args:
        num_qubits: A power of two, at least 2.
        convolution: Two-qubit unitary: `su4` (15 angles) or `n3` (3 angles).
        shared: Whether all pairs of a layer share their angles (Cong et al.: translational invariance).

    Returns:
        Inputs: values x_q, one a qubit, encoded as RY(pi x_q). Weights: layer by layer, radians. Observable:
        Z of qubit 0, the one that is left.

    Raises:
        CircuitError: If an argument is out of range.
    """
    check_integer("num_qubits", num_qubits, 2)
    check_choice("convolution", convolution, tuple(ANGLES))
    if num_qubits & (num_qubits - 1):
        raise CircuitError(f"Argument `num_qubits` must be a power of two, but is {num_qubits}.")
    if not isinstance(shared, bool):
        raise CircuitError(f"Argument `shared` must be true or false, but is {shared!r}.")
    inputs = ParameterVector("x", num_qubits)
    weights = ParameterVector("w", _num_weights(num_qubits, convolution, shared))
    circuit = QuantumCircuit(num_qubits, name="qcnn")
    for qubit, value in enumerate(inputs):
        circuit.ry(math.pi * value, qubit)
    angles = iter(weights)
    append = {"su4": _append_su4, "n3": _append_n3}[convolution]
    for pairs, pooled in layers_of(num_qubits):
        circuit.barrier()
        for pair, own in zip(pairs, _groups(angles, len(pairs), ANGLES[convolution], shared), strict=True):
            append(circuit, pair, own)
        circuit.barrier()
        for pair, own in zip(pooled, _groups(angles, len(pooled), POOLING_ANGLES, shared), strict=True):
            _append_pooling(circuit, pair, own)
    return CircuitSpec("qcnn", circuit, tuple(inputs), tuple(weights), parse_observables(["Z0"], num_qubits))


def layers_of(num_qubits: int) -> list[tuple[list[Pair], list[Pair]]]:
    """Return for each layer the pairs of its convolution, and its pooling pairs (leaving, staying)."""
    active = list(range(num_qubits))
    layers = []
    while len(active) > 1:
        ring = [*active[1:], active[0]] if len(active) > 2 else active[1:]
        neighbours = list(zip(active, ring, strict=False))
        layers.append(
            (neighbours[0::2] + neighbours[1::2], list(zip(active[1::2], active[0::2], strict=True)))
        )
        active = active[0::2]
    return layers


def _num_weights(num_qubits: int, convolution: str, shared: bool) -> int:
    return sum(
        (1 if shared else len(pairs)) * ANGLES[convolution] + (1 if shared else len(pooled)) * POOLING_ANGLES
        for pairs, pooled in layers_of(num_qubits)
    )


def _groups(angles: Iterator[Parameter], pairs: int, size: int, shared: bool) -> list[list[Parameter]]:
    """Take the angles of a layer: one group for all pairs, or one a pair."""
    if shared:
        return [[next(angles) for _ in range(size)]] * pairs
    return [[next(angles) for _ in range(size)] for _ in range(pairs)]


def _append_su4(circuit: QuantumCircuit, pair: Pair, angles: list[Parameter]) -> None:
    """Append a general two-qubit unitary: local rotations around three CNOTs with three angles."""
    first, second = pair
    _append_euler(circuit, first, angles[0:3])
    _append_euler(circuit, second, angles[3:6])
    circuit.cx(first, second)
    circuit.ry(angles[6], first)
    circuit.rz(angles[7], second)
    circuit.cx(second, first)
    circuit.ry(angles[8], first)
    circuit.cx(first, second)
    _append_euler(circuit, first, angles[9:12])
    _append_euler(circuit, second, angles[12:15])


def _append_euler(circuit: QuantumCircuit, qubit: int, angles: list[Parameter]) -> None:
    # Not RZ RY RZ: a last RZ would commute with pooling and read-out, and its angle have no effect.
    circuit.ry(angles[0], qubit)
    circuit.rz(angles[1], qubit)
    circuit.ry(angles[2], qubit)


def _append_n3(circuit: QuantumCircuit, pair: Pair, angles: list[Parameter]) -> None:
    first, second = pair
    circuit.rz(-math.pi / 2, second)
    circuit.cx(second, first)
    circuit.rz(angles[0], first)
    circuit.ry(angles[1], second)
    circuit.cx(first, second)
    circuit.ry(angles[2], second)
    circuit.cx(second, first)
    circuit.rz(math.pi / 2, first)


def _append_pooling(circuit: QuantumCircuit, pair: Pair, angles: list[Parameter]) -> None:
    """Append RX(a0) on `staying` where `leaving` is 0, RX(a1) where it is 1.

    Since Z RX(a) Z = RX(-a), RX((a0 + a1) / 2) CZ RX((a0 - a1) / 2) CZ is just that.
    """
    leaving, staying = pair
    circuit.cz(leaving, staying)
    circuit.rx((angles[0] - angles[1]) / 2, staying)
    circuit.cz(leaving, staying)
    circuit.rx((angles[0] + angles[1]) / 2, staying)
