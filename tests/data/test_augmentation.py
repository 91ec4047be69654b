import numpy as np
import pytest
import torch

from qhybrid.config import AugmentationConfig
from qhybrid.data.augmentation import PatchAugmentation
from qhybrid.data.statistics import BandStatistics
from qhybrid.errors import DataError

OFF = {"flip": False, "rotate90": False, "brightness": 0, "contrast": 0, "band_gain": 0, "noise": 0}


def statistics(bands=3):
    return BandStatistics(
        bands=tuple(range(1, bands + 1)),
        mean=tuple(80.0 + 5 * band for band in range(bands)),
        std=tuple(40.0 + band for band in range(bands)),
        low=tuple(float(band) for band in range(bands)),
        high=(200.0,) * bands,
        pixels=1,
    )


def augmentation(bands=3, **settings):
    return PatchAugmentation(AugmentationConfig(**{**OFF, **settings}), statistics(bands))


def batch(bands=3, size=32, count=6, seed=0):
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(count, bands, size, size, generator=random)
    return images, torch.randint(0, 5, (count, size, size), generator=random)


def everything(bands=3):
    return augmentation(
        bands,
        flip=True,
        rotate90=True,
        rotate_degrees=20,
        scale=0.2,
        brightness=0.1,
        contrast=0.2,
        band_gain=0.1,
        noise=0.01,
        blur=0.5,
    )


def test_with_everything_off_nothing_changes():
    images, masks = batch()
    new_images, new_masks = augmentation()(images, masks, 0)
    assert torch.equal(new_images, images)
    assert torch.equal(new_masks, masks)
    assert new_images.data_ptr() != images.data_ptr()


@pytest.mark.parametrize("bands", [1, 2, 3, 5, 12])
def test_same_seed_same_result_whatever_the_global_state(bands):
    images, masks = batch(bands)
    copy = images.clone(), masks.clone()
    first = everything(bands)(images, masks, 7)
    torch.manual_seed(99)
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    second = everything(bands)(images, masks, 7)
    assert torch.equal(state, torch.random.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002
    for one, other in zip(first, second):
        assert torch.equal(one, other)
    assert not torch.equal(first[0], everything(bands)(images, masks, 8)[0])
    assert torch.equal(images, copy[0])  # the input is left alone
    assert torch.equal(masks, copy[1])
    assert first[0].shape == images.shape
    assert (first[0].dtype, first[1].dtype) == (torch.float32, torch.int64)


def test_flips_and_right_angles_give_exactly_the_eight_symmetries():
    images, masks = batch(count=64)
    masks = (images[:, 0] * 10).round().long().clamp(-50, 50) + 60
    masks = masks.clamp(0, 200)
    new_images, new_masks = augmentation(flip=True, rotate90=True)(images, masks, 3)
    seen = set()
    for image, mask, new_image, new_mask in zip(images, masks, new_images, new_masks):
        matches = []
        for turn in range(4):
            for mirror in (False, True):
                turned = torch.rot90(image.flip(-1) if mirror else image, turn, (-2, -1))
                if torch.equal(turned, new_image):
                    matches.append((turn, mirror))
                    assert torch.equal(
                        torch.rot90(mask.flip(-1) if mirror else mask, turn, (-2, -1)), new_mask
                    )
        assert len(matches) == 1
        seen |= set(matches)
    assert len(seen) == 8


def test_patches_that_are_not_square_turn_by_180_degrees_only():
    images = torch.randn(8, 3, 16, 24)
    new_images, _ = augmentation(rotate90=True)(images, torch.zeros(8, 16, 24, dtype=torch.long), 0)
    for image, new_image in zip(images, new_images):
        assert torch.equal(new_image, image) or torch.equal(new_image, image.flip((-2, -1)))


def test_image_and_mask_move_together():
    """A mask painted into the image must still be there after rotation and zoom."""
    masks = torch.zeros(8, 64, 64, dtype=torch.long)
    masks[:, 20:40, 10:50] = 1
    images = torch.where(masks == 1, 2.0, -2.0)[:, None].repeat(1, 3, 1, 1)
    new_images, new_masks = augmentation(rotate_degrees=40, scale=0.3)(images, masks, 1)
    inside = new_masks != 255
    agree = ((new_images[:, 0] > 0) == (new_masks == 1))[inside]
    assert agree.float().mean() > 0.98
    assert not torch.equal(new_masks, masks)


def test_what_comes_from_outside_is_zero_and_ignored():
    images, masks = torch.ones(4, 3, 64, 64), torch.ones(4, 64, 64, dtype=torch.long)
    new_images, new_masks = augmentation(rotate_degrees=45)(images, masks, 2)
    outside = new_masks == 255
    assert 0.01 < outside.float().mean() < 0.3
    assert (new_images[outside[:, None].expand_as(new_images)] == 0).all()
    assert set(new_masks.unique().tolist()) == {1, 255}


def test_nodata_stays_zero_and_labels_stay_integers():
    images, masks = batch(size=64)
    images[:, :, :20] = 0
    masks[:, :20] = 255
    new_images, new_masks = everything()(images, masks, 5)
    nothing = (new_images == 0).all(dim=1)
    assert nothing.float().mean() > 0.2
    assert (new_masks[nothing] == 255).all()
    assert set(new_masks.unique().tolist()) <= {0, 1, 2, 3, 4, 255}
    colour = augmentation(brightness=0.3, noise=0.1, contrast=0.3)
    new_images, _ = colour(images, masks, 5)
    assert torch.equal((new_images == 0).all(dim=1), (images == 0).all(dim=1))


def scaled(images):
    """Return values scaled to [0, 1] by low and high, by the definition."""
    numbers = statistics()
    mean, std, low, high = (
        torch.tensor(v).view(1, -1, 1, 1) for v in (numbers.mean, numbers.std, numbers.low, numbers.high)
    )
    return (images * std + mean - low) / (high - low)


def test_brightness_adds_one_amount_to_all_bands():
    images, masks = batch()
    difference = scaled(augmentation(brightness=0.2)(images, masks, 0)[0]) - scaled(images)
    amounts = difference.mean(dim=(1, 2, 3))
    torch.testing.assert_close(difference, amounts.view(-1, 1, 1, 1).expand_as(difference), atol=1e-5, rtol=0)
    assert amounts.abs().max() <= 0.2
    assert amounts.std() > 0.01


def test_contrast_multiplies_all_bands_and_gain_each_band():
    images, masks = batch()
    ratio = scaled(augmentation(contrast=0.3)(images, masks, 0)[0]) / scaled(images)
    factors = ratio.median(dim=-1)[0].median(dim=-1)[0]
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors), atol=1e-3, rtol=0)
    assert (factors - 1).abs().max() <= 0.3 + 1e-4
    ratio = scaled(augmentation(band_gain=0.3)(images, masks, 0)[0]) / scaled(images)
    factors = ratio.median(dim=-1)[0].median(dim=-1)[0]
    assert factors.std(dim=1).min() > 1e-3
    assert (factors - 1).abs().max() <= 0.3 + 1e-4


