"""Weights sum to one, and the band blender equals plain accumulation of numerator and denominator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.inference.blend import BandBlender, axis_weights, taper
from qhybrid.inference.windows import axis_starts


@pytest.mark.parametrize("size", [1, 2, 3, 16, 128, 513])
def test_taper_is_symmetric_smooth_and_never_zero(size):
    weights = taper(size)
    assert weights.min() > 0
    np.testing.assert_allclose(weights, weights[::-1])
    assert weights.argmax() in (size // 2, (size - 1) // 2)
    assert np.abs(np.diff(weights)).max(initial=0) <= np.pi / size


def test_half_overlap_needs_no_normalisation():
    # sin^2 and its shift by half a window sum to 1: the closed form of the Hann window.
    weights = axis_weights((0, 8, 16), 32, 16)
    np.testing.assert_allclose(weights[8], taper(16), atol=1e-6)


@given(length=st.integers(1, 120), size=st.integers(1, 40), overlap=st.floats(0, 0.9))
def test_axis_weights_sum_to_one(length, size, overlap):
    starts = axis_starts(length, size, overlap)
    total = np.zeros(length + size)
    for start, weights in axis_weights(starts, length, size).items():
        total[start : start + size] += weights
    np.testing.assert_allclose(total[:length], 1, atol=1e-6)
    assert not total[length:].any()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.floats(0, 0.9), st.integers(0, 10**6))
def test_blender_equals_naive_accumulation(height, width, size, overlap, seed):
    rng = np.random.default_rng(seed)
    rows, columns = axis_starts(height, size, overlap), axis_starts(width, size, overlap)
    values = {(r, c): rng.random((2, size, size), dtype=np.float32) for r in rows for c in columns}
    top, bottom = np.zeros((2, height + size, width + size)), np.zeros((height + size, width + size))
    shape = np.outer(taper(size), taper(size))
    for (r, c), window in values.items():
        top[:, r : r + size, c : c + size] += window * shape
        bottom[r : r + size, c : c + size] += shape
    expected = (top / np.maximum(bottom, 1e-300))[:, :height, :width]

    blender = BandBlender(2, height, size, 0, width)
    row_weights, column_weights = axis_weights(rows, height, size), axis_weights(columns, width, size)
    bands = []
    for r, following in zip(rows, (*rows[1:], height)):
        for c in columns:
            weights = row_weights[r], column_weights[c]
            blender.add(r, c, np.ones((size, size), dtype=bool), values[r, c], weights)
        block, valid = blender.take(following)
        assert valid.all()
        bands.append(block)
    np.testing.assert_allclose(np.concatenate(bands, axis=1), expected, atol=1e-5)
