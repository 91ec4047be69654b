"""The example of a data set plugin: coloured masks of another size than their images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from qhybrid.config import DataConfig, Recipe, validated
from qhybrid.data import list_datasets, open_dataset
from qhybrid.data.scenes import SceneReader
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError, PluginError
from qhybrid.plugins import temporary_plugins
from qhybrid.training import load_run, train

PLUGIN = Path(__file__).parents[2] / "docs" / "examples" / "oem" / "oem_plugin.py"
COLORS = {
    0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 255, 36), 3: (148, 148, 148), 4: (255, 255, 255),
    5: (34, 97, 38), 6: (0, 69, 255), 7: (75, 181, 73), 8: (222, 31, 7),
}  # fmt: skip


@pytest.fixture(autouse=True)
def plugin():
    with temporary_plugins(PLUGIN):
        yield


def write_scene(folder, name, labels, east, size=40):
    """Write an image of `size` and a coloured mask of the labels' own size."""
    colors = np.array([COLORS[number] for number in range(9)], dtype=np.uint8)
    Image.fromarray(colors[labels]).save(folder / f"{name}_gt.png")
    image = np.random.default_rng(len(name)).integers(1, 255, (3, size, size)).astype(np.uint8)
    place = {"crs": "EPSG:26914", "transform": from_origin(east, 100.0, 0.3, 0.3)}
    with rasterio.open(
        folder / f"{name}.tif", "w", driver="GTiff", height=size, width=size, count=3, dtype="uint8", **place
    ) as file:
        file.write(image)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "oem"
    folder.mkdir()
    quarters = np.array([[1, 2], [0, 8]])
    for number, name in enumerate(("austin_1", "austin_2", "lima_1", "oslo_1")):
        labels = quarters if name == "lima_1" else np.arange(400).reshape(20, 20) % 9
        write_scene(folder, name, labels, 1000.0 * number)
    return folder


def config(**options):
    given = {"train": ["austin"], "val": ["lima_1"], "test": ["oslo_1"], **options}
    return DataConfig(dataset="openearthmap", root="oem", options=given, patch_size=16)


def test_colours_become_official_classes_on_the_image_grid(root):
    assert "openearthmap" in list_datasets()
    dataset = open_dataset(config(), root.parent)
    assert dataset.classes.names[0] == "bareland"
    assert dataset.classes.names[7] == "building"
    assert [scene.id for scene in dataset.scenes("train")] == ["austin_1", "austin_2"]
    (scene,) = dataset.scenes("val")
    labels = SceneReader(scene, dataset.classes).read_labels((0, 0, 40, 40))
    # Indices count from 0; black is no data. A mask of 2 x 2 pixels covers the image in quarters.
    wanted = np.kron(np.array([[0, 1], [255, 7]]), np.ones((20, 20)))
    assert np.array_equal(labels, wanted)
    with rasterio.open(scene.mask) as mask, rasterio.open(scene.image) as image:
        assert (mask.crs, mask.transform) == (image.crs, image.transform)


def test_bad_colours_and_lists_are_named(root):
    with pytest.raises(DatasetNotFoundError, match="has none for paris"):
        open_dataset(config(test=["paris"]), root.parent).scenes("test")
    for wrong in (["austin_1"], ["lima_1"]):
        with pytest.raises(ConfigError, match=f"once, but not so {wrong[0]}"):
            open_dataset(config(test=wrong), root.parent)
    Image.fromarray(np.full((4, 4, 3), 7, dtype=np.uint8)).save(root / "oslo_1_gt.png")
    with pytest.raises(DataError, match=r"oslo_1_gt\.png.*#070707"):
        open_dataset(config(), root.parent).scenes("test")


@pytest.fixture
def run(root, tmp_path):
    content = {
        "name": "oem",
        "data": {**config().model_dump(mode="json"), "patches_per_epoch": 4},
        "model": {"name": "unet", "widths": [2, 2, 2, 2, 2]},
        "training": {"epochs": 1, "batch_size": 2, "progress": False},
    }
    return train(validated(Recipe, content, "test"), root.parent, tmp_path / "run")


def test_an_epoch_of_training_says_which_plugin_was_there(run):
    assert load_run(run).classes.names[3] == "road"
    plugins = json.loads((run / "best" / "meta.json").read_text())["plugins"]
    (recorded,) = (one for one in plugins if one["name"] == "oem_plugin")
    assert recorded["name"] == "oem_plugin"
    assert recorded["version"] == "1.0"
    assert recorded["adds"] == {"data set": ["openearthmap"]}


def test_a_run_names_the_plugin_that_it_lacks_and_never_imports_it(run, monkeypatch):
    monkeypatch.syspath_prepend(run)
    (run / "evil_module.py").write_text("raise SystemExit('imported')\n")
    meta = run / "best" / "meta.json"
    content = json.loads(meta.read_text())
    (plugin,) = (one for one in content["plugins"] if one["name"] == "oem_plugin")
    plugin |= {"name": "other", "module": "evil_module", "adds": {"data set": ["openearthmaps"]}}
    meta.write_text(json.dumps(content))
    load_run(run)  # nothing in it needs that name
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("openearthmap", "openearthmaps"))
    with pytest.raises(PluginError, match=r"plugin `other` 1\.0.*data set `openearthmaps`.*--plugin"):
        load_run(run)


@pytest.mark.shared_data
def test_the_real_samples(shared_data):
    options = {"train": ["austin_29"], "val": ["austin_46"], "test": ["wielkopolskie"]}
    found = DataConfig(dataset="openearthmap", root="oem", options=options)
    dataset = open_dataset(found, shared_data)
    sizes = {"train": 1000, "val": 1000, "test": 1024}
    for split, size in sizes.items():
        (scene,) = dataset.scenes(split)
        reader = SceneReader(scene, dataset.classes)
        assert reader.shape == (size, size)
        labels = reader.read_labels((0, 0, size, size))
        counts = np.bincount(labels.ravel(), minlength=256)
        assert counts[:8].sum() + counts[255] == size**2
        # Shares of classes stay those of the mask of 512 x 512 pixels.
        with Image.open(shared_data / "oem" / f"{scene.id}_gt.png") as picture:
            pixels = np.asarray(picture.convert("RGB"))
        trees = (pixels == COLORS[5]).all(axis=-1).mean()
        assert counts[4] / size**2 == pytest.approx(trees, abs=0.005)
