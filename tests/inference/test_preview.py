"""Pages to look at maps: no network but tiles, the picture's place, legend."""

import base64
import io
import re

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin
from rasterio.warp import transform as transform_coordinates

from qhybrid.data.classes import ClassMap
from qhybrid.data.map_bands import class_bands
from qhybrid.data.map_picture import map_picture
from qhybrid.inference.preview import BASES, read_description, write_preview

CLASSES = ClassMap(("field", "wood <&>"), ("#c8b060", "#206020"), ((0,), (1,)))
BANDS = class_bands(CLASSES)
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture
def labels():
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 30:], labels[:10, :10] = 1, 255
    return labels


def picture_of(page):
    (encoded,) = re.findall(r"data:image/png;base64,([^\"]+)", page)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def test_page_fetches_nothing_but_tiles(write_raster, labels, tmp_path):
    path = write_raster(labels[None], nodata=255, crs="EPSG:32633", transform=from_origin(4e5, 5e6, 10, 10))
    page = write_preview(path, tmp_path / "map.html", BANDS, "abc 1").read_text()
    assert set(re.findall(r"https?://[^\"']+", page)) == {base["url"] for base in BASES if base["url"]}
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "@import" not in page
    assert "url(" not in page
    assert "wood &lt;&amp;&gt;" in page
    assert "#c8b060" in page
    assert read_description(tmp_path / "map.html") == "abc 1"
    assert write_preview(path, tmp_path / "b.html", BANDS, "abc 1").read_text() == page.replace("a.tif", "b")


def test_picture_lies_where_the_map_does(write_raster, labels):
    path = write_raster(labels[None], nodata=255, crs="EPSG:32633", transform=from_origin(4e5, 5e6, 10, 10))
    picture = map_picture(path, BANDS)
    pixels = np.asarray(Image.open(io.BytesIO(picture.png)))
    left, top, right, bottom = picture.bounds
    for row, col in ((5, 15), (20, 10), (35, 28), (5, 40), (35, 55), (3, 3)):
        (lon,), (lat,) = transform_coordinates(
            "EPSG:32633", "EPSG:4326", [4e5 + 10 * (col + 0.5)], [5e6 - 10 * (row + 0.5)]
        )
        x = 0.5 + lon / 360
        y = 0.5 - np.arcsinh(np.tan(np.radians(lat))) / (2 * np.pi)
        found = pixels[
            int((y - top) / (bottom - top) * picture.height), int((x - left) / (right - left) * picture.width)
        ]
        expected = {0: (200, 176, 96, 255), 1: (32, 96, 32, 255), 255: (0, 0, 0, 0)}[labels[row, col]]
        assert tuple(found) == expected


def test_control_points_place_the_picture(write_raster, labels):
    path = write_raster(labels[None], nodata=255)
    points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r in (0, 40) for c in (0, 60)]
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, "EPSG:4326")
    picture = map_picture(path, BANDS)
    left, _, right, _ = picture.bounds
    np.testing.assert_allclose([360 * left - 180, 360 * right - 180], [10, 10.6], atol=0.02)
    pixels = np.asarray(Image.open(io.BytesIO(picture.png)))
    assert tuple(pixels[picture.height // 2, picture.width // 4]) == (200, 176, 96, 255)
    assert tuple(pixels[picture.height // 2, 3 * picture.width // 4]) == (32, 96, 32, 255)


@pytest.mark.parametrize("place", ["none", "pole"])
def test_maps_without_a_place_in_web_maps_are_pictures(write_raster, labels, tmp_path, place):
    grid = {} if place == "none" else {"crs": "EPSG:3413", "transform": from_origin(-300, 200, 10, 10)}
    path = write_raster(labels[None], nodata=255, **grid)
    page = write_preview(path, tmp_path / "map.html", BANDS).read_text()
    if place == "none":
        assert "const bounds = null" in page
        assert "no coordinate system" in page
        assert picture_of(page).shape == (40, 60, 4)
        np.testing.assert_array_equal(picture_of(page)[:, :, 3] == 255, labels != 255)


def test_large_maps_are_reduced(write_raster, labels):
    path = write_raster(labels[None], nodata=255)
    picture = map_picture(path, BANDS, max_side=30)
    assert (picture.height, picture.width) == (20, 30)


@pytest.mark.parametrize(
    ("crs", "corner", "pixel"),
    [
        ("EPSG:32601", (166_000, 500_000), 100),
        ("EPSG:4326", (179.98, 5), 0.001),
        ("EPSG:4326", (-180.02, 5), 0.001),
    ],
)
def test_a_map_across_the_antimeridian_is_one_picture(write_raster, labels, crs, corner, pixel):
    path = write_raster(labels[None], nodata=255, crs=crs, transform=from_origin(*corner, pixel, pixel))
    picture = map_picture(path, BANDS)
    left, top, right, _ = picture.bounds
    if corner[0] < 0:  # as the file counts them
        left, right = left + 1, right + 1
    assert left < 1 < right < left + 1e-3
    (lon,), (lat,) = transform_coordinates(crs, "EPSG:4326", [corner[0]], [corner[1]])
    assert left == pytest.approx(0.5 + lon % 360 / 360, abs=2e-6)
    assert top == pytest.approx(0.5 - np.degrees(np.arctanh(np.sin(np.radians(lat)))) / 360, abs=2e-6)
    values = np.asarray(Image.open(io.BytesIO(picture.png)))
    assert (values[..., 3] > 0).mean() > 0.9
