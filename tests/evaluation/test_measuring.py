"""Metrics of plugins beside ours: computed of each sample, added up, and never in each other's way."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from qhybrid.errors import MetricError
from qhybrid.evaluation import evaluate_run
from qhybrid.evaluation.image_scoring import score_logits
from qhybrid.metrics import METRICS, Metric

NAMES = ("a", "b", "c")


def metric(key, value, count=None, **options):
    options.setdefault("tasks", ("classification", "segmentation", "scenes"))
    return Metric(key, key, value=value, count=count, **options)


@pytest.fixture
def logits():
    return torch.randn(20, 3, 5, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def targets():
    found = torch.randint(0, 3, (20, 5, 4), generator=torch.Generator().manual_seed(2))
    found[:, 0, :2] = 255
    return found


def test_counts_of_samples_are_added_up(logits, targets):
    def right(sample):
        counted = sample.truth != 255
        return [(sample.predicted == sample.truth)[counted].sum(), counted.sum()]

    with METRICS.temporarily("right", metric("right", lambda total: total[0] / total[1], right)):
        found = score_logits("segmentation", NAMES, logits, targets).measured
    assert found.values["right"] == pytest.approx(found.values["accuracy"], rel=1e-12)
    assert found.versions["right"] == ""


def test_a_metric_of_the_confusion_matrix_alone(logits, targets):
    def kappa(totals):
        share = totals.counts.matrix / totals.counts.matrix.sum()
        by_chance = (share.sum(axis=0) * share.sum(axis=1)).sum()
        return (np.trace(share) - by_chance) / (1 - by_chance)

    with METRICS.temporarily("kappa", metric("kappa", kappa)):
        found = score_logits("segmentation", NAMES, logits, targets)
    counted = targets != 255
    expected = cohen_kappa_score(targets[counted], found.labels[counted])
    assert found.measured.values["kappa"] == pytest.approx(expected, rel=1e-9)


def test_probabilities_of_each_sample(logits, targets):
    """The Brier score of one-logit models too: a logit x stands for (0, x)."""

    def brier(sample):
        truth = np.eye(2)[:, sample.truth]
        return [((sample.probabilities - truth) ** 2).sum(axis=0).mean(), 1]

    one, truth = logits[:, :1, 0, 0], targets[:, 2, 0] % 2
    with METRICS.temporarily("brier", metric("brier", lambda t: t[0] / t[1], brier, probabilities=True)):
        found = score_logits("classification", ("no", "yes"), one, truth).measured
    said = one[:, 0].sigmoid().double()
    assert found.values["brier"] == pytest.approx(float((2 * (said - truth) ** 2).mean()), rel=1e-5)


def test_numbers_of_classes_and_undefined_ones(logits, targets):
    each = metric("share", lambda totals: {"a": 0.5, "b": math.nan})
    with METRICS.temporarily("share", each):
        found = score_logits("segmentation", NAMES, logits, targets).measured
    assert {key for key in found.values if key.startswith("share")} == {"share a"}


@pytest.mark.parametrize(
    ("count", "value", "message"),
    [
        (lambda sample: 1 / 0, lambda total: 0.0, "ZeroDivisionError"),
        (lambda sample: np.ones(int(sample.truth) + 1), lambda total: 0.0, "gave shape"),
        (None, lambda totals: "high", "could not convert"),
        (None, lambda totals: None, "TypeError"),
    ],
)
def test_a_metric_that_fails_is_named_and_costs_no_other(
    count, value, message, make_image_run, mnist_root, tmp_path
):
    broken, said = metric("broken", value, count), rf"Metric `broken` failed \(.*{message}"
    with METRICS.temporarily("broken", broken), pytest.raises(MetricError, match=said) as caught:
        evaluate_run(make_image_run(), data_root=mnist_root, output=tmp_path / "out")
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(written["metrics"]) == ["accuracy", "cross_entropy"]
    assert "broken" in written["metrics_failed"]
    assert caught.value.evaluation["accuracy"] == written["accuracy"]
    assert (tmp_path / "out" / "predictions.csv").is_file()


def test_whole_scenes_are_counted_block_by_block_or_not_at_all(run_folder, scenes_root):
    """The label maps that metrics see are those that the confusion matrix counts."""

    def matrix(sample):
        counted = sample.truth != 255
        places = 3 * sample.truth[counted].astype(int) + sample.predicted[counted]
        return np.bincount(places, minlength=9)

    def by_place(total):
        return {str(place): number for place, number in enumerate(total)}

    with METRICS.temporarily("all", metric("all", by_place, matrix)):
        found = evaluate_run(run_folder, data_root=scenes_root)
    counted = [found[f"all {place}"] for place in range(9)]
    assert counted == found.counts.matrix.flatten().tolist()


def test_a_metric_cannot_change_what_others_see(logits, targets):
    """A test set in memory is used by all metrics, and by all cells of a sweep."""

    def zeros(sample):
        sample.truth[...] = 0

    def right(sample):
        return [(sample.predicted == sample.truth).sum(), (sample.truth != 255).sum()]

    before = targets.clone()
    writing = metric("writing", lambda total: total, zeros)
    reading = metric("reading", lambda total: total[0] / total[1], right)
    with METRICS.temporarily("writing", writing), METRICS.temporarily("reading", reading):
        found = score_logits("segmentation", NAMES, logits, targets).measured
    assert "read-only" in found.failed["writing"]
    assert torch.equal(targets, before)
    assert found.values["reading"] == pytest.approx(found.values["accuracy"], rel=1e-12)
