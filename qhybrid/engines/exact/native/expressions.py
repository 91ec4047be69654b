"""Expressions of angles as the flat list of nodes that the compiled library evaluates (expressions.hpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qhybrid.engines.gates.expression import Angle, Tree

NAMES = (
    *("number", "input", "weight", "add", "mul", "pow", "power"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "Abs", "sign"),
)
KINDS = {name: number for number, name in enumerate(NAMES)}
"""Kinds of nodes by the order of the library's `NodeKind`; `power` has a constant exponent."""


@dataclass
class Nodes:
    """Nodes of several expressions; equal parts are one node.

    Attributes:
        rows: (kind, first operand or index of a parameter, second operand, number), operands first.
    """

    rows: dict[tuple[int, int, int, float], int] = field(default_factory=dict)

    def add(self, tree: Tree) -> int:
        """Add an expression and return the number of its node."""
        kind = tree[0]
        if kind == "number":
            return self._node(kind, number=float(tree[1]))
        if kind in ("input", "weight"):
            return self._node(kind, tree[1])
        if kind == "conjugate":
            return self.add(tree[1])
        first = self.add(tree[1])
        if kind == "pow" and tree[2][0] == "number":
            return self._node("power", first, number=float(tree[2][1]))
        if kind == "pow":
            return self._node(kind, first, self.add(tree[2]))
        for child in tree[2:]:
            first = self._node(kind, first, self.add(child))
        return first if kind in ("add", "mul") else self._node(kind, first)

    def _node(self, kind: str, first: int = 0, second: int = 0, number: float = 0.0) -> int:
        return self.rows.setdefault((KINDS[kind], first, second, number), len(self.rows))


def flat_expressions(batched: Sequence[Angle], free: Sequence[Angle]) -> tuple[list[int], list[float]]:
    """Return integers and reals in the order in which `Expressions` reads them.

    Args:
        batched: Angles that depend on inputs.
        free: Angles of weights alone.
    """
    nodes = Nodes()
    places = [[nodes.add(angle.tree or ()) for angle in some] for some in (batched, free)]
    ints = [len(nodes.rows), *(number for row in nodes.rows for number in row[:3])]
    for some in places:
        ints += [len(some), *some]
    return ints, [row[3] for row in nodes.rows]
