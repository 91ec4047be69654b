"""Whole scenes against a naive twin that keeps everything in memory."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from qhybrid.config import DataConfig, PredictionConfig
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene
from qhybrid.errors import ConfigError, DataError
from qhybrid.inference.scene import iterate_probabilities, predict_scene

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def assemble(run, path, shape, **options):
    """Put the blocks together; every pixel must come exactly once."""
    probabilities = np.zeros((run.classes.num_classes, *shape), dtype=np.float32)
    times = np.zeros(shape, dtype=int)
    valid = np.zeros(shape, dtype=bool)
    for block in iterate_probabilities(run, path, **options):
        place = (
            slice(block.row, block.row + block.valid.shape[0]),
            slice(block.col, block.col + block.valid.shape[1]),
        )
        probabilities[:, *place], valid[place] = block.probabilities, block.valid
        times[place] += 1
    assert (times == 1).all()
    return probabilities, valid


def naive(run, image, valid, size, overlap):
    """Pad the scene, run each window by itself, and sum weighted results of full size in double precision."""
    count, height, width = image.shape
    stride = max(1, round(size * (1 - overlap)))
    corner = (np.arange(size) + 0.5) / size * np.pi
    weight = np.outer(np.sin(corner) ** 2, np.sin(corner) ** 2)
    mean, std = np.array(run.statistics.mean), np.array(run.statistics.std)
    padded = np.zeros((count, max(height, size), max(width, size)), dtype=np.float32)
    padded[:, :height, :width] = np.where(valid, (image - mean[:, None, None]) / std[:, None, None], 0)
    sums = np.zeros((run.classes.num_classes, *padded.shape[1:]))
    norm = np.zeros(padded.shape[1:])
    starts = [
        sorted({*range(0, max(length - size, 0), stride), max(length - size, 0)})
        for length in (height, width)
    ]
    for r in starts[0]:
        for c in starts[1]:
            window = torch.from_numpy(padded[:, r : r + size, c : c + size])[None]
            with torch.no_grad():
                result = run.model(window).softmax(1)[0].double().numpy()
            sums[:, r : r + size, c : c + size] += weight * result
            norm[r : r + size, c : c + size] += weight
    blended = (sums / norm)[:, :height, :width]
    blended[:, ~valid] = np.nan
    return blended


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 12),
    overlap=st.sampled_from([0, 0.25, 0.5, 0.8]),
    strips=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_equals_the_naive_twin(run, write_raster, height, width, size, overlap, strips, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, (2, height, width), dtype=np.uint8)
    hole = np.zeros((height, width), dtype=bool)
    hole[rng.integers(0, height) :, : rng.integers(0, width + 1)] = True
    image[:, hole] = 0
    path = write_raster(image, nodata=0)
    expected = naive(run, image, ~hole, size, overlap)
    # So little memory that every strip is one step wide, against the default in one strip.
    memory = {"max_memory_mb": 1e-6} if strips else {}
    settings_ = PredictionConfig(overlap=overlap, batch_size=3)
    found, valid = assemble(run, path, (height, width), settings=settings_, window_size=size, **memory)
    np.testing.assert_array_equal(valid, ~hole)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    if valid.any():
        np.testing.assert_allclose(found[:, valid].sum(axis=0), 1, atol=1e-5)


def test_strips_give_the_same_result(run, write_raster):
    image = np.random.default_rng(0).integers(0, 256, (2, 21, 90), dtype=np.uint8)
    path = write_raster(image)
    whole, _ = assemble(run, path, (21, 90))
    widths = {block.valid.shape[1] for block in iterate_probabilities(run, path, max_memory_mb=0.01)}
    assert max(widths) < 90
    cut, _ = assemble(run, path, (21, 90), max_memory_mb=0.01)
    np.testing.assert_allclose(cut, whole, atol=1e-5)
    np.testing.assert_array_equal(predict_scene(run, path, max_memory_mb=0.01), predict_scene(run, path))


def test_one_pixel(run, write_raster):
    labels = predict_scene(run, write_raster(np.full((2, 1, 1), 70, dtype=np.uint8)))
    assert labels.shape == (1, 1)
    assert labels[0, 0] < 3


def test_windows_without_data_skip_the_model(run, write_raster):
    image = np.full((2, 8, 32), 9, dtype=np.uint8)
    image[:, :, 8:] = 0
    labels = predict_scene(run, write_raster(image, nodata=0), settings=PredictionConfig(overlap=0))
    assert sum(run.model.batches) == 1
    assert (labels[:, 8:] == 255).all()
    assert (labels[:, :8] < 3).all()


def test_nodata_of_the_recipe_wins(run, write_raster):
    image = np.full((2, 8, 8), 9, dtype=np.uint8)
    image[:, 0] = 77
    recipe = run.recipe.model_copy(update={"data": DataConfig(dataset="none", nodata=77)})
    labels = predict_scene(replace(run, recipe=recipe), write_raster(image, nodata=9))
    assert (labels[0] == 255).all()
    assert (labels[1:] < 3).all()


def test_nodata_pixels_have_no_probability(run, write_raster):
    image = np.full((2, 10, 10), 9, dtype=np.int16)
    image[0, 2, 3] = -1
    found, valid = assemble(run, write_raster(image, nodata=-1), (10, 10))
    assert np.isnan(found[:, 2, 3]).all()
    assert not valid[2, 3]
    assert np.isfinite(found).sum() == 3 * 99


def test_a_scene_that_is_part_of_a_file(run, write_raster):
    image = np.random.default_rng(1).integers(0, 256, (2, 30, 30), dtype=np.uint8)
    part = Scene("part", write_raster(image), None, "here", Window(5, 7, 11, 13))
    alone = write_raster(image[:, 5:16, 7:20], "alone.tif")
    np.testing.assert_array_equal(predict_scene(run, part), predict_scene(run, alone))


def test_other_bands_in_another_order(run, write_raster):
    image = np.random.default_rng(1).integers(0, 256, (3, 9, 9), dtype=np.uint8)
    recipe = run.recipe.model_copy(update={"data": DataConfig(dataset="none", bands=(3, 1))})
    swapped = replace(run, bands=(3, 1), recipe=recipe)
    expected = predict_scene(run, write_raster(image[[2, 0]], "two.tif"))
    np.testing.assert_array_equal(predict_scene(swapped, write_raster(image)), expected)


def test_progress_counts_every_window(run, write_raster):
    image = np.zeros((2, 20, 20), dtype=np.uint8)
    image[:, :9, :9] = 5
    seen = []
    predict_scene(run, write_raster(image, nodata=0), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (16, 16)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_batches_have_the_size_of_the_recipe(run, write_raster):
    predict_scene(run, write_raster(np.ones((2, 8, 8 + 4 * 6), dtype=np.uint8)))
    assert run.model.batches == [3, 3, 1]


def peak_memory(run, path):
    """Peak of NumPy's memory while the blocks are looked at and thrown away, in bytes."""
    tracemalloc.start()
    try:
        for _ in iterate_probabilities(run, path):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_height(run, write_raster):
    run = replace(run, model=nn.Conv2d(2, 3, 3, padding=1), patch_size=32)
    band = 32 * 600 * 3 * 4
    short = write_raster(np.ones((2, 64, 600), dtype=np.uint8), "short.tif")
    tall = write_raster(np.ones((2, 512, 600), dtype=np.uint8), "tall.tif")
    peak_memory(run, short)
    # The smallest of three: the interpreter's own caches grow at times. Keeping the rows would cost 14 bands,
    # keeping the image alone 2.3.
    low = min(peak_memory(run, short) for _ in range(3))
    high = min(peak_memory(run, tall) for _ in range(3))
    assert high <= low + 0.5 * band
    assert high < 3 * band


