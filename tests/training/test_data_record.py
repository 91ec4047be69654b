"""A run folder says which data it was trained on, and a resumed run goes on with no others."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import rasterio

from qhybrid.config import Recipe, validated
from qhybrid.data.identity import file_identity
from qhybrid.errors import DataError
from qhybrid.training import train
from qhybrid.training.data_record import read_record


@pytest.fixture(scope="module")
def recipe(tiny_content):
    return validated(Recipe, tiny_content(epochs=1), "tiny.yaml")


@pytest.fixture(scope="module")
def begun(recipe, tiny_data, tmp_path_factory):
    """A run of one epoch."""
    run = tmp_path_factory.mktemp("begun") / "run"
    train(recipe, tiny_data, run)
    return run


@pytest.fixture
def data(tiny_data, tmp_path):
    """A copy of the data that a test may change."""
    return shutil.copytree(tiny_data, tmp_path / "data")


@pytest.fixture
def interrupted(begun, recipe, tmp_path):
    """A run of two epochs that was cut short after the first, and its recipe."""
    run = shutil.copytree(begun, tmp_path / "run")
    return run, longer(recipe, run)


def longer(recipe, run):
    """Make a run of one epoch one of two that was cut short; return its recipe."""
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("epochs: 1", "epochs: 2"))
    training = recipe.training.model_copy(update={"epochs": 2})
    return recipe.model_copy(update={"training": training})


def change(file):
    with rasterio.open(file, "r+") as target:
        target.write(target.read()[..., ::-1])


def test_the_record_has_every_file_of_every_split(begun, tiny_data):
    record = read_record(begun)
    assert record.data_root == str(tiny_data)
    assert set(record.hashes) == {"train", "val", "test"}
    assert len(set(record.hashes.values())) == 3
    expected = {
        split: {f"tiny/{split}/{kind}/{name}.tif" for kind in ("images", "masks") for name in names}
        for split, names in (("train", "ab"), ("val", "c"), ("test", "d"))
    }
    assert {split: set(files) for split, files in record.files.items()} == expected
    name = "tiny/test/masks/d.tif"
    assert record.files["test"][name] == file_identity(tiny_data / name)


@pytest.mark.parametrize("name", ["train/images/a.tif", "val/masks/c.tif", "train/images/b.tif.aux.xml"])
def test_changed_data_stop_a_resumed_training(interrupted, data, name):
    run, recipe = interrupted
    file = data / "tiny" / name
    if file.exists():
        change(file)
    else:
        file.write_text("<PAMDataset></PAMDataset>")
    weights = (run / "last" / "weights.safetensors").read_bytes()
    with pytest.raises(DataError, match=rf"(changed|new): tiny/{name}.*Fix: put them back"):
        train(recipe, data, run, resume=True)
    assert (run / "last" / "weights.safetensors").read_bytes() == weights
    assert json.loads((run / "last" / "meta.json").read_text())["epoch"] == 1


def test_the_same_data_elsewhere_and_other_test_data_do_not(interrupted, tiny_data, data, tmp_path):
    run, recipe = interrupted
    moved = shutil.move(data, tmp_path / "moved")
    change(moved / "tiny" / "test" / "images" / "d.tif")
    train(recipe, moved, run, resume=True)
    assert json.loads((run / "last" / "meta.json").read_text())["epoch"] == 2
    # What the run was begun with stays written down.
    assert read_record(run).data_root == str(tiny_data)


def test_runs_of_earlier_versions_are_told_by_their_statistics(interrupted, data):
    """They do not say which files they had, but weights belong to the band means of their training."""
    run, recipe = interrupted
    (run / "data.json").unlink()
    file = data / "tiny" / "train" / "images" / "a.tif"
    kept = file.read_bytes()
    with rasterio.open(file, "r+") as target:
        target.write((target.read() // 2).astype(np.uint8))
    with pytest.raises(DataError, match=r"statistics \(.*mean.*\) differ from those in"):
        train(recipe, data, run, resume=True)
    file.write_bytes(kept)
    train(recipe, data, run, resume=True)


def test_whole_images_are_told_too(tmp_path):
    content = {
        "name": "tiny",
        "data": {"dataset": "digits", "options": {"classes": [3, 5]}},
        "model": {"name": "mlp"},
        "training": {"epochs": 1, "batch_size": 64, "progress": False},
    }
    run = tmp_path / "run"
    recipe = validated(Recipe, content, "x")
    train(recipe, tmp_path, run)
    recipe = longer(recipe, run)
    record = json.loads((run / "data.json").read_text())
    assert all(record["splits"][split]["hash"] for split in ("train", "val", "test"))
    record["splits"]["val"]["hash"] = "0" * 64  # as if other images had been there
    (run / "data.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"split val differs \(other images or labels\)"):
        train(recipe, tmp_path, run, resume=True)


def test_a_damaged_record_is_an_error(interrupted, data):
    run, recipe = interrupted
    (run / "data.json").write_text("{}")
    with pytest.raises(DataError, match=r"data\.json: must say which data"):
        train(recipe, data, run, resume=True)
