"""Observables of small light cones as formulas in their angles.

Heisenberg's picture: an observable P behind a rotation exp(-i t Q / 2) is, in front of it, P where both
commute, else cos(t) P + sin(t) (-i P Q). At the beginning all qubits are |0>, where strings of Z are 1 and
all others 0. What is left is a sum of products of sines and cosines, exact up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qhybrid.analysis.parameters import Settings, common_base
from qhybrid.analysis.structure import Cone
from qhybrid.analysis.trigonometric import (
    Series,
    added,
    number_text,
    series_text,
    series_values,
    times_wave,
)
from qhybrid.engines.exact.light_cone import pauli_terms
from qhybrid.engines.gates.expression import Angle, Tree, evaluate
from qhybrid.engines.gates.pauli_transfer import transfer_matrix
from qhybrid.engines.lowering import Primitive
from qhybrid.errors import CircuitError

LARGEST_CONE = 3
"""Qubits of a light cone up to which its observable is written as a formula."""
LARGEST_SERIES = 3000
"""Products that a formula may have while it is worked out; beyond there is none."""
WRITTEN = 500
"""Products up to which it is written as text."""

Letters = tuple[int, ...]
"""Components 0, 1, 2, 3 for I, X, Y, Z on the wires of a cone."""
Key = tuple[object, ...]


@dataclass(frozen=True)
class Formula:
    """An observable as a function of its angles.

    Attributes:
        observable: The observable.
        qubits: Qubits of its light cone.
        text: The formula with numbers of three digits; "" where it has more than `WRITTEN` products.
        terms: Its number of products; None where there are more than `LARGEST_SERIES`, and no formula.
        series: The products with full numbers; see `qhybrid.analysis.trigonometric`.
        variables: What its variables are: for each the factors of the parameters, by their place in a row.
        names: The variables in words.
    """

    observable: str
    qubits: tuple[int, ...]
    text: str
    terms: int | None
    series: Series
    variables: tuple[tuple[tuple[tuple[int, float], ...], Tree | None], ...]
    names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return text, and the products with full numbers: [cos or sin, multiple, variable] of each."""
        written = self.text != ""
        products = [
            {
                "factor": factor,
                "waves": [["cos" if kind == "c" else "sin", multiple, v] for v, kind, multiple in monomial],
            }
            for monomial, factor in self.series.items()
        ]
        return {
            "observable": self.observable,
            "qubits": list(self.qubits),
            "formula": self.text if written else None,
            "number_of_products": self.terms,
            "products": products if written else None,
            "variables": list(self.names),
        }

    def values(self, rows: torch.Tensor) -> np.ndarray:
        """Return the values of rows of parameters, shape (B,), for shape (B, P).

        Raises:
            CircuitError: If there is no formula, for its number of products.
        """
        if self.terms is None:
            raise CircuitError(
                f"A formula must have at most {LARGEST_SERIES} products, but {self.observable} has more."
            )
        columns, nothing = rows.t(), rows.new_zeros(0)
        variables = []
        for factors, tree in self.variables:
            if tree is not None:
                variables.append(evaluate(tree, columns, nothing).expand(len(rows)).numpy())
            else:
                variables.append(sum((f * columns[p] for p, f in factors), rows.new_zeros(len(rows))).numpy())
        return series_values(self.series, np.array(variables).reshape(len(variables), len(rows)))


def formulas(settings: Settings, cones: Sequence[Cone]) -> tuple[Formula, ...]:
    """Return the formulas of all observables whose light cone is small enough.

    Args:
        settings: The circuit.
        cones: The light cone of each observable.
    """
    found = []
    for place, cone in enumerate(cones):
        if len(cone.qubits) <= LARGEST_CONE:
            found.append(_formula(settings, cone, place))
    return tuple(found)


def _formula(settings: Settings, cone: Cone, place: int) -> Formula:
    lowered = settings.lowered
    gates = [lowered.primitives[index] for index in cone.primitives]
    variables = _Variables([gate.angle for gate in gates if gate.angle is not None])
    operator: dict[Letters, Series] = {}
    for term in pauli_terms([settings.spec.observables[place]], lowered.wire_of):
        letter_of = dict(term.letters)
        letters = tuple(letter_of.get(wire, 0) for wire in cone.qubits)
        constant: Series = {(): term.coefficient}
        operator[letters] = added(operator.get(letters, {}), constant)
    for gate in reversed(gates):
        places = [cone.qubits.index(wire) for wire in gate.qubits]
        operator = _before(operator, gate, places, variables)
        if sum(map(len, operator.values())) > LARGEST_SERIES:
            return Formula(cone.observable, cone.qubits, "", None, {}, (), ())
    series: Series = {}
    for letters, part in operator.items():
        if set(letters) <= {0, 3}:
            series = added(series, part)
    names = [one.name for one in settings.facts]
    text = series_text(series, lambda *wave: variables.text(names, *wave)) if len(series) <= WRITTEN else ""
    own = tuple(variables.text(names, place, 1, 0.0) for place in range(len(variables.found)))
    return Formula(cone.observable, cone.qubits, text, len(series), series, tuple(variables.found), own)


