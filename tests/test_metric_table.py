"""The table of metrics: names, units, directions, and what others add to it."""

from __future__ import annotations

import math
from typing import get_args

import pytest

from qhybrid.data.images.dataset import Task
from qhybrid.errors import PluginError
from qhybrid.metrics import (
    METRICS,
    OWN_KEYS,
    TASKS,
    find_metric,
    metric_label,
    metrics_in,
    metrics_of,
    place_of,
    register_metric,
    show_metric,
)
from qhybrid.training.images.task import _SCORES


def test_every_key_has_a_label_and_every_task_a_headline():
    assert set(OWN_KEYS) <= set(METRICS.names())
    assert all(metric.label and metric.key == key for key, metric in METRICS.items())
    headlines = {task: metrics_of(task)[0].key for task in TASKS}
    assert headlines == {"classification": "accuracy", "segmentation": "soft_iou", "scenes": "miou"}
    assert set(get_args(Task)) < set(TASKS)
    # What training writes into metrics.csv is in the table too.
    assert {name for names in _SCORES.values() for name in names} <= set(METRICS.names())


@pytest.mark.parametrize(
    ("key", "label", "shown"),
    [
        ("accuracy", "accuracy", "91.23 %"),
        ("overall_accuracy", "accuracy", "91.23 %"),
        ("miou", "mIoU", "0.9123"),
        ("iou field", "IoU of field", "0.9123"),
        ("val_soft_iou", "soft IoU (validation)", None),
        ("not_there_yet", "not there yet", "0.9123"),
    ],
)
def test_one_label_and_one_unit_everywhere(key, label, shown):
    assert metric_label(key) == label
    if shown is not None:
        assert show_metric(key, 0.91234) == shown


def test_errors_and_missing_values_are_shown_in_the_unit():
    assert show_metric("accuracy", 0.5, 0.0123) == "50.00 ± 1.23 %"
    assert show_metric("miou", 0.5, math.nan) == "0.5000"
    assert show_metric("miou", None) == show_metric("miou", math.nan) == "–"
    assert (find_metric("cross_entropy").direction, find_metric("iou a b").direction) == ("smaller", "larger")


def test_numbers_of_classes_stand_behind_the_others():
    keys = ["iou field", "accuracy", "unknown", "miou"]
    order = ["miou", "accuracy", "iou field", "unknown"]
    assert sorted(keys, key=lambda key: place_of(key, "scenes")) == order


def test_files_of_every_version_are_read():
    """Before there was a table, scenes had `overall_accuracy`, and numbers stood among the other keys."""
    scenes = {
        "epoch": 3, "miou": 0.4, "overall_accuracy": 0.7, "pixels": 10,
        "classes": {"field": {"iou": 0.4, "recall": 1.0}, "road": {"iou": None}},
    }  # fmt: skip
    assert metrics_in(scenes) == {"miou": 0.4, "accuracy": 0.7, "iou field": 0.4}
    images = {"task": "segmentation", "soft_iou": 0.3, "soft_iou_per_image": None, "iou": 0.2}
    assert list(metrics_in(images)) == ["soft_iou", "soft_iou_per_image", "iou"]
    assert metrics_in({"metrics": {"accuracy": 1.0}, "accuracy": 0.0}) == {"accuracy": 1.0}
    assert metrics_in({"accuracy": True}) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"key": "two words"}, "word without spaces"),
        ({"label": ""}, "must have a label"),
        ({"tasks": ("regression",)}, "must be of classification, segmentation, scenes"),
        ({"tasks": ()}, "must be of"),
        ({"key": "miou"}, "already named `miou`"),
    ],
)
def test_what_cannot_be_registered(content, message):
    names = METRICS.names()
    with pytest.raises(PluginError, match=message):
        register_metric(**{"key": "new", "label": "new", "value": lambda totals: 0.0, **content})
    assert METRICS.names() == names


def test_tables_never_have_two_metrics_of_one_name():
    with pytest.raises(PluginError, match="must have a label of its own, but has 'mIoU', as `miou` has"):
        register_metric("other", label="mIoU", value=lambda totals: 0.0)
