"""BigTIFF and 16-bit scenes of many bands, and how much of a scene GDAL keeps while it is mapped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio

from qhybrid.data.raster_file import LEAST_CACHE_MB, bounded_cache
from qhybrid.data.statistics import BandStatistics
from qhybrid.inference import MapOptions, predict_scene, write_map

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
BANDS = 8


@pytest.fixture
def many_bands(run):
    """A model of eight bands of 16 bits."""
    numbers = tuple(range(1, BANDS + 1))
    top = 65535.0
    same = [(value,) * BANDS for value in (0.5 * top, 0.2 * top, 0.0, top)]
    return replace(
        run, model=type(run.model)(BANDS), statistics=BandStatistics(numbers, *same, 1), bands=numbers
    )


def image_of(height=70, width=90):
    return np.random.default_rng(2).integers(1, 65536, (BANDS, height, width), dtype=np.uint16)


def test_a_bigtiff_of_16_bits_is_mapped_as_any_other(many_bands, write_raster, tmp_path):
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32}
    plain = write_raster(image_of(), "plain.tif")
    big = write_raster(image_of(), "big.tif", BIGTIFF="YES", **tiles)
    heads = [path.read_bytes()[:4] for path in (plain, big)]
    assert [int.from_bytes(head[2:], "little") for head in heads] == [42, 43]  # TIFF 6.0, BigTIFF
    expected = predict_scene(many_bands, plain)
    for path in (plain, big):
        (file,) = write_map(many_bands, path, tmp_path / f"map_{path.name}", options=MapOptions())
        with rasterio.open(file) as handle:
            assert np.array_equal(handle.read(1), expected)
    # Values above 32767 count as such: what looks at their high byte alone, or as negative, maps otherwise.
    low = write_raster(image_of() // 2, "low.tif")
    assert not np.array_equal(predict_scene(many_bands, low), expected)


def cache_bytes():
    from rasterio.env import getenv

    return getenv()["GDAL_CACHEMAX"]


@pytest.mark.parametrize("rows", [16, 33, 64])
def test_the_cache_holds_the_tiles_of_a_row_of_windows(write_raster, rows):
    """A row of windows may begin in the last row of a tile: one more row of tiles than its pixels have."""
    height, width, tile = 320, 8000, 32
    path = write_raster(
        np.zeros((BANDS, height, width), np.uint16), "scene.tif", tiled=True, blockxsize=tile, blockysize=tile
    )
    touched = max(
        sum(top < row + rows and top + tile > row for top in range(0, height, tile))
        for row in range(height - rows)
    )
    needed = touched * tile * width * BANDS * 2
    with bounded_cache(path, rows):
        kept = cache_bytes() * 2**20
    assert needed <= kept <= max(2 * needed, (LEAST_CACHE_MB + 1) * 2**20)


def test_a_small_file_has_a_small_cache(write_raster):
    path = write_raster(np.zeros((1, 40, 40), np.uint8), "scene.tif")
    with bounded_cache(path, 16):
        assert cache_bytes() == LEAST_CACHE_MB
