"""Angles as functions of inputs and weights: read from Qiskit expressions, evaluated by torch.

Almost every angle in practice is affine (`x`, `2 * x + 0.5`, `w - x`); those are evaluated for all gates at
once by one matrix product. Anything else (`(pi - x) * (pi - y)` of ZZ feature maps, `sin(x)`) is kept as a
small tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import CircuitError

Tree = tuple[Any, ...]
"""("number", v), ("input", i), ("weight", i), ("add" or "mul", *trees), ("pow", tree, tree), "
"(function, tree)."""

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "exp": torch.exp,
    "log": torch.log,
    "Abs": torch.abs,
    "sign": torch.sign,
    "conjugate": torch.clone,
}


@dataclass(frozen=True)
class Angle:
    """A gate angle in radians: offset + sum_i a_i x_i + sum_j b_j w_j, or a general tree.

    Attributes:
        offset: Constant part of an affine angle.
        inputs: Pairs (index into an input row, factor), by index.
        weights: Pairs (index into the weight vector, factor), by index.
        tree: The expression of an angle that is not affine, else None; then the other fields only say on
            which parameters it depends (their factors are 0).
    """

    offset: float
    inputs: tuple[tuple[int, float], ...] = ()
    weights: tuple[tuple[int, float], ...] = ()
    tree: Tree | None = None

    @property
    def batched(self) -> bool:
        """Whether the angle depends on the data, so that every sample has its own value."""
        return bool(self.inputs)

    @property
    def constant(self) -> bool:
        """Whether the angle is a number."""
        return not self.inputs and not self.weights

    def scaled(self, factor: float) -> Angle:
        """Return the angle times a number."""
        return Angle(
            factor * self.offset,
            tuple((index, factor * a) for index, a in self.inputs),
            tuple((index, factor * b) for index, b in self.weights),
            None if self.tree is None else ("mul", ("number", factor), self.tree),
        )


class AngleReader:
    """Turns gate parameters into `Angle`s.

    Args:
        leaves: For each parameter name its place: ("input", i) or ("weight", i).
    """

    def __init__(self, leaves: Mapping[str, tuple[str, int]]) -> None:
        self._leaves = leaves

    @classmethod
    def of(cls, spec: CircuitSpec) -> AngleReader:
        """Return the reader of a circuit's input and weight parameters."""
        leaves = {parameter.name: ("input", index) for index, parameter in enumerate(spec.input_params)}
        leaves |= {parameter.name: ("weight", index) for index, parameter in enumerate(spec.weight_params)}
        return cls(leaves)

    def read(self, value: Any) -> Angle:
        """Read a number, a Parameter or a ParameterExpression.

        Raises:
            CircuitError: If the expression has parameters that are not known, an unsupported function, or a
                complex value.
        """
        if getattr(value, "parameters", None):
            return angle_of(self._tree(value))
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise CircuitError(
                f"A gate's angle must be a real number or expression, but is {value!r}."
            ) from error
        if not math.isfinite(number):
            raise CircuitError(f"A gate's angle must be finite, but is {number}.")
        return Angle(number)

    def _tree(self, value: Any) -> Tree:
        # What is left of `w + x - x` is `w`, but Qiskit still lists both as its parameters.
        name = str(value)
        if name in self._leaves and any(name == parameter.name for parameter in value.parameters):
            return self._leaves[name]
        try:
            return self._convert(value.sympify())
        except (CircuitError, AttributeError, TypeError, ValueError):
            # Qiskit 2.6 fails over 2**x, and sympy, whose x may be complex, writes |exp(x)| otherwise.
            return replayed(value, self._leaves)

    def _convert(self, expression: Any) -> Tree:
        if expression.is_Symbol:
            leaf = self._leaves.get(expression.name)
            if leaf is None:
                raise CircuitError(
                    f"Parameter `{expression.name}` must be an input or a weight, but is neither."
                )
            return leaf
        if expression.is_number:
            number = complex(expression)
            if abs(number.imag) > 1e-12:
                raise CircuitError(f"An angle must be real, but contains the number {number}.")
            return ("number", number.real)
        name = type(expression).__name__.lower() if expression.is_Add or expression.is_Mul else None
        if name is None:
            name = "pow" if expression.is_Pow else type(expression).__name__
        if name not in FUNCTIONS and name not in ("add", "mul", "pow"):
            known = ", ".join(sorted(FUNCTIONS))
            raise CircuitError(f"An angle may use sums, products, powers, and {known}, but uses `{name}`.")
        return (name, *(self._convert(argument) for argument in expression.args))


def angle_of(tree: Tree) -> Angle:
    """Return the affine form of an expression if it has one, else an angle that keeps the tree."""
    affine = _affine(tree)
    if affine is not None:
        inputs = sorted((key[1], factor) for key, factor in affine.items() if key[0] == "input" and factor)
        weights = sorted((key[1], factor) for key, factor in affine.items() if key[0] == "weight" and factor)
        return Angle(affine.get(_ONE, 0.0), tuple(inputs), tuple(weights))
    leaves = _leaves_of(tree)
    return Angle(
        0.0,
        tuple((index, 0.0) for kind, index in leaves if kind == "input"),
        tuple((index, 0.0) for kind, index in leaves if kind == "weight"),
        tree,
    )


