import numpy as np
import pytest

from qhybrid.data.scene_datasets import dataset_info, list_datasets, open_dataset
from qhybrid.data.splits import find_leaks
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError

SPLITS = ("train", "val", "test")


def one_folder(folder, make_raster, count=12, step=30.0, **options):
    """Write scenes of 40 x 40 m in a row, `step` metres apart: below 20 they overlap."""
    for number in range(count):
        place = {"origin": (500_000.0 + step * number, 500_000.0), **options}
        make_raster(folder / "images" / f"s{number:02d}_x.tif", np.ones((3, 40, 40), np.uint8), **place)
        make_raster(folder / "masks" / f"s{number:02d}_x.tif", np.ones((40, 40), np.uint8), **place)


def changed(config, **options):
    return config.model_copy(
        update={"options": {"images": "images", "masks": "masks", **options}, "root": "one"}
    )


def names(dataset):
    return {split: [scene.id for scene in dataset.scenes(split)] for split in SPLITS}


def test_split_folders(folder_dataset):
    root, config = folder_dataset
    dataset = open_dataset(config, root)
    assert names(dataset) == {split: [f"{split}0", f"{split}1"] for split in SPLITS}
    assert dataset.classes.names == ("field", "wood", "town")
    scene = dataset.scenes("val")[1]
    assert scene.image.name == scene.mask.name == "val1.tif"
    assert scene.window is None


def test_masks_may_have_another_suffix_and_other_files_are_passed_over(folder_dataset, make_raster):
    root, config = folder_dataset
    (root / "set" / "val" / "images" / "notes.txt").write_text("x")
    (root / "set" / "val" / "images" / ".hidden.tif").write_text("x")
    make_raster(root / "set" / "val" / "images" / "third.tif", np.ones((3, 9, 9), np.uint8))
    make_raster(root / "set" / "val" / "masks" / "third.png", np.ones((9, 9), np.uint8), crs=None)
    assert [scene.id for scene in open_dataset(config, root).scenes("val")] == ["third", "val0", "val1"]


def test_split_by_fractions_of_locations(folder_dataset, make_raster):
    root, config = folder_dataset
    one_folder(root / "one", make_raster)
    fractions = {"train": 0.5, "val": 0.25, "test": 0.25}
    dataset = open_dataset(changed(config, split={"fractions": fractions, "seed": 3}), root)
    found = names(dataset)
    assert [len(found[split]) for split in SPLITS] == [6, 3, 3]
    assert len({name for part in found.values() for name in part}) == 12
    assert names(open_dataset(changed(config, split={"fractions": fractions, "seed": 3}), root)) == found
    assert names(open_dataset(changed(config, split={"fractions": fractions, "seed": 4}), root)) != found
    assert find_leaks(dataset) == []


def test_overlapping_scenes_stay_together(folder_dataset, make_raster):
    root, config = folder_dataset
    one_folder(root / "one", make_raster, count=8, step=15.0)
    make_raster(root / "one" / "images" / "far.tif", np.ones((3, 8, 8), np.uint8), origin=(0.0, 0.0))
    make_raster(root / "one" / "masks" / "far.tif", np.ones((8, 8), np.uint8), origin=(0.0, 0.0))
    dataset = open_dataset(changed(config, split={"fractions": {"train": 0.8, "test": 0.2}}), root)
    assert len(dataset.scenes("train")) == 8
    assert {scene.location for scene in dataset.scenes("train")} == {"s00_x"}
    assert [scene.id for scene in dataset.scenes("test")] == ["far"]
    with pytest.raises(DataError, match=r"split val must have scenes, but is empty"):
        dataset.scenes("val")
    three = changed(config, split={"fractions": {"train": 0.6, "val": 0.2, "test": 0.2}})
    with pytest.raises(DataError, match=r"at least 3 separate locations"):
        open_dataset(three, root).scenes("train")


def test_location_from_the_name(folder_dataset, make_raster):
    root, config = folder_dataset
    one_folder(root / "one", make_raster, crs=None)
    by_place = {"fractions": {"train": 0.5, "val": 0.25, "test": 0.25}}
    with pytest.warns(UserWarning, match="12 of 12 scene.s. have no georeference"):
        own = open_dataset(changed(config, split=by_place), root).scenes("train")
    assert [scene.location for scene in own] == [scene.id for scene in own]
    dataset = open_dataset(changed(config, split={**by_place, "location": r"^s(\d)"}), root)
    with pytest.raises(DataError, match="at least 3 separate locations"):
        dataset.scenes("train")  # there are two: s0 and s1
    pairs = open_dataset(changed(config, split={**by_place, "location": r"^s(\d\d)"}), root)
    assert sum(len(pairs.scenes(split)) for split in SPLITS) == 12
    with pytest.raises(DataError, match=r"must match every name, but does not match s00_x"):
        open_dataset(changed(config, split={**by_place, "location": r"^t(\d)"}), root).scenes("train")


