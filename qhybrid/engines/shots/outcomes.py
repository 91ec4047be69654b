"""Exact probabilities of all outcomes of one measurement basis, read-out errors included.

Two ways, the one with the lower predicted cost is taken. Pauli-transfer network: the light cone of the
measured qubits is contracted with one open leg a qubit, on which the read-out's map turns the Pauli vector v
into P(0) = (1 + r.v) / 2 and P(1) = (1 - r.v) / 2, where r.v is the mean that is read. Amplitudes, for gates
without noise: the state is carried forward, squared, and read-out errors are applied to the probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from qiskit.circuit.library import HGate, SdgGate

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.contraction import cone_network, contract_along, search_path
from qhybrid.engines.exact.cost import network_cost
from qhybrid.engines.exact.execute import Executor
from qhybrid.engines.exact.fusion import fuse
from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.light_cone import ReadOut, light_cone
from qhybrid.engines.exact.program import compile_program
from qhybrid.engines.gates.pauli_transfer import ZERO_STATE, Array
from qhybrid.engines.lowering import Primitive, lower
from qhybrid.engines.noise.readout import readout_map
from qhybrid.engines.shots.strings import PauliString
from qhybrid.noise import NoiseProfile
from qhybrid.noise.paulis import ComplexArray, pauli_matrix

Letters = tuple[tuple[int, int], ...]
"""Measured qubits with the letter that is read, 1, 2, 3 for X, Y, Z, by qubit."""
READ_GATES = {1: (HGate(),), 2: (SdgGate(), HGate()), 3: ()}
"""Gates that turn a letter into Z."""
CARRIED_ENTRIES = 2**23
"""Entries of the widest tensor that are carried at once; larger batches are taken in parts."""
WIDEST_AMPLITUDES = 24
"""Wires above which the amplitudes are not considered."""
COMPLEX_FACTOR = 4
"""Real multiply-adds of a complex one."""
THOROUGH_SECONDS, THOROUGH_TRIALS = 0.2, 32
"""Time of a batch above which the order of contraction is searched for longer, and the orders tried."""
THOROUGH_QUBITS, THOROUGH_TENSORS = 12, 500
"""Measured qubits, and tensors, up to which that search is worth its time."""
NOMINAL_BATCH = 64


class Measurement:
    """A circuit with the noise it is measured under: what the probabilities of its outcomes follow from.

    Args:
        spec: The circuit.
        noise: Error rates of gates and read-outs; None for none.
    """

    def __init__(self, spec: CircuitSpec, noise: NoiseProfile | None) -> None:
        self.spec, self.noise = spec, noise
        self.lowered = lower(spec, noise)

    def parts(self, strings: Sequence[PauliString]) -> list[list[int]]:
        """Return the strings in groups whose outcomes are independent of each other.

        Qubits are dependent if their light cones share a gate; a string ties its own qubits together.

        Args:
            strings: Strings of one basis.

        Returns:
            Indices of the strings, ordered within each group.
        """
        parent: dict[object, object] = {}

        def root(thing: object) -> object:
            while parent.setdefault(thing, thing) != thing:
                thing = parent[thing]
            return thing

        for qubit in sorted({qubit for string in strings for qubit, _ in string}):
            for gate in light_cone(self.lowered.primitives, [self.lowered.wire_of[qubit]]):
                parent[root(("gate", gate))] = root(("qubit", qubit))
        for string in strings:
            for qubit, _ in string:
                parent[root(("qubit", qubit))] = root(("qubit", string[0][0]))
        groups: dict[object, list[int]] = {}
        for index, string in enumerate(strings):
            groups.setdefault(root(("qubit", string[0][0])), []).append(index)
        return list(groups.values())

    def read_vector(self, qubit: int, letter: int) -> Array:
        """Return r: the mean that is read is r.v for the qubit's Pauli vector v, shape (4,)."""
        vectors = np.eye(4) if self.noise is None else readout_map(self.noise, qubit)
        return np.asarray(vectors[letter])


@dataclass(frozen=True)
class _Contraction:
    """A graph node that holds probabilities or amplitudes, one axis of size 2 a wire.

    Attributes:
        graph: Its graph.
        node: The node.
        qubits: The qubits of its axes.
        maps: For amplitudes, what is applied to every qubit's probabilities: P(read | actual), shape (2, 2),
            or a row of ones, which traces it out. Empty for probabilities.
    """

    graph: Graph
    node: int
    qubits: tuple[int, ...]
    maps: tuple[Array, ...] = ()

    @property
    def seconds(self) -> float:
        """Predicted time of the nominal batch."""
        factor = COMPLEX_FACTOR if self.maps else 1
        return factor * network_cost(self.graph, [self.node], NOMINAL_BATCH).seconds

    @property
    def widest(self) -> int:
        """Entries of the widest tensor of a sample."""
        return max(
            network_cost(self.graph, [self.node], NOMINAL_BATCH).widest,
            int(np.prod(self.graph.nodes[self.node].dims, dtype=int)),
        )


