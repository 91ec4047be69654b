"""Splits are disjoint, of the asked sizes, stratified, and the same every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qhybrid.data.images.partition import apportion, fold_parts, hold_out, stratified_parts
from qhybrid.errors import DataError


@given(st.integers(0, 500), st.lists(st.floats(0.01, 10), min_size=1, max_size=6))
def test_apportioned_sizes_sum_up_and_are_near_the_exact_ones(total, shares):
    sizes = apportion(total, shares)
    assert sizes.sum() == total
    exact = total * np.array(shares) / sum(shares)
    assert (np.abs(sizes - exact) < 1 + 1e-6).all()


def test_apportion_respects_limits():
    assert apportion(10, [1, 1], [2, 20]).tolist() == [2, 8]
    with pytest.raises(DataError, match="room for 5 only"):
        apportion(10, [1, 1], [2, 3])


@given(st.lists(st.integers(0, 3), min_size=4, max_size=200), st.data())
def test_stratified_parts(labels, data):
    first = data.draw(st.integers(0, len(labels)))
    second = data.draw(st.integers(0, len(labels) - first))
    parts = stratified_parts(labels, [first, second], 1, "test")
    assert [len(part) for part in parts] == [first, second]
    together = np.concatenate(parts)
    assert len(set(together.tolist())) == first + second
    assert all((np.diff(part) > 0).all() for part in parts)
    again = stratified_parts(labels, [first, second], 1, "test")
    assert all(np.array_equal(*pair) for pair in zip(parts, again))
    counts = np.bincount(np.array(labels)[parts[0]], minlength=4)
    assert (np.abs(counts - first * np.bincount(labels, minlength=4) / len(labels)) <= 1).all()


def test_balanced_parts_have_as_many_of_each_class():
    labels = np.repeat([0, 1], [70, 30])
    (part,) = stratified_parts(labels, [40], 0, balanced=True)
    assert np.bincount(labels[part]).tolist() == [20, 20]
    (part,) = stratified_parts(labels, [80], 0, balanced=True)
    assert np.bincount(labels[part]).tolist() == [50, 30]


def test_other_seeds_draw_other_images():
    labels = np.zeros(100, int)
    assert not np.array_equal(stratified_parts(labels, [50], 0)[0], stratified_parts(labels, [50], 1)[0])


def test_too_large_parts_are_refused():
    with pytest.raises(DataError, match=r"3, 2 images need 5, but there are 4"):
        stratified_parts([0, 0, 1, 1], [3, 2], 0)


def test_folds_cover_everything_once():
    parts = fold_parts(32, 5, 0)
    assert sorted(len(part) for part in parts) == [6, 6, 6, 7, 7]
    assert sorted(np.concatenate(parts).tolist()) == list(range(32))


def test_hold_out_takes_a_share():
    left, taken = hold_out(range(10, 20), 0.25, 0)
    assert sorted([*left, *taken]) == list(range(10, 20))
    assert len(taken) == 2
    assert len(hold_out(range(10), 0.001, 0)[1]) == 1
    assert len(hold_out(range(10), 0, 0)[1]) == 0
