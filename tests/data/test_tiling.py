import json

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.config import DataConfig
from qhybrid.data.classes import ClassMap
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import Scene
from qhybrid.data.tiling import MANIFEST, tile_dataset, tile_scene, tile_windows
from qhybrid.errors import DataError, WorkspaceError

CLASSES = ClassMap(("a", "b"), ("#000000", "#ffffff"), ((1,), (700,)), (0,))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70))
def test_windows_cover_each_pixel_once_and_count_row_by_row(height, width, size):
    count = np.zeros((height + size, width + size), dtype=int)
    windows = list(tile_windows(height, width, size))
    for _, (row, col, tall, wide) in windows:
        count[row : row + tall, col : col + wide] += 1
    assert (count[:height, :width] == 1).all()
    assert [number for number, _ in windows] == list(range(len(windows)))
    assert [window[:2] for _, window in windows] == [
        (row, col) for row in range(0, height, size) for col in range(0, width, size)
    ]


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    size=st.sampled_from([16, 32]),
    bands=st.sampled_from([1, 3]),
    dtype=st.sampled_from(["uint8", "uint16"]),
    seed=st.integers(0, 100),
)
def test_round_trip(tmp_path_factory, make_raster, height, width, size, bands, dtype, seed):
    folder = tmp_path_factory.mktemp("tiles")
    random = np.random.default_rng(seed)
    image = random.integers(0, np.iinfo(dtype).max, (bands, height, width)).astype(dtype)
    image[:, random.random((height, width)) < 0.2] = 9
    mask = random.choice(np.array([0, 1, 700], np.uint16), (height, width))
    scene = Scene(
        "s", make_raster(folder / "i.tif", image, nodata=9), make_raster(folder / "m.tif", mask), "here"
    )
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    entries = tile_scene(scene, folder / "images", folder / "masks", CLASSES, size=size)
    seen, classes_seen = np.zeros_like(image), np.zeros((height, width), np.uint16)
    for entry in entries:
        row, col, _, _ = entry["window"]
        with rasterio.open(folder / "images" / f"{entry['id']}.png") as file:
            data, valid = file.read()[:bands], file.dataset_mask() > 0
        with rasterio.open(folder / "masks" / f"{entry['id']}.png") as file:
            labels, labelled = file.read(1), file.dataset_mask() > 0
        part = np.s_[row : row + size, col : col + size]
        inside = np.s_[: height - row, : width - col]
        seen[:, *part] = (data * valid)[:, *inside]
        classes_seen[part] = (labels * labelled)[inside]
    expected = np.where((image == 9).all(axis=0), 0, image)
    np.testing.assert_array_equal(seen, expected)
    covered = np.zeros((height, width), bool)
    for entry in entries:
        covered[entry["window"][0] :, entry["window"][1] :][:size, :size] = True
    np.testing.assert_array_equal(classes_seen, np.where(covered, mask, 0))
    assert not expected[:, ~covered].any()


def test_a_tiled_data_set_is_read_back(folder_dataset):
    root, config = folder_dataset
    dataset = open_dataset(config, root)
    done = []
    folder = tile_dataset(dataset, root / "tiles", size=64, progress=lambda *step: done.append(step))
    assert done[-1] == (6, 6)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert len(manifest["tiles"]) == 6 * 4
    assert ClassMap.from_dict(manifest["classes"]) == dataset.classes
    tiled = open_dataset(DataConfig(dataset="geotiff_folder", root="tiles", classes=config.classes), root)
    assert [scene.id for scene in tiled.scenes("val")] == [f"val{n}_{k}" for n in range(2) for k in range(4)]
    from qhybrid.data.scenes import SceneReader

    whole = SceneReader(dataset.scenes("val")[1], dataset.classes)
    for number, scene in enumerate(tiled.scenes("val")[4:]):
        reader = SceneReader(scene, tiled.classes)
        window = (number // 2 * 64, number % 2 * 64, 64, 64)
        (raw, valid), (expected, inside) = reader.read((0, 0, 64, 64)), whole.read(window)
        np.testing.assert_array_equal(raw, expected)
        np.testing.assert_array_equal(valid, inside)
        np.testing.assert_array_equal(reader.read_labels((0, 0, 64, 64)), whole.read_labels(window))
    entry = next(tile for tile in manifest["tiles"] if tile["id"] == "val1_3")
    assert (entry["split"], entry["scene"], entry["window"]) == ("val", "val1", [64, 64, 64, 64])
    assert entry["transform"] == [0.5, 0.0, 500_132.0, 0.0, -0.5, 499_868.0]
    assert rasterio.CRS.from_wkt(entry["crs"]).to_epsg() == 2180
    assert not list(folder.rglob("*.xml"))


def test_partial_and_empty_tiles(tmp_path, make_raster):
    image = np.full((1, 40, 40), 5, np.uint8)
    image[:, :16, :16] = 0
    mask = make_raster(tmp_path / "m.tif", np.ones((40, 40), np.uint8))
    scene = Scene("s", make_raster(tmp_path / "i.tif", image, nodata=0), mask, "here")
    (tmp_path / "out").mkdir()
    (tmp_path / "out2").mkdir()
    whole = tile_scene(scene, tmp_path / "out", tmp_path / "out2", CLASSES, size=16, partial=False)
    assert [entry["id"] for entry in whole] == ["s_1", "s_3", "s_4"]
    every = tile_scene(scene, tmp_path / "out", tmp_path / "out2", CLASSES, size=16)
    assert len(every) == 8


def test_what_png_cannot_hold_is_refused(tmp_path, make_raster):
    mask = make_raster(tmp_path / "m.tif", np.ones((8, 8), np.uint8))
    for image in (np.ones((2, 8, 8), np.uint8), np.ones((3, 8, 8), np.float32)):
        scene = Scene("s", make_raster(tmp_path / "i.tif", image), mask, "here")
        with pytest.raises(DataError, match=r"i.tif: PNG tiles must have 1 or 3 bands"):
            tile_scene(scene, tmp_path, tmp_path, CLASSES)
    far = ClassMap(("a",), ("#000000",), ((-5,),))
    mask = make_raster(tmp_path / "m.tif", np.full((8, 8), -5, np.int16))
    scene = Scene("s", make_raster(tmp_path / "i.tif", np.ones((1, 8, 8), np.uint8)), mask, "here")
    with pytest.raises(DataError, match="0 to 65535"):
        tile_scene(scene, tmp_path, tmp_path, far)


def test_nothing_is_left_half_done(folder_dataset, make_raster):
    root, config = folder_dataset
    make_raster(
        root / "set" / "test" / "masks" / "test1.tif",
        np.full((96, 80), 99, np.uint8),
        origin=(500_100, 499_800),
    )
    with pytest.raises(DataError, match="99 is not"):
        tile_dataset(open_dataset(config, root), root / "tiles")
    assert sorted(path.name for path in root.iterdir()) == ["set"]
    (root / "tiles").mkdir()
    (root / "tiles" / "mine.txt").write_text("x")
    with pytest.raises(WorkspaceError, match="not empty"):
        tile_dataset(open_dataset(config, root), root / "tiles", splits=("train",))
