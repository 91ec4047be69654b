"""Intervals of a finite test set: closed forms, published numbers, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qhybrid.metrics.intervals import (
    Interval,
    Intervals,
    Units,
    jackknife,
    jackknife_error,
    paired_error,
    wilson,
)


def left_out_means(values):
    return (values.sum() - values) / (len(values) - 1)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # R. Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_has_the_published_ends(right, count, low, high):
    found = wilson(right, count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    share = right / count
    assert found.standard_error == pytest.approx(math.sqrt(share * (1 - share) / count))


@given(st.integers(1, 3000), st.data())
def test_wilson_is_scipys_own(count, data):
    right = data.draw(st.integers(0, count))
    found, other = wilson(right, count), stats.binomtest(right, count).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=1e-9)


@given(st.lists(st.floats(-5, 5), min_size=5, max_size=40), st.floats(0.5, 2))
def test_the_jackknife_of_a_mean_is_students_interval(values, spread):
    sample = np.array(values) + spread * np.arange(len(values))
    found = jackknife(sample.mean(), left_out_means(sample))
    low, high = stats.t.interval(
        0.95, len(sample) - 1, sample.mean(), sample.std(ddof=1) / math.sqrt(len(sample))
    )
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-6)


def test_the_jackknife_of_a_ratio_covers_it():
    """Of 400 drawn test sets of 40 units about 95 % of the intervals hold the true ratio."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        below = rng.uniform(1, 3, 40)
        above = below * rng.uniform(0, 1, 40)
        replicates = (above.sum() - above) / (below.sum() - below)
        found = jackknife(above.sum() / below.sum(), replicates)
        held += found.low <= 0.5 <= found.high
    assert 0.92 < held / 400 < 0.98


def test_a_pair_is_judged_by_its_differences():
    rng = np.random.default_rng(1)
    first = rng.normal(size=30)
    second = first + rng.normal(scale=0.1, size=30)
    found = paired_error(left_out_means(first), left_out_means(second))
    assert found == pytest.approx((first - second).std(ddof=1) / math.sqrt(30))
    assert found < 0.3 * jackknife_error(left_out_means(first))
    with pytest.raises(ValueError, match="same units"):
        paired_error(first, second[:5])


def test_what_is_not_known_is_not_zero():
    with pytest.raises(ValueError, match="fewer than 5"):
        jackknife(0.5, [0.4, 0.5, 0.6, 0.7])
    with pytest.raises(ValueError, match="does not vary"):
        jackknife(1.0, np.ones(9))
    with pytest.raises(ValueError, match="not defined"):
        jackknife(0.5, [0.4, 0.5, 0.6, 0.5, math.nan])
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)
    found = jackknife(0.99, [0.98, 0.99, 0.99, 1.0, 0.9], low=0, high=1)
    assert found.high == 1.0


def test_they_survive_a_file():
    units = Units("block of 128 px", 128, "within these scenes", 2)
    assert units.text() == "95 % over 128 blocks of 128 px, within these scenes; 2 connected places"
    whole = Intervals(units, {"miou": Interval(0.4, 0.6, 0.05, "jackknife")}, {"iou road": "no reason"})
    again = Intervals.from_dict(whole.to_dict())
    assert (again.units, again.values, again.missing) == (whole.units, whole.values, whole.missing)
    assert Units("image", 1).text() == "95 % over 1 image"
