import resource
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from qhybrid.data.classes import ClassMap
from qhybrid.data.raster import raster_info
from qhybrid.data.raster_writer import MapWriter
from qhybrid.errors import DataError, WorkspaceError

CLASSES = ClassMap(("field & meadow", "wood", "water"), ("#c8b060", "#206020", "#2040c0"), ((1,), (2,), (3,)))


@pytest.fixture
def like(tmp_path, make_raster):
    return raster_info(make_raster(tmp_path / "scene.tif", np.ones((3, 300, 530), np.uint8), nodata=0))


def left_behind(folder):
    return sorted(file.name for file in folder.iterdir() if file.name != "scene.tif")


def test_label_map(tmp_path, like):
    labels = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), (300, 530))
    path = tmp_path / "map.tif"
    with MapWriter(path, like, CLASSES, tags={"MODEL": "hq_unet"}) as writer:
        for row in range(0, 300, 70):
            writer.write(labels[row : row + 70], row)
        assert not path.exists()
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), labels)
        assert (file.crs, file.transform, file.nodata) == (like.crs, like.transform, 255)
        assert file.profile["tiled"]
        assert file.compression.value.lower() == "deflate"
        assert file.block_shapes == [(256, 256)]
        assert file.colorinterp == (ColorInterp.palette,)
        colors = file.colormap(1)
        assert [colors[i] for i in range(3)] == [(200, 176, 96, 255), (32, 96, 32, 255), (32, 64, 192, 255)]
        assert colors[255][3] == 0
        assert file.tags()["MODEL"] == "hq_unet"
        assert file.tags()["CLASS_0"] == "field & meadow"
    root = ElementTree.parse(tmp_path / "map.tif.aux.xml").getroot()
    assert [entry.text for entry in root.iter("Category")] == list(CLASSES.names)
    assert left_behind(tmp_path) == ["map.tif", "map.tif.aux.xml"]


def test_gdal_finds_the_category_names(tmp_path, like):
    """GDAL's own VRT driver copies what it takes for the category names of a band."""
    with MapWriter(tmp_path / "map.tif", like, CLASSES) as writer:
        writer.write(np.zeros((300, 530), np.uint8), 0)
    from rasterio.shutil import copy

    copy(tmp_path / "map.tif", tmp_path / "map.vrt", driver="VRT")
    assert "<Category>field &amp; meadow</Category>" in (tmp_path / "map.vrt").read_text()


def test_probabilities_in_column_strips(tmp_path, like):
    values = np.random.default_rng(0).random((3, 300, 530)).astype(np.float32)
    values[:, :20, :20] = np.nan
    with MapWriter(tmp_path / "p.tif", like, CLASSES, probabilities=True) as writer:
        for col in (0, 256, 512):
            for row in (0, 256):
                writer.write(values[:, row : row + 256, col : col + 256].astype(np.float64), row, col)
    with rasterio.open(tmp_path / "p.tif") as file:
        np.testing.assert_array_equal(file.read(), values)
        assert file.descriptions == CLASSES.names
        assert file.dtypes == ("float32",) * 3
        assert np.isnan(file.nodata)
        assert not file.dataset_mask()[:20, :20].any()
    assert left_behind(tmp_path) == ["p.tif"]


def test_scenes_without_georeference_and_tiny_ones(tmp_path, make_raster):
    like = raster_info(make_raster(tmp_path / "scene.png", np.ones((3, 5), np.uint8), crs=None))
    with MapWriter(tmp_path / "map.tif", like, CLASSES) as writer:
        writer.write(np.full((3, 5), 2, np.uint8), 0)
    info = raster_info(tmp_path / "map.tif")
    assert (info.crs, info.shape) == (None, (3, 5))


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing_and_keeps_the_old_map(tmp_path, like, problem):
    path = tmp_path / "map.tif"
    path.write_text("old")

    def interrupted():
        with MapWriter(path, like, CLASSES) as writer:
            writer.write(np.zeros((300, 530), np.uint8), 0)
            raise problem

    with pytest.raises(problem):
        interrupted()
    assert path.read_text() == "old"
    assert left_behind(tmp_path) == ["map.tif"]


def test_a_map_with_gaps_is_an_error_and_leaves_nothing(tmp_path, like):
    with (
        pytest.raises(DataError, match=r"map.tif: each pixel.* 53000 of 159000"),
        MapWriter(tmp_path / "map.tif", like, CLASSES) as writer,
    ):
        writer.write(np.zeros((100, 530), np.uint8), 0)
    assert left_behind(tmp_path) == []


def test_wrong_blocks_are_refused(tmp_path, like):
    for block, row, message in (
        (np.zeros((10, 530), np.uint8), 295, "must lie in the map"),
        (np.zeros((3, 10, 530), np.float32), 0, "1 band"),
    ):
        with pytest.raises(DataError, match=message), MapWriter(tmp_path / "m.tif", like, CLASSES) as writer:
            writer.write(block, row)
    with (
        pytest.raises(DataError, match="3 band"),
        MapWriter(tmp_path / "m.tif", like, CLASSES, True) as writer,
    ):
        writer.write(np.zeros((10, 530), np.float32), 0)
    assert left_behind(tmp_path) == []


def test_a_folder_that_cannot_be_written(tmp_path, like):
    (tmp_path / "file").write_text("x")
    with pytest.raises((WorkspaceError, OSError)), MapWriter(tmp_path / "file" / "map.tif", like, CLASSES):
        pass


_FULL_DISK = """
import resource, signal, sys
import numpy as np
from qhybrid.data.classes import ClassMap
from qhybrid.data.raster import raster_info
from qhybrid.data.raster_writer import MapWriter
from qhybrid.errors import WorkspaceError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
like = raster_info(sys.argv[1])
classes = ClassMap(("a", "b"), ("#000000", "#ffffff"), ((1,), (2,)))
values = np.random.default_rng(0).random((2, *like.shape)).astype(np.float32)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    with MapWriter(sys.argv[2], like, classes, probabilities=True) as writer:
        writer.write(values, 0)
except WorkspaceError as error:
    print("refused:", error)
"""


def test_a_full_disk_is_noticed(tmp_path, like):
    """A limit on the file size stands in for the full disk: GDAL reports it on closing, in its log alone."""
    assert hasattr(resource, "RLIMIT_FSIZE")
    assert signal.SIGXFSZ
    arguments = [sys.executable, "-c", _FULL_DISK, str(like.path), str(tmp_path / "map.tif")]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert "refused:" in result.stdout, result.stderr
    assert "free disk space" in result.stdout
    assert left_behind(tmp_path) == []
