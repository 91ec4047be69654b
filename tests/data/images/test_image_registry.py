"""Image data sets by name, and what every one of them says of itself."""

from pathlib import Path

import pytest
import torch

from qhybrid.config import DataConfig
from qhybrid.data.datasets import dataset_class, names_of
from qhybrid.data.images import ImageArrays, ImageDataset
from qhybrid.data.images.image_datasets import is_image_dataset, open_image_dataset
from qhybrid.data.kinds import KINDS, data_kind
from qhybrid.data.scene_datasets import dataset_info, list_datasets, open_dataset
from qhybrid.errors import ConfigError, DataError


@pytest.mark.parametrize("name", names_of(ImageDataset))
def test_every_data_set_says_what_it_is(name):
    dataset = dataset_class(name)
    assert dataset.name == name
    assert all([dataset.description, dataset.source, dataset.licence, dataset.layout])
    assert dataset.task in ("classification", "segmentation")
    assert name in list_datasets()
    assert "seed" in dataset_info(name).options
    opened = open_image_dataset(DataConfig(dataset=name), Path("nowhere"))
    assert len(opened.class_names) >= 2
    assert (opened.folds != ()) == ("fold" in dataset.Options.model_fields)


def test_scenes_and_images_are_kept_apart(tmp_path):
    assert is_image_dataset("mnist")
    assert not is_image_dataset("synthetic")
    with pytest.raises(ConfigError, match="`mnist` holds whole images"):
        open_dataset(DataConfig(dataset="mnist"), tmp_path)
    with pytest.raises(ConfigError, match="but is `synthetic`"):
        open_image_dataset(DataConfig(dataset="synthetic"), tmp_path)


def test_unknown_options_are_named(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean `classes`"):
        open_image_dataset(DataConfig(dataset="mnist", options={"clases": [1, 2]}), tmp_path)


def test_arrays_must_belong_together():
    with pytest.raises(DataError, match="2, 1 and 2"):
        ImageArrays(torch.zeros(2, 1, 4, 4), torch.zeros(1), ("a", "b"))
    arrays = ImageArrays(torch.arange(3.0).view(3, 1, 1, 1), torch.arange(3), ("a", "b", "c"))
    chosen = arrays.select([2, 0])
    assert chosen.ids == ("c", "a")
    assert chosen.targets.tolist() == [2, 0]


@pytest.mark.parametrize("name", list_datasets())
def test_every_data_set_is_of_one_kind(name):
    kinds = [kind for kind in KINDS if issubclass(dataset_class(name), kind.base)]
    assert kinds == [data_kind(name)]


def test_folds_are_chosen_as_each_kind_does():
    scenes = DataConfig(dataset="synthetic")
    kind = data_kind("synthetic")
    assert kind.folds(scenes) == ()
    assert kind.folds(kind.with_folds(scenes)) == (1, 2, 3, 4, 5)
    assert kind.with_fold(kind.with_folds(scenes), 2).fold == 2
    images = DataConfig(dataset="ph2")
    kind = data_kind("ph2")
    assert kind.with_folds(images) == images
    assert kind.folds(images) == (1, 2, 3, 4, 5)
    assert kind.with_fold(images, 2).options["fold"] == 2
    with pytest.raises(ConfigError, match="Did you mean `ph2`"):
        data_kind("ph3")
