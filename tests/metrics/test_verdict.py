"""Verdicts against statsmodels-free second opinions: scipy's tests, simulated power, hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qhybrid.metrics.verdict import detectable_difference, holm, judge, judge_all

VALUES = st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=2, max_size=12)


def test_p_and_interval_are_those_of_the_paired_t_test():
    first, second = np.random.default_rng(0).normal(size=(2, 7))
    found = judge(second - first)
    expected = stats.ttest_rel(second, first)
    interval = expected.confidence_interval()
    assert found.p_different == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@given(VALUES)
def test_equivalent_is_the_90_percent_interval_inside_the_margin(values):
    found = judge(values, margin=0.25)
    spread = np.std(values, ddof=1)
    half = stats.t.ppf(0.95, len(values) - 1) * spread / math.sqrt(len(values))
    inside = max(abs(np.mean(values) - half), abs(np.mean(values) + half)) - 0.25
    if len(values) < 5 and spread < 1e-9:  # a few that are equal decide nothing
        assert found.kind == "not decidable"
    elif abs(inside) > 1e-9:
        assert (found.kind == "equivalent") == (inside < 0)


def test_p_of_equivalence_is_the_larger_of_two_one_sided_tests():
    values = np.random.default_rng(1).normal(0.1, 0.3, 9)
    lower = stats.ttest_1samp(values, -0.4, alternative="greater").pvalue
    upper = stats.ttest_1samp(values, 0.4, alternative="less").pvalue
    assert judge(values, margin=0.4).p_equivalent == pytest.approx(max(lower, upper))


@pytest.mark.parametrize("count", [3, 5, 10])
def test_detectable_difference_is_found_in_80_of_100_experiments(count):
    shift = detectable_difference(1.0, count)
    # s is that of the population: the noncentral t allows for its estimate.
    draws = np.random.default_rng(count).normal(shift, 1.0, size=(20_000, count))
    rate = np.mean(stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05)
    assert rate == pytest.approx(0.8, abs=0.012)


def test_detectable_difference_grows_with_the_overlap_of_training_sets():
    assert detectable_difference(1.0, 5, overlap=0.25) == pytest.approx(
        detectable_difference(1.0, 5) * math.sqrt((1 / 5 + 0.25) / (1 / 5))
    )


def test_holm_by_hand():
    assert holm([0.01, 0.04, math.nan, 0.03]) == pytest.approx([0.03, 0.06, math.nan, 0.06], nan_ok=True)


def test_three_wordings():
    small = judge([0.001, -0.001, 0.0, 0.001, -0.001], margin=0.01)
    large = judge([0.101, 0.099, 0.1, 0.102, 0.098], margin=0.01)
    wide = judge([0.3, -0.3, 0.2, -0.1], margin=0.01)
    assert small.text() == "equivalent within 0.010"
    assert large.text(100, 1, " points") == "different by +10.0 points"
    assert wide.text() == (f"not decidable: this design finds differences above {wide.detectable:.3f} only")


def test_numbers_below_the_last_digit_are_written_out():
    tiny = judge([0.0004, 0.00041, 0.00039, 0.0004, 0.00042], margin=0.0001)
    assert tiny.text() == "different by +0.0004"
    assert judge([0.0, 0.00001, 0.0, 0.0, 0.00001], margin=0.0003).text() == "equivalent within 0.0003"
    few = judge([0.00001, -0.00002, 0.00001], margin=1e-9)
    assert "above 0.00006 only" in few.text()


def test_rounding_is_no_difference():
    """0.1 + 0.2 is not 0.3: equal metrics whose parts were added in another order."""
    noise = judge([0.1 + 0.2 - 0.3] * 5)
    assert (noise.kind, noise.mean, noise.p_different) == ("not decidable", 0.0, 1.0)


def test_what_is_not_decidable_among_several_is_below_what_is_found_among_them():
    """Alone it is different, and above what a single comparison finds; Holm's level asks for more."""
    rng = np.random.default_rng(3)
    arms = {f"arm {index}": rng.normal(0, 1, 5).tolist() for index in range(8)}
    values = rng.normal(0, 1, 5)
    arms["near"] = (values - values.mean() + 2.0 * values.std(ddof=1)).tolist()  # t = 4.5, p = 0.011
    alone, found = judge(arms["near"], 0.01), judge_all(arms, 0.01)["near"]
    assert (alone.kind, found.kind) == ("different", "not decidable")
    assert found.mean > found.detectable == alone.detectable
    assert found.finds > found.mean
    assert found.text() == (
        f"not decidable: among 9 comparisons this design finds differences above {found.finds:.3f} only"
    )
    draws = rng.normal(found.finds, np.std(arms["near"], ddof=1), (20_000, 5))
    rate = np.mean(stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05 / 9)
    assert rate == pytest.approx(0.8, abs=0.012)