class _Variables:
    """The angles of a cone as multiples of few variables, plus offsets.

    Args:
        angles: All angles.
    """

    def __init__(self, angles: Sequence[Angle]) -> None:
        scales: dict[Key, list[float]] = {}
        for angle in angles:
            if not angle.constant and angle.tree is None:
                direction, scale = _direction(angle)
                scales.setdefault(direction, []).append(scale)
        self._bases = {direction: common_base(own) for direction, own in scales.items()}
        self._places: dict[Key, int] = {}
        self.found: list[tuple[tuple[tuple[int, float], ...], Tree | None]] = []

    def of(self, angle: Angle) -> tuple[int, int, float]:
        """Return variable, multiple and offset of an angle with parameters."""
        if angle.tree is not None:
            return self._place(("tree", angle.tree), ((), angle.tree)), 1, 0.0
        direction, scale = _direction(angle)
        base = self._bases[direction]
        if base is None:  # incommensurate factors: each is a variable of its own
            base = abs(scale)
        factors = tuple((place, factor * base / abs(scale)) for place, factor in angle.inputs)
        if scale < 0:
            factors = tuple((place, -factor) for place, factor in factors)
        variable = self._place((direction, round(base, 12)), (factors, None))
        return variable, round(scale / base), angle.offset

    def _place(self, key: Key, content: tuple[tuple[tuple[int, float], ...], Tree | None]) -> int:
        if key not in self._places:
            self._places[key] = len(self.found)
            self.found.append(content)
        return self._places[key]

    def text(self, names: Sequence[str], variable: int, multiple: int, offset: float) -> str:
        """Return multiple * variable + offset in words of the parameters."""
        factors, tree = self.found[variable]
        if tree is not None:
            scaled = tree
            if multiple != 1:
                first, rest = (
                    (tree[1][1], tree[2:]) if tree[0] == "mul" and tree[1][0] == "number" else (1.0, (tree,))
                )
                scaled = ("mul", ("number", multiple * first), *rest)
            body = tree_text(scaled, names)
        else:
            body = ""
            for place, factor in factors:
                value = factor * multiple
                sign = ("-" if value < 0 else "") if not body else (" - " if value < 0 else " + ")
                size = "" if abs(abs(value) - 1) < 1e-12 else f"{number_text(abs(value))} "
                body += f"{sign}{size}{names[place]}"
        if not offset:
            return body
        return f"{body} {'-' if offset < 0 else '+'} {number_text(abs(offset))}"


def _direction(angle: Angle) -> tuple[Key, float]:
    """Return an angle's linear part, scaled so that its first factor is 1, and that factor."""
    scale = angle.inputs[0][1]
    return tuple((place, round(factor / scale, 12)) for place, factor in angle.inputs), scale


def _before(
    operator: dict[Letters, Series], gate: Primitive, places: Sequence[int], variables: _Variables
) -> dict[Letters, Series]:
    """Return the operator in front of a gate."""
    result: dict[Letters, Series] = {}

    def add(letters: Letters, series: Series, factor: float = 1.0) -> None:
        found = added(result.get(letters, {}), series, factor)
        result[letters] = found

    if gate.angle is None:
        assert gate.matrix is not None
        rows = transfer_matrix(gate.matrix)
        for letters, series in operator.items():
            row = rows[_number([letters[place] for place in places])]
            for column in np.flatnonzero(np.abs(row) > 1e-14).tolist():
                own = _replaced(letters, places, column)
                add(own, series, float(row[column]))
    else:
        turn = ["IXYZ".index(letter) for letter in gate.pauli]
        for letters, series in operator.items():
            sign, product = _turned([letters[place] for place in places], turn)
            if not sign:
                add(letters, series)
                continue
            for sine, own, factor in (
                (False, letters, 1.0),
                (True, _replaced(letters, places, product), sign),
            ):
                add(own, _times(series, gate.angle, sine, variables), factor)
    return {letters: series for letters, series in result.items() if series}


def _times(series: Series, angle: Angle, sine: bool, variables: _Variables) -> Series:
    if angle.constant:
        return added({}, series, math.sin(angle.offset) if sine else math.cos(angle.offset))
    variable, multiple, offset = variables.of(angle)
    return times_wave(series, variable, multiple, offset, sine)


def _turned(first: Sequence[int], second: Sequence[int]) -> tuple[float, int]:
    """Return the sign s and the number of R where -i P Q = s R; the sign is 0 where P and Q commute."""
    phase, product = 0, []  # P Q = i^phase R
    for p, q in zip(first, second):
        if p == 0 or q == 0 or p == q:
            product.append(p ^ q if p == 0 or q == 0 else 0)
        else:
            product.append(6 - p - q)
            phase += 1 if (p, q) in ((1, 2), (2, 3), (3, 1)) else -1
    if phase % 2 == 0:
        return 0.0, 0
    return (1.0 if phase % 4 == 1 else -1.0), _number(product)


def _number(letters: Sequence[int]) -> int:
    result = 0
    for letter in letters:
        result = 4 * result + letter
    return result


def _replaced(letters: Letters, places: Sequence[int], number: int) -> Letters:
    result = list(letters)
    for place in reversed(places):
        result[place] = number % 4
        number //= 4
    return tuple(result)


def tree_text(tree: Tree, names: Sequence[str]) -> str:
    """Return an expression of parameters as text."""
    kind = tree[0]
    if kind == "number":
        return number_text(float(tree[1]))
    if kind in ("input", "weight"):
        return names[tree[1]]
    parts = [tree_text(part, names) for part in tree[1:]]
    if kind == "add":
        return "(" + " + ".join(parts).replace("+ -", "- ") + ")"
    if kind == "mul":
        return " ".join(parts) if parts[0] != "-1" else "-" + " ".join(parts[1:])
    if kind == "pow":
        return f"{parts[0]}^{parts[1]}"
    return f"{kind}({', '.join(parts)})"
