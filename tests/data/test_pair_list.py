import numpy as np
import pytest

from qhybrid.data.pair_list import read_pairs
from qhybrid.data.raster import Window
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError


@pytest.fixture
def write_list(tmp_path, make_raster):
    """Return a function that writes a list; images a to d (40 x 40) lie in folder `x` beside it."""
    for number, name in enumerate("abcdm"):
        bands = np.ones((1 if name == "m" else 3, 40, 40), np.uint8)
        make_raster(tmp_path / "set" / "x" / f"{name}.tif", bands, origin=(500_000.0 + 100 * number, 5e5))
    make_raster(tmp_path / "set" / "free.png", np.ones((40, 40), np.uint8), crs=None)

    def write(*lines, name="list.csv", encoding="utf-8"):
        file = tmp_path / "set" / name
        file.write_text("\n".join(lines) + "\n", encoding=encoding)
        return file

    return write


def test_a_list(write_list):
    file = write_list(
        "image,mask,split,note",
        "x/a.tif,free.png,train,first",
        "",
        '"x/b.tif",free.png,val,"with, comma"',
        "https://host.org/p/c.tif?key=1,/vsizip/z.zip/m.tif,test,",
    ).parent
    (file / "z.zip").touch()
    text = (file / "list.csv").read_text().replace("/vsizip/z.zip", f"/vsizip/{file}/z.zip")
    (file / "list.csv").write_text(text)
    found = read_pairs(file / "list.csv")
    assert [scene.id for scene in found.scenes] == ["a", "b", "c"]
    assert found.splits == ("train", "val", "test")
    assert found.locations is None
    assert found.scenes[0].image == file / "x" / "a.tif"
    assert str(found.scenes[2].image) == "https://host.org/p/c.tif?key=1"


def test_windows_locations_and_other_separators(write_list):
    file = write_list(
        "Image;Mask;Split;Location;Window",
        "x/a.tif;free.png;train;here;0 0 20 40",
        "x/a.tif;free.png;val;there;20,0,20,40",
        "x/b.tif;free.png;val;there;",
        encoding="utf-8-sig",
    )
    found = read_pairs(file)
    assert [scene.window for scene in found.scenes] == [Window(0, 0, 20, 40), Window(20, 0, 20, 40), None]
    assert [scene.id for scene in found.scenes] == ["a_0_0", "a_20_0", "b"]
    assert found.locations == ("here", "there", "there")
    assert [scene.location for scene in found.scenes] == ["here", "there", "there"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["picture,mask", "a,b"], r"must have the columns image, mask, but has picture, mask"),
        (["image,masks", "a,b"], r"Did you mean `masks`"),
        (["image,mask"], "a line for each image"),
        (
            ["image,mask,split", "x/a.tif,free.png,valid"],
            r"line 2: split .*'valid'\. Did you mean `val`",
        ),
        (["image,mask,split", "x/a.tif,free.png,train", "x/b.tif,free.png"], r"line 3: split must be"),
        (["image,mask", "x/a.tif,free.png", "x/e.tif,free.png"], r"line 3: image .*e\.tif must be a file"),
        (["image,mask", "x/a.tif,"], r"line 2: must name the mask"),
        (["image,mask", "x/a.tif,none.png"], r"line 2: mask .*none\.png must be a file"),
        (
            ["image,mask", "x/a.tif,free.png", "x/a.tif,free.png"],
            r"lines 2 and 3: an image must be",
        ),
        (
            ["image,mask,window", "x/a.tif,free.png,1 2 3"],
            r"line 2: window must be `row col",
        ),
        (["image,mask,window", "x/a.tif,free.png,1 2 3 0"], r"line 2: a window must have pixels"),
        (["image,mask,location", "x/a.tif,free.png,"], r"line 2: must name the location"),
        (["image,mask", "x/a.tif,free.png,more"], r"line 2: must have 2 columns, but has 3"),
        (["image,mask,image", "a,b,c"], r"each column must be there once, but not so image"),
        (
            ["image,mask,split,location", "x/a.tif,free.png,train,k", "x/b.tif,free.png,val,k"],
            r"lines 2 and 3: location k must be in one split, but is in train and val",
        ),
    ],
)
def test_wrong_lines_are_named(write_list, lines, message):
    with pytest.raises(DataError, match=message):
        read_pairs(write_list(*lines))


def test_missing_and_unreadable_lists(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"none\.csv: must be a list.*`data.options.pairs`"):
        read_pairs(tmp_path / "none.csv")
    (tmp_path / "utf16.csv").write_text("image,mask", encoding="utf-16")
    with pytest.raises(DataError, match=r"utf16\.csv: must be a CSV file in UTF-8"):
        read_pairs(tmp_path / "utf16.csv")


def opened(config, root, **options):
    return open_dataset(config.model_copy(update={"options": options}), root)


def test_a_data_set_from_a_list(folder_dataset, write_list):
    root, config = folder_dataset
    rows = [f"x/{name}.tif,free.png" for name in "abcd"]
    splits = ["train", "val", "test", "train"]
    write_list("image,mask,split", *(f"{row},{split}" for row, split in zip(rows, splits)))
    dataset = opened(config, root, pairs="list.csv")
    assert [scene.id for scene in dataset.scenes("train")] == ["a", "d"]
    assert [scene.location for scene in dataset.scenes("test")] == ["test"]
    with pytest.raises(ConfigError, match=r"`data\.options\.split` .*has a column split"):
        opened(config, root, pairs="list.csv", split={"fractions": {"train": 1.0}}).scenes("train")
    write_list("image,mask", *rows)
    with pytest.raises(ConfigError, match=r"`data\.options\.split` .*has no column split"):
        opened(config, root, pairs="list.csv").scenes("train")
    halves = {"fractions": {"train": 0.5, "val": 0.25, "test": 0.25}}
    found = opened(config, root, pairs="list.csv", split=halves)
    assert [len(found.scenes(split)) for split in ("train", "val", "test")] == [2, 1, 1]
    lists = {"train": ["a"], "val": ["b"], "test": ["c"]}
    assert [scene.id for scene in opened(config, root, pairs="list.csv", split=lists).scenes("val")] == ["b"]
    write_list("image,mask,location", *(f"{row},{place}" for row, place in zip(rows, "kkkl")))
    places = opened(config, root, pairs="list.csv", split={"fractions": {"train": 0.7, "test": 0.3}})
    assert [scene.id for scene in places.scenes("train")] == ["a", "b", "c"]
    write_list("image", *(row.partition(",")[0] for row in rows))
    for_all = opened(config, root, pairs="list.csv", masks="free.png", split={"fractions": {"train": 1.0}})
    assert {scene.mask for scene in for_all.scenes("train")} == {root / "set" / "free.png"}
