import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil

from qhybrid.data.file_patterns import find_files, pair_files
from qhybrid.data.raster import read_window
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError

FRACTIONS = {"fractions": {"train": 1.0}}


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def paired(root, images, masks):
    """Return pairs as text, and the masks that are left over."""
    found = find_files(root, images, "Fix."), find_files(root, masks, "Fix.", labels=True)
    pairs, lonely = pair_files(*found, (images, masks))
    shown = {
        name: tuple(path and str(path.relative_to(root)) for path in pair) for name, pair in pairs.items()
    }
    return shown, [str(path.relative_to(root)) for path in lonely]


@pytest.mark.parametrize(
    ("files", "images", "masks", "expected"),
    [
        (["i/a.jpg", "m/a_gt.png"], "i/{name}.jpg", "m/{name}_gt.png", {"a": ("i/a.jpg", "m/a_gt.png")}),
        (["i/a.TIF", "m/mask_a.tif"], "i", "m/mask_{name}.tif", {"a": ("i/a.TIF", "m/mask_a.tif")}),
        (["i/a.TIF", "m/a.x.tif"], "i/{name}.tif", "m/{name}.x.*", {"a": ("i/a.TIF", "m/a.x.tif")}),
        (["i/a.b.tif", "m/a.b.png"], "i/{name}", "m/{name}", {"a.b": ("i/a.b.tif", "m/a.b.png")}),
        (["i/a_9.jp2", "m/a.png"], "i/{name}_*", "m/{name}", {"a": ("i/a_9.jp2", "m/a.png")}),
        # One folder for both: the pattern that says more has the file.
        (["a.png", "a_gt.png"], "{name}.png", "{name}_gt.png", {"a": ("a.png", "a_gt.png")}),
        (["a.png", "a_i.png"], "{name}_i.png", "{name}.png", {"a": ("a_i.png", "a.png")}),
        (["d/a.png", "d/a_gt.png"], "d", "d/{name}_gt.png", {"a": ("d/a.png", "d/a_gt.png")}),
        # Sub-folders: same names in several of them are told apart where both patterns say so.
        (
            ["x/images/1.tif", "x/labels/1.tif", "y/images/1.tif", "y/labels/1.tif"],
            "**/images/{name}.tif",
            "**/labels/{name}.tif",
            {"x_1": ("x/images/1.tif", "x/labels/1.tif"), "y_1": ("y/images/1.tif", "y/labels/1.tif")},
        ),
        (["i/k/l/a.tif", "m/a.tif"], "i/**/{name}.tif", "m", {"k_l_a": ("i/k/l/a.tif", "m/a.tif")}),
        (["i/a.tif", "m/a.tif"], "i/**/{name}.tif", "m/**/{name}.tif", {"a": ("i/a.tif", "m/a.tif")}),
        (["a/img.tif", "a/msk.tif"], "{name}/img.tif", "{name}/msk.tif", {"a": ("a/img.tif", "a/msk.tif")}),
        (["a/a_i.tif", "a/b_i.tif"], "{name}/{name}_i.tif", "m/{name}", {"a": ("a/a_i.tif", None)}),
        # A preview beside a raster is no second image; polygons count where there is no raster.
        (["i/a.tif", "i/a.jpg", "m/a.png"], "i", "m", {"a": ("i/a.tif", "m/a.png")}),
        (["i/a.tif", "m/a.geojson"], "i", "m", {"a": ("i/a.tif", "m/a.geojson")}),
        (["i/a.tif", "m/a.tif", "m/a.gpkg"], "i", "m", {"a": ("i/a.tif", "m/a.tif")}),
        (["i/a.tif", "i/a.gpkg", "i/b.txt", "m/a.tif"], "i", "m", {"a": ("i/a.tif", "m/a.tif")}),
        # An accented letter as two characters, as a Mac writes it, and as one.
        (["i/e\u0301.tif", "m/\u00e9.png"], "i", "m", {"\u00e9": ("i/e\u0301.tif", "m/\u00e9.png")}),
        (
            ["i/e\u0301.tif", "m/\u00e9_gt.png"],
            "i/{name}",
            "m/{name}_gt",
            {"\u00e9": ("i/e\u0301.tif", "m/\u00e9_gt.png")},
        ),
        (["i/a(1)[x].tif", "m/a(1)[x].tif"], "i", "m", {"a(1)[x]": ("i/a(1)[x].tif", "m/a(1)[x].tif")}),
    ],
)
def test_what_belongs_together(tmp_path, files, images, masks, expected):
    (tmp_path / "m").mkdir()
    touch(tmp_path, *files)
    assert paired(tmp_path, images, masks) == (expected, [])