def test_noise_has_the_deviation_asked_for():
    images, masks = batch(size=64)
    difference = scaled(augmentation(noise=0.05)(images, masks, 0)[0]) - scaled(images)
    assert difference.std().item() == pytest.approx(0.05, rel=0.03)


def test_blur_smooths_the_chosen_share():
    images, masks = batch(count=200, size=16)
    result, _ = augmentation(blur=0.5)(images, masks, 0)
    changed = torch.tensor([not torch.equal(a, b) for a, b in zip(images, result)])
    assert 70 <= int(changed.sum()) <= 130
    assert result[changed].std() < 0.8 * images[changed].std()


def test_a_constant_band_stays_as_it_is():
    numbers = BandStatistics((1, 2), (5.0, 80.0), (0.0, 40.0), (5.0, 0.0), (5.0, 200.0), 1)
    images, masks = batch(bands=2)
    images[:, 0] = 0
    result, _ = PatchAugmentation(AugmentationConfig(), numbers)(images, masks, 0)
    assert torch.isfinite(result).all()
    assert (result[:, 0] == 0).all()
    assert not torch.equal(result[:, 1], images[:, 1])


def test_the_number_of_bands_must_agree():
    images, masks = batch(bands=2)
    with pytest.raises(DataError, match=r"of 3 band\(s\), the images of 2"):
        augmentation()(images, masks, 0)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_batch_change_as_in_the_batch(parts):
    """Processes that share a batch change their samples as one process would."""
    geometry = {"rotate_degrees": 20, "scale": 0.2, "shift": 0.1}
    colour = {"brightness": 0.1, "contrast": 0.2, "band_gain": 0.1, "noise": 0.01, "blur": 0.5}
    config = AugmentationConfig(**geometry, **colour)
    images, masks = batch(count=6)
    whole = PatchAugmentation(config, statistics())(images, masks, 3)
    for part in range(parts):
        rows = slice(part, None, parts)
        own = PatchAugmentation(config, statistics(), (part, parts))(images[rows], masks[rows], 3)
        torch.testing.assert_close(own[0], whole[0][rows])
        assert torch.equal(own[1], whole[1][rows])
    assert not torch.equal(whole[0], images)