def test_a_difference_below_the_margin_is_equivalent_though_it_is_sure():
    found = judge([0.0011, 0.0010, 0.0009, 0.0010], margin=0.005)
    assert found.p_different < 0.001
    assert found.kind == "equivalent"


def test_equal_pairs():
    same, apart = judge([0.0] * 5, margin=0.01), judge([0.5] * 5, margin=0.01)
    assert (same.kind, same.p_different, same.detectable) == ("equivalent", 1.0, 0.0)
    assert (apart.kind, apart.p_different) == ("different", 0.0)
    assert judge([0.0] * 5).kind == "not decidable"  # nothing is equivalent without a margin


@pytest.mark.parametrize("values", [[0.0] * 2, [0.0125, 0.9625 - 0.95, 0.9375 - 0.925], [0.5] * 4])
def test_a_few_equal_pairs_decide_nothing(values):
    found = judge(values, margin=0.01)
    assert found.kind == "not decidable"
    assert (
        found.text() == f"not decidable: {len(values)} pairs that are equal do not say how much they scatter"
    )
    assert math.isnan(found.detectable)
    # They stay in the family that Holm corrects for.
    sure = [0.101, 0.099, 0.1, 0.102, 0.098]
    both = judge_all({"few": values, "sure": sure}, margin=0.01)
    assert both["few"].kind == "not decidable"
    assert both["sure"].p_different == pytest.approx(2 * judge(sure).p_different)


def test_a_single_pair_decides_nothing():
    found = judge([0.5], margin=0.01)
    assert found.kind == "not decidable"
    assert found.text() == "not decidable: a single pair finds no difference"


def test_many_arms_are_corrected_for_their_number():
    rng = np.random.default_rng(0)
    values = {f"arm {index}": rng.normal(0, 1, 6) for index in range(20)}
    alone = {name: judge(one) for name, one in values.items()}
    together = judge_all(values)
    assert sum(one.kind == "different" for one in alone.values()) >= 1
    assert all(one.kind == "not decidable" for one in together.values())
    corrected = holm([one.p_different for one in alone.values()])
    assert [one.p_different for one in together.values()] == pytest.approx(corrected)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf]])
def test_no_verdict_on_what_is_not_finite(values):
    with pytest.raises(ValueError, match="finite"):
        judge(values)


@pytest.mark.parametrize(
    ("count", "kind"), [(64, "not decidable"), (297, "not decidable"), (299, "equivalent")]
)
def test_answers_of_which_none_differs_bound_the_share_that_may(count, kind):
    """Exact binomial: so many of a share of one in a hundred go unseen in fewer than 5 % of samples."""
    found = judge([0.0] * count, margin=0.01, largest=1.0)
    assert found.kind == kind
    assert found.p_equivalent == pytest.approx(stats.binom.pmf(0, count, 0.01), rel=1e-9)
    high = stats.binomtest(0, count).proportion_ci(0.90, method="exact").high  # one-sided 95 %
    assert (found.low, found.high) == pytest.approx((-high, high))
    assert stats.binom.pmf(0, count, found.detectable) == pytest.approx(0.2)
    # Sums over many answers have no single answer's size, and one answer that differs has a scatter.
    assert judge([0.0] * count, margin=0.01).kind == "equivalent"
    one = [1.0] + [0.0] * (count - 1)
    as_sums, as_answers = judge(one, margin=0.01), judge(one, margin=0.01, largest=1.0)
    assert (as_answers.low, as_answers.p_different) == (as_sums.low, as_sums.p_different)
    assert as_answers.p_equivalent == pytest.approx(stats.binom.cdf(1, count, 0.01))


def answers(count, better, worse):
    return [1.0] * better + [-1.0] * worse + [0.0] * (count - better - worse)


def test_answers_that_differ_are_no_better_proof_of_equivalence_than_none():
    """Of 550 one that differs was equivalent within half a point, and none that does was not decidable."""
    for count in (470, 550, 700, 1000):
        found = [
            judge(answers(count, *pair), 0.005, largest=1.0).p_equivalent
            for pair in [(0, 0), (1, 1), (1, 0), (2, 0), (3, 0)]
        ]
        assert found == sorted(found)
        assert (found[0] < 0.05) == (count > 598)
    assert judge(answers(550, 1, 0), 0.005).kind == "equivalent"  # as sums over many


@pytest.mark.parametrize("count", [550, 600, 800, 2000])
@pytest.mark.parametrize("rest", [0.0, 0.002])
def test_a_difference_of_the_margin_is_called_equivalent_in_a_twentieth_of_samples(count, rest):
    """The exact level: summed over all numbers of answers that differ, in place of draws."""
    level = 0.0
    for better in range(40):
        chance = stats.binom.pmf(better, count, 0.005 + rest)
        for worse in range(20 if rest else 1):
            own = chance * stats.binom.pmf(worse, count, rest)
            if own > 1e-6 and judge(answers(count, better, worse), 0.005, largest=1.0).kind == "equivalent":
                level += own
    assert level <= 0.05