def test_equal_names_in_several_folders_are_told_apart_by_two_stars(tmp_path):
    touch(tmp_path, "x/images/1.tif", "y/images/1.tif")
    with pytest.raises(DataError, match=r"both are 1\. Fix.*\*\*/"):
        find_files(tmp_path, "*/images/{name}.tif", "")


def test_the_working_folder(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "m/a.png")
    monkeypatch.chdir(tmp_path)
    assert [file.name for file in find_files(Path(), "{name}.png", "")] == ["a"]
    assert [file.name for file in find_files(Path(), "**/m/{name}.png", "")] == ["a"]


def test_what_is_left_over(tmp_path):
    touch(tmp_path, "i/a.tif", "i/b.tif", "m/b_gt.tif", "m/c_gt.tif", "m/.d_gt.tif", "m/notes.txt")
    pairs, lonely = paired(tmp_path, "i", "m/{name}_gt.tif")
    assert pairs == {"a": ("i/a.tif", None), "b": ("i/b.tif", "m/b_gt.tif")}
    assert lonely == ["m/c_gt.tif"]


def test_errors(tmp_path):
    touch(tmp_path, "i/a.tif", "i/a.png", "d/x_1.tif", "d/x_2.tif", "k/x/a.tif", "k/y/a.tif", "m/a.tif")
    with pytest.raises(DataError, match=r"a\.png and .*a\.tif: names must differ without their suffix"):
        find_files(tmp_path, "i", "")
    with pytest.raises(DataError, match=r"x_1\.tif and .*x_2\.tif: names must differ"):
        find_files(tmp_path, "d/{name}_*.tif", "")
    with pytest.raises(DataError, match=r"several images are called a.*`\*\*/`"):
        paired(tmp_path, "k/**/{name}.tif", "m")
    for same in ("m", "m/{name}.tif"):
        with pytest.raises(ConfigError, match=r"must tell files apart, but both match .*m/a\.tif"):
            paired(tmp_path, same, same)
    with pytest.raises(ConfigError, match=r"must tell files apart"):
        paired(tmp_path, "m/{name}.tif", "m/{name}.tif")
    with pytest.raises(DatasetNotFoundError, match=r"none: must be a folder of rasters.*Fix: look"):
        find_files(tmp_path, "none/**/{name}.tif", "Fix: look.")


def with_options(config, **options):
    return config.model_copy(update={"options": options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "i/*.tif", "masks": "m", "split": FRACTIONS}, r"pattern i/\*\.tif must have \{name\}"),
        ({"images": "{spilt}/i", "masks": "m", "split": FRACTIONS}, r"\{spilt\} stands for nothing"),
        ({"images": "{split}/{name}", "masks": "m"}, "both have"),
        ({"pairs": "a.csv", "images": "i"}, "leave out `images`"),
    ],
)
def test_wrong_patterns_name_the_key(folder_dataset, options, message):
    root, config = folder_dataset
    with pytest.raises(ConfigError, match=f"(?s)data.options.*{message}"):
        open_dataset(with_options(config, **options), root)


