"""The test set's own error: counts unit by unit against sums made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from qhybrid.data.raster import Window
from qhybrid.evaluation import sampling_error, scene_units
from qhybrid.evaluation.image_scoring import score_logits
from qhybrid.evaluation.measuring import Tally
from qhybrid.evaluation.sampling_error import SampleUnits, UnitTally, grouping
from qhybrid.evaluation.scene_units import SceneTally
from qhybrid.metrics import METRICS, Metric, Totals
from qhybrid.metrics.intervals import jackknife, wilson
from qhybrid.training.metrics import SegmentationMetrics

NAMES = ("a", "b")


def each(count: int) -> SampleUnits:
    return SampleUnits.by_name([f"{index:05d}" for index in range(count)])


def intervals_of(task, logits, targets, units=None, names=NAMES):
    found = score_logits(task, names, logits, targets)
    tally = UnitTally(task, names, units or each(len(targets)))
    tally.add_all(logits, targets)
    return found, tally.intervals(found.measured)


def test_classes_of_images_have_wilson_and_means_have_student():
    torch.manual_seed(0)
    logits, targets = torch.randn(60, 2), torch.randint(0, 2, (60,))
    found, intervals = intervals_of("classification", logits, targets)
    right = int((logits.argmax(1) == targets).sum())
    assert intervals.values["accuracy"] == wilson(right, 60)
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none").double().numpy()
    low, high = stats.t.interval(0.95, 59, losses.mean(), stats.sem(losses))
    entropy = intervals.values["cross_entropy"]
    assert (entropy.low, entropy.high) == pytest.approx((low, high), rel=1e-4)
    assert intervals.units.text() == "95 % over 60 images"
    assert found.measured.values["accuracy"] == pytest.approx(right / 60)


def test_images_that_belong_together_are_left_out_together():
    """Each image twice: Wilson would take 40 witnesses for 80; over pairs the error stays what it is."""
    torch.manual_seed(1)
    logits, targets = torch.randn(40, 2), torch.randint(0, 2, (40,))
    twice, names = torch.cat([logits, logits]), [str(index % 40) for index in range(80)]
    units = SampleUnits.by_name(names, "patient")
    _, paired = intervals_of("classification", twice, torch.cat([targets, targets]), units)
    right = (logits.argmax(1) == targets).double().numpy()
    found = paired.values["accuracy"]
    assert found.method == "jackknife"
    assert found.standard_error == pytest.approx(stats.sem(right))
    assert paired.units.text() == "95 % over 40 patients"


def test_segmentation_is_left_out_image_by_image():
    torch.manual_seed(2)
    logits, targets = torch.randn(9, 1, 6, 7), torch.randint(0, 2, (9, 6, 7))
    targets[:, 0] = 255
    found, intervals = intervals_of("segmentation", logits, targets)
    for key, value in found.measured.values.items():
        others = []
        for index in range(9):
            rest = [one for one in range(9) if one != index]
            others.append(
                score_logits("segmentation", NAMES, logits[rest], targets[rest]).measured.values[key]
            )
        np.testing.assert_allclose(intervals.replicates[key], others, rtol=1e-5, err_msg=key)
        expected = jackknife(value, others, 0, 1 if key != "cross_entropy" else math.inf)
        assert intervals.values[key].high == pytest.approx(expected.high, rel=1e-4)


def test_what_cannot_be_known_is_said():
    torch.manual_seed(3)
    logits, targets = torch.randn(4, 2), torch.randint(0, 2, (4,))
    _, few = intervals_of("classification", logits, targets)
    assert few.values == {}
    assert few.missing["accuracy"] == "4 images: fewer than 5"
    # A class in one image alone: without it, the mean is over other classes.
    maps = torch.randint(0, 2, (6, 4, 4))
    said = torch.nn.functional.one_hot(maps, 3).movedim(-1, 1).float() + 0.9 * torch.rand(6, 3, 4, 4)
    maps[0, 0, 0] = 2
    _, intervals = intervals_of("segmentation", said, maps, names=("a", "b", "c"))
    assert intervals.missing["miou"] == "c occurs in a single image"
    assert "accuracy" in intervals.values
    # All right: that does not mean there is no error.
    right = torch.nn.functional.one_hot(torch.randint(0, 2, (6, 4, 4)), 2).movedim(-1, 1).float() * 20
    _, intervals = intervals_of("segmentation", right, right.argmax(1))
    assert intervals.missing["iou"] == "it does not vary over the units"


def test_many_units_are_left_out_in_groups(monkeypatch):
    monkeypatch.setattr(sampling_error, "MOST_GROUPS", 50)
    assert sorted(np.bincount(grouping(205))) == [4] * 45 + [5] * 5
    torch.manual_seed(4)
    logits, targets = torch.randn(2000, 2), torch.randint(0, 2, (2000,))
    _, intervals = intervals_of("classification", logits, targets)
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none").numpy()
    assert intervals.units.groups == 50
    assert intervals.values["accuracy"].method == "Wilson"
    assert intervals.values["cross_entropy"].standard_error == pytest.approx(stats.sem(losses), rel=0.3)


def test_metrics_of_plugins_have_intervals_too():
    def count(sample):
        return np.array([float(sample.predicted == sample.truth), 1.0])

    metric = Metric(
        "hits", "hits", tasks=("classification",), value=lambda sums: sums[0] / sums[1], count=count
    )
    broken = Metric("broken", "broken", tasks=("classification",), value=lambda _: 0.5, count=lambda _: 1 / 0)
    torch.manual_seed(5)
    logits, targets = torch.randn(30, 2), torch.randint(0, 2, (30,))
    with METRICS.temporarily("hits", metric), METRICS.temporarily("broken", broken):
        _, intervals = intervals_of("classification", logits, targets)
    right = (logits.argmax(1) == targets).double().numpy()
    assert intervals.values["hits"].standard_error == pytest.approx(stats.sem(right))
    assert "broken" not in intervals.values


class Asked:
    """Places that a test decides."""

    def __init__(self, of, count):
        self.of, self.count = of, count


def tally_of(monkeypatch, shapes, of, count):
    monkeypatch.setattr(scene_units, "connected_places", lambda _: Asked(of, count))
    return SceneTally([Path()] * len(shapes), shapes, NAMES)  # type: ignore[list-item]


def made_map(shape, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, shape).astype(np.uint8)
    wrong = rng.uniform(size=shape) < rng.uniform(0.1, 0.4, (shape[0], 1))
    labels = np.where(wrong, 1 - truth, truth).astype(np.uint8)
    truth[rng.uniform(size=shape) < 0.05] = 255
    return labels, truth


def test_blocks_of_scenes_in_whatever_windows_they_come(monkeypatch):
    monkeypatch.setattr(scene_units, "BLOCK", 8)
    shapes = [(20, 13), (9, 30)]
    tally = tally_of(monkeypatch, shapes, (0, 1), 2)
    blocks = []
    whole = np.zeros((2, 2), dtype=np.int64)
    for scene, shape in enumerate(shapes):
        labels, truth = made_map(shape, scene)
        for row in range(0, shape[0], 5):
            for col in range(0, shape[1], 6):
                part = np.s_[row : row + 5, col : col + 6]
                window = Window(row, col, *labels[part].shape)
                tally.add_window(scene, window, labels[part], truth[part])
        for row in range(0, shape[0], 8):
            for col in range(0, shape[1], 8):
                part = np.s_[row : row + 8, col : col + 8]
                known = truth[part] != 255
                block = np.zeros((2, 2), dtype=np.int64)
                np.add.at(block, (truth[part][known], labels[part][known]), 1)
                blocks.append(block)
        whole += sum(blocks[len(blocks) - -(-shape[0] // 8) * -(-shape[1] // 8) :])
    measured = Tally.of("scenes").measure(Totals(SegmentationMetrics(whole, NAMES)))
    found = tally.tally.intervals(measured)
    assert found.units.text() == (
        f"95 % over {len(blocks)} blocks of 8 px, within these scenes; 2 connected places"
    )
    others = [SegmentationMetrics(whole - block, NAMES).miou for block in blocks]
    expected = jackknife(SegmentationMetrics(whole, NAMES).miou, others, 0, 1)
    assert found.values["miou"] == expected
    assert set(found.values) == {"miou", "accuracy", "iou a", "iou b"}


def test_five_places_are_the_units_and_four_are_not(monkeypatch):
    shapes = [(10, 10)] * 6
    tally = tally_of(monkeypatch, shapes, (0, 1, 2, 3, 4, 4), 5)
    matrices = np.zeros((5, 2, 2), dtype=np.int64)
    for scene, place in enumerate((0, 1, 2, 3, 4, 4)):
        labels, truth = made_map((10, 10), scene)
        tally.add_window(scene, Window(0, 0, 10, 10), labels, truth)
        known = truth != 255
        np.add.at(matrices[place], (truth[known], labels[known]), 1)
    whole = matrices.sum(axis=0)
    measured = Tally.of("scenes").measure(Totals(SegmentationMetrics(whole, NAMES)))
    found = tally.tally.intervals(measured)
    assert found.units.text() == "95 % over 5 places"
    others = [SegmentationMetrics(whole - one, NAMES).miou for one in matrices]
    assert found.values["miou"] == jackknife(SegmentationMetrics(whole, NAMES).miou, others, 0, 1)
    assert not tally_of(monkeypatch, shapes, (0, 1, 2, 3, 3, 3), 4).by_place
    # Where it is not known how many there are, blocks are the units, and no number of places is said.
    unknown = tally_of(monkeypatch, shapes, (0, 1, 2, 3, 4, 5), None)
    assert not unknown.by_place
    assert unknown.tally.units.places is None
