"""Boxes of coordinates as windows of pixels."""

import numpy as np
import pytest
from rasterio.warp import transform_bounds

from qhybrid.data.map_area import box_window, parse_box, part_of
from qhybrid.data.raster import Window, raster_info
from qhybrid.errors import ConfigError, DataError


@pytest.fixture
def info(tmp_path, make_raster):
    grid = {"crs": "EPSG:32633", "origin": (400_000, 5_000_000), "pixel": 10}
    return raster_info(make_raster(tmp_path / "scene.tif", np.ones((1, 100, 80), np.uint8), **grid))


def box(info, row, col, height, width):
    left, bottom = 400_000 + 10 * col, 5_000_000 - 10 * (row + height)
    return left, bottom, left + 10 * width, bottom + 10 * height


@pytest.mark.parametrize("window", [(0, 0, 100, 80), (7, 9, 1, 1), (90, 70, 10, 10)])
def test_pixel_edges_give_exactly_those_pixels(info, window):
    assert box_window(info, box(info, *window)) == window


def test_parts_of_pixels_count_and_what_lies_outside_does_not(info):
    left, bottom, right, top = box(info, 7, 9, 3, 4)
    assert box_window(info, (left + 4, bottom - 4, right + 4, top - 4)) == (7, 9, 4, 5)
    assert box_window(info, (left, bottom - 1e6, right + 1e6, top)) == (7, 9, 93, 71)


def test_longitude_and_latitude(info):
    wanted = box(info, 20, 30, 10, 10)
    degrees = transform_bounds(info.crs, "EPSG:4326", *wanted)
    row, col, height, width = box_window(info, degrees, "EPSG:4326")
    # The box around a turned box is larger, by little here.
    assert 18 <= row <= 20
    assert 28 <= col <= 30
    assert min(row + height - 30, col + width - 40) >= 0
    assert max(height, width) <= 14


def test_boxes_that_cannot_be_meant(info):
    with pytest.raises(
        DataError,
        match="reaches from 400000,4999000 to 400800,5000000 in EPSG:32633",
    ):
        box_window(info, (10, 45, 11, 46))
    with pytest.raises(ConfigError, match=r"--bbox-crs must be a coordinate system"):
        box_window(info, (10, 45, 11, 46), "EPSG:none")
    for text in ("1,2,3", "1,2,x,4", "3,2,1,4", "1,4,3,2", "nan,0,1,1", "0,0,inf,1"):
        with pytest.raises(ConfigError, match="left,bottom,right,top"):
            parse_box(text)
    assert parse_box("1,-2.5,3,4e3") == (1, -2.5, 3, 4000)


def test_scenes_without_coordinates_count_pixels(tmp_path, make_raster):
    info = raster_info(make_raster(tmp_path / "scene.png", np.ones((3, 50, 60), np.uint8), crs=None))
    assert box_window(info, (10, 5, 30, 20)) == (5, 10, 15, 20)
    with pytest.raises(ConfigError, match="has none"):
        box_window(info, (10, 5, 30, 20), "EPSG:4326")


def test_grid_of_a_part(info):
    part = part_of(info, Window(7, 9, 20, 30))
    assert part.shape == (20, 30)
    assert part.transform * (0, 0) == (400_090, 4_999_930)
    np.testing.assert_array_equal(part.corners(), info.corners(Window(7, 9, 20, 30)))
    assert part_of(info, Window(0, 0, 100, 80)) is info
