"""What a class must declare to be a data set that recipes can name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qhybrid.config import DataConfig, StrictModel
from qhybrid.data import (
    ImageArrays,
    ImageDataset,
    SceneDataset,
    list_datasets,
    open_dataset,
    open_image_dataset,
    register_dataset,
)
from qhybrid.data.datasets import DATASETS
from qhybrid.data.scene_datasets import dataset_info, fetch_dataset
from qhybrid.errors import ConfigError, PluginError


class Options(StrictModel):
    """Keys of `data.options`."""

    validation: float = 0.5
    count: int = 4


class Squares(ImageDataset):
    """Grey squares."""

    name = "squares"
    description = "grey squares"
    Options = Options
    task = "classification"
    source, licence, layout = "nowhere", "none", "nothing"
    class_names = ("dark", "bright")

    @property
    def image_shape(self):
        return 1, 4, 4

    def _load(self, split):
        targets = torch.arange(self.options.count) % 2
        images = targets.view(-1, 1, 1, 1).expand(-1, 1, 4, 4).float()
        return ImageArrays(images, targets, tuple(f"{split}{i}" for i in range(len(targets))))


@pytest.fixture(autouse=True)
def table():
    """Data sets that a test adds go again."""
    with DATASETS.restored():
        yield


def test_whole_images_can_be_named_in_recipes(tmp_path):
    calls = []

    def fetch(folder, url="here", progress=None):
        calls.append(url)
        return folder

    assert register_dataset(Squares, fetch) is Squares
    assert "squares" in list_datasets()
    found = dataset_info("squares")
    assert (found.fetchable, found.options["count"]) == (True, "4")
    opened = open_image_dataset(DataConfig(dataset="squares", options={"count": 6}), tmp_path)
    assert len(opened.load("train")) == 6
    assert fetch_dataset("squares", tmp_path) == tmp_path / "squares"
    fetch_dataset("squares", tmp_path, "there")
    assert calls == ["here", "there"]
    with pytest.raises(ConfigError, match="`squares` holds whole images"):
        open_dataset(DataConfig(dataset="squares"), tmp_path)
    with pytest.raises(ConfigError, match="data set 'squaers' is unknown.*Did you mean `squares`"):
        open_dataset(DataConfig(dataset="squaers"), tmp_path)
    with pytest.raises(PluginError, match="already named `squares`"):
        register_dataset(Squares)


@pytest.mark.parametrize("key", ["name", "description", "source", "licence", "layout"])
def test_a_class_that_lacks_a_text_is_told_which(key):
    with pytest.raises(PluginError, match=f"Data set Lacking must declare.*`{key}` is no text"):
        register_dataset(type("Lacking", (Squares,), {key: None}))


def test_a_class_that_lacks_more_is_told_all():
    class Empty(SceneDataset):
        pass

    with pytest.raises(PluginError) as error:
        register_dataset(Empty)
    for word in ("`name`", "`description`", "`Options`", "`from_config` is missing", "`scenes` is missing"):
        assert word in str(error.value)

    class NoLoad(ImageDataset):
        name, description, source, licence, layout = "a", "b", "c", "d", "e"
        task = "detection"
        Options = type("Options", (StrictModel,), {})

    with pytest.raises(PluginError) as error:
        register_dataset(NoLoad)
    for word in ("key `validation`", "`task` is none of", "`_load` is missing", "`image_shape` is missing"):
        assert word in str(error.value)
    with pytest.raises(PluginError, match="no subclass"):
        register_dataset(Path)


def test_a_class_may_have_its_own_splits():
    class Fixed(Squares):
        name = "fixed_squares"
        Options = type("Options", (StrictModel,), {})
        splits = ("train", "test")

    register_dataset(Fixed)
    assert "fixed_squares" in list_datasets()
