"""MNIST, Fashion-MNIST, brain MRI and digits: which images, which classes, which split."""

import shutil

import numpy as np
import pytest
from sklearn.datasets import load_digits

from qhybrid.config import DataConfig
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError

SMALL = {"train": 8, "validation": 2, "test": 4}


def opened(name, folder, **options):
    return open_image_dataset(DataConfig(dataset=name, options=options), folder)


class TestMnist:
    def test_pixels_and_labels_are_those_of_the_files(self, mnist_folder):
        dataset = opened("mnist", mnist_folder, classes=[5, 3], **SMALL)
        assert dataset.class_names == ("5", "3")
        for split, size in (("train", 8), ("val", 2), ("test", 4)):
            arrays = dataset.load(split)
            assert arrays.images.shape == (size, 1, 28, 28)
            original = (arrays.images[:, 0, 0, 0] * 255).round().long()
            assert [(5, 3)[target] for target in arrays.targets] == original.tolist()
            index = (arrays.images[:, 0, 27, 27] * 255).round().long().tolist()
            prefix = "t10k" if split == "test" else "train"
            assert arrays.ids == tuple(f"{prefix}-{number:05d}" for number in index)
            assert arrays.targets.bincount().tolist() == [size // 2, size // 2]

    def test_splits_share_no_image(self, mnist_folder):
        dataset = opened("mnist", mnist_folder, train=40, validation=20, test=None)
        ids = [set(dataset.load(split).ids) for split in ("train", "val", "test")]
        assert [len(names) for names in ids] == [40, 20, 40]
        assert not ids[0] & ids[1]

    def test_all_ten_classes_by_default(self, mnist_folder):
        names = opened("fashion_mnist", mnist_folder, train=10, validation=0, test=10).class_names
        assert len(names) == 10
        assert names[:2] == ("T-shirt/top", "trouser")

    def test_no_validation(self, mnist_folder):
        dataset = opened("mnist", mnist_folder, train=10, validation=0, test=10)
        assert dataset.splits == ("train", "test")
        with pytest.raises(DataError, match="has no split `val`"):
            dataset.load("val")

    def test_missing_files_say_where_to_get_them(self, tmp_path):
        with pytest.raises(DatasetNotFoundError, match=r"train-labels.*mnist.*CC BY-SA.*data\.root"):
            opened("mnist", tmp_path).load("train")

    def test_too_few_images(self, mnist_folder):
        with pytest.raises(DataError, match=r"need 6250, but there are 60. Fix: lower `data"):
            opened("mnist", mnist_folder).load("train")

    def test_labels_of_other_images(self, mnist_folder, tmp_path):
        shutil.copytree(mnist_folder, tmp_path / "copy")
        name = "t10k-labels-idx1-ubyte"
        content = (tmp_path / "copy" / name).read_bytes()
        (tmp_path / "copy" / name).write_bytes(content[:4] + b"\0\0\0\x05" + content[8:13])
        with pytest.raises(DataError, match="t10k must have 5 images of 28 x 28"):
            opened("mnist", tmp_path / "copy", classes=[0, 1], **SMALL).load("test")

    @pytest.mark.parametrize("classes", [[3], [3, 3], [3, 10], []])
    def test_bad_classes(self, mnist_folder, classes):
        with pytest.raises(ConfigError, match="two different numbers from 0 to 9"):
            opened("mnist", mnist_folder, classes=classes)

    def test_unknown_splits(self, mnist_folder):
        with pytest.raises(DataError, match="train, val, test"):
            opened("mnist", mnist_folder, **SMALL).load("all")


class TestBrainMri:
    def test_malignant_against_benign(self, mri_folder):
        dataset = opened("brain_mri", mri_folder, size=8)
        assert dataset.class_names == ("benign", "malignant")
        parts = {split: dataset.load(split) for split in dataset.splits}
        assert {split: len(arrays) for split, arrays in parts.items()} == {"train": 32, "val": 10, "test": 8}
        assert parts["train"].images.shape == (32, 1, 8, 8)
        everything = [name for arrays in parts.values() for name in arrays.ids]
        assert len(set(everything)) == 50
        assert not any(name.startswith("notumor") for name in everything)
        for arrays in parts.values():
            for name, target, image in zip(arrays.ids, arrays.targets, arrays.images):
                assert int(target) == int(name.startswith("glioma"))
                grey = {"glioma": 40, "meningioma": 80, "pituitary": 160}[name.split("/")[0]]
                assert float(image.mean()) == pytest.approx(grey / 255, abs=1e-3)

    def test_any_tumour(self, mri_folder):
        dataset = opened("brain_mri", mri_folder, size=8, pairing="any_tumour")
        counts = sum(dataset.load(split).targets.bincount() for split in dataset.splits)
        assert dataset.class_names == ("no tumour", "tumour")
        assert counts.tolist() == [20, 50]

    def test_all_diagnoses(self, mri_folder):
        dataset = opened("brain_mri", mri_folder, size=8, pairing="diagnosis", validation=0)
        assert dataset.splits == ("train", "test")
        assert sum(dataset.load(split).targets.bincount() for split in dataset.splits).tolist() == [
            25,
            10,
            20,
            15,
        ]

    def test_missing_and_empty_folders(self, mri_folder, tmp_path):
        with pytest.raises(DatasetNotFoundError, match=r"meningioma: data set `brain_mri`.*kaggle"):
            opened("brain_mri", tmp_path).load("train")
        for name in ("glioma", "meningioma", "pituitary"):
            (tmp_path / name).mkdir()
        with pytest.raises(DataError, match=r"meningioma: must hold pictures"):
            opened("brain_mri", tmp_path).load("train")

    def test_nothing_left_for_training(self, mri_folder):
        with pytest.raises(ConfigError, match="must leave images for training"):
            opened("brain_mri", mri_folder, validation=0.5, test=0.5)


class TestDigits:
    def test_splits_cover_the_set_once(self, tmp_path):
        dataset = opened("digits", tmp_path)
        parts = [dataset.load(split) for split in dataset.splits]
        ids = [name for arrays in parts for name in arrays.ids]
        assert sorted(ids) == [f"digit-{index:04d}" for index in range(1797)]
        truth = load_digits()
        for arrays in parts:
            index = [int(name.removeprefix("digit-")) for name in arrays.ids]
            assert np.array_equal(arrays.targets, truth.target[index])
            np.testing.assert_allclose(arrays.images[:, 0], truth.images[index] / 16, atol=1e-7)

    def test_chosen_classes(self, tmp_path):
        dataset = opened("digits", tmp_path, classes=[8, 1])
        assert dataset.class_names == ("8", "1")
        assert dataset.load("test").targets.unique().tolist() == [0, 1]
        with pytest.raises(ConfigError, match="two different numbers"):
            opened("digits", tmp_path, classes=[1])
