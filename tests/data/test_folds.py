import numpy as np
import pytest
from pydantic import ValidationError

from qhybrid.config import DataConfig
from qhybrid.data.folds import FoldedScenes, assign_folds
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import Scene, SceneDataset
from qhybrid.data.splits import find_leaks
from qhybrid.data.synthetic import SyntheticScenes
from qhybrid.errors import ConfigError, DataError, EmptySplitError

SPLITS = ("train", "val", "test")


def folded(config, **keys):
    return config.model_copy(update=keys)


def ids(dataset):
    return {split: [scene.id for scene in dataset.scenes(split)] for split in SPLITS}


def write_pair(folder, make_raster, name, x, size=40, **place):
    place = place or {"origin": (500_000.0 + x, 500_000.0)}
    make_raster(folder / "images" / f"{name}.tif", np.ones((3, size, size), np.uint8), **place)
    make_raster(folder / "masks" / f"{name}.tif", np.ones((size, size), np.uint8), **place)


def test_every_scene_is_tested_once_and_validated_once(folder_dataset):
    root, config = folder_dataset
    runs = [ids(open_dataset(folded(config, folds=3, fold=fold), root)) for fold in (1, 2, 3)]
    everything = sorted(f"{split}{number}" for split in SPLITS for number in range(2))
    for split, times in (("test", 1), ("val", 1), ("train", 1)):
        assert sorted(name for run in runs for name in run[split]) == sorted(everything * times)
    for run, following in zip(runs, [*runs[1:], runs[0]]):
        assert sorted(name for part in run.values() for name in part) == everything
        assert run["val"] == following["test"]
    again = open_dataset(folded(config, folds=3, fold=1), root)
    assert isinstance(again, FoldedScenes)
    assert ids(again) == runs[0]
    assert again.classes.names == ("field", "wood", "town")


def test_what_overlaps_is_in_one_fold_also_across_the_old_splits(folder_dataset, make_raster):
    root, config = folder_dataset
    for split, x in (("train", 1000), ("val", 1010), ("test", 1020), ("test", 5000)):
        write_pair(root / "set" / split, make_raster, f"n{x}", x)
    for fold in range(1, 5):
        dataset = open_dataset(folded(config, folds=4, fold=fold), root)
        assert find_leaks(dataset) == []
        homes = {split for split, part in ids(dataset).items() if {"n1000", "n1010", "n1020"} & set(part)}
        assert len(homes) == 1


def test_equal_names_in_two_splits_are_told_apart(folder_dataset, make_raster):
    root, config = folder_dataset
    write_pair(root / "set" / "train", make_raster, "same", 1000)
    write_pair(root / "set" / "test", make_raster, "same", 2000)
    found = ids(open_dataset(folded(config, folds=3), root))
    names = [name for part in found.values() for name in part]
    assert len(set(names)) == len(names) == 8
    assert {"train_same", "test_same"} <= set(names)


def test_a_missing_split_is_said(folder_dataset):
    import shutil

    root, config = folder_dataset
    shutil.rmtree(root / "set" / "test")
    with pytest.warns(UserWarning, match=r"Folds are made of the other splits.*test.images"):
        assert len(open_dataset(folded(config, folds=3), root).scenes("train")) >= 1
    shutil.rmtree(root / "set")
    with pytest.raises(DataError, match="must be a folder of rasters"):
        open_dataset(folded(config, folds=3), root).scenes("train")


def test_too_few_locations(folder_dataset):
    root, config = folder_dataset
    with pytest.raises(DataError, match=r"7 folds need as many separate locations, but there are 6"):
        open_dataset(folded(config, folds=7), root).scenes("test")


def test_scenes_without_georeference(folder_dataset, make_raster):
    root, config = folder_dataset
    for number in range(6):
        write_pair(root / "plain" / "train", make_raster, f"s{number}", 0, crs=None)
        write_pair(root / "plain" / "val", make_raster, f"v{number}", 0, crs=None)
    config = folded(config, root="plain", folds=4)
    with pytest.warns(UserWarning, match="have no georeference") as said:
        sizes = {split: len(part) for split, part in ids(open_dataset(config, root)).items()}
    assert sizes == {"train": 6, "val": 3, "test": 3}
    (message,) = {str(one.message) for one in said if "no georeference" in str(one.message)}
    assert message.startswith("12 of 12 scene(s)")


