"""Many expressions at once against each by itself."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.engines.gates.expression import evaluate
from qhybrid.engines.gates.expression_groups import ExpressionGroups

NUMBERS = st.floats(-2, 2).map(lambda value: ("number", value))
WEIGHTS = st.integers(0, 2).map(lambda index: ("weight", index))
INPUTS = st.integers(0, 2).map(lambda index: ("input", index))


def trees(leaves):
    def longer(children):
        return st.one_of(
            st.tuples(st.sampled_from(["add", "mul"]), children, children),
            st.tuples(st.just("add"), children, children, children),
            st.tuples(st.sampled_from(["sin", "cos", "atan"]), children),
            st.tuples(st.just("pow"), children, st.just(("number", 2.0))),
        )

    return st.recursive(leaves, longer, max_leaves=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(trees(st.one_of(NUMBERS, WEIGHTS, INPUTS)), min_size=1, max_size=6))
def test_expressions_with_inputs(found):
    generator = torch.Generator().manual_seed(0)
    inputs, weights = (torch.randn(3, *size, generator=generator, dtype=torch.float64) for size in ((4,), ()))
    groups = ExpressionGroups(list(enumerate(found)), 3, inputs)
    values = groups.batched(inputs, weights)
    for row, value in zip(groups.rows.tolist(), values):
        torch.testing.assert_close(value, evaluate(found[row], inputs, weights).expand(4))
    assert sorted(groups.rows.tolist()) == list(range(len(found)))


@settings(max_examples=60, deadline=None)
@given(st.lists(trees(st.one_of(NUMBERS, WEIGHTS)), min_size=1, max_size=6))
def test_expressions_of_weights_alone(found):
    weights = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)
    groups = ExpressionGroups(list(enumerate(found)), 3, weights)
    for row, value in zip(groups.rows.tolist(), groups.free(weights)):
        torch.testing.assert_close(value, evaluate(found[row], weights, weights))


def test_one_form_is_one_evaluation():
    """(a - x_i) (b - x_j) for all pairs: the numbers may differ too."""
    pairs = [(i, j) for i in range(4) for j in range(i)]
    found = [
        ("mul", *(("add", ("number", 1.0 + k), ("mul", ("number", -1.0), ("input", k))) for k in pair))
        for pair in pairs
    ]
    inputs = torch.linspace(-1.0, 1.0, 8).reshape(4, 2)
    groups = ExpressionGroups(list(enumerate(found)), 0, inputs)
    assert len(groups._forms) == 1
    wanted = torch.stack([(1.0 + i - inputs[i]) * (1.0 + j - inputs[j]) for i, j in pairs])
    torch.testing.assert_close(groups.batched(inputs, torch.empty(0)), wanted)
