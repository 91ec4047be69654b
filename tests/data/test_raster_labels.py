"""Masks as they come: coloured, with palettes, lossy, of another size, grid or CRS than their images."""

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy as copy_raster
from rasterio.transform import from_origin
from rasterio.warp import transform as transform_points

from qhybrid.config import DataConfig
from qhybrid.data import open_dataset
from qhybrid.data.classes import ClassMap
from qhybrid.data.pairs import MaskReader, check_pair
from qhybrid.data.raster import Window, raster_info
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.data.statistics import compute_statistics
from qhybrid.errors import DataError

COLORS = np.array([[255, 255, 0], [0, 0, 255], [0, 0, 0]], dtype=np.uint8)
COLOURED = ClassMap(("a", "b"), ("#000000",) * 2, (("#ffff00",), ("#0000ff",)), ("#000000",))
NUMBERS = ClassMap(("a", "b", "c"), ("#000000",) * 3, ((1,), (2,), (3,)))
FITTED = ClassMap(NUMBERS.names, NUMBERS.colors, NUMBERS.values, fit_masks=True)


def read_all(path, classes, like=None):
    height, width = raster_info(like or path).shape
    reader = MaskReader(path, classes, like=raster_info(like) if like else None)
    whole = reader.read((0, 0, height, width))
    halves = [reader.read((0, 0, height // 3, width)), reader.read((height // 3, 0, height, width))]
    np.testing.assert_array_equal(np.concatenate(halves)[:height], whole)
    return whole


@pytest.mark.parametrize("name", ["m.png", "m.tif", "m.jp2", "m.vrt"])
def test_coloured_masks_of_lossless_formats(tmp_path, make_raster, name):
    index = np.random.default_rng(0).integers(0, 3, (40, 50))
    driver = {"m.jp2": "JP2OpenJPEG"}.get(name)
    options = {"driver": driver, "QUALITY": 100, "REVERSIBLE": "YES"} if driver else {}
    bands = COLORS[index].transpose(2, 0, 1)
    if name == "m.vrt":
        copy_raster(make_raster(tmp_path / "source.tif", bands), tmp_path / name, driver="VRT")
    else:
        make_raster(tmp_path / name, bands, crs=None if name == "m.png" else "EPSG:2180", **options)
    expected = np.array([0, 1, 255])[index]
    np.testing.assert_array_equal(read_all(tmp_path / name, COLOURED), expected)


def test_coloured_masks_of_16_bits_and_with_alpha(tmp_path, make_raster):
    index = np.array([[0, 1], [1, 2]])
    bands = COLORS[index].transpose(2, 0, 1)
    wide = make_raster(tmp_path / "wide.tif", bands.astype(np.uint16))
    np.testing.assert_array_equal(read_all(wide, COLOURED), [[0, 1], [1, 255]])
    alpha = np.array([[[0, 255], [255, 255]]], dtype=np.uint8)
    with_alpha = make_raster(tmp_path / "alpha.png", np.concatenate([bands, alpha]), crs=None)
    np.testing.assert_array_equal(read_all(with_alpha, COLOURED), [[255, 1], [1, 255]])
    alone = {"photometric": "RGB", "alpha": None}
    unnamed = make_raster(tmp_path / "unnamed.tif", np.concatenate([bands, alpha]), **alone)
    assert raster_info(unnamed).alpha == ()
    np.testing.assert_array_equal(read_all(unnamed, COLOURED), [[255, 1], [1, 255]])
    other = make_raster(tmp_path / "other.tif", np.concatenate([bands, alpha // 2]), **alone)
    with pytest.raises(DataError, match="its 4 bands differ"):
        read_all(other, COLOURED)
    scaled = make_raster(tmp_path / "scaled.tif", bands.astype(np.uint16) * 257)
    with pytest.raises(DataError, match="a value above 255"):
        read_all(scaled, COLOURED)


def test_a_lossy_mask_needs_a_tolerance(tmp_path, make_raster):
    index = np.repeat(np.repeat([[0, 1], [1, 0]], 32, axis=0), 32, axis=1)
    path = make_raster(
        tmp_path / "m.jpg", COLORS[index].transpose(2, 0, 1), crs=None, driver="JPEG", QUALITY=75
    )
    with rasterio.open(path) as file:
        changed = (file.read() != COLORS[index].transpose(2, 0, 1)).any()
    assert changed
    with pytest.raises(DataError, match=r"m.jpg: every colour .*data\.color_tolerance"):
        read_all(path, COLOURED)
    tolerant = ClassMap(
        COLOURED.names, COLOURED.colors, COLOURED.values, COLOURED.ignore_values, color_tolerance=100
    )
    np.testing.assert_array_equal(read_all(path, tolerant), index)


def test_a_lossy_grey_mask_needs_ranges(tmp_path, make_raster):
    index = np.kron([[0, 1], [1, 0]], np.ones((13, 13), int))
    path = make_raster(
        tmp_path / "m.jpg", (index * 255).astype(np.uint8), crs=None, driver="JPEG", QUALITY=50
    )
    with pytest.raises(DataError, match=r"need ranges"):
        read_all(path, ClassMap(("a", "b"), ("#000000",) * 2, ((0,), (255,))))
    soft = ClassMap(("a", "b"), ("#000000",) * 2, (("0-127",), ("128-255",)))
    np.testing.assert_array_equal(read_all(path, soft), index)


@pytest.mark.parametrize("name", ["m.png", "m.tif"])
def test_palettes_are_colours_for_colours_and_numbers_for_numbers(tmp_path, make_raster, name):
    index = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    path = make_raster(tmp_path / name, index, crs=None, photometric="palette")
    with rasterio.open(path, "r+" if name == "m.tif" else "w", **_same(path)) as file:
        file.write_colormap(
            1, {0: (0, 0, 255, 255), 1: (255, 255, 0, 255), 2: (0, 0, 0, 255), 3: (9, 9, 9, 255)}
        )
        file.write(index, 1)
    with pytest.raises(DataError, match=r"#090909: 1 "):
        read_all(path, COLOURED)
    classes = ClassMap(COLOURED.names, COLOURED.colors, (("#ffff00", 3), ("#0000ff",)), ("#000000",))
    np.testing.assert_array_equal(read_all(path, classes), [[1, 0, 255, 0]])
    numbers = ClassMap(("a", "b"), ("#000000",) * 2, ((0, 1), (2, 3)))
    np.testing.assert_array_equal(read_all(path, numbers), [[0, 0, 1, 1]])


def _same(path):
    return (
        {}
        if path.suffix == ".tif"
        else {"driver": "PNG", "height": 1, "width": 4, "count": 1, "dtype": "uint8"}
    )


def test_a_coloured_mask_without_colours_in_the_map_shows_them(tmp_path, make_raster):
    path = make_raster(tmp_path / "m.tif", COLORS[[[0, 0, 1]]].transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"m.tif: .*one band or equal ones.*#ffff00: 2, #0000ff: 1.*classes"):
        read_all(path, NUMBERS)


def test_text_is_refused_for_rasters(tmp_path, make_raster):
    path = make_raster(tmp_path / "m.tif", np.ones((2, 2), np.uint8))
    with pytest.raises(DataError, match=r"m.tif: .*class b stands for 'wood'"):
        MaskReader(path, ClassMap(("a", "b"), ("#000000",) * 2, ((1,), ("wood",))))


def nearest(mask, shape):
    """Stretch by pixel centres: pixel i of n is at (i + 1/2) / n."""
    rows, cols = (np.floor((np.arange(n) + 0.5) / n * m).astype(int) for n, m in zip(shape, mask.shape))
    return mask[np.ix_(rows, cols)]


@pytest.mark.parametrize(
    ("shape", "own"), [((60, 80), (30, 40)), ((60, 80), (120, 160)), ((31, 41), (15, 20))]
)
@pytest.mark.parametrize("image_crs", [None, "EPSG:2180"])
def test_masks_without_coordinates_are_stretched(tmp_path, make_raster, shape, own, image_crs):
    labels = np.random.default_rng(1).integers(1, 4, own).astype(np.uint8)
    image = make_raster(tmp_path / "i.tif", np.ones((3, *shape), np.uint8), crs=image_crs)
    mask = make_raster(tmp_path / "m.png", labels, crs=None)
    with pytest.raises(DataError, match=r"same size.*data\.fit_masks: true"):
        check_pair(image, mask, NUMBERS)
    with pytest.raises(DataError, match=r"data\.fit_masks"):
        MaskReader(mask, NUMBERS, like=raster_info(image))
    check_pair(image, mask, FITTED)
    np.testing.assert_array_equal(read_all(mask, FITTED, like=image), nearest(labels, shape) - 1)


def test_a_mask_of_another_shape_is_not_stretched(tmp_path, make_raster):
    image = make_raster(tmp_path / "i.tif", np.ones((60, 80), np.uint8))
    mask = make_raster(tmp_path / "m.png", np.ones((30, 30), np.uint8), crs=None)
    with pytest.raises(DataError, match=r"(?s)m.png.*30 x 30.*i.tif.*60 x 80"):
        check_pair(image, mask, FITTED)


def test_a_shifted_mask_is_read_by_coordinates(tmp_path, make_raster):
    """Mask pixels of 1 m, image pixels of 0.5 m; the mask begins 3 m east and 2 m south of the image."""
    labels = np.random.default_rng(2).integers(1, 4, (20, 20)).astype(np.uint8)
    image = make_raster(tmp_path / "i.tif", np.ones((30, 30), np.uint8), origin=(1000.0, 2000.0), pixel=0.5)
    mask = make_raster(tmp_path / "m.tif", labels, origin=(1003.0, 1998.0), pixel=1.0)
    expected = np.full((30, 30), 255)
    for row in range(30):
        for col in range(30):
            r, c = np.floor((row + 0.5) / 2 - 2), np.floor((col + 0.5) / 2 - 3)
            if r >= 0 and c >= 0:
                expected[row, col] = labels[int(r), int(c)] - 1
    np.testing.assert_array_equal(read_all(mask, FITTED, like=image), expected)
    with pytest.raises(DataError, match=r"size.*data\.fit_masks"):
        check_pair(image, mask, NUMBERS)


def test_ties_between_mask_pixels_go_to_the_right_and_below(tmp_path, make_raster):
    labels = np.random.default_rng(3).integers(1, 4, (40, 40)).astype(np.uint8)
    image = make_raster(tmp_path / "i.tif", np.ones((20, 20), np.uint8), pixel=0.2)
    mask = make_raster(tmp_path / "m.tif", labels, pixel=0.1)
    np.testing.assert_array_equal(read_all(mask, FITTED, like=image), labels[1::2, 1::2] - 1)


@pytest.mark.parametrize(
    ("image_crs", "origin", "pixel", "mask_crs", "mask_pixel"),
    [
        ("EPSG:32633", (500_000.0, 5_500_000.0), 10.0, "EPSG:4326", 1e-4),
        ("EPSG:4326", (14.9, 49.7), 1e-4, "EPSG:32633", 7.0),
        ("EPSG:32601", (310_000.0, 5_500_000.0), 100.0, "EPSG:4326", 1e-3),  # across the 180th meridian
    ],
)
def test_masks_in_another_crs(tmp_path, make_raster, image_crs, origin, pixel, mask_crs, mask_pixel):
    """Compare with every pixel centre transformed by itself."""
    shape = (70, 90)
    ones = np.ones(shape, np.uint8)
    image = make_raster(tmp_path / "i.tif", ones, crs=image_crs, origin=origin, pixel=pixel)
    place = raster_info(image).transform
    x, y = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    x, y = place * (x.ravel(), y.ravel())
    x, y = map(np.array, transform_points(image_crs, mask_crs, x.tolist(), y.tolist()))
    if mask_crs == "EPSG:4326" and np.ptp(x) > 180:
        x %= 360
    # The mask leaves out the outer fifth of the image on the west.
    west, north = x.min() + 0.2 * np.ptp(x), y.max() + mask_pixel
    height, width = int((north - y.min()) / mask_pixel) + 2, int((x.max() - west) / mask_pixel) + 2
    labels = np.random.default_rng(4).integers(1, 4, (height, width)).astype(np.uint8)
    mask = make_raster(tmp_path / "m.tif", labels, crs=mask_crs, origin=(west, north), pixel=mask_pixel)
    row, col = (north - y) / mask_pixel, (x - west) / mask_pixel
    clear = (np.abs(row - row.round()) > 0.02) & (np.abs(col - col.round()) > 0.02)
    inside = col >= 0
    expected = np.full(row.shape, 255)
    expected[inside] = labels[np.floor(row[inside]).astype(int), np.floor(col[inside]).astype(int)] - 1
    found = read_all(mask, FITTED, like=image)
    assert clear.mean() > 0.8
    np.testing.assert_array_equal(found.ravel()[clear], expected[clear])
    assert 0.1 < (found == 255).mean() < 0.3


def test_a_mask_in_longitudes_around_the_pole(tmp_path, make_raster):
    ones = np.ones((40, 40), np.uint8)
    image = make_raster(tmp_path / "i.tif", ones, crs="EPSG:3413", origin=(-1003.0, 1001.0), pixel=50.0)
    # Each class has a third of the longitudes.
    labels = (1 + np.arange(720) // 240 * np.ones((400, 1))).astype(
        np.uint8
    )  # a third of the longitudes each
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 400, "width": 720}
    transform = rasterio.transform.from_origin(-180, 90, 0.5, 0.001)
    with rasterio.open(tmp_path / "m.tif", "w", crs="EPSG:4326", transform=transform, **profile) as file:
        file.write(labels, 1)
    x, y = np.meshgrid(-978.0 + 50 * np.arange(40), 976.0 - 50 * np.arange(40))
    longitude = (np.degrees(np.arctan2(x, -y)) - 45 + 180) % 360 - 180
    clear = np.abs(longitude / 120 - (longitude / 120).round()) > 0.01
    clear &= np.abs(longitude + 60) > 1
    expected = np.floor((longitude + 180) / 120)
    found = read_all(tmp_path / "m.tif", FITTED, like=image)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_nodata_alpha_and_colours_of_fitted_masks(tmp_path, make_raster):
    image = make_raster(tmp_path / "i.tif", np.ones((4, 4), np.uint8), pixel=1.0)
    index = np.array([[0, 1], [2, 0]])
    bands = np.concatenate([COLORS[index].transpose(2, 0, 1), [[[255, 255], [255, 0]]]]).astype(np.uint8)
    mask = make_raster(tmp_path / "m.tif", bands, pixel=2.0, alpha=4)
    classes = ClassMap(
        COLOURED.names, COLOURED.colors, COLOURED.values, COLOURED.ignore_values, fit_masks=True
    )
    expected = np.kron([[0, 1], [255, 255]], np.ones((2, 2), int))
    np.testing.assert_array_equal(read_all(mask, classes, like=image), expected)
    numbers = make_raster(tmp_path / "n.tif", np.array([[1, 2], [9, 3]], np.int16), pixel=2.0, nodata=9)
    expected = np.kron([[0, 1], [255, 2]], np.ones((2, 2), int))
    np.testing.assert_array_equal(read_all(numbers, FITTED, like=image), expected)


@pytest.mark.parametrize("crs", ["EPSG:2180", "EPSG:4326"])
def test_a_mask_that_covers_nothing_is_an_error(tmp_path, make_raster, crs):
    image = make_raster(tmp_path / "i.tif", np.ones((20, 20), np.uint8))
    mask = make_raster(tmp_path / "m.tif", np.ones((20, 20), np.uint8), crs=crs, origin=(20.0, 50.0))
    with pytest.raises(DataError, match=r"m.tif: .*covers nothing of .*i.tif"):
        check_pair(image, mask, FITTED)


def test_a_small_mask_inside_a_large_image_covers_it(tmp_path, make_raster):
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "crs": "EPSG:2180", "sparse_ok": True}
    with rasterio.open(
        tmp_path / "i.tif",
        "w",
        height=20_000,
        width=20_000,
        transform=from_origin(0, 20_000, 1, 1),
        **profile,
    ):
        pass
    mask = make_raster(tmp_path / "m.tif", np.full((5, 5), 2, np.uint8), origin=(7003.0, 9001.0), pixel=1.0)
    reader = MaskReader(mask, FITTED, like=raster_info(tmp_path / "i.tif"))
    found = reader.read((10_998, 7002, 7, 7))
    expected = np.full((7, 7), 255)
    expected[1:6, 1:6] = 1
    np.testing.assert_array_equal(found, expected)


def test_a_much_finer_mask_is_read_in_parts(tmp_path, make_raster, monkeypatch):
    monkeypatch.setattr("qhybrid.data.raster_labels._PIXELS_AT_ONCE", 1000)
    labels = np.random.default_rng(5).integers(1, 4, (100, 100)).astype(np.uint8)
    image = make_raster(tmp_path / "i.tif", np.ones((20, 20), np.uint8), pixel=5.0)
    mask = make_raster(tmp_path / "m.tif", labels, pixel=1.0)
    np.testing.assert_array_equal(read_all(mask, FITTED, like=image), labels[2::5, 2::5] - 1)


def test_scenes_and_statistics_read_fitted_masks(tmp_path, make_raster):
    labels = np.array([[1, 2], [3, 3]], dtype=np.uint8)
    image = make_raster(tmp_path / "i.tif", np.ones((8, 8), np.uint8), pixel=1.0)
    mask = make_raster(tmp_path / "m.tif", labels, pixel=4.0)
    statistics = compute_statistics([Scene("s", image, mask, "here")], classes=FITTED)
    assert statistics.pixels_per_class == (16, 16, 32)
    reader = SceneReader(Scene("part", image, mask, "here", Window(3, 2, 4, 6)), FITTED)
    expected = [[255] * 6 + [255], [255, 0, 0, 1, 1, 1, 1], [255, 2, 2, 2, 2, 2, 2]]
    np.testing.assert_array_equal(reader.read_labels((-1, -1, 3, 7)), expected)


def test_one_mask_of_two_images_is_read_on_the_grid_of_each(tmp_path, make_raster):
    labels = np.array([[1, 2]], dtype=np.uint8)
    mask = make_raster(tmp_path / "m.tif", labels, origin=(0.0, 4.0), pixel=4.0)
    west = make_raster(tmp_path / "w.tif", np.ones((4, 4), np.uint8), origin=(0.0, 4.0), pixel=1.0)
    east = make_raster(tmp_path / "e.tif", np.ones((4, 4), np.uint8), origin=(4.0, 4.0), pixel=1.0)
    reader = SceneReader(Scene("w", west, mask, "w"), FITTED)
    assert (reader.read_labels((0, 0, 4, 4)) == 0).all()
    reader.move_to(Scene("e", east, mask, "e"))
    assert (reader.read_labels((0, 0, 4, 4)) == 1).all()


def test_a_recipe_says_how_masks_are_read(tmp_path, make_raster):
    for split in ("train", "val", "test"):
        make_raster(tmp_path / "d" / split / "images" / "a.tif", np.ones((8, 8), np.uint8))
        bands = COLORS[[[0, 1], [2, 1]]].transpose(2, 0, 1)
        make_raster(tmp_path / "d" / split / "masks" / "a.png", bands, crs=None)
    classes = [
        {"name": "a", "values": ["#ffff00"], "color": "#000000"},
        {"name": "b", "values": ["#0000ff"], "color": "#000000"},
    ]
    content = {"dataset": "geotiff_folder", "root": "d", "classes": classes, "ignore_values": ["#000000"]}
    with pytest.raises(DataError, match=r"data\.fit_masks"):
        open_dataset(DataConfig(**content), tmp_path).scenes("train")
    dataset = open_dataset(DataConfig(**content, fit_masks=True), tmp_path)
    statistics = compute_statistics(dataset.scenes("train"), classes=dataset.classes)
    assert statistics.pixels_per_class == (16, 32)


@pytest.mark.shared_data
def test_deepglobe_masks(shared_data):
    colors = ["#ffff00", "#00ff00", "#00ffff", "#ffffff", "#ff00ff", "#0000ff"]
    classes = ClassMap(tuple("abcdef"), ("#000000",) * 6, tuple((c,) for c in colors), ("#000000",))
    path = shared_data / "deepglobe" / "masks" / "0000.png"
    with rasterio.open(path) as file:
        bands = file.read().astype(int)
    table = {int(c[1:], 16): i for i, c in enumerate(colors)} | {0: 255}
    expected = np.vectorize(table.get)(bands[0] << 16 | bands[1] << 8 | bands[2])
    check_pair(shared_data / "deepglobe" / "images" / "0000.jpg", path, classes)
    np.testing.assert_array_equal(MaskReader(path, classes).read((0, 0, 256, 256)), expected)


@pytest.mark.shared_data
def test_open_earth_map_masks_of_half_the_size(shared_data):
    colors = ["#800000", "#00ff24", "#949494", "#ffffff", "#226126", "#0045ff", "#4bb549", "#de1f07"]
    classes = ClassMap(
        tuple("abcdefgh"), ("#000000",) * 8, tuple((c,) for c in colors), ("#000000",), fit_masks=True
    )
    image, mask = (shared_data / "oem" / name for name in ("austin_29.tif", "austin_29_gt.png"))
    with rasterio.open(mask) as file:
        bands = file.read()[:3].astype(int)
    table = {int(c[1:], 16): i for i, c in enumerate(colors)} | {0: 255}
    own = np.vectorize(table.get)(bands[0] << 16 | bands[1] << 8 | bands[2])
    found = MaskReader(mask, classes, like=raster_info(image)).read((100, 200, 300, 400))
    np.testing.assert_array_equal(found, nearest(own, (1000, 1000))[100:400, 200:600])
