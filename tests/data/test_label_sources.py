import numpy as np
import pytest

from qhybrid.data.classes import ClassMap
from qhybrid.data.label_sources import is_vector_file, label_kind
from qhybrid.data.pairs import MaskReader, check_pair
from qhybrid.data.raster import raster_info
from qhybrid.plugins import temporary_plugins

PLUGIN = """
import numpy as np

from qhybrid.data import LabelSource, register_label_source
from qhybrid.errors import DataError


class NumpyLabels(LabelSource):
    def __init__(self, path, classes, like, fit):
        self.values, self.path, self.classes = np.load(path), str(path), classes
        if like is not None and self.values.shape != like.shape:
            raise DataError(f"{path}: has another size than {like.path}.")

    def read(self, window):
        rows = slice(window.row, window.row + window.height)
        cols = slice(window.col, window.col + window.width)
        return self.classes.encode(self.values[rows, cols], self.path)


register_label_source("numpy", (".npy",), NumpyLabels)
"""
CLASSES = ClassMap(("a", "b"), ("#000000",) * 2, ((1,), (2,)))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.tif", "raster"),
        ("a", "raster"),
        ("a.GPKG", "vector"),
        ("x/a.geojson", "vector"),
        ("https://host/a.geojson?token=a.tif", "vector"),
        ("/vsizip/labels.zip/a.shp", "vector"),
    ],
)
def test_kinds_by_suffix(name, kind):
    assert label_kind(name) == kind
    assert is_vector_file(name) == (kind == "vector")


def test_a_plugin_adds_a_kind(tmp_path, make_raster):
    image = make_raster(tmp_path / "i.tif", np.ones((4, 5), np.uint8))
    labels = np.random.default_rng(0).integers(1, 3, (4, 5))
    np.save(tmp_path / "m.npy", labels)
    (tmp_path / "plugin.py").write_text(PLUGIN)
    with temporary_plugins(tmp_path / "plugin.py"):
        check_pair(image, tmp_path / "m.npy", CLASSES)
        found = MaskReader(tmp_path / "m.npy", CLASSES, like=raster_info(image)).read((1, 2, 4, 5))
    expected = np.full((4, 5), 255)
    expected[:3, :3] = labels[1:, 2:] - 1
    np.testing.assert_array_equal(found, expected)
    assert label_kind("m.npy") == "raster"
