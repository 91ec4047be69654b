import multiprocessing
import pickle

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.data.raster import RasterReader, Window, check_bands, raster_info, read_window
from qhybrid.errors import DataError

HEIGHT, WIDTH = 37, 53


@pytest.fixture(scope="module")
def scene(tmp_path_factory, make_raster):
    array = np.random.default_rng(1).integers(1, 60_000, (5, HEIGHT, WIDTH)).astype(np.uint16)
    path = make_raster(
        tmp_path_factory.mktemp("raster") / "scene.tif", array, tiled=True, blockxsize=16, blockysize=16
    )
    return path, array


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-45, 45),
    st.integers(-60, 60),
    st.integers(1, 60),
    st.integers(1, 80),
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
)
def test_windows_are_slices_of_the_padded_scene(scene, row, col, height, width, bands):
    path, array = scene
    pad = 150
    padded = np.pad(array, ((0, 0), (pad, pad), (pad, pad)))
    inside = np.pad(np.ones((HEIGHT, WIDTH), dtype=bool), pad)
    part = np.s_[row + pad : row + pad + height, col + pad : col + pad + width]
    data, valid = read_window(path, (row, col, height, width), bands)
    np.testing.assert_array_equal(data, padded[[band - 1 for band in bands]][:, *part])
    np.testing.assert_array_equal(valid, inside[part])
    assert data.dtype == np.uint16


def test_info(scene):
    path, _ = scene
    info = raster_info(path)
    assert (info.shape, info.count, info.dtype, info.nodata) == ((HEIGHT, WIDTH), 5, "uint16", None)
    assert info.crs.to_epsg() == 2180
    assert info.georeferenced
    assert info.transform[:6] == (0.5, 0.0, 500_000.0, 0.0, -0.5, 500_000.0)


def test_a_plain_png_has_no_place_and_warns_nobody(tmp_path, make_raster, recwarn):
    path = make_raster(tmp_path / "plain.png", np.ones((4, 5), np.uint8), crs=None)
    recwarn.clear()
    info = raster_info(path)
    assert not info.georeferenced
    assert info.crs is None
    assert not recwarn.list


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_nodata_of_the_file_and_of_the_recipe(tmp_path, make_raster, dtype):
    array = np.full((2, 3, 4), 5, dtype=dtype)
    array[:, 0, 0] = 9  # all bands
    array[0, 1, 1] = 9  # one band
    array[:, 2, 2] = 7
    one_band_is_enough = np.dtype(dtype).kind != "u"
    of_file = make_raster(tmp_path / "a.tif", array, nodata=9)
    other = make_raster(tmp_path / "b.tif", array, nodata=7)
    for given_nodata, path in ((None, of_file), (9, other)):
        _, valid = read_window(path, (0, 0, 3, 4), nodata=given_nodata)
        expected = np.ones((3, 4), dtype=bool)
        expected[0, 0] = False
        expected[1, 1] = not one_band_is_enough
        np.testing.assert_array_equal(valid, expected)


def test_nodata_looks_only_at_the_bands_read(tmp_path, make_raster):
    array = np.ones((2, 1, 2), dtype=np.uint8)
    array[0, 0, 0] = 0
    path = make_raster(tmp_path / "a.tif", array, nodata=0)
    assert read_window(path, (0, 0, 1, 2), [1])[1].tolist() == [[False, True]]
    assert read_window(path, (0, 0, 1, 2), [2])[1].tolist() == [[True, True]]
    assert read_window(path, (0, 0, 1, 2))[1].tolist() == [[True, True]]


@pytest.mark.parametrize("nodata", [None, float("nan"), -3.4028234663852886e38, 1e300])
def test_nan_infinity_and_extreme_nodata_of_floats(tmp_path, make_raster, nodata):
    array = np.ones((2, 2, 3), dtype=np.float32)
    array[0, 0, 0], array[1, 0, 1], array[0, 1, 2] = np.nan, np.inf, np.finfo(np.float32).min
    path = make_raster(tmp_path / "a.tif", array)
    _, valid = read_window(path, (0, 0, 2, 3), nodata=nodata)
    lowest_is_valid = nodata is None or nodata > 0 or np.isnan(nodata)
    assert valid.tolist() == [[False, False, True], [True, True, lowest_is_valid]]


def test_alpha_is_a_mask_unless_it_is_read_as_data(tmp_path, make_raster):
    array = np.full((4, 2, 2), 200, dtype=np.uint8)
    array[3] = [[0, 255], [1, 255]]
    path = make_raster(tmp_path / "a.tif", array, alpha=4)
    info = raster_info(path)
    assert (info.alpha, info.data_bands(), info.mask_of_file) == ((4,), (1, 2, 3), True)
    data, valid = read_window(path, (0, 0, 2, 2), [1, 2, 3])
    assert data.shape == (3, 2, 2)
    assert valid.tolist() == [[False, True], [True, True]]
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(valid, file.dataset_mask() > 0)
    data, valid = read_window(path, (0, 0, 2, 2), [4, 1])
    np.testing.assert_array_equal(data, array[[3, 0]])
    assert valid.all()


