"""Which samples pictures show, and the colour of what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from qhybrid.training.showing import ERROR_COLORS, class_counts, error_color, most_varied

PREFERRED = ERROR_COLORS[0]
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def lab(color: str) -> np.ndarray:
    """CIELAB by the formulas of CIE 15 and IEC 61966-2-1, for D65."""
    values = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.array(matrix) @ linear / [0.9505, 1, 1.089]
    f = [t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest(color: str, others: tuple[str, ...]) -> float:
    return min(float(np.linalg.norm(lab(color) - lab(other))) for other in others)


def test_the_usual_colour_of_wrong_pixels_is_kept_where_it_is_free():
    assert error_color(["#e0c050", "#207020", "#808080"]) == PREFERRED


@pytest.mark.parametrize(
    "palette",
    [
        (PREFERRED, "#207020"),
        ("#c0392b", "#e3dcc5", "#1e7b34", "#2f7ed8", "#4d4d4d"),
        OKABE_ITO,
        ERROR_COLORS[:4],
    ],
)
def test_the_colour_of_wrong_pixels_is_far_from_all_classes(palette):
    found = error_color(palette)
    assert found != PREFERRED
    assert nearest(found, (*palette, "#ffffff", "#b3b3b3")) > 39


def test_palettes_that_hold_every_candidate_get_a_colour_of_their_own():
    many = (*ERROR_COLORS, *(f"#{r:02x}{g:02x}00" for r in range(0, 256, 51) for g in range(0, 256, 51)))
    found = error_color(many)
    assert found not in many
    assert nearest(found, many) > 20


def test_class_counts_leave_out_what_is_ignored():
    assert class_counts(np.array([[0, 2, 2], [255, 255, 2]]), 4).tolist() == [1, 0, 3, 0]


def test_the_most_varied_samples_come_first():
    counts = [[100, 0, 0], [50, 50, 0], [34, 33, 33], [0, 0, 0], [90, 10, 0]]
    assert most_varied(counts, 3) == [2, 1, 4]
    assert most_varied(counts, 9) == [2, 1, 4, 0, 3]
    assert most_varied(counts, 0) == []
    assert most_varied([], 3) == []


def test_classes_that_are_not_seen_yet_count():
    # The second best by evenness repeats the classes of the first; the third shows a rare one.
    counts = [[50, 50, 0], [49, 51, 0], [95, 0, 5]]
    assert most_varied(counts, 2) == [0, 2]


def test_each_scene_gives_one_sample_before_another_gives_two():
    counts = [[50, 50], [50, 50], [100, 0]]
    assert most_varied(counts, 2, groups=[0, 0, 1]) == [0, 2]


def test_a_window_of_which_little_is_labelled_is_not_varied():
    counts = [[1, 1], [80, 20]]
    assert most_varied(counts, 1) == [1]