def test_a_data_set_by_patterns(folder_dataset, make_raster):
    """JPEG images and masks `_gt` in one folder a split; a mask without an image is named."""
    root, config = folder_dataset
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        image = random.integers(0, 255, (3, 40, 40), dtype=np.uint8)
        make_raster(root / "set" / split / "sub" / "a.jpg", image, crs=None, driver="JPEG")
        make_raster(root / "set" / split / "sub" / "a_gt.png", np.ones((40, 40), np.uint8), crs=None)
    config = with_options(config, images="{split}/**/{name}.jpg", masks="{split}/**/{name}_gt.png")
    dataset = open_dataset(config, root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (scene,) = dataset.scenes("val")
    assert (scene.id, scene.image.name, scene.mask.name, scene.location) == (
        "sub_a",
        "a.jpg",
        "a_gt.png",
        "val",
    )
    make_raster(root / "set" / "test" / "sub" / "b_gt.png", np.ones((40, 40), np.uint8), crs=None)
    with pytest.warns(UserWarning, match=r"sub/b_gt\.png: 1 mask.s. have no image in .*\(b_gt\.png\)"):
        assert len(dataset.scenes("test")) == 1
    assert [path.name for path in dataset.masks_without_image()] == ["b_gt.png"]
    make_raster(root / "set" / "train" / "b.jpg", np.ones((3, 9, 9), np.uint8), crs=None, driver="JPEG")
    with pytest.raises(DataError, match=r"b\.jpg: each image must have a mask.*_gt\.png \(b\)"):
        dataset.scenes("train")


def test_split_folders_of_other_names(folder_dataset):
    root, config = folder_dataset
    (root / "set" / "val").rename(root / "set" / "valid")
    dataset = open_dataset(with_options(config, split_names={"val": "valid"}), root)
    assert [scene.id for scene in dataset.scenes("val")] == ["val0", "val1"]
    assert [scene.id for scene in dataset.scenes("train")] == ["train0", "train1"]
    for options, message in [
        ({"split_names": {"valid": "val"}}, "split_names"),
        ({"split_names": {"val": "x"}, "images": "i", "masks": "m", "split": FRACTIONS}, "with {split}"),
    ]:
        with pytest.raises(ConfigError, match=message):
            open_dataset(with_options(config, **options), root)


def test_formats(folder_dataset, make_raster):
    """JPEG, JPEG2000, PNG and VRT images beside GeoTIFF."""
    root, config = folder_dataset
    folder = root / "set" / "val"
    image = np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype=np.uint8)
    drivers = {"a.jpg": "JPEG", "b.JPEG": "JPEG", "c.jp2": "JP2OpenJPEG", "d.png": "PNG"}
    for number, (name, driver) in enumerate(drivers.items()):
        # JPEG2000 from arrays needs a copy of a file.
        source = make_raster(root / f"{name}.tif", image, origin=(5e5 + 100 * number, 9e5))
        rasterio.shutil.copy(source, folder / "images" / name, driver=driver)
    rasterio.shutil.copy(source, folder / "images" / "e.vrt", driver="VRT")
    for name in "abcde":
        make_raster(folder / "masks" / f"{name}.png", np.ones((64, 64), np.uint8), crs=None)
    dataset = open_dataset(config, root)
    assert [scene.id for scene in dataset.scenes("val")] == [*"abcde", "val0", "val1"]
    read = {scene.id: read_window(scene.image, (8, 8, 16, 16))[0] for scene in dataset.scenes("val")}
    np.testing.assert_array_equal(read["d"], image[:, 8:24, 8:24])
    np.testing.assert_array_equal(read["e"], image[:, 8:24, 8:24])
    assert all(values.shape == (3, 16, 16) for values in read.values())


def test_a_data_set_in_a_zip_archive(folder_dataset):
    root, config = folder_dataset
    plain = open_dataset(config, root)
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        for file in sorted((root / "set").rglob("*.tif")):
            archive.write(file, file.relative_to(root))
    zipped = open_dataset(config.model_copy(update={"root": f"/vsizip/{root}/set.zip/set"}), root)
    for split in ("train", "val", "test"):
        assert [one.id for one in zipped.scenes(split)] == [one.id for one in plain.scenes(split)]
    with zipfile.ZipFile(root / "flat.zip", "w") as file:
        for one in sorted((root / "set").rglob("*.tif")):
            file.write(one, one.relative_to(root / "set"))
    patterns = {"images": "{split}/images/{name}.tif", "masks": "{split}/**/masks/{name}"}
    for options in ({}, patterns):
        inside = config.model_copy(update={"root": "flat.zip", "options": options})
        assert [one.id for one in open_dataset(inside, root).scenes("val")] == ["val0", "val1"]
    assert str(zipped.scenes("val")[0].mask) == f"/vsizip/{root}/set.zip/set/val/masks/val0.tif"


def test_one_file_of_labels_for_all_images(folder_dataset, make_raster):
    root, config = folder_dataset
    image = np.ones((3, 40, 40), np.uint8)
    make_raster(root / "set" / "i" / "a.tif", image)
    make_raster(root / "set" / "i" / "b.tif", image)
    labels = make_raster(root / "set" / "labels.tif", np.ones((40, 40), np.uint8))
    alone = with_options(config, images="i", masks="labels.tif", split=FRACTIONS)
    assert [scene.mask for scene in open_dataset(alone, root).scenes("train")] == [labels, labels]
    make_raster(root / "set" / "train" / "i" / "a.tif", image)
    by_folder = with_options(config, images="{split}/i", masks="labels.tif")
    assert [scene.mask for scene in open_dataset(by_folder, root).scenes("train")] == [labels]
