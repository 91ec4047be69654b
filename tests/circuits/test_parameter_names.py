"""Names, vectors and patterns stand for parameters in one order."""

from __future__ import annotations

import pytest

from qhybrid.circuits.parameter_names import select_parameters
from qhybrid.errors import CircuitError

VECTORS = [f"x[{i}]" for i in (10, 2, 0, 1, 9)] + ["w[1]", "w[0]"]


@pytest.mark.parametrize("entry", ["x", "x[*]"])
def test_vectors_go_by_number(entry):
    inputs, weights = select_parameters(VECTORS, [entry], ["w"], "mine")
    assert inputs == ["x[0]", "x[1]", "x[2]", "x[9]", "x[10]"]
    assert weights == ["w[0]", "w[1]"]


def test_qiskits_exports_are_read_as_vectors():
    names = ["_x_10_", "_x_2_", "_w_0_"]
    assert select_parameters(names, ["x[*]"], ["w[0]"], "mine") == (["_x_2_", "_x_10_"], ["_w_0_"])


def test_patterns_go_by_all_numbers_and_entries_keep_their_order():
    names = ["w_1_0", "w_0_10", "w_0_2", "theta", "b", "a"]
    inputs, weights = select_parameters(names, ["b", "a"], ["theta", "w_*"], "mine")
    assert inputs == ["b", "a"]
    assert weights == ["theta", "w_0_2", "w_0_10", "w_1_0"]


def test_an_exact_name_is_no_pattern():
    assert select_parameters(["x", "x[0]"], ["x"], ["x[*]"], "mine") == (["x"], ["x[0]"])
    assert select_parameters([], [], [], "mine") == ([], [])


def test_numbered_parameters_are_told_by_their_pattern():
    with pytest.raises(CircuitError, match=r"Its parameters: x_0, x_1. Fix: `x_\*`"):
        select_parameters(["x_0", "x_1"], ["x"], [], "mine")


def test_other_characters_of_a_pattern_stand_for_themselves():
    with pytest.raises(CircuitError, match="no gate of the circuit has a parameter `x.0`"):
        select_parameters(["x_0"], ["x.0"], [], "mine")


@pytest.mark.parametrize(
    ("inputs", "weights", "message"),
    [
        (["tehta"], ["x"], r"mine: key `inputs`: no gate .* `tehta`.*Did you mean `theta`"),
        (["y_*"], ["x"], r"key `inputs`: no gate .* `y_\*`\. Its parameters: theta, x\[0\], x\[1\]\."),
        (["theta"], ["x[0]"], r"mine: keys `inputs` and `weights`: every .* `x\[1\]` is in neither"),
        (["theta"], [], r"`x\[0\]`, `x\[1\]` are in neither.*Fix: "),
        (["theta", "x"], ["x[1]"], r"one of them, but `x\[1\]` is in both"),
        (["theta", "x"], ["*"], r"`theta`, `x\[0\]`, `x\[1\]` are in both"),
        (["theta", "x", "x[0]"], [], r"key `inputs`: each .* given once, but `x\[0\]` is more often"),
    ],
)
def test_wrong_lists_are_explained(inputs, weights, message):
    with pytest.raises(CircuitError, match=message):
        select_parameters(["theta", "x[0]", "x[1]"], inputs, weights, "mine")
