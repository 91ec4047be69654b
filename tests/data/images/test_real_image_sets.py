"""The real data sets: sizes, classes and folds are the published ones."""

import pytest

from qhybrid.config import DataConfig
from qhybrid.data.images.image_datasets import open_image_dataset

pytestmark = pytest.mark.shared_data


def sizes(root, name, **options):
    dataset = open_image_dataset(DataConfig(dataset=name, root=name, options=options), root)
    parts = {split: dataset.load(split) for split in dataset.splits}
    ids = [name for arrays in parts.values() for name in arrays.ids]
    assert len(set(ids)) == len(ids)
    assert all(
        float(arrays.images.min()) >= 0 and float(arrays.images.max()) <= 1 for arrays in parts.values()
    )
    return {split: len(arrays) for split, arrays in parts.items()}, parts


@pytest.mark.parametrize(("name", "classes"), [("mnist", [3, 5]), ("fashion_mnist", [0, 1])])
def test_paper_sizes_of_mnist_and_fashion_mnist(shared_data, name, classes):
    counts, parts = sizes(shared_data, name, classes=classes)
    assert counts == {"train": 5000, "val": 1250, "test": 1000}
    assert parts["train"].targets.bincount().tolist() == [2500, 2500]
    assert parts["test"].targets.bincount().tolist() == [500, 500]


def test_all_of_mnist(shared_data):
    counts, parts = sizes(shared_data, "mnist", train=50000, validation=10000, test=None, balanced=False)
    assert counts == {"train": 50000, "val": 10000, "test": 10000}
    assert parts["test"].targets.bincount().tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]


def test_brain_mri(shared_data):
    counts, _ = sizes(shared_data, "brain_mri", size=28)
    assert counts == {"train": 576, "val": 180, "test": 144}
    counts, _ = sizes(shared_data, "brain_mri", size=28, pairing="any_tumour")
    assert counts == {"train": 820, "val": 256, "test": 205}


def test_ph2(shared_data):
    counts, parts = sizes(shared_data, "ph2", fold=3)
    assert counts == {"train": 160, "test": 40}
    assert parts["test"].images.shape[1:] == (3, 192, 256)


def test_isbi2012(shared_data):
    counts, parts = sizes(shared_data, "isbi2012", fold=5)
    assert counts == {"train": 19, "val": 5, "test": 6}
    assert parts["test"].images.shape[1:] == (1, 512, 512)
    share = float(parts["train"].targets.float().mean())
    assert 0.7 < share < 0.85
