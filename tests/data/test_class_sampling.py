"""Patches that are placed on classes: their law, and that they depend on (seed, epoch, index) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from qhybrid.config import ClassConfig, DataConfig
from qhybrid.data.class_positions import ClassPositions
from qhybrid.data.classes import ClassMap
from qhybrid.data.contract import InputContract
from qhybrid.data.patches import RandomPatches
from qhybrid.data.raster import Window
from qhybrid.data.scene_store import SceneStore
from qhybrid.data.scenes import Scene
from qhybrid.data.statistics import compute_statistics

CLASSES = tuple(ClassConfig(name=f"c{i}", values=(i,), color="#000000") for i in range(3))
SIDE, HEIGHT, WIDTH = 16, 120, 100
RARE = [(0, 0), (119, 99), (60, 50)]
"""Three pixels of class 2, two of them in corners, among 12,000."""


@pytest.fixture
def scene(tmp_path, make_raster):
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[:, 50:] = 1
    for row, col in RARE:
        labels[row, col] = 2
    image = make_raster(
        tmp_path / "i.tif", np.random.default_rng(0).integers(1, 200, (2, HEIGHT, WIDTH), np.uint8)
    )
    return Scene("a", image, make_raster(tmp_path / "m.tif", labels), "a")


def patches_of(scene, fraction, seed=0, **changes):
    config = DataConfig(
        dataset="x",
        classes=CLASSES,
        patch_size=SIDE,
        patches_per_epoch=64,
        class_sampling=fraction,
        **changes,
    )
    return RandomPatches(
        [scene], ClassMap.from_config(CLASSES), compute_statistics([scene], (1, 2)), config, seed
    )


def holds(window: Window, place) -> bool:
    row, col = place
    return window.row <= row < window.row + SIDE and window.col <= col < window.col + SIDE


def test_each_class_gets_its_even_share(scene):
    """All placed: one third on class 2, and a third of these on each of its three pixels."""
    patches = patches_of(scene, 1.0)
    windows = [patches.window(0, index)[1] for index in range(3000)]
    shares = [np.mean([holds(window, place) for window in windows]) for place in RARE]
    assert shares[0] == pytest.approx(1 / 9, abs=0.02)
    assert shares[1] == pytest.approx(1 / 9, abs=0.02)
    assert all(0 <= w.row <= HEIGHT - SIDE and 0 <= w.col <= WIDTH - SIDE for w in windows)
    # Around the pixel in the middle every place of the patch is equally likely, chance hits included.
    middle = np.array([(w.row, w.col) for w in windows if holds(w, RARE[2])])
    assert (middle.min(0), middle.max(0)) == (pytest.approx((45, 35)), pytest.approx((60, 50)))
    assert middle.mean(0) == pytest.approx((52.5, 42.5), abs=1.2)


def test_the_fraction_is_placed_and_the_rest_is_as_without(scene):
    plain, mixed = patches_of(scene, 0.0), patches_of(scene, 0.4)
    same = [plain.window(1, index) == mixed.window(1, index) for index in range(1500)]
    assert np.mean(same) == pytest.approx(0.6, abs=0.04)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_patch_is_a_function_of_seed_epoch_and_index(scene, workers):
    patches, again = patches_of(scene, 0.7), patches_of(scene, 0.7, cache_mb=0)
    expected = torch.stack([again[(2, index)]["image"] for index in range(64)])
    patches.set_epoch(2)
    found = torch.cat([batch["image"] for batch in DataLoader(patches, batch_size=16, num_workers=workers)])
    assert torch.equal(found, expected)
    assert patches.window(2, 3) != patches_of(scene, 0.7, seed=1).window(2, 3)


def test_what_is_remembered_is_bounded_and_uniform(scene, monkeypatch):
    """With 1,000 kept of 6,000 pixels, each quarter of a class keeps a quarter, whatever the blocks are."""
    monkeypatch.setattr("qhybrid.data.class_positions._BLOCK", 32)
    store = SceneStore(
        [scene], ClassMap.from_config(CLASSES), InputContract.of_scene(scene.image, (1, 2)), cache_mb=0
    )
    positions = ClassPositions(store, seed=0, limit=1000)
    assert positions.classes == (0, 1, 2)
    assert [positions.count(label) for label in range(4)] == [1000, 1000, 3, 0]
    drawn = positions._places[0]
    assert len(np.unique(drawn, axis=0)) == 1000
    assert (drawn[:, 2] < 50).all()
    quarters = np.histogram(drawn[:, 1], bins=4, range=(0, HEIGHT))[0]
    assert quarters == pytest.approx(np.full(4, 250), abs=45)


def test_classes_hidden_by_nodata_are_not_drawn(tmp_path, make_raster):
    labels = np.zeros((40, 40), np.uint8)
    labels[:20] = 1
    values = np.full((2, 40, 40), 7, np.uint8)
    values[:, :20] = 0
    image = make_raster(tmp_path / "i.tif", values, nodata=0)
    scene = Scene("a", image, make_raster(tmp_path / "m.tif", labels), "a")
    store = SceneStore(
        [scene], ClassMap.from_config(CLASSES), InputContract.of_scene(scene.image, (1, 2)), cache_mb=0
    )
    assert ClassPositions(store, seed=0).classes == (0,)
