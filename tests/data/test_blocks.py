import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.data.blocks import divide
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import Scene
from qhybrid.data.splits import find_leaks
from qhybrid.errors import ConfigError, DataError

SPLITS = ("train", "val", "test")
FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}


@pytest.fixture(scope="module")
def rasters(tmp_path_factory, make_raster):
    """Return a function that writes an empty raster of a size at a place, each once."""
    folder = tmp_path_factory.mktemp("blocks")

    def make(height, width, x=0.0, y=0.0):
        file = folder / f"{height}_{width}_{x}_{y}.tif"
        if not file.exists():
            make_raster(file, np.zeros((height, width), np.uint8), pixel=1.0, origin=(5e5 + x, 5e5 + y))
        return Scene(file.stem, file, None, "")

    return make


def painted(parts, image, shape):
    """Return the number of the part (from 1) of each pixel of a raster, 0 where unused; none is twice."""
    canvas = np.zeros(shape, np.int64)
    for number, part in enumerate(sorted(parts), start=1):
        for scene in parts[part]:
            if scene.image == image:
                row, col, height, width = scene.window
                assert min(row, col) >= 0
                assert row + height <= shape[0]
                assert col + width <= shape[1]
                block = canvas[row : row + height, col : col + width]
                assert not block.any()
                block[:] = number
    return canvas


def smallest_distance(canvas):
    """Return the smallest Chebyshev distance between pixels of different parts, by dilation."""
    numbers = set(np.unique(canvas)) - {0}
    for distance in range(1, max(canvas.shape)):
        for number in numbers:
            own = np.pad(canvas == number, distance)
            grown = np.zeros(canvas.shape, bool)
            windows = np.lib.stride_tricks.sliding_window_view(own, (2 * distance + 1,) * 2)
            grown = windows.any(axis=(2, 3))
            if (grown & (canvas > 0) & (canvas != number)).any():
                return distance
    return np.inf


@settings(max_examples=60, deadline=None)
@given(st.integers(17, 70), st.integers(17, 70), st.integers(6, 20), st.integers(0, 6), st.integers(0, 10**6))
def test_parts_are_more_than_the_margin_apart(rasters, height, width, side, margin, seed):
    scene = rasters(height, width)
    margin = min(margin, side - 1)

    def assign(sizes):
        chosen = np.random.default_rng(seed).choice(list(SPLITS), len(sizes))
        return dict(zip(sizes, map(str, chosen)))

    parts = divide([scene], side, margin, assign)
    canvas = painted(parts, scene.image, (height, width))
    assert smallest_distance(canvas) > margin
    for block in itertools.chain(*parts.values()):
        assert block.window.height >= min(side, height) - margin
        assert block.window.width >= min(side, width) - margin
    assert sum(map(len, parts.values())) == max(1, height // side) * max(1, width // side)


def test_all_pixels_are_used_within_one_part(rasters):
    scene = rasters(50, 43)
    parts = divide([scene], 10, 4, lambda sizes: dict.fromkeys(sizes, "train"))
    assert (painted(parts, scene.image, (50, 43)) == 1).all()
    halves = divide([scene], 10, 4, lambda sizes: {name: name.partition("_r")[2][0] for name in sizes})
    canvas = painted(halves, scene.image, (50, 43))
    assert [(canvas == 0).all(axis=1).sum(), (canvas == 0).sum()] == [16, 16 * 43]  # 4 borders of 4 rows


def test_neighbouring_scenes_keep_the_margin_too(rasters):
    """Three rasters in one row: the first two touch, the third is far away."""
    left, right, far = rasters(40, 40), rasters(40, 40, 40.0), rasters(40, 40, 500.0)
    parts = divide([left, right, far], 20, 5, lambda sizes: {name: name.split("_")[2][:2] for name in sizes})
    canvas = np.hstack([painted(parts, scene.image, (40, 40)) for scene in (left, right)])
    used = np.flatnonzero((canvas > 0).any(axis=0))
    assert used.min() == 3
    assert not np.isin(np.arange(37, 43), used).any()
    assert (painted(parts, far.image, (40, 40)) > 0).all()
    apart = divide([left, rasters(40, 40, 46.0)], 20, 5, lambda sizes: dict.fromkeys(sizes, "train"))
    assert (painted(apart, left.image, (40, 40)) > 0).all()
    with pytest.raises(DataError, match=r"must not overlap.*gdalbuildvrt"):
        divide([left, rasters(40, 40, 39.0)], 20, 5, lambda sizes: dict.fromkeys(sizes, "train"))


def blocks(config, root, **split):
    options = {"images": "images", "masks": "masks", "split": split}
    return open_dataset(config.model_copy(update={"root": "one", "options": options}), root)


@pytest.fixture
def big_scenes(folder_dataset, make_raster):
    """Two scenes of 300 x 400 pixels, 10 km apart; patches are 32 pixels."""
    root, config = folder_dataset
    for number in range(2):
        place = {"origin": (500_000.0 + 10_000 * number, 500_000.0)}
        make_raster(root / "one" / "images" / f"s{number}.tif", np.ones((3, 300, 400), np.uint8), **place)
        make_raster(root / "one" / "masks" / f"s{number}.tif", np.ones((300, 400), np.uint8), **place)
    return root, config


def test_scenes_in_blocks_as_a_data_set(big_scenes):
    root, config = big_scenes
    dataset = blocks(config, root, blocks=64, margin=16, fractions=FRACTIONS, seed=1)
    found = {split: dataset.scenes(split) for split in SPLITS}
    assert {split: len(part) for split, part in found.items()} == {"train": 29, "val": 10, "test": 9}
    assert found["val"] == blocks(config, root, blocks=64, margin=16, fractions=FRACTIONS, seed=1).scenes(
        "val"
    )
    assert found["val"] != blocks(config, root, blocks=64, margin=16, fractions=FRACTIONS, seed=2).scenes(
        "val"
    )
    assert find_leaks(dataset) == []
    scene = found["train"][0]
    assert scene.id == scene.location
    assert scene.id.startswith("s0_r")
    assert {one.image.name for part in found.values() for one in part} == {"s0.tif", "s1.tif"}
    for name in ("s0", "s1"):
        image = root / "one" / "images" / f"{name}.tif"
        assert smallest_distance(painted(found, image, (300, 400))[::4, ::4]) > 16 / 4


def test_wrong_blocks_are_refused_before_files_are_read(folder_dataset):
    root, config = folder_dataset
    for split, message in [
        ({"blocks": 64, "margin": 64}, r"`margin` \(64\) must be less than `blocks` \(64\)"),
        ({"blocks": 64, "margin": 40}, r"at least `data\.patch_size` \(32\), but is 24.*72 or more"),
        ({"margin": 4}, "`margin` is for blocks"),
        ({"blocks": 64, "margin": 4, "location": "(a)"}, "without `location`"),
    ]:
        with pytest.raises(ConfigError, match=f"(?s){message}"):
            blocks(config, root, fractions=FRACTIONS, **split)
    with pytest.raises(ConfigError, match="`fractions`"):
        blocks(config, root, blocks=64, margin=4)


def test_too_few_blocks(big_scenes):
    root, config = big_scenes
    with pytest.raises(DataError, match=r"2 scene\(s\) have 2 of 300 x 300.*smaller .*split\.blocks`"):
        blocks(config, root, blocks=300, margin=16, fractions=FRACTIONS).scenes("train")
