"""What a margin may be: a difference of a metric up to which nothing matters, in the metric's own numbers."""

from __future__ import annotations

import math

from qhybrid.errors import ConfigError
from qhybrid.metrics.metric import PERCENT
from qhybrid.metrics.table import OTHER_NAMES, find_metric

SHARES = frozenset({"accuracy", "iou", "miou", "soft_iou", "soft_iou_per_image"})
"""Metrics of the package that are from 0 to 1."""
LARGEST_SHARE = 0.5
"""Margins of shares from here on are taken for points or per cent by mistake: 0.5 is 50 points."""


def check_margin(margin: float, key: str, name: str) -> None:
    """Check the margin of a metric.

    Args:
        margin: Differences up to it do not matter.
        key: Key of the metric.
        name: What the margin is called in an error, as in "Key `ablation.margin`".

    Raises:
        ConfigError: If it is not a number above 0, or is of a share and so large that points must be meant.
    """
    if not (math.isfinite(margin) and margin > 0):
        raise ConfigError(f"{name} must be a number above 0, but is {margin}. Fix: such as 0.005.")
    metric = find_metric(key)
    share = metric.unit == PERCENT or OTHER_NAMES.get(key, key) in SHARES
    if share and margin >= LARGEST_SHARE:
        raise ConfigError(
            f"{name} must be a fraction of {metric.label} below {LARGEST_SHARE}, but is {margin:g}, so that "
            f"differences of {100 * margin:g} points would not matter. Fix: 0.005 for half a point, 0.01 for "
            "one."
        )
