"""Near-duplicates: every pair that a plain computation finds, in whatever orientation, and no other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.data.near_duplicates import (
    CORRELATION,
    CORRELATION_SMALL,
    Pair,
    duplicate_groups,
    limit_for,
    near_duplicates,
)


def orientations(image, turned=True):
    if not turned:
        return [image]
    quarters = range(4) if image.shape[0] == image.shape[1] else (0, 2)
    return [np.rot90(one, turns) for one in (image, image[:, ::-1]) for turns in quarters]


def plain(first, second, limit, turned):
    """Pearson's correlation of every pair, by numpy."""
    found = {}
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            if np.ptp(one) == 0 or np.ptp(other) == 0:
                continue
            values = [np.corrcoef(one.ravel(), two.ravel())[0, 1] for two in orientations(other, turned)]
            if max(values) > limit:
                found[i, j] = max(values)
    return found


def smooth(rng, count, height, width):
    """Images with structure in large parts, as pictures have it: many correlate somewhat."""
    coarse = rng.normal(size=(count, 3, 3))
    rows, columns = np.linspace(0, 2, height), np.linspace(0, 2, width)
    across = np.stack([np.interp(rows, range(3), np.eye(3)[k]) for k in range(3)], axis=1)
    down = np.stack([np.interp(columns, range(3), np.eye(3)[k]) for k in range(3)], axis=1)
    return np.einsum("ha,nab,wb->nhw", across, coarse, down) + 0.2 * rng.normal(size=(count, height, width))


@settings(max_examples=25)
@given(
    st.integers(0, 1000),
    st.sampled_from([(8, 8), (16, 24), (13, 17), (32, 32)]),
    st.sampled_from([0.5, 0.9, 0.98]),
    st.booleans(),
)
def test_no_pair_is_missed_and_none_is_made_up(seed, shape, limit, turned):
    rng = np.random.default_rng(seed)
    first, second = smooth(rng, 5, *shape), smooth(rng, 7, *shape)
    second[2] = 3 * first[1] - 7
    second[3] = first[0][::-1, ::-1] + 0.05 * rng.normal(size=shape)
    second[4] = 1
    expected = plain(first, second, limit, turned)
    found = {pair[:2]: pair.correlation for pair in near_duplicates(first, second, limit, turned=turned)}
    sure = {key for key, value in expected.items() if value > limit + 1e-4}
    assert sure <= found.keys() <= set(plain(first, second, limit - 1e-4, turned))
    for key in sure:
        assert found[key] == pytest.approx(expected[key], abs=1e-4)


@pytest.mark.parametrize("turns", range(8))
def test_every_orientation_of_a_copy_is_found(turns):
    rng = np.random.default_rng(turns)
    image = rng.integers(0, 255, (1, 64, 64)).astype(np.uint8)
    copy = orientations(image[0])[turns][None]
    ((_, _, value),) = near_duplicates(image, copy)
    assert value == pytest.approx(1, abs=1e-5)
    assert bool(near_duplicates(image, copy, turned=False)) == (turns == 0)


def test_pairs_within_a_set_come_once():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(9, 16, 16))
    images[7] = images[2] * 2
    images[4] = images[2].T
    found = near_duplicates(images, limit=0.9)
    assert [pair[:2] for pair in found] == [(2, 4), (2, 7), (4, 7)]
    assert near_duplicates(images[:0], limit=0.9) == []


def test_groups_are_closed_under_pairs():
    """1 is like 4 and 4 like 6, and 1 unlike 6: they stay together all the same."""
    pairs = [Pair(1, 4, 0.99), Pair(4, 6, 0.99), Pair(2, 3, 1.0)]
    assert duplicate_groups(8, pairs) == [0, 1, 2, 2, 1, 5, 1, 7]
    assert duplicate_groups(3, []) == [0, 1, 2]


def test_small_things_must_be_more_alike():
    assert (limit_for((28, 28)), limit_for((64, 200))) == (CORRELATION_SMALL, CORRELATION)
