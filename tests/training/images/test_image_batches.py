"""Order and augmentation are pure functions of seed, epoch and place."""

import pytest
import torch

from qhybrid.config import AugmentationConfig, LossConfig, Recipe, validated
from qhybrid.errors import ConfigError
from qhybrid.training.images.data_module import ShuffledOrder, TensorBatches
from qhybrid.training.images.defaults import augments, with_image_defaults
from qhybrid.training.images.task import image_augmentation


def recipe_of(**content):
    base = {"name": "x", "data": {"dataset": "digits"}, "model": {"name": "mlp"}}
    return validated(Recipe, {**base, **content}, "x.yaml")


def test_every_image_comes_once_in_an_order_of_its_own():
    order = ShuffledOrder(10, seed=1)
    inputs = torch.arange(10).view(10, 1)
    batches = TensorBatches(inputs, inputs[:, 0], 4, order)
    epochs = []
    for epoch in (0, 1, 0):
        order.set_epoch(epoch)
        found = list(batches)
        assert [len(targets) for _, targets in found] == [4, 4, 2]
        assert all(torch.equal(images[:, 0], targets) for images, targets in found)
        epochs.append(torch.cat([targets for _, targets in found]).tolist())
    assert len(batches) == 3
    assert sorted(epochs[0]) == list(range(10))
    assert epochs[0] == epochs[2] != epochs[1]
    assert ShuffledOrder(10, 1, 1).indices().tolist() == epochs[1]
    assert ShuffledOrder(10, 2, 1).indices().tolist() != epochs[1]


def test_validation_keeps_the_order():
    inputs = torch.arange(5).view(5, 1)
    assert [targets.tolist() for _, targets in TensorBatches(inputs, inputs[:, 0], 2)] == [
        [0, 1],
        [2, 3],
        [4],
    ]


def test_defaults_of_whole_images():
    recipe = with_image_defaults(recipe_of())
    assert recipe.training.loss == LossConfig(dice=0, class_weights="none")
    assert not augments(recipe.data.augmentation)
    given = recipe_of(
        data={"dataset": "digits", "augmentation": {"shift": 0.1, "noise": 0.2}},
        training={"loss": {"label_smoothing": 0.1}},
    )
    found = with_image_defaults(given)
    assert found.training.loss == LossConfig(dice=0, class_weights="none", label_smoothing=0.1)
    assert (found.data.augmentation.shift, found.data.augmentation.noise) == (0.1, 0.2)
    assert found.data.augmentation.flip is False
    again = validated(Recipe, found.model_dump(mode="json"), "again.yaml")
    assert with_image_defaults(again) == found


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"data": {"dataset": "digits", "patch_size": 64}}, r"`data\.patch_size`"),
        ({"data": {"dataset": "digits", "workers": 2}}, r"`data\.workers`"),
        ({"prediction": {"overlap": 0.1}}, "`prediction`"),
    ],
)
def test_keys_for_scenes_are_refused(content, key):
    with pytest.raises(ConfigError, match=f"{key} is for scenes and means nothing for data set `digits`"):
        with_image_defaults(recipe_of(**content))


class TestAugmentation:
    def change(self, **amounts):
        off = {"flip": False, "rotate90": False, "brightness": 0, "contrast": 0, "band_gain": 0, "noise": 0}
        data = {"dataset": "digits", "augmentation": {**off, **amounts}}
        return image_augmentation(recipe_of(data=data), 1)

    def test_off(self):
        assert self.change() is None

    def test_same_seed_same_result_within_the_range(self):
        change = self.change(noise=0.3, rotate_degrees=10, shift=0.1, scale=0.1, brightness=0.2)
        images = torch.rand(4, 1, 12, 12)
        before = torch.get_rng_state()
        first, labels = change(images, torch.arange(4), 5)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(labels, torch.arange(4))
        assert torch.equal(first, change(images, torch.arange(4), 5)[0])
        assert not torch.equal(first, change(images, torch.arange(4), 6)[0])
        assert first.min() >= 0
        assert first.max() <= 1

    def test_masks_move_with_their_images(self):
        images = (torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
        moved, masks = self.change(flip=True, rotate90=True)(images, images[:, 0].long(), 1)
        assert torch.equal(moved[:, 0].long(), masks)
        assert not torch.equal(moved, images)

    def test_shift_moves_by_up_to_the_fraction(self):
        images = torch.zeros(50, 1, 20, 20)
        images[:, 0, 10, 10] = 1
        moved, masks = self.change(shift=0.2)(images, torch.zeros(50, 20, 20).long(), 0)
        columns = (moved.sum(dim=(1, 2)) * torch.arange(20)).sum(dim=1) / moved.sum(dim=(1, 2, 3))
        assert (columns - 10).abs().max() <= 4.01
        assert (columns - 10).abs().max() > 2
        assert (masks == 255).any()

    def test_black_pixels_are_pixels(self):
        changed, _ = self.change(noise=0.1)(torch.zeros(1, 1, 8, 8), torch.zeros(1).long(), 0)
        assert (changed > 0).any()

    def test_any_switch_counts(self):
        assert augments(AugmentationConfig())
