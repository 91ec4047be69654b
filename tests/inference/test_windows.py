"""Windows cover every pixel, and strips cover the axis once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qhybrid.errors import ConfigError
from qhybrid.inference.windows import axis_starts, plan_strips, window_grid

SIZES = st.integers(1, 40)
OVERLAPS = st.floats(0, 0.95)


@given(length=st.integers(1, 200), size=SIZES, overlap=OVERLAPS)
def test_an_axis_is_covered(length, size, overlap):
    starts = axis_starts(length, size, overlap)
    covered = {pixel for start in starts for pixel in range(start, start + size)}
    assert covered >= set(range(length))
    assert list(starts) == sorted(set(starts))
    assert starts[0] == 0
    # No window overhangs, except the only one of an axis that is shorter than it.
    assert starts[-1] == max(length - size, 0)


def test_known_plans():
    assert axis_starts(512, 128, 0.5) == (0, 64, 128, 192, 256, 320, 384)
    assert axis_starts(300, 128, 0) == (0, 128, 172)
    assert axis_starts(128, 128, 0.5) == (0,)
    assert axis_starts(1, 128, 0.5) == (0,)
    assert [tuple(window) for window in window_grid(10, 5, 6, 0.5)] == [
        (0, 0, 6, 6),
        (3, 0, 6, 6),
        (4, 0, 6, 6),
    ]


@given(length=st.integers(1, 200), size=SIZES, overlap=OVERLAPS, most=st.integers(0, 250))
def test_strips_cover_once_and_are_as_short_as_wanted(length, size, overlap, most):
    starts = axis_starts(length, size, overlap)
    strips = plan_strips(starts, length, most)
    assert [pixel for begin, end in strips for pixel in range(begin, end)] == list(range(length))
    steps = [b - a for a, b in zip(starts, (*starts[1:], length))]
    assert all(end - begin <= max(most, max(steps)) for begin, end in strips)


@pytest.mark.parametrize(("length", "size", "overlap"), [(0, 4, 0), (4, 0, 0), (4, 4, 1.0), (4, 4, -0.1)])
def test_bad_arguments(length, size, overlap):
    with pytest.raises(ConfigError, match=r"pixels|overlap"):
        axis_starts(length, size, overlap)
