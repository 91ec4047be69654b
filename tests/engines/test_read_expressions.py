"""Expressions of Qiskit as they are read, against what Qiskit binds them to."""

from __future__ import annotations

import operator

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from qiskit.circuit import Parameter, ParameterExpression, ParameterVector

from qhybrid.engines.gates.expression import AngleReader, angle_of, evaluate
from qhybrid.errors import CircuitError

NUMBERS = {"x": 0.7, "y": -1.3, "w": 0.4}
NAMES = tuple(NUMBERS)
LEAVES = {"x": ("input", 0), "y": ("input", 1), "w": ("weight", 0)}


def value_of(expression, numbers=None):
    """Return the angle as this package evaluates it."""
    numbers = numbers or NUMBERS
    inputs = torch.tensor([[numbers["x"]], [numbers["y"]]], dtype=torch.float64)
    weights = torch.tensor([numbers["w"]], dtype=torch.float64)
    angle = AngleReader(LEAVES).read(expression)
    if angle.tree is not None:
        return evaluate(angle.tree, inputs, weights).expand(1).item()
    sums = [(factor * inputs[index, 0]).item() for index, factor in angle.inputs]
    return angle.offset + sum(sums) + sum(factor * weights[index].item() for index, factor in angle.weights)


def bound(expression, numbers=None):
    """Return the angle that Qiskit binds, complex."""
    if not isinstance(expression, ParameterExpression):
        return complex(expression)
    numbers = numbers or NUMBERS
    return complex(expression.bind({one: numbers[one.name] for one in expression.parameters}))


def fresh():
    """Return parameters with hashes of their own: the order of a set of them is another one each time."""
    return [Parameter(name) for name in NAMES]


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda x, y, w: x - x + w, 0.4),
        (lambda x, y, w: 0 * x + w, 0.4),
        (lambda x, y, w: 0 * y + 0 * w + x, 0.7),
        (lambda x, y, w: (x - x + y).sin() * w, np.sin(-1.3) * 0.4),
        (lambda x, y, w: w * x - x * w, 0.0),
    ],
)
def test_parameters_that_cancel(make, wanted):
    """Of w + x - x Qiskit keeps both parameters, in any order."""
    for _ in range(8):
        assert value_of(make(*fresh())) == pytest.approx(wanted, abs=1e-14)


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda x, y, w: 2**x, 2**0.7),
        (lambda x, y, w: 0.5**x * w + 1, 0.5**0.7 * 0.4 + 1),
        (lambda x, y, w: (2 ** (x * w)).sin() / 3, np.sin(2**0.28) / 3),
        (lambda x, y, w: (3**x) ** w - 2**x, 3**0.28 - 2**0.7),
        (lambda x, y, w: 2**x - (1 - x) / (2 - y) + abs(y) * x.sign(), 2**0.7 - 0.3 / 3.3 + 1.3),
        (lambda x, y, w: abs(x.exp()), np.exp(0.7)),
        (lambda x, y, w: abs((x * y).exp()) + w.conjugate(), np.exp(-0.91) + 0.4),
    ],
)
def test_powers_of_numbers_and_sizes_of_exponentials(make, wanted):
    assert value_of(make(*fresh())) == pytest.approx(wanted, abs=1e-14)


def test_elements_of_vectors():
    vector = ParameterVector("v", 12)
    reader = AngleReader({one.name: ("input", index) for index, one in enumerate(vector)})
    for index in (0, 1, 10, 11):
        assert reader.read(vector[index] + vector[2] - vector[2]).inputs == ((index, 1.0),)


def test_what_has_no_real_meaning_is_refused():
    x, y, _ = fresh()
    for expression in (1j * x, 2j**x + y):
        with pytest.raises(CircuitError, match="real"):
            value_of(expression)


@st.composite
def expressions(draw, depth=3):
    """An expression of the three parameters and numbers, by every operation that Qiskit has."""
    if not depth or draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(NAMES + (0, 1, -2, 0.5, 3.25)))
    if draw(st.booleans()):
        name = draw(
            st.sampled_from(["sin", "cos", "tan", "arctan", "exp", "log", "abs", "sign", "conjugate"])
        )
        return name, draw(expressions(depth - 1))
    pair = draw(st.sampled_from(["add", "sub", "mul", "truediv", "pow"]))
    return pair, draw(expressions(depth - 1)), draw(expressions(depth - 1))


def built(tree, parameters):
    if not isinstance(tree, tuple):
        return parameters.get(tree, tree)
    parts = [built(part, parameters) for part in tree[1:]]
    if len(parts) == 2:
        return getattr(operator, tree[0])(*parts)
    if isinstance(parts[0], ParameterExpression):
        return getattr(parts[0], tree[0])()
    function = {"log": np.log, "exp": np.exp, "arctan": np.arctan}.get(tree[0]) or getattr(np, tree[0])
    with np.errstate(all="ignore"):
        return float(function(parts[0]))


@settings(max_examples=150, deadline=None)
@given(expressions())
def test_any_expression(tree):
    try:
        expression = built(tree, dict(zip(NAMES, fresh())))
        wanted = bound(expression)
    except (ZeroDivisionError, OverflowError, TypeError, RuntimeError, ValueError):
        assume(False)
    assume(np.isfinite(wanted) and abs(wanted) < 1e6 and abs(wanted.imag) < 1e-12)
    try:
        found = value_of(expression)
    except CircuitError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert "must be real" in refused or "real and finite" in refused
        return
    # A part may have no real value though the whole has one: then it is NaN, which engines refuse.
    assert np.isnan(found) or found == pytest.approx(wanted.real, rel=1e-9, abs=1e-9)


def test_trees_of_one_parameter_are_affine():
    assert angle_of(("add", ("input", 0), ("number", 1.0))).inputs == ((0, 1.0),)
