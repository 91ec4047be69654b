"""What fusing gates of a transfer network and of a statevector have in common.

Gates are nodes whose first legs are outputs and next legs inputs, one a wire (further legs may follow). A
gate that does not depend on the data is absorbed by the gate before it where that acts on all its wires;
one-qubit gates that find no such gate are held back until the next gate on their wire takes them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from qhybrid.engines.exact.graph import Graph


class FusedTensor(Protocol):
    """A gate under construction."""

    tensor: int

    @property
    def qubits(self) -> tuple[int, ...]:
        """The wires."""
        ...


G = TypeVar("G", bound=FusedTensor)
_JOINT = 99
"""Label of a contracted leg, above all others."""


class Fuser(Generic[G]):
    """Bookkeeping of wires: the last gate on each, and the one-qubit gates held back.

    Args:
        graph: The graph of the gates' tensors.
        num_qubits: Number of wires.
    """

    def __init__(self, graph: Graph, num_qubits: int) -> None:
        self.graph = graph
        self.gates: list[G] = []
        self.held: list[int | None] = [None] * num_qubits
        self._last: list[int | None] = [None] * num_qubits

    def append(self, gate: G) -> None:
        """Take a finished gate."""
        for qubit in gate.qubits:
            self._last[qubit] = len(self.gates)
        self.gates.append(gate)

    def last_gate(self, qubit: int) -> G | None:
        """Return the last gate on a wire."""
        last = self._last[qubit]
        return None if last is None else self.gates[last]

    def gate_before(self, qubits: Sequence[int]) -> G | None:
        """Return the gate that directly precedes all these wires, with nothing held back in between."""
        last = self._last[qubits[0]]
        if last is None:
            return None
        alone = all(self._last[qubit] == last and self.held[qubit] is None for qubit in qubits)
        return self.gates[last] if alone else None

    def hold(self, qubit: int, tensor: int) -> None:
        """Hold a one-qubit gate back, behind what is held already."""
        earlier = self.held[qubit]
        if earlier is not None:
            tensor = self.graph.contract(tensor, (0, 1), earlier, (1, 2), (0, 2))
        self.held[qubit] = tensor

    def take_held(self, qubits: Sequence[int], tensor: int) -> int:
        """Return a gate's tensor with all that is held back on its wires in front of it."""
        labels = list(range(len(self.graph.nodes[tensor].dims)))
        for place, qubit in enumerate(qubits):
            held = self.held[qubit]
            if held is not None:
                inner = [*labels]
                inner[len(qubits) + place] = _JOINT
                tensor = self.graph.contract(tensor, inner, held, (_JOINT, len(qubits) + place), labels)
                self.held[qubit] = None
        return tensor

    def absorb(self, gate: G, qubits: Sequence[int], tensor: int) -> None:
        """Put a data-free gate, on some of a gate's wires, behind that gate."""
        labels = list(range(len(self.graph.nodes[gate.tensor].dims)))
        inner = [*labels]
        places = [gate.qubits.index(qubit) for qubit in qubits]
        for place in places:
            inner[place] = _JOINT + place
        outer = [*places, *(_JOINT + place for place in places)]
        gate.tensor = self.graph.contract(tensor, outer, gate.tensor, inner, labels)