def test_scenes_with_and_without_a_place(folder_dataset, make_raster):
    """Overlap is known among those with a place alone, and one warning says of how many it is not."""
    root, config = folder_dataset
    one_folder(root / "one", make_raster, count=4, step=15.0)
    for name in ("p", "q"):
        make_raster(root / "one" / "images" / f"{name}.png", np.ones((3, 9, 9), np.uint8), crs=None)
        make_raster(root / "one" / "masks" / f"{name}.png", np.ones((9, 9), np.uint8), crs=None)
    by_place = {"fractions": {"train": 0.6, "val": 0.2, "test": 0.2}}
    dataset = open_dataset(changed(config, split=by_place), root)
    with pytest.warns(UserWarning, match=r"2 of 6 scene\(s\) have no georeference.*p\.png") as said:
        found = {split: dataset.scenes(split) for split in SPLITS}
    assert len(said) == 1
    assert [scene.id for scene in found["train"]] == [f"s0{number}_x" for number in range(4)]
    assert {scene.location for part in found.values() for scene in part} == {"s00_x", "p", "q"}


def test_split_by_lists(folder_dataset, make_raster):
    root, config = folder_dataset
    one_folder(root / "one", make_raster, count=4)
    lists = {"train": ["s00_x", "s01_x"], "val": ["s02_x"], "test": ["s03_x"]}
    assert names(open_dataset(changed(config, split=lists), root)) == lists
    wrong = {**lists, "test": ["s99_x"]}
    with pytest.raises(DataError, match=r"s99_x of `data.options.split.test` must be there"):
        open_dataset(changed(config, split=wrong), root).scenes("test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": {"train": ["a"], "val": ["a"]}}, "listed more than once"),
        ({"split": {"seed": 3}}, "either `fractions`, or lists"),
        ({"split": {"fractions": {"train": 1.0}, "train": ["a"]}}, "either `fractions`, or lists"),
        ({"split": {"fractions": {"train": 1.0}, "location": "("}}, "not a regular expression"),
        ({"split": {"fractions": {"train": 1.0}, "location": "abc"}}, "needs a group"),
        ({}, "exactly when"),
        ({"masks": "{split}/masks"}, "both have"),
        ({"imges": "x"}, "Did you mean `images`"),
    ],
)
def test_wrong_options_name_the_key(folder_dataset, options, message):
    root, config = folder_dataset
    with pytest.raises(ConfigError, match=f"(?s)data.options.*{message}"):
        open_dataset(changed(config, **options), root)


def test_missing_folders_masks_and_classes(folder_dataset, make_raster):
    root, config = folder_dataset
    with pytest.raises(DatasetNotFoundError, match=r"elsewhere.train.images: must be a folder.*--data-root"):
        open_dataset(config.model_copy(update={"root": "elsewhere"}), root).scenes("train")
    with pytest.raises(ConfigError, match=r"`data\.classes` is missing"):
        open_dataset(config.model_copy(update={"classes": None}), root)
    (root / "set" / "val" / "masks" / "val1.tif").unlink()
    with pytest.raises(DataError, match=r"val1.tif: each image must have a mask.*1 have none"):
        open_dataset(config, root).scenes("val")
    make_raster(root / "set" / "val" / "masks" / "val1.tif", np.ones((5, 5), np.uint8))
    with pytest.raises(DataError, match=r"must have the same size"):
        open_dataset(config, root).scenes("val")
    make_raster(root / "set" / "train" / "images" / "train0.png", np.ones((5, 5), np.uint8), crs=None)
    with pytest.raises(DataError, match=r"names must differ without their suffix"):
        open_dataset(config, root).scenes("train")
    with pytest.raises(DataError, match="one of train, val, test"):
        open_dataset(config, root).scenes("training")


def test_an_empty_split_names_the_folder(folder_dataset):
    root, config = folder_dataset
    for file in (root / "set" / "test" / "images").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"set.test.images: split test must have scenes, but is empty"):
        open_dataset(config, root).scenes("test")


def test_registry(folder_dataset):
    root, config = folder_dataset
    assert {"geotiff_folder", "landcover_ai", "synthetic"} <= set(list_datasets())
    for name in list_datasets():
        info = dataset_info(name)
        assert info.name == name
        assert info.description
    assert dataset_info("landcover_ai").fetchable
    assert dataset_info("synthetic").options["size"] == "512"
    with pytest.raises(ConfigError, match=r"Did you mean `synthetic`"):
        open_dataset(config.model_copy(update={"dataset": "syntetic"}), root)