_ONE = ("one", 0)


def replayed(value: Any, leaves: Mapping[str, tuple[str, int]]) -> Tree:
    """Return an expression as it was put together, step by step.

    Args:
        value: The ParameterExpression.
        leaves: See `AngleReader`.

    Raises:
        CircuitError: If a part of it has no real, finite value, or is made by an operation that is not known.
    """
    found: list[Tree] = []
    for step in value._qpy_replay:
        found += [_operand(one, leaves) for one in (step.lhs, step.rhs) if one is not None]
        name, last = str(step.op).rpartition(".")[2], found.pop()
        if name in _REPLAYED:
            found.append(_folded((_REPLAYED[name], last)))
        elif name in _PAIRS:
            pair = (last, found.pop()) if name.startswith("R") else (found.pop(), last)
            found.append(_of_pair(_PAIRS[name], *pair))
        else:
            raise CircuitError(f"An angle may use sums, products, powers and functions, but uses `{name}`.")
    return found.pop()


_REPLAYED = {
    "SIN": "sin", "COS": "cos", "TAN": "tan", "ASIN": "asin", "ACOS": "acos", "ATAN": "atan", "EXP": "exp",
    "LOG": "log", "ABS": "Abs", "SIGN": "sign", "CONJ": "conjugate",
}  # fmt: skip
_PAIRS = {
    "ADD": "add", "SUB": "sub", "MUL": "mul", "DIV": "div", "POW": "pow",
    "RSUB": "sub", "RDIV": "div", "RPOW": "pow",
}  # fmt: skip


def _operand(value: Any, leaves: Mapping[str, tuple[str, int]]) -> Tree:
    if getattr(value, "parameters", None):
        if value.name not in leaves:
            raise CircuitError(f"Parameter `{value.name}` must be an input or a weight, but is neither.")
        return leaves[value.name]
    number = complex(value)
    if number.imag:
        raise CircuitError(f"An angle must be real, but contains the number {number}.")
    return ("number", number.real)


def _of_pair(kind: str, first: Tree, second: Tree) -> Tree:
    if kind == "sub":
        return _folded(("add", first, _folded(("mul", ("number", -1.0), second))))
    if kind == "div":
        return _folded(("mul", first, _folded(("pow", second, ("number", -1.0)))))
    return _folded((kind, first, second))


def _folded(tree: Tree) -> Tree:
    """Return a number for a function of numbers."""
    if any(part[0] != "number" for part in tree[1:]):
        return tree
    nothing = torch.zeros(0, dtype=torch.float64)
    number = evaluate(tree, nothing, nothing).item()
    if not math.isfinite(number):
        raise CircuitError(f"A part of a gate's angle must be real and finite, but is {number}.")
    return ("number", number)


def _affine(tree: Tree) -> dict[tuple[str, int], float] | None:
    """Return factors by leaf (and `_ONE` for the constant), or None if the expression is not affine."""
    kind = tree[0]
    if kind == "number":
        return {_ONE: float(tree[1])}
    if kind in ("input", "weight"):
        return {(kind, tree[1]): 1.0}
    if kind not in ("add", "mul"):
        return None
    parts = [_affine(child) for child in tree[1:]]
    if kind == "add":
        total: dict[tuple[str, int], float] = {}
        for part in parts:
            if part is None:
                return None
            for key, factor in part.items():
                total[key] = total.get(key, 0.0) + factor
        return total
    product: dict[tuple[str, int], float] = {_ONE: 1.0}
    for part in parts:
        if part is None:
            return None
        if set(product) <= {_ONE}:
            product = {key: factor * product.get(_ONE, 0.0) for key, factor in part.items()}
        elif set(part) <= {_ONE}:
            product = {key: factor * part.get(_ONE, 0.0) for key, factor in product.items()}
        else:
            return None
    return product


def _leaves_of(tree: Tree) -> list[tuple[str, int]]:
    if tree[0] in ("input", "weight"):
        return [(tree[0], tree[1])]
    if tree[0] == "number":
        return []
    return sorted({leaf for child in tree[1:] for leaf in _leaves_of(child)})


def evaluate(tree: Tree, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Evaluate an expression for a batch.

    Args:
        tree: The expression.
        inputs: Input rows, transposed: shape (n_in, B).
        weights: Weight vector, shape (n_w,).

    Returns:
        Shape (B,) if the expression depends on inputs, else ().
    """
    kind = tree[0]
    if kind == "number":
        return inputs.new_tensor(tree[1])
    if kind == "input":
        return inputs[tree[1]]
    if kind == "weight":
        return weights[tree[1]]
    if kind == "pow" and tree[2][0] == "number":
        return torch.pow(evaluate(tree[1], inputs, weights), float(tree[2][1]))
    values = [evaluate(child, inputs, weights) for child in tree[1:]]
    if kind in ("add", "mul"):
        result = values[0]
        for value in values[1:]:
            result = result + value if kind == "add" else result * value
        return result
    if kind == "pow":
        return torch.pow(values[0], values[1])
    return FUNCTIONS[kind](values[0])
