"""The check of data sets: each fault is made on purpose, and must be named."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import rasterio
from PIL import Image

from qhybrid.config import DataConfig
from qhybrid.data.check import check_data, stop_at_problems, told_once, write_check
from qhybrid.data.check_findings import Moments, Problem
from qhybrid.data.check_likeness import ALIKE, near_copies, small_copy
from qhybrid.errors import DataError


def truncate(file, share=0.7):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def kinds(check):
    return sorted({(problem.kind, *problem.splits) for problem in check.problems})


def rewrite(file, change):
    """Write a raster again with other values."""
    with rasterio.open(file) as source:
        values, profile = source.read(), source.profile
    with rasterio.open(file, "w", **profile) as target:
        target.write(change(values))


def test_a_sound_data_set_has_the_numbers_of_numpy(folder_dataset):
    root, config = folder_dataset
    check = check_data(config, root)
    assert (check.ok, check.problems, check.unit) == (True, [], "scenes")
    for split in ("train", "val", "test"):
        found = check.splits[split]
        pixels = np.concatenate(
            [
                rasterio.open(file).read().reshape(3, -1)
                for file in sorted((root / "set" / split / "images").iterdir())
            ],
            axis=1,
        )
        labels = np.concatenate(
            [rasterio.open(file).read().ravel() for file in (root / "set" / split / "masks").iterdir()]
        )
        np.testing.assert_allclose(found.moments.mean, pixels.mean(axis=1), rtol=1e-12)
        np.testing.assert_allclose(found.moments.std, pixels.std(axis=1), rtol=1e-12)
        assert (found.count, found.pixels, found.valid) == (2, 2 * 96 * 80, 2 * 96 * 80)
        counts = {
            name: sum(int((labels == value).sum()) for value in values)
            for name, values in ((entry.name, entry.values) for entry in config.classes)
        }
        assert found.to_dict(check.class_names)["per_class"] == counts


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("kind", ["images", "masks"])
def test_truncated_files_of_any_split_are_named(folder_dataset, kind, quick):
    root, config = folder_dataset
    for name in ("test0", "test1"):
        truncate(root / "set" / "test" / kind / f"{name}.tif")
    check = check_data(config, root, quick=quick)
    assert not check.ok
    messages = [problem.message for problem in check.problems]
    assert [
        name for name in ("test0", "test1") if any(f"{kind}/{name}.tif" in text for text in messages)
    ] == [
        "test0",
        "test1",
    ]
    assert all(
        problem.kind == "file" for problem in check.problems if problem.severe and "tif" in problem.message
    )


@pytest.mark.parametrize(("suffix", "options"), [(".jpg", {"quality": 95}), (".bmp", {}), (".png", {})])
def test_the_quick_way_sees_the_end_of_pictures(tmp_path, make_raster, suffix, options):
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        image = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        (tmp_path / split / "images").mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / split / "images" / f"a{suffix}", **options)
        make_raster(
            tmp_path / split / "masks" / "a.png", random.integers(0, 2, (64, 64), dtype=np.uint8), crs=None
        )
    config = DataConfig(
        dataset="geotiff_folder",
        classes=[{"name": str(v), "values": [v], "color": "#000000"} for v in (0, 1)],
        patch_size=64,
    )
    if check_data(config, tmp_path, ["test"], quick=True).splits["test"].count == 0:
        pytest.skip(f"{suffix} is not read by this data set")
    truncate(tmp_path / "test" / "images" / f"a{suffix}", 0.9)
    found = check_data(config, tmp_path, quick=True).problems
    assert [(one.kind, one.splits) for one in found] == [("file", ("test",))]
    assert f"a{suffix}" in found[0].message


def test_a_damaged_block_in_the_middle_of_a_file(folder_dataset, make_raster):
    root, config = folder_dataset
    image = np.random.default_rng(0).integers(1, 255, (3, 320, 256), dtype=np.uint8)
    mask = np.tile(np.array([1, 2, 3, 7], np.uint8), (320, 64))
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    file = make_raster(root / "set/val/images/big.tif", image, origin=(9e5, 9e5), **tiles)
    make_raster(root / "set/val/masks/big.tif", mask, origin=(9e5, 9e5))
    assert check_data(config, root).ok
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    file.write_bytes(content)
    (problem,) = check_data(config, root).problems
    assert (problem.kind, problem.splits) == ("file", ("val",))
    assert "images/big.tif: cannot be read at rows" in problem.message


@pytest.mark.parametrize("quick", [True, False])
def test_an_unknown_value_in_a_test_mask(folder_dataset, quick):
    root, config = folder_dataset
    rewrite(
        root / "set/test/masks/test1.tif",
        lambda mask: np.where(np.arange(mask.size).reshape(mask.shape) == 99, 77, mask).astype(np.uint8),
    )
    (problem,) = check_data(config, root, quick=quick).problems
    assert (problem.kind, problem.splits, problem.severe) == ("file", ("test",), True)
    assert "masks/test1.tif" in problem.message
    assert "77" in problem.message


def test_all_masks_that_do_not_fit_are_named(folder_dataset, make_raster):
    root, config = folder_dataset
    for name in ("val0", "val1"):
        make_raster(root / "set/val/masks" / f"{name}.tif", np.ones((50, 80), np.uint8))
    truncate(root / "set/test/masks/test0.tif")
    check = check_data(config, root, quick=True)
    text = "\n".join(problem.message for problem in check.problems)
    for name in ("val/masks/val0.tif", "val/masks/val1.tif", "test/masks/test0.tif"):
        assert name in text


def test_one_place_in_training_and_test(folder_dataset):
    root, config = folder_dataset
    for kind in ("images", "masks"):
        shutil.copy(root / f"set/train/{kind}/train1.tif", root / f"set/test/{kind}/again.tif")
    for quick in (True, False):
        check = check_data(config, root, quick=quick)
        assert kinds(check) == [("leak", "train", "test")], quick
        assert not check.ok
        assert "train1.tif" in check.problems[0].message
        assert "again.tif" in check.problems[0].message


def test_near_copies_of_scenes_without_georeference(folder_dataset, make_raster):
    """A brighter, smaller copy of a training scene is in the test split, and nothing says where it lies."""
    root, config = folder_dataset
    random = np.random.default_rng(1)
    for file in root.rglob("*.tif"):
        bands = 3 if file.parent.name == "images" else 1
        coarse = (
            random.choice([20, 90, 140, 230], (bands, 20, 24))
            if bands == 3
            else random.choice(4, (1, 20, 24))
        )
        values = np.kron(coarse, np.ones((1, 7, 7), int))
        values = values if bands == 3 else np.array([1, 2, 3, 7])[values]
        make_raster(file, values.astype(np.uint8), crs=None)
    assert check_data(config, root).problems == []
    with rasterio.open(root / "set/train/images/train0.tif") as source:
        image = source.read()
    smaller = image.reshape(3, 70, 2, 84, 2).mean(axis=(2, 4)) * 0.6 + 70
    make_raster(root / "set/test/images/copy.tif", smaller.astype(np.uint8), crs=None)
    mask = np.tile(np.array([1, 2, 3, 7], np.uint8), (70, 21))
    make_raster(root / "set/test/masks/copy.tif", mask, crs=None)
    (problem,) = check_data(config, root).problems
    assert (problem.kind, problem.splits) == ("near-copy", ("train", "test"))
    assert "train0 and copy" in problem.message
    assert "1 pair" in problem.message


def test_likeness_of_small_copies():
    random = np.random.default_rng(3)
    image = random.integers(0, 255, (3, 100, 140)).astype(np.uint8)
    noisy = np.clip(image * 0.5 + 60 + random.normal(0, 4, image.shape), 0, 255)
    other = random.integers(0, 255, (1, 77, 140)).astype(np.uint16)
    flat = np.full((1, 64, 64), 7, np.uint8)
    assert small_copy(flat) is None
    first = [small_copy(flat), small_copy(image), small_copy(other)]
    second = [small_copy(other * 3), small_copy(flat), small_copy(noisy)]
    assert near_copies(first, second) == [(1, 2), (2, 0)]
    assert near_copies([None], second) == []
    # The same cells as averages by hand: 32 divides 64.
    grey = image[:, :96, :128].mean(axis=0)
    cells = grey.reshape(32, 3, 32, 4).mean(axis=(1, 3)).ravel()
    expected = cells - cells.mean()
    found = small_copy(image[:, :96, :128])
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)
    assert float(found @ found) + 1e-6 > ALIKE


def test_masks_without_image(folder_dataset, monkeypatch):
    from qhybrid.data.geotiff_folder import GeoTiffFolder

    root, config = folder_dataset
    lonely = tuple(root / f"set/test/masks/{number}.tif" for number in range(7))
    monkeypatch.setattr(GeoTiffFolder, "masks_without_image", lambda _: lonely, raising=False)
    (problem,) = check_data(config, root).problems
    assert problem.message.startswith("7 mask(s) have no image: ")
    assert (problem.kind, problem.severe) == ("file", True)
    assert [one.severe for one in check_data(config, root, quick=True).problems] == [
        False
    ]  # training goes on


def test_empty_and_missing_splits(folder_dataset):
    root, config = folder_dataset
    for file in (root / "set/val").rglob("*.tif"):
        file.unlink()
    shutil.rmtree(root / "set/test")
    check = check_data(config, root)
    assert kinds(check) == [("split", "test"), ("split", "val")]
    assert not check.ok
    assert check.splits["train"].count == 2


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("resolution", [None, 2.5])
def test_training_scenes_without_room_for_a_patch(folder_dataset, make_raster, resolution, quick):
    """Of 96 x 80 pixels of 0.5 m, 19 x 16 are left at 2.5 m."""
    root, config = folder_dataset
    size = {"patch_size": 64} if resolution is None else {"resolution": resolution, "patch_size": 32}
    config = config.model_copy(update=size)
    if resolution is None:  # one of three, and one of validation, which windows may overhang
        for split in ("train", "val"):
            image = np.random.default_rng(len(split)).integers(1, 255, (3, 40, 80), dtype=np.uint8)
            make_raster(root / f"set/{split}/images/small.tif", image, origin=(9e5, len(split) * 1e5))
            mask = np.tile(np.array([1, 2, 3, 7], np.uint8), (40, 20))
            make_raster(root / f"set/{split}/masks/small.tif", mask, origin=(9e5, len(split) * 1e5))
    (problem,) = check_data(config, root, quick=quick).problems
    assert (problem.kind, problem.splits, problem.severe) == ("file", ("train",), True)
    if resolution is None:
        assert "scene small has 40 x 80 pixels and `data.patch_size` is 64" in problem.message
        assert "training scenes are too small" not in problem.message
    else:
        assert "train0 has 19 x 16 pixels at `data.resolution` 2.5 and" in problem.message
        assert "2 of 2 training scenes are too small" in problem.message


def test_a_class_that_a_split_lacks(folder_dataset):
    root, config = folder_dataset
    for file in (root / "set/val/masks").iterdir():
        rewrite(file, lambda mask: np.where(mask == 3, 1, mask).astype(np.uint8))
    (problem,) = check_data(config, root).problems
    assert (problem.kind, problem.splits, problem.severe) == ("class", ("val",), False)
    assert "town" in problem.message
    for file in (root / "set/train/masks").iterdir():
        rewrite(file, lambda mask: np.where(mask == 3, 1, mask).astype(np.uint8))
    found = {problem.splits: problem.severe for problem in check_data(config, root).problems}
    assert found == {("train",): True, ("val",): False}


def test_a_split_without_any_label(folder_dataset):
    root, config = folder_dataset
    config = config.model_copy(update={"ignore_values": (200,)})
    for file in (root / "set/val/masks").iterdir():
        rewrite(file, lambda mask: np.full_like(mask, 200))
    (problem,) = check_data(config, root, quick=True).problems
    assert (problem.kind, problem.splits, problem.severe) == ("labels", ("val",), True)


@pytest.mark.parametrize(("factor", "add", "severe"), [(0.4, 100, False), (0.01, 0, True)])
def test_a_split_with_values_far_from_training(folder_dataset, factor, add, severe):
    root, config = folder_dataset
    for file in (root / "set/test/images").iterdir():
        rewrite(file, lambda image: (image * factor + add).astype(np.uint8))
    (problem,) = check_data(config, root).problems
    assert (problem.kind, problem.splits, problem.severe) == ("statistics", ("test",), severe)
    assert check_data(config, root).ok != severe


def test_all_problems_at_once_in_json_and_on_a_sheet(folder_dataset, tmp_path):
    root, config = folder_dataset
    truncate(root / "set/test/masks/test0.tif")
    shutil.rmtree(root / "set/val")
    check = check_data(config, root)
    report, sheet = write_check(check, tmp_path / "out")
    content = json.loads(report.read_text())
    assert content["ok"] is False
    assert {one["kind"] for one in content["problems"]} == {"file", "split"}
    assert content["splits"]["train"]["count"] == 2
    picture = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    assert picture.shape[0] > 300
    assert (picture.max(axis=2) - picture.min(axis=2) > 30).mean() > 0.1  # coloured images, not a blank page


def test_images_of_two_splits_that_are_copies(tmp_path):
    """The images of one fold's test part are also given to training, under other names."""
    from image_folders import write_picture

    random = np.random.default_rng(1)
    for kind in ("glioma", "meningioma", "notumor", "pituitary"):
        for number in range(8):
            write_picture(tmp_path / "mri" / kind / f"{number}.png", random.integers(0, 255, (64, 64)))
    content = {"dataset": "brain_mri", "root": "mri", "options": {}}
    check = check_data(DataConfig.model_validate(content), tmp_path)
    assert not [one for one in check.problems if one.kind in ("near-copy", "leak", "file")]
    names = check.splits["train"].names[0], check.splits["test"].names[0]
    files = [next(tmp_path.rglob(f"{name}.png")) for name in names]
    copy = np.asarray(Image.open(files[0])).astype(float) * 0.8 + 20
    write_picture(files[1], copy)
    found = [
        one
        for one in check_data(DataConfig.model_validate(content), tmp_path).problems
        if one.kind == "near-copy"
    ]
    assert [one.splits for one in found] == [("train", "test")]
    assert f"{names[0]} and {names[1]} (1.000)" in found[0].message
    assert "1 of 4 images of test are near-duplicates of images of train" in found[0].message
    assert not found[0].severe
    # A mirrored copy of another training image, and both pairs in the report.
    more = check.splits["train"].names[1], check.splits["test"].names[1]
    one, other = (next(tmp_path.rglob(f"{name}.png")) for name in more)
    write_picture(other, np.asarray(Image.open(one))[:, ::-1])
    again = check_data(DataConfig.model_validate(content), tmp_path)
    (found,) = (problem for problem in again.problems if problem.kind == "near-copy")
    assert "1 of 4 images of test" in found.message
    assert "(2 with mirrored and rotated copies)" in found.message
    listed = {(pair["first"], pair["second"]): pair["turned"] for pair in again.to_dict()["near_duplicates"]}
    assert listed == {names: False, more: True}
    # Grouped, they are in one split.
    grouped = {**content, "options": {"group_near_duplicates": 0.98}}
    assert not check_data(DataConfig.model_validate(grouped), tmp_path).near_duplicates
    truncate(files[0])
    assert ("file", "train") in kinds(check_data(DataConfig.model_validate(content), tmp_path))


