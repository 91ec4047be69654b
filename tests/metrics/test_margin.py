"""Margins: fractions of a metric, and what is refused as points."""

from __future__ import annotations

import math

import pytest

from qhybrid.errors import ConfigError
from qhybrid.metrics.margin import check_margin


@pytest.mark.parametrize("key", ["accuracy", "miou", "overall_accuracy", "soft_iou"])
def test_points_are_not_taken_for_fractions(key):
    check_margin(0.005, key, "Option --margin")
    with pytest.raises(ConfigError, match="Option --margin must be a fraction .* 50 points would not matter"):
        check_margin(0.5, key, "Option --margin")


def test_metrics_that_are_no_shares_have_any_margin_that_is_a_number():
    check_margin(2.0, "cross_entropy", "Key `ablation.margin`")
    for margin in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="must be a number above 0"):
            check_margin(margin, "cross_entropy", "Key `ablation.margin`")
