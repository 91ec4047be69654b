import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.data import statistics as module
from qhybrid.data.classes import ClassMap
from qhybrid.data.contract import InputContract
from qhybrid.data.scenes import Scene
from qhybrid.data.statistics import BandStatistics, compute_statistics
from qhybrid.errors import DataError

CLASSES = ClassMap(("a", "b", "c"), ("#000000",) * 3, ((1,), (2,), (3,)), (9,))


def scene_files(folder, make_raster, images, masks=None, **options):
    scenes = []
    for number, image in enumerate(images):
        path = make_raster(folder / f"image{number}.tif", image, **options)
        mask = None if masks is None else make_raster(folder / f"mask{number}.tif", masks[number])
        scenes.append(Scene(str(number), path, mask, str(number)))
    return scenes


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "int32", "float64"])
def test_agrees_with_numpy_over_all_scenes(tmp_path, make_raster, monkeypatch, dtype):
    monkeypatch.setattr(module, "BLOCK_PIXELS", 500)
    random = np.random.default_rng(0)
    low = 0 if dtype.startswith("u") else -90
    images = [(random.normal(100, 20, (2, h, 31)).clip(low, 255)).astype(dtype) for h in (40, 77)]
    masks = [random.choice(np.array([1, 2, 3, 9], np.uint8), image.shape[1:]) for image in images]
    done = []
    statistics = compute_statistics(
        scene_files(tmp_path, make_raster, images, masks),
        None,
        CLASSES,
        progress=lambda *step: done.append(step),
    )
    values = np.concatenate([image.reshape(2, -1) for image in images], axis=1).astype(np.float64)
    labels = np.concatenate([mask.ravel() for mask in masks])
    np.testing.assert_allclose(statistics.mean, values.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, values.std(axis=1), rtol=1e-10)
    np.testing.assert_allclose(statistics.low, np.percentile(values, 0.5, axis=1), atol=1)
    np.testing.assert_allclose(statistics.high, np.percentile(values, 99.5, axis=1), atol=1)
    assert statistics.pixels == values.shape[1]
    assert statistics.pixels_per_class == tuple((labels == value).sum() for value in (1, 2, 3))
    assert statistics.bands == (1, 2)
    assert done == [(1, 2), (2, 2)]


def test_a_large_mean_does_not_spoil_the_deviation(tmp_path, make_raster):
    image = 1e7 + np.random.default_rng(0).normal(0, 1, (1, 200, 200))
    statistics = compute_statistics(scene_files(tmp_path, make_raster, [image.astype(np.float64)]))
    assert statistics.std[0] == pytest.approx(image.std(), rel=1e-9)


def test_a_constant_band_has_no_deviation_whatever_rounding_leaves(tmp_path, make_raster):
    """The mean of equal fractions is not exactly these: 1e-17 is no unit to measure other scenes in."""
    for value in (0.1, 1234.567):
        images = [np.full((1, *shape), value) for shape in ((97, 91), (333, 335), (33, 77))]
        statistics = compute_statistics(scene_files(tmp_path, make_raster, images))
        assert statistics.std == (0.0,)
        assert [band.std for band in InputContract.of_scene(tmp_path / "image1.tif").bands] == [0.0]
        other = np.full((1, 4, 4), 1.0001 * value)
        assert (statistics.standardise(other, np.ones((4, 4), bool)) == 0).all()