def test_locations_of_the_data_set_are_kept_together(folder_dataset, make_raster):
    root, config = folder_dataset
    for number in range(12):
        write_pair(root / "plain", make_raster, f"p{number // 3}_{number}", 0, crs=None)
    split = {"fractions": {"train": 0.5, "val": 0.25, "test": 0.25}, "location": r"^(p\d)_"}
    options = {"images": "images", "masks": "masks", "split": split}
    for fold in range(1, 5):
        dataset = open_dataset(folded(config, root="plain", options=options, folds=4, fold=fold), root)
        places = {split: {scene.id[:2] for scene in dataset.scenes(split)} for split in SPLITS}
        assert [len(places[split]) for split in SPLITS] == [2, 1, 1]
        assert not places["train"] & places["val"] | places["val"] & places["test"]


def test_windows_of_one_file_are_one_location(folder_dataset, make_raster):
    root, config = folder_dataset
    lines = ["image,mask,split,window"]
    for number in range(4):
        write_pair(root / "set", make_raster, f"w{number}", 1000 * number)
        for row in (0, 20):
            split = SPLITS[(number + row) % 3]
            lines.append(f"images/w{number}.tif,masks/w{number}.tif,{split},{row} 0 20 40")
    (root / "set" / "list.csv").write_text("\n".join(lines))
    parts = open_dataset(folded(config, options={"pairs": "list.csv"}, folds=4), root).parts()
    assert [len({scene.image for scene in part}) for part in parts] == [1, 1, 1, 1]


def test_blocks_keep_their_margin_between_folds(folder_dataset, make_raster):
    from test_blocks import painted, smallest_distance

    root, config = folder_dataset
    write_pair(root / "one", make_raster, "s", 0, size=300)
    split = {"blocks": 60, "margin": 8, "fractions": {"train": 0.8, "val": 0.1, "test": 0.1}}
    options = {"images": "images", "masks": "masks", "split": split}
    dataset = open_dataset(folded(config, root="one", options=options, folds=5), root)
    parts = {str(number): part for number, part in enumerate(dataset.parts())}
    assert [len(part) for part in parts.values()] == [5] * 5
    canvas = painted(parts, root / "one" / "images" / "s.tif", (300, 300))
    assert smallest_distance(canvas[::2, ::2]) > 8 / 2
    assert len(dataset.scenes("train")) == 15


@pytest.mark.parametrize("kind", ["synthetic", "plugin"])
def test_any_data_set_of_scenes(kind, tmp_path, make_raster):
    if kind == "synthetic":
        options = {"size": 64, "train": 3, "val": 2, "test": 1}
        dataset = open_dataset(DataConfig(dataset="synthetic", options=options, folds=3), tmp_path)
        inner = SyntheticScenes
    else:

        class Inner(SceneDataset):
            name, description = "inner", "for this test"

            @classmethod
            def from_config(cls, config, root):
                return cls()

            def scenes(self, split):
                if split == "val":
                    raise EmptySplitError("nothing")
                names = {"train": "abcd", "test": "ef"}[split]
                return tuple(
                    Scene(name, place(name), place(name), location=f"town {name in 'abef'}{name in 'ef'}")
                    for name in names
                )

        def place(name):
            file = tmp_path / f"{name}.png"
            return file if file.is_file() else make_raster(file, np.ones((9, 9), np.uint8), crs=None)

        dataset, inner = FoldedScenes(Inner(), 3, 1), Inner
    assert isinstance(dataset.dataset, inner)
    assert [len(part) for part in dataset.parts()] == [2, 2, 2]
    assert sum(len(dataset.scenes(split)) for split in SPLITS) == 6


def test_folds_are_of_nearly_equal_size():
    random = np.random.default_rng(0)
    sizes = {f"place {number}": int(random.integers(1, 100)) for number in range(60)}
    chosen = assign_folds(sizes, 5)
    filled = [sum(size for name, size in sizes.items() if chosen[name] == fold) for fold in range(5)]
    assert max(filled) - min(filled) <= 5
    assert assign_folds(dict(reversed(sizes.items())), 5) == chosen


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"fold": 2}, "needs `folds`"), ({"folds": 3, "fold": 4}, "must be 1 to"), ({"folds": 2}, "equal to 3")],
)
def test_wrong_keys(keys, message):
    with pytest.raises(ValidationError, match=message):
        DataConfig(dataset="synthetic", **keys)


def test_images_have_folds_of_their_own(tmp_path):
    with pytest.raises(ConfigError, match="`data.folds` is for data sets of scenes"):
        open_image_dataset(DataConfig(dataset="ph2", folds=5), tmp_path)


def test_keys_that_are_not_used_are_not_written():
    assert not {"folds", "fold"} & set(DataConfig(dataset="synthetic").model_dump())
    used = DataConfig(dataset="synthetic", folds=3, fold=2)
    assert DataConfig(**used.model_dump(mode="json")) == used
