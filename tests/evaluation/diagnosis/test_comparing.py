"""Metrics of units and their jackknife, against closed forms, a bootstrap, and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from qhybrid.evaluation.diagnosis.comparing import (
    accuracy,
    are_steady,
    class_iou,
    foreground_iou,
    headline,
    judge_replaced,
    mean_iou,
    measure,
)
from qhybrid.metrics import foreground_iou as reported_iou
from qhybrid.metrics.intervals import pseudo_values
from qhybrid.metrics.verdict import DIFFERENT, EQUIVALENT, NOT_DECIDABLE, judge
from qhybrid.training.metrics import SegmentationMetrics

matrices = st.integers(2, 4).flatmap(lambda k: arrays(np.int64, (k, k), elements=st.integers(0, 30)))


@given(matrices)
def test_metrics_are_those_of_evaluations(matrix):
    known = SegmentationMetrics(matrix)
    np.testing.assert_allclose(class_iou(matrix), known.iou)
    np.testing.assert_allclose(mean_iou(matrix), known.miou)
    np.testing.assert_allclose(accuracy(matrix), known.overall_accuracy)
    np.testing.assert_allclose(foreground_iou(matrix), reported_iou(known))
    stacked = np.stack([matrix, 2 * matrix + 1])
    np.testing.assert_allclose(mean_iou(stacked)[1], SegmentationMetrics(2 * matrix + 1).miou)


def test_the_headline_of_each_task():
    assert headline("classification") == ("accuracy", accuracy)
    assert headline("scenes") == ("miou", mean_iou)
    assert headline("segmentation") == ("iou", foreground_iou)


def one_image_each(right):
    """Units of one image of class 0."""
    counts = np.zeros((len(right), 2, 2), dtype=np.int64)
    counts[np.arange(len(right)), 0, 1 - np.asarray(right)] = 1
    return counts


def test_of_accuracy_the_pseudo_values_are_the_images_own_differences():
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 2, (2, 50))
    (found,) = judge_replaced(one_image_each(before), {"x": [one_image_each(after)]}, accuracy, 0.1).values()
    expected = judge((after - before).tolist(), 0.1, largest=1.0)
    for name in ("mean", "std", "low", "high", "p_different", "p_equivalent", "detectable"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-12), name
    value = measure([one_image_each(before)], accuracy)
    assert value.value == pytest.approx(before.mean())
    # The interval that `evaluate` prints of the same images.
    expected = stats.binomtest(int(before.sum()), 50).proportion_ci(method="wilson")
    assert (value.low, value.high) == pytest.approx((expected.low, expected.high))


def test_images_of_which_none_is_answered_otherwise_may_hide_some():
    same = one_image_each([0, 1] * 32)
    (found,) = judge_replaced(same, {"x": [same]}, accuracy, 0.005).values()
    assert found.kind == NOT_DECIDABLE
    assert found.detectable == pytest.approx(1 - 0.2 ** (1 / 64))
    # Logits that stand still say more than answers do; a scene's metric sums over many pixels.
    assert judge_replaced(same, {"x": [same]}, accuracy, 0.005, ["x"])["x"].kind == EQUIVALENT
    assert judge_replaced(same, {"x": [same]}, mean_iou, 0.005)["x"].kind == EQUIVALENT


def test_logits_that_stand_still():
    """Within a thousandth of the distance to another answer, whatever is added to all classes alike."""
    logits = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    distance = float((logits.sort(dim=1).values[:, 2] - logits.sort(dim=1).values[:, 1]).median())
    assert are_steady(logits, logits + 5)
    one_class = torch.zeros_like(logits)
    one_class[7, 1] = 1  # less its mean over three classes: 2/3
    assert are_steady(logits, logits + 0.7e-3 * distance * one_class)
    assert not are_steady(logits, logits + 0.8e-3 * distance * one_class)


def test_intervals_are_the_jackknifes_and_stay_within_what_is_possible():
    rng = np.random.default_rng(2)
    units = rng.integers(0, 20, (7, 3, 3))
    left_out = [SegmentationMetrics(units.sum(axis=0) - one).miou for one in units]
    value = SegmentationMetrics(units.sum(axis=0)).miou
    error = np.sqrt(6 / 7 * np.sum((left_out - np.mean(left_out)) ** 2))
    found = measure([units], mean_iou)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 6) * error)
    assert found.value - found.low == pytest.approx(stats.t.ppf(0.975, 6) * error)
    assert found.value == pytest.approx(value)
    assert measure([one_image_each(np.ones(9, int))], accuracy).high == 1.0
    assert np.isnan(measure([units[:4]], mean_iou).low)  # of four units the spread is not known well enough


def test_a_metric_of_several_draws_is_their_mean():
    rng = np.random.default_rng(1)
    draws = [rng.integers(0, 20, (6, 3, 3)) for _ in range(3)]
    assert measure(draws, mean_iou).value == pytest.approx(
        np.mean([SegmentationMetrics(draw.sum(axis=0)).miou for draw in draws])
    )


def test_what_a_single_unit_holds_is_not_decidable():
    assert list(pseudo_values(np.array([0.4, np.nan]))) == [0.4]
    assert list(pseudo_values(np.array([0.4, 0.3, np.nan, 0.2]))) == [0.4]
    (found,) = judge_replaced(
        np.ones((1, 2, 2), int), {"x": [np.ones((1, 2, 2), int)]}, mean_iou, 0.1
    ).values()
    assert found.kind == "not decidable"


def blocks(rng, count, rates):
    """Blocks of two classes, unequal in size and in how much of class 1 they hold; rates of error by class.

    Errors of one block go together: its difficulty multiplies the rates of both models.
    """
    size = rng.integers(50, 400, count)
    ones = rng.binomial(size, rng.beta(1.5, 4, count))
    difficulty = rng.gamma(4, 0.25, count)
    found = []
    for rate in rates:
        wrong = [
            rng.binomial(n, np.clip(rate[c] * difficulty, 0, 1)) for c, n in enumerate((size - ones, ones))
        ]
        matrix = np.array([[size - ones - wrong[0], wrong[0]], [wrong[1], ones - wrong[1]]])
        found.append(np.moveaxis(matrix, -1, 0))
    return found


RATES = ((0.06, 0.15), (0.08, 0.18))


def test_intervals_hold_the_true_difference_as_often_as_they_say():
    """250 samples of 40 blocks: mIoU is of the pooled matrix, so that no mean over blocks would do."""
    rng = np.random.default_rng(2)
    true = np.subtract(*[mean_iou(one.sum(axis=0)) for one in reversed(blocks(rng, 200_000, RATES))])
    inside, errors = 0, []
    for _ in range(250):
        first, second = blocks(rng, 40, RATES)
        (found,) = judge_replaced(first, {"x": [second]}, mean_iou, 0.5).values()
        inside += found.low <= true <= found.high
        errors.append((found.mean - true, found.std / np.sqrt(40)))
    assert 0.91 <= inside / 250 <= 0.98  # 95 % but for the simulation's own error of 1.4 points
    drawn, said = np.array(errors).T
    assert said.mean() == pytest.approx(drawn.std(), rel=0.1)


def test_equivalence_is_claimed_wrongly_in_one_of_twenty_cases_at_most():
    """With a margin of exactly the true difference, claiming equivalence is wrong."""
    rng = np.random.default_rng(3)
    true = abs(np.subtract(*[mean_iou(one.sum(axis=0)) for one in blocks(rng, 200_000, RATES)]))
    kinds = []
    for _ in range(250):
        first, second = blocks(rng, 40, RATES)
        kinds.append(judge_replaced(first, {"x": [second]}, mean_iou, true)["x"].kind)
    assert kinds.count(EQUIVALENT) / 250 <= 0.08
    # With a margin twice as wide it is right, and mostly found.
    first, second = blocks(rng, 400, RATES)
    assert judge_replaced(first, {"x": [second]}, mean_iou, 2 * true)["x"].kind == EQUIVALENT
    assert judge_replaced(first, {"x": [second]}, mean_iou, true / 10)["x"].kind == DIFFERENT


def test_the_jackknife_agrees_with_a_paired_bootstrap():
    rng = np.random.default_rng(4)
    first, second = blocks(rng, 60, RATES)
    drawn = rng.integers(0, 60, (2000, 60))
    differences = mean_iou(second[drawn].sum(axis=1)) - mean_iou(first[drawn].sum(axis=1))
    (found,) = judge_replaced(first, {"x": [second]}, mean_iou, 0.5).values()
    assert found.std / np.sqrt(60) == pytest.approx(differences.std(), rel=0.12)
    assert found.mean == pytest.approx(mean_iou(second.sum(axis=0)) - mean_iou(first.sum(axis=0)))
