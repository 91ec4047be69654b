"""The expression graph of a tensor network: every distinct sub-result is one node.

Nodes are hash-consed: asking twice for the same operation on the same operands returns the same node, so
results that several observables share are computed once. Operations on constants alone are carried out at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qhybrid.engines.gates.expression import Angle

LARGEST_FOLDED = 4**6
"""Entries up to which a contraction of two constants is carried out while planning."""

Tensor = npt.NDArray[Any]
Labels = tuple[int, ...]
Pattern = tuple[Labels, Labels, Labels]
Work = tuple[bool, int, int, str, int]
"""Of a node: whether every sample has its own value, its entries, the multiply-adds of its contraction, and
the unit and number of entries that are copied for that; see `cost`."""


@dataclass(frozen=True)
class Node:
    """One tensor.

    Attributes:
        kind: "constant", "feature", "channel", "contract" or "select".
        dims: Shape without stack and batch dimensions.
        batched: Whether every sample has its own value.
        operands: Nodes it is computed from.
        pattern: Of "contract": index labels of both operands and of the result, renumbered by appearance.
        axis: Of "select": the axis whose component 0 is taken.
        payload: Of "constant": index into `Graph.constants`; of "feature": index into `Graph.angles`;
            of "channel": index into `Graph.leaves`.
    """

    kind: str
    dims: tuple[int, ...]
    batched: bool
    operands: tuple[int, ...] = ()
    pattern: Pattern = ((), (), ())
    axis: int = 0
    payload: int = -1


class Graph:
    """Builds nodes; a node is named by its index in `nodes`.

    Attributes:
        works: What nodes take, as far as it was asked for (`cost.network_cost`); None for constants.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: list[Tensor] = []
        self.angles: list[Angle] = []
        self.leaves: list[tuple[str, int]] = []
        self.works: dict[int, Work | None] = {}
        self._known: dict[object, int] = {}
        self._by_name: dict[object, int] = {}

    def named(self, name: object, make: Callable[[], Tensor]) -> int:
        """Return the node of a constant tensor that is made only once for a name, which says all of it."""
        if name not in self._by_name:
            self._by_name[name] = self.constant(make())
        return self._by_name[name]

    def constant(self, array: Tensor) -> int:
        """Return the node of a constant tensor."""
        content = np.asarray(np.asarray(array, order="C") + 0.0)
        key = ("constant", content.shape, content.dtype.char, content.tobytes())
        if key not in self._known:
            self.constants.append(content)
            payload = len(self.constants) - 1
            self._known[key] = self._add(Node("constant", content.shape, False, payload=payload))
        return self._known[key]

    def feature(self, angle: Angle) -> int:
        """Return the node of the vector (1, cos t, sin t) of an angle."""
        key = ("feature", angle)
        if key not in self._known:
            self.angles.append(angle)
            payload = len(self.angles) - 1
            self._known[key] = self._add(Node("feature", (3,), angle.batched, payload=payload))
        return self._known[key]

    def channel(self, leaf: tuple[str, int], num_qubits: int) -> int:
        """Return the node of a channel whose matrix is only known when noise rates are given."""
        if leaf not in self._known:
            self.leaves.append(leaf)
            dims = (4,) * (2 * num_qubits)
            self._known[leaf] = self._add(Node("channel", dims, False, payload=len(self.leaves) - 1))
        return self._known[leaf]

    def contract(
        self,
        first: int,
        first_labels: Sequence[int],
        second: int,
        second_labels: Sequence[int],
        out: Sequence[int],
    ) -> int:
        """Return the node of a pairwise contraction, written as in einsum with integer labels."""
        if self.nodes[first].batched and not self.nodes[second].batched:
            first, first_labels, second, second_labels = second, second_labels, first, first_labels
        pattern = _canonical(first_labels, second_labels, out)
        key = ("contract", first, second, pattern)
        if key in self._known:
            return self._known[key]
        a, b = self.nodes[first], self.nodes[second]
        size = dict(zip(first_labels, a.dims)) | dict(zip(second_labels, b.dims))
        dims = tuple(size[label] for label in out)
        if a.kind == b.kind == "constant" and int(np.prod(dims)) <= LARGEST_FOLDED:
            operands: list[Any] = [
                self.constants[a.payload],
                pattern[0],
                self.constants[b.payload],
                pattern[1],
            ]
            node = self.constant(np.einsum(*operands, pattern[2]))
        else:
            node = self._add(Node("contract", dims, a.batched or b.batched, (first, second), pattern))
        self._known[key] = node
        return node

    def select(self, source: int, axis: int) -> int:
        """Return the node of the component 0 (the identity's) along one axis."""
        key = ("select", source, axis)
        if key not in self._known:
            node = self.nodes[source]
            if node.kind == "constant":
                self._known[key] = self.constant(
                    self.constants[node.payload].take([0], axis=axis).squeeze(axis)
                )
            else:
                dims = node.dims[:axis] + node.dims[axis + 1 :]
                self._known[key] = self._add(Node("select", dims, node.batched, (source,), axis=axis))
        return self._known[key]

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def reachable(self, roots: Sequence[int]) -> list[int]:
        """Return all nodes that the roots need, operands before users."""
        needed = set(roots)
        waiting = list(needed)
        while waiting:
            for operand in self.nodes[waiting.pop()].operands:
                if operand not in needed:
                    needed.add(operand)
                    waiting.append(operand)
        return sorted(needed)


def _canonical(first: Sequence[int], second: Sequence[int], out: Sequence[int]) -> Pattern:
    place = dict.fromkeys((*first, *second))
    number = {label: i for i, label in enumerate(place)}.__getitem__
    return tuple(map(number, first)), tuple(map(number, second)), tuple(map(number, out))
