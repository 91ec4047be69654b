"""Maps read back with rasterio: values, grid, nodata, colours, names, tiles, and nothing half written."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.transform import from_origin
from rio_cogeo.cogeo import cog_validate

from qhybrid.config import PredictionConfig
from qhybrid.data.classes import ClassMap
from qhybrid.data.raster import Window
from qhybrid.errors import ConfigError, DataError, WorkspaceError
from qhybrid.inference import (
    MapOptions,
    iterate_probabilities,
    predict_scene,
    probabilities_path,
    write_map,
)
from qhybrid.inference.part_folder import part_path

CLASSES = ClassMap(("field", "forest", "road"), ("#e0c050", "#207020", "#808080"), ((0,), (1,), (2,)))
GRID = {"crs": CRS.from_epsg(2180), "transform": from_origin(500_000, 300_000, 0.25, 0.25)}


pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture
def run(run):
    return replace(run, patch_size=32)


@pytest.fixture
def scene(write_raster):
    image = np.random.default_rng(4).integers(1, 256, (2, 300, 270), dtype=np.uint8)
    image[:, 250:, :40] = 0
    return write_raster(image, nodata=0, **GRID)


def test_map_of_classes(run, scene, tmp_path):
    (output,) = write_map(run, scene, tmp_path / "new" / "map.tif")
    expected = predict_scene(run, scene)
    with rasterio.open(output) as written:
        np.testing.assert_array_equal(written.read(1), expected)
        assert (written.read(1)[250:, :40] == 255).all()
        assert written.dtypes == ("uint8",)
        assert written.nodata == 255
        assert written.crs == GRID["crs"]
        assert written.transform == GRID["transform"]
        assert written.profile["tiled"]
        assert written.block_shapes == [(256, 256)]
        assert written.compression.name == "deflate"
        assert written.colormap(1)[1] == (0x20, 0x70, 0x20, 255)
        assert written.tags()["QHYBRID_RUN"] == "fake"
    assert "<Category>forest</Category>" in (tmp_path / "new" / "map.tif.aux.xml").read_text()
    assert sorted(path.name for path in output.parent.iterdir()) == ["map.tif", "map.tif.aux.xml"]


def test_map_of_probabilities(run, scene, tmp_path):
    labels, probabilities = write_map(run, scene, tmp_path / "map.tif", probabilities=True)
    assert probabilities == probabilities_path(labels) == tmp_path / "map_probabilities.tif"
    with rasterio.open(probabilities) as written, rasterio.open(labels) as map_of_classes:
        values = written.read()
        assert written.dtypes == ("float32",) * 3
        assert written.descriptions == ("field", "forest", "road")
        assert written.crs == GRID["crs"]
        assert written.transform == GRID["transform"]
        assert np.isnan(written.nodata)
        valid = map_of_classes.read(1) != 255
        np.testing.assert_array_equal(np.isfinite(values).all(axis=0), valid)
        np.testing.assert_allclose(values[:, valid].sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(values[:, valid].argmax(axis=0), map_of_classes.read(1)[valid])
    blocks = list(iterate_probabilities(run, scene))
    np.testing.assert_array_equal(values, np.concatenate([b.probabilities for b in blocks], axis=1))


def test_strips_write_the_same_map(run, scene, tmp_path):
    one = write_map(run, scene, tmp_path / "one.tif", probabilities=True)
    columns = {block.col for block in iterate_probabilities(run, scene, max_memory_mb=0.1)}
    assert len(columns) > 1
    strips = write_map(run, scene, tmp_path / "strips.tif", probabilities=True, max_memory_mb=1.0)
    for whole, cut in zip(one, strips):
        with rasterio.open(whole) as first, rasterio.open(cut) as second:
            np.testing.assert_allclose(second.read(), first.read(), atol=1e-5)


def test_file_has_no_holes(run, scene, tmp_path):
    (output,) = write_map(run, scene, tmp_path / "map.tif", options=MapOptions(file_format="gtiff"))
    with rasterio.open(output) as written:
        again = tmp_path / "again.tif"
        with rasterio.open(again, "w", **written.profile) as copy:
            copy.write(written.read())
    # Metadata and colour table apart, the file is as large as one written at once.
    assert output.stat().st_size <= again.stat().st_size + 4096


def test_scene_without_georeference(run, write_raster, tmp_path):
    (output,) = write_map(run, write_raster(np.ones((2, 9, 9), dtype=np.uint8)), tmp_path / "map.tif")
    with rasterio.open(output) as written:
        assert written.crs is None
        assert written.transform.is_identity


def test_single_class(run, write_raster, tmp_path):
    alone = ClassMap(("all",), ("#ffffff",), ((0,),))

    class Constant(type(run.model)):
        def forward(self, images):
            return super().forward(images)[:, :1]

    run = replace(run, classes=alone, model=Constant())
    path = write_raster(np.ones((2, 9, 9), dtype=np.uint8))
    labels, probabilities = write_map(run, path, tmp_path / "map.tif", probabilities=True)
    with rasterio.open(labels) as first, rasterio.open(probabilities) as second:
        assert (first.read() == 0).all()
        np.testing.assert_allclose(second.read(), 1, atol=1e-6)


def test_settings_reach_the_windows(run, scene, tmp_path):
    write_map(run, scene, tmp_path / "map.tif", settings=PredictionConfig(overlap=0, batch_size=5))
    assert max(run.model.batches) == 5


def test_a_failure_on_the_way_leaves_the_old_files(run, scene, tmp_path):
    output = tmp_path / "out" / "map.tif"
    write_map(run, scene, output, probabilities=True)
    before = {path: path.read_bytes() for path in output.parent.iterdir()}

    def stop(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    again = MapOptions(probabilities=True, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        write_map(run, scene, output, options=again, progress=stop)
    after = {path: path.read_bytes() for path in output.parent.iterdir() if path.is_file()}
    assert after == before
    assert part_path(output).is_dir()  # to go on from


def test_bad_scene_leaves_nothing(run, write_raster, tmp_path):
    path = write_raster(np.ones((1, 300, 300), dtype=np.uint8), "one_band.tif")
    with pytest.raises(DataError, match="one_band"):
        write_map(run, path, tmp_path / "out" / "map.tif")
    assert not (tmp_path / "out").exists()


def test_truncated_scene_leaves_nothing(run, scene, tmp_path):
    content = scene.read_bytes()
    scene.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"scene\.tif"):
        write_map(run, scene, tmp_path / "out" / "map.tif")
    assert not list(tmp_path.glob("out/*"))


def test_output_must_be_another_geotiff(run, scene, tmp_path):
    with pytest.raises(ConfigError, match=r"end in \.tif"):
        write_map(run, scene, tmp_path / "map.png")
    with pytest.raises(ConfigError, match="must not be the scene itself"):
        write_map(run, scene, scene)


def test_default_is_a_cloud_optimized_geotiff(run, write_raster, tmp_path):
    image = np.random.default_rng(4).integers(1, 256, (2, 700, 530), dtype=np.uint8)
    image[:, :300, :300] = 0
    scene, run = write_raster(image, nodata=0, **GRID), replace(run, patch_size=128)
    both = write_map(run, scene, tmp_path / "map.tif", probabilities=True)
    for file in both:
        assert cog_validate(file, strict=True) == (True, [], [])
    plain = MapOptions(probabilities=True, file_format="gtiff")
    for optimized, tiled in zip(both, write_map(run, scene, tmp_path / "plain.tif", options=plain)):
        with rasterio.open(optimized) as one, rasterio.open(tiled) as other:
            np.testing.assert_array_equal(one.read(), other.read())
            assert (one.overviews(1), other.overviews(1)) == ([2, 4], [])
            assert (one.crs, one.transform, one.tags()) == (
                other.crs,
                other.transform,
                other.tags() | {"QHYBRID_MAP": one.tags()["QHYBRID_MAP"]},
            )
    with rasterio.open(both[0]) as file:
        small = file.read(1, out_shape=(350, 265))
        assert set(np.unique(small)) <= {0, 1, 2, 255}  # no class that is a mean of others
        assert (small[:149, :149] == 255).all()
    with rasterio.open(both[1]) as file:
        whole = file.read(1)
        expected = whole[400:600, 400:500].reshape(100, 2, 50, 2).mean(axis=(1, 3))
        half = file.read(1, out_shape=(350, 265))
        np.testing.assert_allclose(half[200:300, 200:250], expected, atol=1e-5)


def test_equal_scenes_give_equal_bytes(run, scene, tmp_path):
    copy = tmp_path / "elsewhere" / "other_name.tif"
    copy.parent.mkdir()
    copy.write_bytes(scene.read_bytes())
    wanted = MapOptions(probabilities=True, uncertainty=True)
    first = write_map(run, scene, tmp_path / "a" / "map.tif", options=wanted)
    second = write_map(run, copy, tmp_path / "b" / "map.tif", options=wanted)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_existing_files_are_kept(run, scene, tmp_path):
    for name in ("map.tif", "map_probabilities.tif"):
        taken = tmp_path / name
        taken.write_text("mine")
        with pytest.raises(WorkspaceError, match=rf"{name} exists already.*--overwrite"):
            write_map(run, scene, tmp_path / "map.tif", probabilities=True)
        assert taken.read_text() == "mine"
        taken.unlink()
    (tmp_path / "map.tif").write_text("mine")
    write_map(run, scene, tmp_path / "map.tif", options=MapOptions(overwrite=True))
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.shape == (300, 270)


def test_mask_values_in_place_of_indices(run, scene, tmp_path):
    classes = ClassMap(CLASSES.names, CLASSES.colors, ((10, 11), (255,), (30,)))
    (output,) = write_map(
        replace(run, classes=classes), scene, tmp_path / "codes.tif", options=MapOptions(codes=True)
    )
    expected = predict_scene(run, scene)
    with rasterio.open(output) as file:
        values = file.read(1)
        assert (file.dtypes[0], file.nodata) == ("uint8", 0)  # 255 is the value of a class
        assert file.tags()["CLASS_255"] == "forest"
        assert file.colormap(1)[30] == (0x80, 0x80, 0x80, 255)
    for index, code in enumerate((10, 255, 30)):
        np.testing.assert_array_equal(values == code, expected == index)
    np.testing.assert_array_equal(values == 0, expected == 255)


def test_a_part_is_the_same_part_of_the_whole_map(run, scene, tmp_path):
    whole = write_map(run, scene, tmp_path / "whole.tif", probabilities=True)
    left, top = 500_000 + 61 * 0.25, 300_000 - 83 * 0.25
    box = (left, top - 150 * 0.25, left + 97 * 0.25, top)
    part = write_map(run, scene, tmp_path / "part.tif", options=MapOptions(probabilities=True, box=box))
    for one, other in zip(whole, part):
        with rasterio.open(one) as first, rasterio.open(other) as second:
            assert second.shape == (150, 97)
            assert second.transform == from_origin(left, top, 0.25, 0.25)
            expected = first.read()[:, 83:233, 61:158]
            if other is part[0]:
                np.testing.assert_array_equal(second.read(), expected)
            else:
                np.testing.assert_allclose(second.read(), expected, atol=1e-5)
    strips = iterate_probabilities(run, scene, area=Window(83, 61, 150, 97), max_memory_mb=0.02)
    blocks = list(strips)
    assert len({block.col for block in blocks}) > 1
    with rasterio.open(whole[0]) as file:
        labels = file.read(1)
    for block in blocks:
        row, col, height, width = block.window
        np.testing.assert_array_equal(block.labels(), labels[row : row + height, col : col + width])
    assert sum(block.valid.size for block in blocks) == 150 * 97


POINTS = [
    GroundControlPoint(0, 0, 10.0, 50.0),
    GroundControlPoint(0, 40, 10.4, 50.1),
    GroundControlPoint(30, 0, 9.9, 49.7),
    GroundControlPoint(30, 40, 10.3, 49.8),
]


def test_ground_control_points_are_kept(run, write_raster, tmp_path):
    scene = write_raster(np.ones((2, 30, 40), dtype=np.uint8))
    with rasterio.open(scene, "r+") as file:
        file.gcps = (POINTS, CRS.from_epsg(4326))
    with pytest.warns(UserWarning, match="not on a regular grid: ground control points"):
        files = write_map(run, scene, tmp_path / "map.tif", probabilities=True)
    for file in files:
        with rasterio.open(file) as written:
            points, crs = written.gcps
            assert crs == CRS.from_epsg(4326)
            assert [(p.row, p.col, p.x, p.y) for p in points] == [(p.row, p.col, p.x, p.y) for p in POINTS]
            assert written.transform.is_identity
    with pytest.raises(DataError, match=r"ground control points.*gdalwarp"):
        write_map(run, scene, tmp_path / "part.tif", options=MapOptions(box=(10, 49, 11, 50)))


def test_rational_polynomials_are_kept(run, write_raster, tmp_path):
    scene = write_raster(np.ones((2, 30, 40), dtype=np.uint8))
    one = [1.0, *[0.0] * 19]
    rpc = RPC(
        height_off=100,
        height_scale=500,
        lat_off=50,
        lat_scale=0.1,
        line_den_coeff=one,
        line_num_coeff=[0.0, 0, 1, *[0.0] * 17],
        line_off=15,
        line_scale=15,
        long_off=10,
        long_scale=0.1,
        samp_den_coeff=one,
        samp_num_coeff=[0.0, 1, *[0.0] * 18],
        samp_off=20,
        samp_scale=20,
    )
    with rasterio.open(scene, "r+") as file:
        file.rpcs = rpc
    with pytest.warns(UserWarning, match="rational polynomial"):
        (output,) = write_map(run, scene, tmp_path / "map.tif")
    with rasterio.open(output) as written:
        assert written.rpcs.to_dict()["line_off"] == 15
        assert written.rpcs.to_dict()["samp_num_coeff"] == rpc.samp_num_coeff


def test_a_map_without_any_class_is_told(run, write_raster, tmp_path):
    image = np.zeros((2, 40, 50), dtype=np.uint8)
    with pytest.warns(UserWarning, match=r"empty\.tif: no pixel of the scene has data.*Fix: look"):
        write_map(run, write_raster(image, "empty.tif", nodata=0, **GRID), tmp_path / "map.tif")
    image[:, :20] = 9
    scene = write_raster(image, "half.tif", nodata=0, **GRID)
    below = (500_000, 300_000 - 10, 500_012.5, 300_000 - 6)
    with pytest.warns(UserWarning, match=r"half\.tif: no pixel of the scene in the box has data"):
        write_map(run, scene, tmp_path / "part.tif", options=MapOptions(box=below, codes=True))
