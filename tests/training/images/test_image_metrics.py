"""Metrics of whole images against their formulas, over any cut into batches."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from qhybrid.config import LossConfig
from qhybrid.training.images.metrics import ImageMetrics, ImageScores, class_logits
from qhybrid.training.losses import CrossEntropyDice

LOGITS = torch.randn(7, 1, 5, 6, generator=torch.Generator().manual_seed(0)) * 3
TRUTH = torch.randint(2, (7, 5, 6), generator=torch.Generator().manual_seed(1))


def scored(logits, targets, names, task="segmentation", batch=7):
    scores = ImageScores(task, names)
    for start in range(0, len(targets), batch):
        scores.update(logits[start : start + batch], targets[start : start + batch])
    return scores.compute()


def soft_iou(probability, truth):
    overlap = (probability * truth).sum()
    return overlap / (probability.sum() + truth.sum() - overlap)


def test_one_logit_is_the_sigmoid():
    both = class_logits(LOGITS)
    torch.testing.assert_close(both.softmax(dim=1)[:, 1], LOGITS[:, 0].sigmoid())
    loss = CrossEntropyDice(LossConfig(dice=0, class_weights="none"))(both, TRUTH)
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(LOGITS[:, 0], TRUTH.float()))


@pytest.mark.parametrize("batch", [7, 3, 1])
def test_soft_iou_of_two_classes(batch):
    metrics = scored(LOGITS, TRUTH, ("a", "b"), batch=batch)
    probability, truth = LOGITS[:, 0].sigmoid().double().numpy(), TRUTH.numpy()
    assert metrics.soft_iou == pytest.approx(soft_iou(probability, truth), abs=1e-6)
    each = [soft_iou(*pair) for pair in zip(probability, truth)]
    assert metrics.soft_iou_per_image == pytest.approx(np.mean(each), abs=1e-6)
    said = probability > 0.5
    assert metrics.iou == pytest.approx((said & (truth == 1)).sum() / (said | (truth == 1)).sum())
    assert metrics.accuracy == pytest.approx((said == truth).mean())
    assert next(iter(metrics.headline)) == "soft_iou"


def test_soft_iou_of_more_classes_is_the_mean_over_those_that_occur():
    logits = torch.full((1, 3, 1, 2), -50.0)
    logits[0, 0, 0, 0] = logits[0, 1, 0, 1] = 50.0
    truth = torch.tensor([[[0, 0]]])
    # Class 0: 1 of 2; class 1: 0 of 1; class 2 is nowhere.
    assert scored(logits, truth, ("a", "b", "c")).soft_iou == pytest.approx(0.25)


def test_a_class_that_is_nowhere_does_not_occur_though_its_probability_is_not_zero():
    """No softmax gives 0: classes occur as for the mean IoU, in the truth or as the most probable one."""
    logits = torch.tensor([[2.0, -1.0], [-1.0, 2.0], [-2.0, -2.0]]).reshape(1, 3, 1, 2)
    truth = torch.tensor([[[0, 1]]])
    p = logits[0, :, 0].softmax(dim=0).double().numpy()
    each = [soft_iou(p[number], truth.numpy()[0, 0] == number) for number in (0, 1)]
    alone = scored(logits, truth, ("a", "b", "c"))
    assert alone.soft_iou == alone.soft_iou_per_image == pytest.approx(np.mean(each), abs=1e-6)
    assert alone.counts.miou == 1
    # Beside an image that has the third class, it occurs in the whole split, not in the first image.
    more = scored(logits.repeat(2, 1, 1, 1), torch.tensor([[[0, 1]], [[2, 1]]]), ("a", "b", "c"))
    third = soft_iou(np.array([p[2], p[2]]), np.array([[0, 0], [1, 0]]))
    second = (soft_iou(p[0], np.zeros(2)) + each[1] + soft_iou(p[2], np.array([1, 0]))) / 3
    assert more.soft_iou_per_image == pytest.approx((np.mean(each) + second) / 2, abs=1e-6)
    first = soft_iou(np.array([p[0], p[0]]), np.array([[1, 0], [0, 0]]))
    assert more.soft_iou == pytest.approx((first + each[1] + third) / 3, abs=1e-6)


def test_ignored_pixels_do_not_count():
    truth = TRUTH.clone()
    truth[:, 0] = 255
    found = scored(LOGITS, truth, ("a", "b"))
    expected = scored(LOGITS[:, :, 1:], TRUTH[:, 1:], ("a", "b"))
    assert found.headline == pytest.approx(expected.headline)


def test_images_without_any_positive_pixel():
    truth = torch.zeros(2, 4, 4, dtype=torch.int64)
    metrics = scored(torch.full((2, 1, 4, 4), -60.0), truth, ("a", "b"))
    assert metrics.soft_iou == 0
    assert metrics.accuracy == 1


@pytest.mark.parametrize("classes", [2, 3])
def test_images_without_any_label_are_not_known(classes):
    """They are no images of which nothing was found: the mean is that of the others."""
    logits = torch.randn(2, classes, 4, 4, generator=torch.Generator().manual_seed(1))
    truth = torch.randint(classes, (2, 4, 4), generator=torch.Generator().manual_seed(2))
    truth[1] = 255
    names = ("a", "b", "c")[:classes]
    both, first = scored(logits, truth, names), scored(logits[:1], truth[:1], names)
    assert both.soft_iou_per_image == pytest.approx(first.soft_iou_per_image)
    assert both.soft_iou == pytest.approx(first.soft_iou)
    none = scored(logits[1:], truth[1:], names)
    assert math.isnan(none.soft_iou)
    assert math.isnan(none.soft_iou_per_image)


def test_a_batch_without_any_label_has_no_loss():
    scores = ImageScores("segmentation", ("a", "b"))
    scores.update(LOGITS[:1], TRUTH[:1], torch.tensor(2.0))
    scores.update(LOGITS[1:3], torch.full_like(TRUTH[1:3], 255), torch.tensor(0.0))
    assert scores.loss == 2
    scores.reset()
    scores.update(LOGITS[1:3], torch.full_like(TRUTH[1:3], 255), torch.tensor(0.0))
    assert math.isnan(scores.loss)


def test_classification():
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    scores = ImageScores("classification", ("cat", "dog"))
    scores.update(logits[:2], torch.tensor([0, 1]), torch.tensor(1.0))
    scores.update(logits[2:], torch.tensor([1]), torch.tensor(4.0))
    assert scores.loss == pytest.approx(2.0)
    metrics = scores.compute()
    assert metrics.headline == {"accuracy": pytest.approx(2 / 3)}
    content = metrics.to_dict()
    assert content["images"] == 3
    assert content["classes"]["dog"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "images": 2,
    }
    assert "iou" not in content
    scores.reset()
    assert np.isnan(scores.loss)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_metrics_survive_json(task):
    logits, truth = (LOGITS, TRUTH) if task == "segmentation" else (torch.eye(3), torch.tensor([0, 1, 1]))
    names = ("a", "b") if task == "segmentation" else ("a", "b", "c")
    metrics = scored(logits, truth, names, task)
    again = ImageMetrics.from_dict(json.loads(json.dumps(metrics.to_dict(), allow_nan=False)))
    assert again.to_dict() == metrics.to_dict()
