"""Evaluate many expressions of one form at once: `(pi - x) * (pi - y)` for all pairs in a few operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from qhybrid.engines.gates.expression import Tree, evaluate


@dataclass
class _Form:
    """Expressions that differ in parameters and numbers alone.

    Attributes:
        rows: Their places in the result.
        inputs: Index of every input leaf, a row each.
        others: The same for weights and numbers: ("weight", index) or ("number", value).
    """

    rows: list[int] = field(default_factory=list)
    inputs: list[list[int]] = field(default_factory=list)
    others: list[list[Tree]] = field(default_factory=list)


class ExpressionGroups:
    """Evaluates expressions.

    Args:
        trees: Expressions with their places in the result.
        num_weights: Length of the weight vector.
        like: Tensor whose dtype and device the constants get.
    """

    def __init__(self, trees: Sequence[tuple[int, Tree]], num_weights: int, like: torch.Tensor) -> None:
        forms: dict[Tree, _Form] = {}
        for row, tree in trees:
            inputs: list[int] = []
            others: list[Tree] = []
            form = forms.setdefault(_form(tree, inputs, others), _Form())
            form.rows.append(row)
            form.inputs.append(inputs)
            form.others.append(others)
        numbers: dict[float, int] = {}
        self._forms = []
        for tree, form in forms.items():
            places = [
                [
                    leaf[1]
                    if leaf[0] == "weight"
                    else num_weights + numbers.setdefault(leaf[1], len(numbers))
                    for leaf in row
                ]
                for row in form.others
            ]
            self._forms.append((tree, _index(form.inputs, like), _index(places, like)))
        self._numbers = torch.as_tensor(list(numbers), dtype=like.dtype, device=like.device)
        self.rows = torch.as_tensor([row for form in forms.values() for row in form.rows], device=like.device)

    def batched(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the values in the order of `rows`, shape (K, B), for input rows of shape (n_in, B)."""
        known = torch.cat([weights, self._numbers])
        parts = []
        for tree, places, others in self._forms:
            values = evaluate(tree, inputs[places], known[others].unsqueeze(-1))
            parts.append(values.expand(places.shape[1], inputs.shape[1]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def free(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the values of expressions of weights alone in the order of `rows`, shape (K,)."""
        known = torch.cat([weights, self._numbers])
        parts = []
        for tree, _, others in self._forms:
            leaves = known[others]
            parts.append(evaluate(tree, leaves, leaves))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


FIXED_OPERATORS = 5
"""Torch operators of every form, and as many of all forms together: indices, views, joining."""


def operators_of(trees: Sequence[Tree]) -> tuple[int, int]:
    """Return the torch operators of expressions, and the numbers that they write for a sample."""
    forms: dict[Tree, int] = {}
    for tree in trees:
        form = _form(tree, [], [])
        forms[form] = forms.get(form, 0) + 1
    nodes = {form: _nodes(form) for form in forms}
    operators = sum(FIXED_OPERATORS + number for number in nodes.values())
    entries = sum(count * nodes[form] for form, count in forms.items())
    return (operators + FIXED_OPERATORS if forms else 0), entries


def _nodes(tree: Tree) -> int:
    """Return the functions and leaves of an expression."""
    return 1 + sum(_nodes(part) for part in tree[1:] if isinstance(part, tuple))


def _form(tree: Tree, inputs: list[int], others: list[Tree]) -> Tree:
    """Return a tree whose leaves count the leaves of their kind, which are collected on the way."""
    kind = tree[0]
    if kind == "input":
        inputs.append(tree[1])
        return ("input", len(inputs) - 1)
    if kind in ("weight", "number"):
        others.append(tree)
        return ("weight", len(others) - 1)
    if kind == "pow" and tree[2][0] == "number":
        return (kind, _form(tree[1], inputs, others), tree[2])
    return (kind, *(_form(child, inputs, others) for child in tree[1:]))


def _index(rows: Sequence[Sequence[int]], like: torch.Tensor) -> torch.Tensor:
    """Return indices with one row a leaf and one column an expression, shape (leaves, K)."""
    return torch.as_tensor(rows, dtype=torch.long, device=like.device).reshape(len(rows), -1).t().contiguous()