def test_moments_of_blocks_are_those_of_all_values():
    values = np.random.default_rng(0).normal(1e6, 3, (2, 1000))
    moments = Moments(2)
    for start in range(0, 1000, 300):
        moments.add(values[:, start : start + 300])
    moments.add(values[:, :0])
    np.testing.assert_allclose(moments.mean, values.mean(axis=1), rtol=1e-14)
    np.testing.assert_allclose(moments.std, values.std(axis=1), rtol=1e-9)


def test_nothing_to_show_is_an_error(folder_dataset, tmp_path):
    from qhybrid.data.check import draw_contact_sheet

    root, config = folder_dataset
    with pytest.raises(DataError, match="no images to show"):
        draw_contact_sheet(check_data(config, root, quick=True), tmp_path / "sheet.png")


def test_problems_that_differ_in_the_file_alone_are_told_once():
    def wrong(name, value, pixels):
        return Problem("file", ("train",), f"data/masks/{name}: value {value} is not ({pixels} pixels; ...).")

    problems = [wrong("a.tif", 99, "1,204"), wrong("b.tif", 99, "7"), wrong("c.tif", 98, "7")]
    told = told_once([*problems, *(wrong(f"{name}.tif", 99, "3") for name in "defg")])
    assert [one.message for one in told] == [
        f"{problems[0].message} The same of 5 more: b.tif, d.tif, e.tif, ...",
        problems[2].message,  # another value
    ]
    folders = [Problem("split", (one,), f"data/{one}/images: must be a folder.") for one in ("train", "val")]
    assert told_once(folders)[0].message.endswith("The same of 1 more: data/val/images")
    with pytest.raises(DataError, match="3 problems with the data:\n.*The same of 1 more: b.tif"):
        stop_at_problems(problems)


def test_a_band_that_is_alike_everywhere(folder_dataset):
    """As an alpha band among the data: worth a look, and no fault."""
    root, config = folder_dataset
    for split in ("train", "val", "test"):
        for file in (root / "set" / split / "images").iterdir():
            rewrite(
                file, lambda values: np.where(np.arange(3)[:, None, None] == 1, 255, values).astype("uint8")
            )
    check = check_data(config, root)
    (problem,) = check.problems
    assert (problem.kind, problem.splits, problem.severe) == ("statistics", ("train",), False)
    assert "position(s) 2 (255)" in problem.message
