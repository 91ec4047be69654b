"""Maps read back with rasterio: values, grid, nodata, colours, names, tiles, and nothing half written."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

from qhybrid.config import PredictionConfig
from qhybrid.data.classes import ClassMap
from qhybrid.errors import ConfigError, DataError
from qhybrid.inference import iterate_probabilities, predict_scene, probabilities_path, write_map

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
    (output,) = write_map(run, scene, tmp_path / "map.tif")
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

    with pytest.raises(KeyboardInterrupt):
        write_map(run, scene, output, probabilities=True, progress=stop)
    assert {path: path.read_bytes() for path in output.parent.iterdir()} == before


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
