import re

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from qhybrid.data.classes import ClassMap
from qhybrid.data.landcover_ai import LANDCOVER_CLASSES
from qhybrid.data.pairs import MaskReader, check_pair
from qhybrid.errors import DataError

CLASSES = ClassMap(("a", "b"), ("#000000", "#ffffff"), ((1,), (2,)))


def ones(*shape, dtype=np.uint8):
    return np.ones(shape, dtype=dtype)


def test_fitting_pairs_pass(tmp_path, make_raster):
    image = make_raster(tmp_path / "image.tif", ones(3, 6, 8))
    for name, options in (("same.tif", {}), ("no_place.tif", {"crs": None}), ("plain.png", {"crs": None})):
        first, second = check_pair(image, make_raster(tmp_path / name, ones(6, 8), **options))
        assert first.shape == second.shape


def test_sizes_must_agree(tmp_path, make_raster):
    image = make_raster(tmp_path / "image.tif", ones(3, 6, 8))
    mask = make_raster(tmp_path / "mask.tif", ones(6, 7))
    found = rf"(?s){re.escape(str(image))}.*6 x 8.*{re.escape(str(mask))}.*6 x 7"
    with pytest.raises(DataError, match=found):
        check_pair(image, mask)


@pytest.mark.parametrize(
    "options",
    [{"origin": (500_001.0, 500_000.0)}, {"pixel": 0.6}, {"crs": "EPSG:2178"}],
    ids=["moved", "scaled", "crs"],
)
def test_places_must_agree(tmp_path, make_raster, options):
    image = make_raster(tmp_path / "image.tif", ones(3, 6, 8))
    mask = make_raster(tmp_path / "mask.tif", ones(6, 8), **options)
    found = rf"(?s){re.escape(str(image))}.*{re.escape(str(mask))}.*pixels apart"
    with pytest.raises(DataError, match=found):
        check_pair(image, mask)


def test_rounding_of_coordinates_is_no_difference(tmp_path, make_raster):
    image = make_raster(tmp_path / "image.tif", ones(3, 6, 8))
    check_pair(image, make_raster(tmp_path / "mask.tif", ones(6, 8), origin=(500_000.0 + 1e-5, 500_000.0)))


def test_the_same_crs_in_other_words_is_equal(tmp_path, make_raster):
    image = make_raster(tmp_path / "image.tif", ones(3, 6, 8))
    words = "+proj=tmerc +lat_0=0 +lon_0=19 +k=0.9993 +x_0=500000 +y_0=-5300000 +ellps=GRS80 +units=m"
    check_pair(image, make_raster(tmp_path / "mask.tif", ones(6, 8), crs=words))


def test_masks_with_equal_bands_and_with_different_ones(tmp_path, make_raster):
    labels = np.array([[1, 2], [2, 1]], dtype=np.uint8)
    same = make_raster(tmp_path / "same.tif", np.stack([labels] * 3))
    np.testing.assert_array_equal(MaskReader(same, CLASSES).read((0, 0, 2, 2)), labels - 1)
    other = make_raster(tmp_path / "other.tif", np.stack([labels, labels, 3 - labels]))
    with pytest.raises(DataError, match=r"other.tif: a mask must have one band or equal ones"):
        MaskReader(other, CLASSES).read((0, 0, 2, 2))


def test_alpha_nodata_and_overhang_are_ignored(tmp_path, make_raster):
    labels = np.array([[1, 2], [2, 9]], dtype=np.uint8)
    bands = np.stack([labels, [[255, 0], [255, 0]]]).astype(np.uint8)
    with_alpha = make_raster(tmp_path / "alpha.tif", bands, alpha=2)
    np.testing.assert_array_equal(MaskReader(with_alpha, CLASSES).read((0, 0, 2, 2)), [[0, 255], [1, 255]])
    nodata = make_raster(tmp_path / "nodata.tif", labels, nodata=9)
    reader = MaskReader(nodata, CLASSES)
    np.testing.assert_array_equal(reader.read((0, 0, 3, 2)), [[0, 1], [1, 255], [255, 255]])
    np.testing.assert_array_equal(reader.read((-2, -2, 2, 2)), [[255, 255], [255, 255]])


def test_nodata_that_is_a_class_counts(tmp_path, make_raster):
    path = make_raster(tmp_path / "mask.tif", np.array([[1, 2]], dtype=np.uint8), nodata=1)
    np.testing.assert_array_equal(MaskReader(path, CLASSES).read((0, 0, 1, 2)), [[0, 1]])


def test_float_masks_with_nan(tmp_path, make_raster):
    path = make_raster(tmp_path / "mask.tif", np.array([[1, np.nan, 2]], dtype=np.float32))
    np.testing.assert_array_equal(MaskReader(path, CLASSES).read((0, 0, 1, 3)), [[0, 255, 1]])


def test_unknown_values_name_the_file(tmp_path, make_raster):
    path = make_raster(tmp_path / "mask.tif", np.array([[1, 5]], dtype=np.uint8))
    with pytest.raises(DataError, match=r"mask.tif: every mask value must be in the class map, but 5 is not"):
        MaskReader(path, CLASSES).read((0, 0, 1, 2))


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["N-33-60-D-c-4-2.tif", "N-34-97-D-c-2-4.tif"])
def test_real_landcover_masks(shared_data, name):
    """One has a CRS in words, the other none and three equal bands."""
    path = shared_data / "landcoverai_masks" / name
    window = (1000, 1500, 700, 900)
    labels = MaskReader(path, ClassMap.from_config(LANDCOVER_CLASSES)).read(window)
    with rasterio.open(path) as file:
        expected = file.read(1, window=rasterio.windows.Window(1500, 1000, 900, 700))
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.shared_data
def test_a_real_mask_with_its_crs_in_words_fits_an_image_in_epsg_2180(shared_data, tmp_path):
    path = shared_data / "landcoverai_masks" / "N-33-60-D-c-4-2.tif"
    with rasterio.open(path) as file:
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1}
        profile |= {"height": file.height, "width": file.width}
        place = {"crs": "EPSG:2180", "transform": file.transform, "sparse_ok": True}
    with rasterio.open(tmp_path / "image.tif", "w", **profile, **place):
        pass
    check_pair(tmp_path / "image.tif", path)


def test_control_points_at_another_place(tmp_path):
    """Two files without a transform are not at one place because they are of one size."""

    def placed(name, west):
        corners = ((0, 0, west, 50.0), (0, 8, west + 0.1, 50.0), (8, 0, west, 49.9))
        size = {"height": 8, "width": 8, "count": 1, "dtype": "uint8"}
        with rasterio.open(tmp_path / name, "w", driver="GTiff", **size) as file:
            file.gcps = ([GroundControlPoint(*corner) for corner in corners], CRS.from_epsg(4326))
        return tmp_path / name

    image = placed("image.tif", 20.0)
    check_pair(image, placed("near.tif", 20.005))
    with pytest.raises(DataError, match=r"ground control points of .*image.tif.* 80.0 pixels apart"):
        check_pair(image, placed("far.tif", 21.0))
