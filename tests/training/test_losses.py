"""The loss against formulas worked out by hand, in value and gradient."""

from __future__ import annotations

import math

import pytest
import torch

from qhybrid.config import DataConfig, LossConfig, validated
from qhybrid.errors import ConfigError
from qhybrid.training.losses import CrossEntropyDice, DiceLoss, class_weights


def test_cross_entropy_of_a_weighted_example():
    logits = torch.zeros(1, 2, 1, 3)
    logits[0, 1, 0, 0] = math.log(3)
    target = torch.tensor([[[0, 1, 255]]])
    loss = CrossEntropyDice(LossConfig(dice=0), torch.tensor([3.0, 1.0]))
    expected = (3 * math.log(4) + 1 * math.log(2)) / 4
    assert loss(logits, target).item() == pytest.approx(expected, abs=1e-6)


def test_dice_of_an_example():
    logits = torch.log(torch.tensor([[[0.8, 0.4, 0.5]], [[0.2, 0.6, 0.5]]]))[None]
    target = torch.tensor([[[0, 1, 255]]])
    first = 2 * 0.8 / (1.2 + 1)
    second = 2 * 0.6 / (0.8 + 1)
    assert DiceLoss()(logits, target).item() == pytest.approx(1 - (first + second) / 2, abs=1e-6)


def test_dice_leaves_out_classes_without_truth():
    logits = torch.log(torch.tensor([0.7, 0.2, 0.1])).reshape(1, 3, 1, 1)
    target = torch.zeros(1, 1, 1, dtype=torch.int64)
    assert DiceLoss()(logits, target).item() == pytest.approx(1 - 2 * 0.7 / 1.7, abs=1e-6)


def test_ignored_pixels_have_no_gradient():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    target = torch.randint(0, 3, (2, 4, 4))
    target[0, 1] = 255
    CrossEntropyDice(LossConfig())(logits, target).backward()
    assert logits.grad[0, :, 1].abs().max() == 0
    assert logits.grad[0, :, 0].abs().min() > 0


def test_gradient_against_central_differences():
    torch.manual_seed(1)
    logits = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[[0, 1], [2, 255]]])
    loss = DiceLoss()
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


def test_all_ignored_gives_zero_loss_and_zero_gradient():
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    loss = CrossEntropyDice(LossConfig())(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


def test_batch_of_weightless_classes_is_finite():
    loss = CrossEntropyDice(LossConfig(dice=0), torch.tensor([0.0, 2.0]))
    assert torch.isfinite(loss(torch.randn(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)))


def test_class_weights():
    assert class_weights(LossConfig(class_weights="none"), [1, 2]) is None
    balanced = class_weights(LossConfig(class_weights="balanced"), [100, 300, 0])
    torch.testing.assert_close(balanced, torch.tensor([1.5, 0.5, 0.0]))
    root = class_weights(LossConfig(class_weights="sqrt_balanced"), [100, 900])
    torch.testing.assert_close(root, torch.tensor([1.5, 0.5]))
    given = class_weights(LossConfig(class_weights=(1, 3)), [5, 5])
    torch.testing.assert_close(given, torch.tensor([0.5, 1.5]))


def test_wrong_number_of_class_weights():
    with pytest.raises(ConfigError, match=r"training\.loss\.class_weights` must hold 2"):
        class_weights(LossConfig(class_weights=(1.0,)), [5, 5])


def test_focal_loss_of_a_weighted_example():
    """Two pixels with p = 3/4 and 1/2 of their classes: w (1 - p)^2 (-log p), over the sum of the weights."""
    logits = torch.zeros(1, 2, 1, 3)
    logits[0, 0, 0, 0] = math.log(3)
    target = torch.tensor([[[0, 1, 255]]])
    loss = CrossEntropyDice(LossConfig(dice=0, focal_gamma=2), torch.tensor([3.0, 1.0]))
    expected = (3 * 0.25**2 * math.log(4 / 3) + 1 * 0.5**2 * math.log(2)) / 4
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_of_the_focal_loss_in_closed_form():
    """With two classes and z the margin of the true one, p = 1 / (1 + exp(-z)): d FL / dz of gamma 2 is
    (1 - p)^2 (2 p log p - (1 - p)), from FL = -(1 - p)^2 log p and dp / dz = p (1 - p)."""
    margin = torch.tensor([-2.0, 0.0, 1.5, 40.0], requires_grad=True)
    logits = torch.stack([margin, torch.zeros(4)], dim=1)
    loss = CrossEntropyDice(LossConfig(dice=0, focal_gamma=2))
    loss(logits, torch.zeros(4, dtype=torch.int64)).backward()
    p = torch.sigmoid(margin.detach().double())
    expected = (1 - p) ** 2 * (2 * p * p.log() - (1 - p)) / 4
    torch.testing.assert_close(margin.grad.double(), expected, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 1.5])])
def test_without_gamma_the_loss_is_the_cross_entropy_to_the_bit(weights):
    torch.manual_seed(2)
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    target[0, 0] = 255
    plain = torch.nn.functional.cross_entropy(logits, target, weights, ignore_index=255, reduction="sum")
    total = (target != 255).sum() if weights is None else weights[target[target != 255]].sum()
    found = CrossEntropyDice(LossConfig(dice=0, focal_gamma=0), weights)(logits, target)
    assert torch.equal(found, plain / total)


def test_focal_loss_stays_finite_where_all_is_right_or_wrong():
    for gamma in (0.5, 2.0):
        logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
        loss = CrossEntropyDice(LossConfig(dice=0, focal_gamma=gamma))(logits, torch.tensor([0, 0]))
        loss.backward()
        assert loss.item() == pytest.approx(100)
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("change", [{"label_smoothing": 0.1}, {"cross_entropy": 0}, {"focal_gamma": -1}])
def test_focal_loss_excludes(change):
    with pytest.raises(ConfigError, match="focal_gamma"):
        validated(LossConfig, {"focal_gamma": 2, **change}, "loss")


def test_later_keys_are_written_only_where_they_are_used():
    assert "focal_gamma" not in LossConfig(focal_gamma=0).model_dump()
    assert LossConfig(focal_gamma=2).model_dump()["focal_gamma"] == 2
    assert "class_sampling" not in DataConfig(dataset="x").model_dump(mode="json")
    assert DataConfig(dataset="x", class_sampling=0.5).model_dump()["class_sampling"] == 0.5