@pytest.mark.parametrize(
    ("fill", "dtype"),
    [(-9999, "int16"), (-32768, "int16"), (-3.4028234663852886e38, "float32"), (1e20, "float64")],
)
def test_numbers_for_no_data_that_no_file_declares_are_warned_of(tmp_path, make_raster, fill, dtype):
    image = np.random.default_rng(0).integers(1, 9999, (2, 20, 20)).astype(dtype)
    image[1, :3] = fill
    with pytest.warns(UserWarning, match=rf"image0.tif: band\(s\) 2 reach to {fill:.8g}".replace("+", r"\+")):
        compute_statistics(scene_files(tmp_path, make_raster, [image]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        compute_statistics(scene_files(tmp_path, make_raster, [image], nodata=fill))
        compute_statistics(scene_files(tmp_path, make_raster, [image]), nodata=fill)
        compute_statistics(scene_files(tmp_path, make_raster, [np.abs(image[:1]).clip(0, 9999)]))


def test_nodata_counts_neither_in_bands_nor_in_classes(tmp_path, make_raster):
    image = np.full((1, 4, 4), 10, np.uint8)
    image[0, :2] = 0
    mask = np.full((4, 4), 1, np.uint8)
    scenes = scene_files(tmp_path, make_raster, [image], [mask], nodata=0)
    statistics = compute_statistics(scenes, (1,), CLASSES)
    assert (statistics.mean, statistics.std, statistics.pixels) == ((10.0,), (0.0,), 8)
    assert statistics.pixels_per_class == (8, 0, 0)
    assert compute_statistics(scenes, (1,), CLASSES, nodata=10).mean == (0.0,)


def test_float_percentiles_come_from_an_even_sample(tmp_path, make_raster, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_SAMPLE", 2000)
    image = np.random.default_rng(0).normal(0, 1, (1, 300, 300)).astype(np.float32)
    statistics = compute_statistics(scene_files(tmp_path, make_raster, [image]))
    assert statistics.low[0] == pytest.approx(-2.576, abs=0.35)
    assert statistics.high[0] == pytest.approx(2.576, abs=0.35)


def test_bands_in_the_order_asked_for(tmp_path, make_raster):
    image = np.stack([np.full((3, 3), value, np.uint8) for value in (1, 2, 3)])
    assert compute_statistics(scene_files(tmp_path, make_raster, [image]), (3, 1)).mean == (3.0, 1.0)


def test_errors(tmp_path, make_raster):
    with pytest.raises(DataError, match="at least one scene"):
        compute_statistics([])
    empty = scene_files(tmp_path / "a", make_raster, [np.zeros((1, 4, 4), np.uint8)], nodata=0)
    with pytest.raises(DataError, match=r"image0.tif.*all are nodata"):
        compute_statistics(empty)
    fewer = scene_files(
        tmp_path / "c", make_raster, [np.ones((3, 4, 4), np.uint8), np.ones((1, 4, 4), np.uint8)]
    )
    with pytest.raises(DataError, match=r"image1.tif: .* band\(s\) 1, 2, 3, but the scene has 1 band"):
        compute_statistics(fewer)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["uint8", "uint16", "float32", "float64", "int32"]))
def test_standardise(seed, dtype):
    random = np.random.default_rng(seed)
    raw = random.integers(0, 200, (2, 5, 6)).astype(dtype)
    valid = random.random((5, 6)) < 0.7
    statistics = BandStatistics((1, 2), (50.0, 90.0), (20.0, 0.0), (0.0, 0.0), (200.0, 200.0), 1)
    result = statistics.standardise(raw, valid)
    assert result.dtype == np.float32
    np.testing.assert_allclose(
        result[0], np.where(valid, (raw[0].astype(float) - 50) / 20, 0), rtol=1e-5, atol=1e-6
    )
    assert (result[1] == 0).all()  # a constant band says nothing


def test_standardise_keeps_nan_out():
    raw = np.array([[[np.nan, 3.0]]], dtype=np.float32)
    statistics = BandStatistics((1,), (1.0,), (2.0,), (0.0,), (1.0,), 1)
    np.testing.assert_array_equal(statistics.standardise(raw, np.array([[False, True]])), [[[0.0, 1.0]]])
    with pytest.raises(DataError, match=r"1 band\(s\), but the image has 2"):
        statistics.standardise(np.ones((2, 1, 1)), np.ones((1, 1), bool))


def test_dictionary_round_trip_through_json():
    statistics = BandStatistics((3, 1), (0.1, 1 / 3), (1.0, 2.0), (0.0, 0.0), (9.0, 9.0), 7, (3, 4))
    assert BandStatistics.from_dict(json.loads(json.dumps(statistics.to_dict()))) == statistics
    for damaged in (
        {},
        {**statistics.to_dict(), "mean": [1.0]},
        {**statistics.to_dict(), "std": [float("nan"), 1]},
    ):
        with pytest.raises(DataError):
            BandStatistics.from_dict(damaged)
