"""OpenEarthMap: the official layout on a tiny copy, and the real samples with masks of another size."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from PIL import Image

from qhybrid.config import DataConfig
from qhybrid.data.check import check_data
from qhybrid.data.open_earth_map import OPEN_EARTH_MAP_CLASSES
from qhybrid.data.scene_datasets import dataset_info, open_dataset
from qhybrid.data.scenes import SceneReader
from qhybrid.errors import ConfigError, DatasetNotFoundError, EmptySplitError

SAMPLES = {
    "images": "{name}.tif",
    "masks": "{name}_gt.png",
    "names": {"train": ["austin_29"], "val": ["austin_46"], "test": ["wielkopolskie_9"]},
}


@pytest.fixture
def official(tmp_path, make_raster):
    """Four scenes of two regions, one of them named like a town of two words."""
    random = np.random.default_rng(0)
    lists = {"train": ["aachen_1", "el_rodeo_12"], "val": ["aachen_2"], "test": ["el_rodeo_3"]}
    for number, name in enumerate(name for names in lists.values() for name in names):
        folder = tmp_path / "set" / name.rpartition("_")[0]
        origin = (500_000.0 + 100 * number, 500_000.0)
        make_raster(
            folder / "images" / f"{name}.tif",
            random.integers(1, 255, (3, 32, 32), dtype=np.uint8),
            origin=origin,
        )
        labels = random.integers(0, 9, (32, 32), dtype=np.uint8)
        make_raster(folder / "labels" / f"{name}.tif", labels, origin=origin)
    for split, names in lists.items():
        (tmp_path / "set" / f"{split}.txt").write_text("".join(f"{name}.tif\n" for name in names))
    return tmp_path


def config(**keys):
    return DataConfig.model_validate({"dataset": "open_earth_map", "root": "set", "patch_size": 16, **keys})


def labels_of(dataset, split, place=0):
    scene = dataset.scenes(split)[place]
    reader = SceneReader(scene, dataset.classes)
    found = reader.read_labels((0, 0, *reader.shape))
    reader.close()
    return scene, found


def test_official_lists_and_numbers(official):
    dataset = open_dataset(config(), official)
    names = {split: [scene.id for scene in dataset.scenes(split)] for split in ("train", "val", "test")}
    assert names == {"train": ["aachen_1", "el_rodeo_12"], "val": ["aachen_2"], "test": ["el_rodeo_3"]}
    scene, found = labels_of(dataset, "train", 1)
    with rasterio.open(scene.mask) as file:
        numbers = file.read(1)
    assert np.array_equal(found, np.where(numbers == 0, 255, numbers - 1))
    assert dataset.classes.names[:2] == ("bareland", "rangeland")
    assert dataset.classes.num_classes == 8
    assert dataset_info("open_earth_map").options["names"] == "None"


def test_what_is_missing_is_named(official):
    (official / "set" / "aachen" / "labels" / "aachen_2.tif").unlink()
    dataset = open_dataset(config(), official)
    with pytest.raises(DatasetNotFoundError, match=r"aachen_2.tif: is missing, though split val"):
        dataset.scenes("val")
    assert len(dataset.scenes("train")) == 2
    (official / "set" / "test.txt").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"test.txt: must be the official list of test scenes"):
        dataset.scenes("test")
    other = config(options={"lists": {"train": "train.txt", "val": "test_wo_xBD.txt"}})
    (official / "set" / "test_wo_xBD.txt").write_text("")
    with pytest.raises(EmptySplitError, match="its list is empty"):
        open_dataset(other, official).scenes("val")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "x.tif"}, r"must hold \{name\}"),
        ({"names": {"train": ["a"], "val": ["a"]}}, "a is there twice"),
        ({"lists": {"training": "x"}}, "`training` is given"),
    ],
)
def test_options_that_cannot_be(official, options, message):
    with pytest.raises(ConfigError, match=message):
        open_dataset(config(options=options), official)


def test_masks_in_colours_of_another_size(official):
    """As the samples have it: a picture of 16 x 16 beside an image of 32 x 32."""
    image = official / "set" / "aachen" / "images" / "aachen_1.tif"
    image.rename(official / "set" / "aachen_1.tif")
    numbers = np.random.default_rng(1).integers(0, 9, (16, 16))
    colors = np.array(
        [[0, 0, 0]] + [[int(one.color[i : i + 2], 16) for i in (1, 3, 5)] for one in OPEN_EARTH_MAP_CLASSES]
    )
    Image.fromarray(colors[numbers].astype(np.uint8)).save(official / "set" / "aachen_1_gt.png")
    options = {**SAMPLES, "names": {"train": ["aachen_1"]}}
    dataset = open_dataset(config(options=options, fit_masks=True), official)
    expected = np.kron(np.where(numbers == 0, 255, numbers - 1), np.ones((2, 2), dtype=int))
    assert np.array_equal(labels_of(dataset, "train")[1], expected)


@pytest.mark.shared_data
def test_real_samples(shared_data):
    dataset = open_dataset(config(root="oem", options=SAMPLES, fit_masks=True), shared_data)
    scene, found = labels_of(dataset, "train")
    picture = np.asarray(Image.open(scene.mask).convert("RGB")).astype(int)
    assert picture.shape[:2] == (512, 512)
    assert found.shape == (1000, 1000)
    for place, color in enumerate(((128, 0, 0), (0, 255, 36), (148, 148, 148), (255, 255, 255))):
        share = (picture == color).all(axis=2).mean()
        assert (found == place).mean() == pytest.approx(share, abs=2e-3)
    found = check_data(config(root="oem", options=SAMPLES, fit_masks=True), shared_data, quick=True)
    assert [split.count for split in found.splits.values()] == [1, 1, 1]