def test_memory_bound_holds_for_wide_scenes(run, write_raster):
    wide = write_raster(np.ones((2, 16, 3000), dtype=np.uint8))
    bound_mb = 0.1
    tracemalloc.start()
    widest = max(block.valid.shape[1] for block in iterate_probabilities(run, wide, max_memory_mb=bound_mb))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert widest * 8 * 2 * (4 * 3 + 1) <= bound_mb * 2**20
    # Windows of a batch, their probabilities and weights come on top: a constant.
    assert peak < bound_mb * 2**20 + 400_000


@pytest.mark.parametrize("bands", [1, 3])
def test_wrong_band_count(run, write_raster, bands):
    path = write_raster(np.ones((bands, 9, 9), dtype=np.uint8), "odd.tif")
    with pytest.raises(DataError, match=rf"odd\.tif.*band\(s\) 1, 2, but the scene has {bands}"):
        predict_scene(run, path)


def test_alpha_is_no_band(run, write_raster):
    image = np.full((3, 9, 9), 255, dtype=np.uint8)
    path = write_raster(image)
    with rasterio.open(path, "r+") as target:
        kinds = rasterio.enums.ColorInterp
        target.colorinterp = (kinds.gray, kinds.undefined, kinds.alpha)
    assert predict_scene(run, path).shape == (9, 9)


def test_missing_file_is_found_before_the_first_block(run, tmp_path):
    with pytest.raises(DataError, match=r"gone\.tif"):
        iterate_probabilities(run, tmp_path / "gone.tif")


def test_model_of_one_size(run, write_raster):
    path = write_raster(np.ones((2, 9, 9), dtype=np.uint8))
    with pytest.raises(ConfigError, match="must be 8, the training patch size"):
        iterate_probabilities(replace(run, any_size=False), path, window_size=16)
    assert predict_scene(replace(run, any_size=False), path, window_size=8).shape == (9, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_memory_mb": 0}, "max_memory_mb"),
        ({"window_size": 0}, "at least 1"),
        ({"device": "abacus"}, "device"),
    ],
)
def test_bad_options(run, write_raster, options, message):
    with pytest.raises(ConfigError, match=message):
        iterate_probabilities(run, write_raster(np.ones((2, 9, 9), dtype=np.uint8)), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu(run, write_raster):
    path = write_raster(np.ones((2, 9, 9), dtype=np.uint8))
    with pytest.raises(ConfigError, match="`device` must be usable, but cuda is not"):
        iterate_probabilities(run, path, device="cuda")
    assert predict_scene(run, path, device="auto").shape == (9, 9)


def test_a_model_that_classifies_whole_images(run, write_raster):
    pooled = nn.Sequential(run.model, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    path = write_raster(np.ones((2, 9, 9), dtype=np.uint8))
    with pytest.raises(ConfigError, match=r"must return logits of shape \(2, 3, 8, 8\)"):
        predict_scene(replace(run, model=pooled), path)


def test_logits_that_are_not_finite(run, write_raster):
    with torch.no_grad():
        run.model.mix.bias[1] = torch.nan
    with pytest.raises(DataError, match=r"scene\.tif: the model's logits must be finite"):
        predict_scene(run, write_raster(np.ones((2, 9, 9), dtype=np.uint8)))


@pytest.mark.gpu
def test_gpu_equals_cpu(run, write_raster):
    linear = replace(run, model=nn.Conv2d(2, 3, 3, padding=1))
    path = write_raster(np.random.default_rng(0).integers(0, 256, (2, 50, 50), dtype=np.uint8))
    on_cpu, _ = assemble(linear, path, (50, 50), device="cpu")
    on_gpu, _ = assemble(linear, path, (50, 50), device="cuda")
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-3)
