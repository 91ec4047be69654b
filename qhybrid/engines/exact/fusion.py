"""Fuse primitives: what does not depend on the data is absorbed by few tensors without batch dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qhybrid.engines.exact.fuser import Fuser
from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.rates import RateLayout
from qhybrid.engines.gates.pauli_transfer import Array, rotation_tensor, transfer_matrix
from qhybrid.engines.lowering import Lowered, Primitive


@dataclass
class FusedGate:
    """A gate of the network.

    Attributes:
        qubits: Wires it acts on.
        tensor: Node without batch dimension; axes are the outputs of all wires, then their inputs, then, for
            a rotation by a data-dependent angle, the three features.
        feature: Node of the features (1, cos t, sin t) of the data-dependent angle, or None.
    """

    qubits: tuple[int, ...]
    tensor: int
    feature: int | None = None


def fuse(
    lowered: Lowered, graph: Graph, rates: RateLayout | None = None, measured: Sequence[int] = ()
) -> list[FusedGate]:
    """Return the fused gates of a circuit in time order.

    Gates without data-dependent angle are absorbed by the gate before them if that has none either and acts
    on all their wires; runs of one-qubit gates that find no such gate are absorbed by the gate after them.

    Args:
        lowered: The circuit.
        graph: Receives the gates' tensors.
        rates: Where noise rates are given as tensors: then channels become nodes of their own, and read-out
            errors the last gate of a measured qubit.
        measured: The qubits that are read.
    """
    fuser: Fuser[FusedGate] = Fuser(graph, lowered.num_qubits)
    for primitive in lowered.primitives:
        known = primitive if rates is None else replace(primitive, channel=None)
        _add(fuser, primitive.qubits, *_tensor(graph, known))
        if rates is not None and primitive.error is not None:
            size = len(primitive.qubits)
            _add(fuser, primitive.qubits, graph.channel(rates.channel(primitive.error), size), None)
    if rates is not None:
        for qubit in measured:
            _add(fuser, (lowered.wire_of[qubit],), graph.channel(rates.readout(qubit), 1), None)
    for qubit, tensor in enumerate(fuser.held):
        if tensor is not None:
            last = fuser.last_gate(qubit)
            if last is None:
                fuser.gates.append(FusedGate((qubit,), tensor))
            else:
                fuser.absorb(last, (qubit,), tensor)
    return fuser.gates


def _add(fuser: Fuser[FusedGate], qubits: tuple[int, ...], tensor: int, feature: int | None) -> None:
    if feature is None:
        before = fuser.gate_before(qubits)
        if before is not None and before.feature is None:
            fuser.absorb(before, qubits, tensor)
            return
        if len(qubits) == 1:
            fuser.hold(qubits[0], tensor)
            return
    fuser.append(FusedGate(qubits, fuser.take_held(qubits, tensor), feature))


def _tensor(graph: Graph, primitive: Primitive) -> tuple[int, int | None]:
    """Return the gate's node, outputs then inputs, and the node of its data-dependent features."""
    legs = (4,) * (2 * len(primitive.qubits))
    angle = primitive.angle
    channel = None if primitive.channel is None else primitive.channel.tobytes()
    if angle is None:
        matrix = primitive.matrix
        assert matrix is not None
        name: object = (matrix.shape, matrix.tobytes(), channel)
        return graph.named(name, lambda: _after(transfer_matrix(matrix), primitive).reshape(legs)), None
    if angle.constant:
        features = np.array([1.0, np.cos(angle.offset), np.sin(angle.offset)])
        rotation = _after(rotation_tensor(primitive.pauli), primitive).reshape(*legs, 3)
        return graph.constant(rotation @ features), None
    name = (primitive.pauli, channel)
    node = graph.named(name, lambda: _after(rotation_tensor(primitive.pauli), primitive).reshape(*legs, 3))
    feature = graph.feature(angle)
    if angle.batched:
        return node, feature
    labels = tuple(range(len(legs)))
    return graph.contract(node, (*labels, len(legs)), feature, (len(legs),), labels), None


def _after(tensor: Array, primitive: Primitive) -> Array:
    """Return a gate's tensor with its noise behind it."""
    return tensor if primitive.channel is None else np.tensordot(primitive.channel, tensor, axes=(1, 0))