class OutcomeTable:
    """Probabilities of the outcomes of some qubits, for any inputs and weights.

    Args:
        measurement: The circuit and its noise.
        letters: The measured qubits and what is read.
    """

    def __init__(self, measurement: Measurement, letters: Letters) -> None:
        amplitudes = _amplitudes(measurement, letters)
        network = _network(measurement, letters, thorough=amplitudes is None)
        ways = [network] if amplitudes is None else [network, amplitudes]
        self._chosen = min(ways, key=lambda way: way.seconds)
        self._spec = measurement.spec
        self._qubits = tuple(qubit for qubit, _ in letters)
        self._program = compile_program(self._chosen.graph, [self._chosen.node])
        self._executors: dict[torch.device, Executor] = {}
        self.seconds, self.widest = self._chosen.seconds / NOMINAL_BATCH, self._chosen.widest

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor) -> Iterator[tuple[int, Array]]:
        """Yield parts of the batch: the number of samples, and their probabilities, shape (samples, 2^k).

        Where no input matters there is one row for all samples of a part. Bit j of an outcome, counted from
        the least significant, is that of the j-th measured qubit.

        Args:
            inputs: Input angles in radians, shape (B, n_in).
            weights: Trainable angles in radians, shape (n_w,).
        """
        rows = inputs.detach().double()
        own = weights.detach().to(device=inputs.device, dtype=torch.float64)
        alone = None if self._program.roots[0].batched else self._part(rows[:1], own)
        for some in torch.split(rows, max(1, CARRIED_ENTRIES // self.widest)):
            yield len(some), self._part(some, own) if alone is None else alone

    def _part(self, inputs: torch.Tensor, weights: torch.Tensor) -> Array:
        table = self._executed(inputs, weights)
        if self._chosen.maps:
            table = self._read(table.abs().square())
        order = [self._chosen.qubits.index(qubit) for qubit in reversed(self._qubits)]
        order += [axis for axis in range(len(self._chosen.qubits)) if axis not in order]
        found = table.permute(table.dim() - 1, *order).reshape(len(inputs), -1).clamp(min=0)
        result: Array = (found / found.sum(dim=1, keepdim=True)).cpu().numpy()
        return result

    def _executed(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the node's values, shape (2, ..., 2, B)."""
        root, batch = self._program.roots[0], len(inputs)
        dtype = torch.complex128 if self._chosen.maps else torch.float64
        if root.constant is not None:
            constant = torch.as_tensor(root.constant).to(device=inputs.device, dtype=dtype)
            return constant.unsqueeze(-1).expand(*root.dims, batch)
        if inputs.device not in self._executors:
            like = torch.empty(0, dtype=dtype, device=inputs.device)
            spec = self._spec
            self._executors[inputs.device] = Executor(self._program, spec.num_inputs, spec.num_weights, like)
        registers = self._executors[inputs.device].registers(inputs.t().contiguous(), weights)
        found = registers[root.register][root.position]
        return found if root.batched else found.unsqueeze(-1).expand(*root.dims, batch)

    def _read(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Apply every qubit's map; that of a qubit that is not measured traces it out."""
        for axis, matrix in enumerate(self._chosen.maps):
            moved = torch.tensordot(torch.as_tensor(matrix).to(probabilities), probabilities, ([1], [axis]))
            probabilities = moved.movedim(0, axis)
        return probabilities


def _network(measurement: Measurement, letters: Letters, thorough: bool) -> _Contraction:
    """Return the probabilities as a contraction; `thorough` allows a longer search for its order."""
    graph, wire_of = Graph(), measurement.lowered.wire_of
    gates = fuse(measurement.lowered, graph)
    network = cone_network(graph, gates, ReadOut(tuple(wire_of[qubit] for qubit, _ in letters)))
    free = 1 + max((label for own in network.labels for label in own), default=0)
    leg_of = dict(zip(network.qubits, network.output))
    network.output = []
    for label, (qubit, letter) in enumerate(letters, start=free):
        read = measurement.read_vector(qubit, letter)
        identity = np.eye(4)[0]
        outcome = np.stack([(identity + read) / 2, (identity - read) / 2])
        leg = leg_of.get(wire_of[qubit])
        network.nodes.append(graph.constant(outcome if leg is not None else outcome @ ZERO_STATE))
        network.labels.append([label] if leg is None else [label, leg])
        network.output.append(label)
    node = contract_along(graph, network, search_path(graph, network))
    found = _Contraction(graph, node, tuple(qubit for qubit, _ in letters))
    worth = len(letters) <= THOROUGH_QUBITS and len(network.nodes) <= THOROUGH_TENSORS
    if thorough and worth and found.seconds > THOROUGH_SECONDS:
        node = contract_along(graph, network, search_path(graph, network, THOROUGH_TRIALS))
        found = min(found, _Contraction(graph, node, found.qubits), key=lambda way: way.seconds)
    return found


def _amplitudes(measurement: Measurement, letters: Letters) -> _Contraction | None:
    """Return the state's amplitudes in the measured basis; None if noise or their number forbids it."""
    reads = {qubit: measurement.read_vector(qubit, letter) for qubit, letter in letters}
    mixed = any(np.delete(reads[qubit], [0, letter]).any() for qubit, letter in letters)
    if measurement.lowered.noisy or mixed:
        return None
    wire_of = measurement.lowered.wire_of
    primitives = [*measurement.lowered.primitives]
    for qubit, letter in letters:
        primitives += [Primitive((wire_of[qubit],), matrix=gate.to_matrix()) for gate in READ_GATES[letter]]
    wires = [wire_of[qubit] for qubit, _ in letters]
    cone = [primitives[index] for index in light_cone(primitives, wires)]
    if len({wire for gate in cone for wire in gate.qubits}.union(wires)) > WIDEST_AMPLITUDES:
        return None
    state = _State(wires)
    for gate in cone:
        state.apply(gate)
    node, order = state.joined()
    qubits = tuple(wire_of.index(wire) for wire in order)
    maps = []
    for qubit in qubits:
        if qubit not in reads:
            maps.append(np.ones((1, 2)))
            continue
        shift, slope = reads[qubit][0], reads[qubit][1:].sum()
        zero = np.array([1 + shift + slope, 1 + shift - slope]) / 2
        maps.append(np.stack([zero, 1 - zero]))
    return _Contraction(state.graph, node, qubits, tuple(maps))


class _State:
    """Amplitudes under construction: separate tensors for wires that no gate has joined yet.

    Args:
        wires: The measured wires, which are there even if no gate touches them.
    """

    def __init__(self, wires: Sequence[int]) -> None:
        self.graph = Graph()
        self._zero = self.graph.constant(np.array([1.0, 0.0], dtype=complex))
        self._tensors: list[tuple[int, list[int]]] = [(self._zero, [wire]) for wire in wires]
        self._held: dict[int, int] = {}

    def apply(self, gate: Primitive) -> None:
        """Apply a gate; one-qubit gates without data are held back until the next gate on their wire."""
        node, graph = _gate_node(self.graph, gate), self.graph
        if len(gate.qubits) == 1 and not graph.nodes[node].batched:
            held = self._held.pop(gate.qubits[0], None)
            joint = node if held is None else graph.contract(node, (0, 1), held, (1, 2), (0, 2))
            self._held[gate.qubits[0]] = joint
            return
        size = len(gate.qubits)
        labels = list(range(2 * size))
        for place, wire in enumerate(gate.qubits):
            held = self._held.pop(wire, None)
            if held is not None and graph.nodes[node].batched:
                self._contract(held, (wire,))
            elif held is not None:
                inner = [-1 if label == size + place else label for label in labels]
                node = graph.contract(node, inner, held, (-1, size + place), labels)
        self._contract(node, gate.qubits)

    def _contract(self, node: int, qubits: tuple[int, ...]) -> None:
        """Contract a gate with the tensors of its wires."""
        own = [*(-1 - wire for wire in qubits), *qubits]
        touched = [tensor for tensor in self._tensors if not set(tensor[1]).isdisjoint(qubits)]
        known = {wire for _, wires in touched for wire in wires}
        self._tensors = [tensor for tensor in self._tensors if tensor not in touched]
        touched += [(self._zero, [wire]) for wire in qubits if wire not in known]
        for tensor, wires in touched:
            rest = [label for label in own if label not in wires]
            rest += [wire for wire in wires if wire not in qubits]
            node, own = self.graph.contract(node, own, tensor, wires, rest), rest
        self._tensors.append((node, [-1 - label if label < 0 else label for label in own]))

    def joined(self) -> tuple[int, list[int]]:
        """Return the node of all amplitudes, and the wires of its axes."""
        for wire, held in self._held.items():
            self._contract(held, (wire,))
        node, wires = self._tensors[0]
        for other, own in self._tensors[1:]:
            node, wires = self.graph.contract(node, wires, other, own, [*wires, *own]), [*wires, *own]
        return node, wires


def _gate_node(graph: Graph, gate: Primitive) -> int:
    """Return a gate's node, output legs then input legs, first qubit first."""
    if gate.angle is None:
        assert gate.matrix is not None
        return graph.constant(_first_qubit_first(gate.matrix))
    pauli = _first_qubit_first(pauli_matrix(gate.pauli))
    identity = np.eye(2 ** len(gate.qubits), dtype=complex).reshape(pauli.shape)
    half = gate.angle.scaled(0.5)
    if half.constant:
        return graph.constant(np.cos(half.offset) * identity - 1j * np.sin(half.offset) * pauli)
    rotation = graph.constant(np.stack([0 * identity, identity, -1j * pauli], axis=-1))
    labels = tuple(range(pauli.ndim))
    feature = graph.feature(half)
    return graph.contract(rotation, (*labels, pauli.ndim), feature, (pauli.ndim,), labels)


def _first_qubit_first(matrix: ComplexArray) -> ComplexArray:
    """Return a gate's matrix with one leg a qubit, outputs then inputs, first qubit first."""
    size = matrix.shape[0].bit_length() - 1
    order = [*range(size - 1, -1, -1), *range(2 * size - 1, size - 1, -1)]
    return np.asarray(matrix, dtype=complex).reshape((2,) * (2 * size)).transpose(order)
