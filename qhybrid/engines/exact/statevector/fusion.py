"""Fuse primitives for a statevector: small complex matrices, and Pauli rotations by data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qhybrid.engines.exact.fuser import Fuser
from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.lowering import Primitive
from qhybrid.noise.paulis import ComplexArray, pauli_matrix


@dataclass
class StateGate:
    """One step on the state.

    Attributes:
        qubits: Wires it acts on.
        tensor: Node of its matrix, output legs then input legs of size 2; or, for a rotation, of the features
            (1, cos t/2, sin t/2) of its angle t.
        pauli: For a rotation exp(-i t P / 2) by a data-dependent angle on several qubits: P's letters; else
            "".
    """

    qubits: tuple[int, ...]
    tensor: int
    pauli: str = ""


def fuse_state_gates(primitives: Sequence[Primitive], num_qubits: int, graph: Graph) -> list[StateGate]:
    """Return the fused steps in time order.

    Runs of one-qubit gates become one matrix (one a sample where data enter); data-free ones are absorbed by
    a neighbouring data-free gate; consecutive data-free gates on the same wires become one.
    """
    fuser: Fuser[StateGate] = Fuser(graph, num_qubits)
    for primitive in primitives:
        _add(fuser, primitive)
    for qubit in range(num_qubits):
        _release(fuser, qubit)
    return fuser.gates


def _add(fuser: Fuser[StateGate], primitive: Primitive) -> None:
    qubits, angle = primitive.qubits, primitive.angle
    if len(qubits) > 1 and angle is not None and angle.batched:
        for qubit in qubits:
            _release(fuser, qubit)
        fuser.append(StateGate(qubits, fuser.graph.feature(angle.scaled(0.5)), primitive.pauli))
        return
    tensor = _tensor(fuser.graph, primitive)
    if _absorbed(fuser, qubits, tensor):
        return
    if len(qubits) == 1:
        fuser.hold(qubits[0], tensor)
        return
    for qubit in qubits:
        held = fuser.held[qubit]
        if held is not None and fuser.graph.nodes[held].batched:
            _release(fuser, qubit)
    fuser.append(StateGate(qubits, fuser.take_held(qubits, tensor)))


def _absorbed(fuser: Fuser[StateGate], qubits: tuple[int, ...], tensor: int) -> bool:
    """Melt a data-free gate into the data-free gate before it, if that acts on all its wires."""
    nodes, before = fuser.graph.nodes, fuser.gate_before(qubits)
    if nodes[tensor].batched or before is None or before.pauli or nodes[before.tensor].batched:
        return False
    fuser.absorb(before, qubits, tensor)
    return True


def _release(fuser: Fuser[StateGate], qubit: int) -> None:
    """Make what is held back on a wire a step of its own, or part of the step before."""
    held = fuser.held[qubit]
    if held is not None:
        fuser.held[qubit] = None
        if not _absorbed(fuser, (qubit,), held):
            fuser.append(StateGate((qubit,), held))


def _tensor(graph: Graph, primitive: Primitive) -> int:
    size, angle = len(primitive.qubits), primitive.angle
    if angle is None:
        assert primitive.matrix is not None
        return graph.constant(_first_qubit_first(primitive.matrix))
    if angle.constant:
        half = angle.offset / 2
        on_one, on_cosine, on_sine = np.moveaxis(_rotation(primitive.pauli), -1, 0)
        return graph.constant(on_one + np.cos(half) * on_cosine + np.sin(half) * on_sine)
    rotation = graph.named(primitive.pauli, lambda: _rotation(primitive.pauli))
    labels = tuple(range(2 * size))
    feature = graph.feature(angle.scaled(0.5))
    return graph.contract(rotation, (*labels, 2 * size), feature, (2 * size,), labels)


def _rotation(label: str) -> ComplexArray:
    """Return the tensor of exp(-i t P / 2) on (1, cos t/2, sin t/2), features last."""
    pauli = _first_qubit_first(pauli_matrix(label))
    identity = np.eye(2 ** len(label), dtype=complex).reshape(pauli.shape)
    return np.stack([0 * identity, identity, -1j * pauli], axis=-1)


def _first_qubit_first(matrix: ComplexArray) -> ComplexArray:
    """Return a gate's matrix with one leg a qubit, outputs then inputs, first qubit first."""
    size = matrix.shape[0].bit_length() - 1
    order = [*range(size - 1, -1, -1), *range(2 * size - 1, size - 1, -1)]
    return np.asarray(matrix, dtype=complex).reshape((2,) * (2 * size)).transpose(order)
