"""The metrics by name: what each is called, how its numbers are shown, and how they are computed.

There is one table for all faces: evaluation, sweeps, repeated runs, hardware and the report. A plugin adds
to it with `register_metric`. A metric is computed in two steps, so that a split may be larger than memory:
`count` makes an array of each image or scene, the arrays of all are added up, and `value` makes the number
of their sum. Metrics without `count` are made of what every evaluation counts anyway (`Totals`).
"""

from qhybrid.metrics.metric import (
    CLASSIFICATION,
    DASH,
    PERCENT,
    SCENES,
    SEGMENTATION,
    TASKS,
    Metric,
    Sample,
    Totals,
)
from qhybrid.metrics.table import (
    METRICS,
    OTHER_NAMES,
    OWN_KEYS,
    entry_of,
    find_metric,
    foreground_iou,
    metric_label,
    metrics_in,
    metrics_of,
    place_of,
    register_metric,
    show_interval,
    show_metric,
    version_of,
)

__all__ = [
    "CLASSIFICATION",
    "DASH",
    "METRICS",
    "OTHER_NAMES",
    "OWN_KEYS",
    "PERCENT",
    "SCENES",
    "SEGMENTATION",
    "TASKS",
    "Metric",
    "Sample",
    "Totals",
    "entry_of",
    "find_metric",
    "foreground_iou",
    "metric_label",
    "metrics_in",
    "metrics_of",
    "place_of",
    "register_metric",
    "show_interval",
    "show_metric",
    "version_of",
]