def test_bands_must_be_chosen_where_alpha_may_be_data(tmp_path, make_raster):
    """GDAL marks the fourth band of an 8-bit GeoTIFF as alpha unless told otherwise: that may be infrared."""
    path = make_raster(tmp_path / "four.tif", np.ones((4, 2, 2), np.uint8))
    with pytest.raises(DataError, match=r"four.tif: `data.bands` must be given.*\[1, 2, 3\].*\[1, 2, 3, 4\]"):
        read_window(path, (0, 0, 2, 2))
    assert RasterReader(path, alpha_is_mask=True).bands == (1, 2, 3)
    png = make_raster(tmp_path / "four.png", np.ones((4, 2, 2), np.uint8), crs=None)
    assert RasterReader(png).bands == (1, 2, 3)


def test_internal_mask_of_the_file(tmp_path, make_raster):
    path = make_raster(tmp_path / "a.tif", np.ones((3, 4, 4), np.uint8))
    mask = np.full((4, 4), 255, dtype=np.uint8)
    mask[1, 2] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    _, valid = read_window(path, (0, 1, 3, 2), [2])
    np.testing.assert_array_equal(valid, mask[0:3, 1:3] > 0)


def test_a_scene_without_any_data(tmp_path, make_raster):
    path = make_raster(tmp_path / "a.tif", np.zeros((1, 8, 8), np.uint8), nodata=0)
    assert not read_window(path, (0, 0, 8, 8))[1].any()


def test_wrong_bands_name_file_and_count(scene):
    path, _ = scene
    for bands in ([6], [0], [1, -2]):
        with pytest.raises(DataError, match=rf"{path}: band .* has 5 band.*data\.bands"):
            read_window(path, (0, 0, 1, 1), bands)
    with pytest.raises(DataError, match="at least one"):
        check_bands(raster_info(path), [])


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(DataError, match=r"absent.tif: must be a raster file, but is missing"):
        raster_info(tmp_path / "absent.tif")
    (tmp_path / "text.tif").write_text("not a raster")
    with pytest.raises(DataError, match=r"text.tif: cannot be opened"):
        raster_info(tmp_path / "text.tif")
    with pytest.raises(DataError, match="missing"):
        raster_info("/vsimem/nothing")


def test_complex_numbers_are_refused(tmp_path, make_raster):
    path = make_raster(tmp_path / "a.tif", np.ones((1, 2, 2), np.complex64))
    with pytest.raises(DataError, match="real number type"):
        raster_info(path)


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("strips.tif", {}),
        ("lzw.tif", {"compress": "lzw"}),
        ("tiles.tif", {"compress": "deflate", "tiled": True, "blockxsize": 32, "blockysize": 32}),
        ("picture.png", {"crs": None}),
        ("photo.tif", {"compress": "jpeg", "photometric": "ycbcr"}),
        ("picture.bmp", {"crs": None, "driver": "BMP"}),
    ],
)
def test_truncated_files_are_errors_never_zeros(tmp_path, make_raster, name, profile):
    array = np.random.default_rng(0).integers(1, 255, (3, 128, 128)).astype(np.uint8)
    path = make_raster(tmp_path / name, array, **profile)
    content = path.read_bytes()
    for kept in (0.05, 0.5, 0.95):
        path.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(DataError, match=name):
            read_window(path, (0, 0, 128, 128))


def test_empty_windows_are_refused(scene):
    with pytest.raises(DataError, match="must have pixels"):
        read_window(scene[0], (0, 0, 0, 5))


def _read_in_child(reader, queue):
    queue.put(reader.read(Window(3, 4, 5, 6))[0])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_readers_work_in_other_processes(scene, method):
    path, array = scene
    context = multiprocessing.get_context(method)
    with RasterReader(path) as reader:
        reader.read(Window(0, 0, 2, 2))
        queue = context.Queue()
        child = context.Process(target=_read_in_child, args=(reader, queue))
        child.start()
        np.testing.assert_array_equal(queue.get(timeout=60), array[:, 3:8, 4:10])
        child.join()
        np.testing.assert_array_equal(reader.read(Window(0, 0, 2, 2))[0], array[:, :2, :2])


def test_readers_pickle_and_reopen(scene):
    path, array = scene
    reader = RasterReader(path, [2])
    copy = pickle.loads(pickle.dumps(reader))  # noqa: S301 - our own object
    reader.close()
    for one in (reader, copy):
        np.testing.assert_array_equal(one.read((0, 0, 3, 3))[0], array[1:2, :3, :3])
        one.close()


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "bands", "dtype"),
    [
        ("rasterio_RGB.byte.tif", 3, "uint8"),
        ("naip_m_4709963_se_14_1_20100629.tif", 4, "uint8"),
        ("deepforest_OSBS_029.tif", 3, "uint8"),
        ("spacenet_sample_geotiff.tif", 1, "uint16"),
    ],
)
def test_real_files_agree_with_rasterio(shared_data, name, bands, dtype):
    path = shared_data / "geotiff_samples" / name
    info = raster_info(path)
    assert (info.count, info.dtype, info.georeferenced) == (bands, dtype, True)
    window = Window(info.height // 2 - 50, info.width - 60, 100, 100)
    data, valid = read_window(path, window)
    with rasterio.open(path) as file:
        part = rasterio.windows.Window(window.col, window.row, 60, 100)
        np.testing.assert_array_equal(data[:, :, :60], file.read(window=part))
        np.testing.assert_array_equal(valid[:, :60], file.dataset_mask(window=part) > 0)
    assert not valid[:, 60:].any()
