"""ISBI-2012, PH2 and FruitSeg30: folds, splits, masks, and what is wrong with a folder."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from qhybrid.config import DataConfig
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError


def opened(name, folder, **options):
    return open_image_dataset(DataConfig(dataset=name, options=options), folder)


def test_test_folds_cover_isbi_once(isbi_folder):
    tests = [opened("isbi2012", isbi_folder, size=16, fold=fold).load("test") for fold in range(1, 6)]
    assert sorted(name for arrays in tests for name in arrays.ids) == [f"section-{i:02d}" for i in range(30)]


@pytest.mark.parametrize("name", ["isbi2012", "ph2"])
@pytest.mark.parametrize("fold", [1, 4])
def test_splits_of_a_fold_share_no_image(request, name, fold):
    folder = request.getfixturevalue({"isbi2012": "isbi_folder", "ph2": "ph2_folder"}[name])
    size = {"isbi2012": 16, "ph2": (32, 48)}[name]
    dataset = opened(name, folder, fold=fold, validation=0.25, size=size)
    ids = [set(dataset.load(split).ids) for split in ("train", "val", "test")]
    assert len(ids[0] | ids[1] | ids[2]) == sum(map(len, ids))
    assert sum(map(len, ids)) == {"isbi2012": 30, "ph2": 20}[name]
    whole = opened(name, folder, fold=fold, validation=0, size=size)
    assert whole.splits == ("train", "test")
    assert set(whole.load("train").ids) == ids[0] | ids[1]
    assert set(whole.load("test").ids) == ids[2]


def test_isbi_labels_and_tiles(isbi_folder):
    dataset = opened("isbi2012", isbi_folder, size=16)
    arrays = dataset.load("test")
    assert arrays.images.shape == (6, 1, 16, 16)
    index = (arrays.images[:, 0, 0, 0] * 255).round().long()
    assert arrays.ids == tuple(f"section-{int(number):02d}" for number in index)
    assert torch.equal(arrays.targets[:, 0].sum(dim=1), 4 + index % 8)
    membranes = opened("isbi2012", isbi_folder, size=16, positive="membrane")
    assert membranes.class_names == ("cell", "membrane")
    assert torch.equal(membranes.load("test").targets, 1 - arrays.targets)
    tiles = opened("isbi2012", isbi_folder, size=16, tile=8).load("test")
    assert tiles.images.shape == (24, 1, 8, 8)
    assert tiles.ids[1] == f"{arrays.ids[0]}-row0-column1"
    assert torch.equal(tiles.images[1], arrays.images[0, :, :8, 8:])
    assert torch.equal(tiles.targets[2], arrays.targets[0, 8:, :8])


def test_isbi_padding_does_not_count(isbi_folder):
    plain = opened("isbi2012", isbi_folder, size=16).load("test")
    padded = opened("isbi2012", isbi_folder, size=16, pad=21)
    assert padded.image_shape == (1, 21, 21)
    arrays = padded.load("test")
    assert torch.equal(arrays.images[:, :, 2:18, 2:18], plain.images)
    assert torch.equal(arrays.targets[:, 2:18, 2:18], plain.targets)
    assert int((arrays.targets == 255).sum()) == 6 * (21**2 - 16**2)
    assert torch.equal(arrays.images[:, :, 1], arrays.images[:, :, 3])
    with pytest.raises(ConfigError, match=r"`data\.options\.pad` must be from 16"):
        opened("isbi2012", isbi_folder, size=16, pad=15)


def test_isbi_errors(isbi_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"`data\.options\.fold` must be from 1 to 5, but is 6"):
        opened("isbi2012", isbi_folder, fold=6)
    with pytest.raises(ConfigError, match=r"`data\.options\.tile` must divide the side 512 of the images"):
        opened("isbi2012", isbi_folder, tile=500)
    with pytest.raises(DatasetNotFoundError, match="imagej"):
        opened("isbi2012", tmp_path).load("train")
    shutil.copytree(isbi_folder, tmp_path / "copy")
    for index in range(30):
        (tmp_path / "copy" / "labels" / f"{index}.png").unlink()
    with pytest.raises(DataError, match=r"labels/\d+\.png: must be there"):
        opened("isbi2012", tmp_path / "copy", size=16).load("train")


def test_ph2_uses_the_authors_test_folds(ph2_folder):
    dataset = opened("ph2", ph2_folder, fold=2, size=(32, 48))
    assert dataset.load("test").ids == ("IMD001", "IMD006", "IMD011", "IMD016")
    arrays = dataset.load("train")
    assert arrays.images.shape == (16, 3, 32, 48)
    bright = arrays.images[:, 0] > 100 / 255
    assert torch.equal(bright.long(), arrays.targets)


def test_ph2_errors(ph2_folder, tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"fold_1_train\.csv.*addi"):
        opened("ph2", tmp_path).load("train")
    copy = tmp_path / "copy"
    shutil.copytree(ph2_folder, copy)
    (copy / "images" / "IMD000.png").unlink()
    with pytest.raises(DataError, match=r"IMD000\.bmp: the folds name it"):
        opened("ph2", copy, size=(32, 48)).load("test")
    list_ = copy / "folds" / "fold_1_val.csv"
    list_.write_text("image,mask\na,b\n")
    with pytest.raises(DataError, match=r"fold_1_val\.csv: must be CSV with columns image_filename"):
        opened("ph2", copy).load("test")
    list_.write_text((copy / "folds" / "fold_1_train.csv").read_text())
    with pytest.raises(DataError, match=r"two lists of fold 1 have 16 image\(s\) twice, for example IMD001"):
        opened("ph2", copy).load("train")
    with pytest.raises(ConfigError, match="fold"):
        opened("ph2", copy, fold=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: lines[:-1],
            r"must have every image of .*images, but 1 are in neither, for example IMD",
        ),
        (
            lambda lines: [*lines[:-1], lines[-1].split(",")[0]],
            r"fold_1_val\.csv, line 5: must name an image",
        ),
        (lambda lines: lines[:1], r"but 4 are in neither"),
        (lambda lines: [*lines, lines[-1]], r"have 1 image\(s\) twice, for example IMD015"),
        (lambda lines: [*lines[:-1], "IMD015.bmp,IMD001.bmp"], r"line 5: .* has IMD015\.bmp and IMD001\.bmp"),
    ],
)
def test_damaged_fold_lists_of_ph2(ph2_folder, tmp_path, change, message):
    copy = tmp_path / "copy"
    shutil.copytree(ph2_folder, copy)
    list_ = copy / "folds" / "fold_1_val.csv"
    list_.write_text("\n".join(change(list_.read_text().splitlines())) + "\n")
    for split in ("train", "test"):
        with pytest.raises(DataError, match=message):
            opened("ph2", copy, size=(32, 48)).load(split)


def test_ph2_files_in_capitals_are_found_and_blank_masks_refused(ph2_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ph2_folder, copy)
    for file in (copy / "masks").iterdir():
        file.rename(file.with_suffix(".PNG"))
    assert len(opened("ph2", copy, size=(32, 48)).load("test")) == 4
    blank = Image.new("L", (48, 32))
    for file in (copy / "masks").iterdir():
        blank.save(file)
    with pytest.raises(DataError, match=r"masks of split `test` have no pixel of lesion"):
        opened("ph2", copy, size=(32, 48)).load("test")
    with pytest.raises(ConfigError, match=r"size\.0`: .*greater than or equal to 4"):
        opened("ph2", copy, size=(0, 48))
    # So small a share of the images is none.
    with pytest.raises(DataError, match="no pictures in this split|has no images with these options"):
        opened("ph2", copy, size=(32, 48), validation=0.99).load("train")


def test_fruit_is_stratified_by_kind(fruit_folder):
    dataset = opened("fruitseg30", fruit_folder, size=16, validation=0.2, test=0.3)
    parts = {split: dataset.load(split) for split in dataset.splits}
    assert {split: len(arrays) for split, arrays in parts.items()} == {"train": 15, "val": 6, "test": 9}
    assert parts["val"].images.shape == (6, 3, 16, 16)
    kinds = np.unique([name.split("/")[0] for name in parts["test"].ids], return_counts=True)
    assert dict(zip(*kinds)) == {"Apple": 3, "Banana": 3, "Cherry": 3}
    assert len({name for arrays in parts.values() for name in arrays.ids}) == 30
    for name, target in zip(parts["test"].ids, parts["test"].targets):
        assert int(target.sum()) == 8 * (2 + int(name.split("/")[1]) % 5)


def test_fruit_errors(fruit_folder, tmp_path):
    with pytest.raises(DatasetNotFoundError, match="mendeley"):
        opened("fruitseg30", tmp_path / "nothing").load("train")
    copy = tmp_path / "copy"
    shutil.copytree(fruit_folder, copy)
    (copy / "Apple" / "Mask" / "3_mask.png").unlink()
    with pytest.raises(DataError, match=r"Apple/Images/3\.jpg: must have a mask"):
        opened("fruitseg30", copy).load("train")
    shutil.rmtree(copy / "Apple" / "Mask")
    with pytest.raises(DatasetNotFoundError, match="Apple/Mask"):
        opened("fruitseg30", copy).load("train")
