"""Where the bands of a stack have no data."""

import numpy as np
import pytest
import rasterio

from qhybrid.data.band_stack import BandSource, stack_bands
from qhybrid.data.raster import read_window
from qhybrid.errors import DataError

ALL = (0, 0, 8, 8)


@pytest.fixture
def masked(tmp_path, make_raster):
    """Two files of one grid: without data in their upper rows, and in their left columns."""
    found = []
    for name, hidden, internal in (("a", np.s_[:3], True), ("b", np.s_[:, :2], False)):
        path = make_raster(tmp_path / f"{name}.tif", np.full((8, 8), 100, np.uint16))
        mask = np.full((8, 8), 255, np.uint8)
        mask[hidden] = 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as file:
            file.write_mask(mask)
        found.append(BandSource(name, path))
    return found


def test_masks_of_all_files_hold(masked):
    for sources, pixels in ((masked[:1], 40), (masked[1:], 48), (masked, 30)):
        data, valid = read_window(stack_bands(sources), ALL)
        assert (data == 100).all()
        assert valid.sum() == pixels


def test_alpha_is_a_mask_and_no_band_of_data(tmp_path, make_raster):
    """As in a single file: which of both a fourth band is must be said."""
    bands = np.full((4, 8, 8), 90, np.uint8)
    bands[3], bands[3, :4] = 255, 0
    picture = make_raster(tmp_path / "rgba.tif", bands, alpha=4)
    infrared = make_raster(tmp_path / "nir.tif", np.full((8, 8), 7, np.uint8))
    file = stack_bands([BandSource("visual", picture), BandSource("nir", infrared)])
    with pytest.raises(DataError, match=r"band 4 is marked as alpha"):
        read_window(file, ALL)
    data, valid = read_window(file, ALL, bands=(1, 5))
    assert valid[4:].all()
    assert not valid[:4].any()
    assert (data[1] == 7).all()


def test_ground_that_a_file_does_not_cover_has_no_data(tmp_path, make_raster):
    fine = make_raster(tmp_path / "fine.tif", np.full((8, 8), 500, np.uint16))
    for nodata in (None, 0):
        path, values = tmp_path / f"part{nodata}.tif", np.full((2, 4), 9, np.uint16)
        part = make_raster(path, values, pixel=1.0, nodata=nodata)
        file = stack_bands([BandSource("fine", fine), BandSource("part", part)])
        data, valid = read_window(file, ALL)
        assert valid[:4].all()
        assert not valid[4:].any()
        assert (data[:, :4] == [[[500]], [[9]]]).all()


@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "average"])
def test_nodata_that_only_the_item_says_is_not_mixed_with_data(tmp_path, make_raster, resampling):
    fine = make_raster(tmp_path / "fine.tif", np.full((8, 8), 500, np.uint16))
    values = np.full((4, 4), 1000, np.uint16)
    values[0, :2] = 0
    coarse = make_raster(tmp_path / "coarse.tif", values, pixel=1.0)
    own = make_raster(tmp_path / "own.tif", values, pixel=1.0, nodata=0)
    said = BandSource("coarse", coarse, None, ({"nodata": 0, "scale": 0.1},))
    data, _ = read_window(stack_bands([BandSource("fine", fine), said], resampling), ALL)
    assert set(np.unique(data[1])) == {0, 1000}
    right, _ = read_window(stack_bands([BandSource("fine", fine), BandSource("own", own)], resampling), ALL)
    np.testing.assert_array_equal(data, right)
    with rasterio.open(stack_bands([BandSource("fine", fine), said], resampling)) as file:
        assert (file.nodatavals, file.scales) == ((None, 0.0), (1.0, 0.1))


def test_stacks_of_whole_files_need_no_mask(tmp_path, make_raster):
    fine = make_raster(tmp_path / "fine.tif", np.full((8, 8), 500, np.uint16))
    assert "MaskBand" not in stack_bands([BandSource("a", fine), BandSource("b", fine)]).read_text()
