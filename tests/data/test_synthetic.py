import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import rasterio

from qhybrid.config import DataConfig
from qhybrid.data.landcover_ai import LANDCOVER_CLASSES
from qhybrid.data.patches import RandomPatches
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.splits import find_leaks
from qhybrid.data.statistics import compute_statistics
from qhybrid.data.synthetic import SyntheticOptions, SyntheticScenes, render_scene, write_scenes
from qhybrid.data.synthetic_layout import BUILDING, ROAD, make_layout
from qhybrid.errors import ConfigError, DataError, WorkspaceError

SMALL = {"train": 2, "val": 1, "test": 1, "size": 192}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def opened(**options):
    return open_dataset(DataConfig(dataset="synthetic", options={**SMALL, **options}), Path())


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(0, "train", number, 512) for number in range(6)], [
        render_scene(0, "test", number, 512) for number in range(4)
    ]


def test_files_are_georeferenced_and_splits_lie_apart(cache):
    dataset = opened()
    assert dataset.classes.names == ("background", "building", "woodland", "water", "road")
    assert [len(dataset.scenes(split)) for split in ("train", "val", "test")] == [2, 1, 1]
    assert find_leaks(dataset) == []
    scene = dataset.scenes("val")[0]
    image, labels = render_scene(0, "val", 0, 192)
    with rasterio.open(scene.image) as file, rasterio.open(scene.mask) as mask:
        assert file.crs.to_epsg() == mask.crs.to_epsg() == 2180
        assert file.res == (0.5, 0.5)
        assert file.transform == mask.transform
        assert file.dtypes == ("uint8",) * 3
        np.testing.assert_array_equal(file.read(), image)
        np.testing.assert_array_equal(mask.read(1), labels)
    statistics = compute_statistics(dataset.scenes("train"), None, dataset.classes)
    config = DataConfig(dataset="synthetic", patches_per_epoch=2)
    assert (
        RandomPatches(dataset.scenes("train"), dataset.classes, statistics, config, 0)[1]["image"].shape[0]
        == 3
    )


def test_scenes_are_drawn_once_and_again_when_damaged(cache):
    dataset = opened()
    file = dataset.scenes("train")[1].image
    before = file.read_bytes(), file.stat().st_mtime_ns
    assert opened().scenes("train")[1].image.stat().st_mtime_ns == before[1]
    file.unlink()
    assert opened().scenes("train")[1].image.read_bytes() == before[0]
    assert [path.name for path in (cache / "synthetic").iterdir()] == [dataset.root.name]


def test_scenes_in_a_folder_of_ones_own(tmp_path, cache):
    folder = write_scenes(SyntheticOptions(**SMALL), tmp_path / "mine")
    config = DataConfig(dataset="geotiff_folder", root="mine", classes=LANDCOVER_CLASSES)
    scene = open_dataset(config, tmp_path).scenes("test")[0]
    assert scene.image.read_bytes() == opened().scenes("test")[0].image.read_bytes()
    with pytest.raises(WorkspaceError, match="not empty"):
        write_scenes(SyntheticOptions(**SMALL), folder)


def test_every_parameter_is_part_of_the_key(cache):
    roots = {
        opened(**change).root
        for change in ({}, {"seed": 1}, {"size": 128}, {"train": 3}, {"val": 2}, {"test": 2})
    }
    assert len(roots) == 6


def test_scenes_depend_on_seed_split_and_number_only():
    first, _ = render_scene(0, "train", 0, 128)
    np.testing.assert_array_equal(first, render_scene(0, "train", 0, 128)[0])
    for other in ((1, "train", 0), (0, "val", 0), (0, "train", 1)):
        assert (render_scene(*other, 128)[0] != first).any()


def _prepare(folder):
    from qhybrid.data.classes import ClassMap

    SyntheticScenes(
        SyntheticOptions(**SMALL), ClassMap.from_config(LANDCOVER_CLASSES), Path(folder)
    ).prepare()


def test_processes_that_draw_at_the_same_time_agree(tmp_path):
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_prepare, args=(str(tmp_path),)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(list((tmp_path / "synthetic").iterdir())) == 1


def test_errors(cache):
    with pytest.raises(DataError, match=r"`data\.options\.val` is 0"):
        opened(val=0).scenes("val")
    with pytest.raises(DataError, match="one of train, val, test"):
        opened().scenes("all")
    for wrong in ({"size": 5}, {"seed": -1}, {"trian": 3}):
        with pytest.raises(ConfigError, match=r"data\.options"):
            opened(**wrong)


def test_a_scene_has_three_bands_and_a_label_map():
    image, labels = render_scene(3, "train", 0, 512)
    assert (image.shape, image.dtype, labels.dtype) == ((3, 512, 512), np.uint8, np.uint8)


def test_every_class_occurs(scenes):
    for _, labels in scenes[0] + scenes[1]:
        shares = np.bincount(labels.ravel(), minlength=5) / labels.size
        assert (shares > 0.002).all()
        assert shares[0] < 0.85


def test_roads_are_connected_and_cross_the_scene():
    from scipy.ndimage import label

    for seed in range(5):
        layout = make_layout(np.random.default_rng(seed), 512)
        # Buildings never lie on roads; roads lie over water and woods: all pieces hang together or leave
        # the scene.
        pieces, count = label(layout.labels == ROAD, np.ones((3, 3)))
        touching = set(np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))) - {0}
        assert touching == set(range(1, count + 1))
        largest = np.bincount(pieces.ravel())[1:].max()
        assert largest > 0.6 * (pieces > 0).sum()


def test_buildings_stand_beside_roads():
    for seed in range(5):
        layout = make_layout(np.random.default_rng(seed), 512)
        lines = np.concatenate([road.line for road in layout.roads])
        for building in layout.buildings:
            distance = np.linalg.norm(lines - building.center, axis=1).min()
            assert 10 < distance < 110
        assert (layout.labels == BUILDING).any()


@pytest.mark.parametrize("size", [64, 100, 300, 700])
def test_other_sizes(size):
    image, labels = render_scene(0, "train", 0, size)
    assert (image.shape, labels.shape) == ((3, size, size), (size, size))
    assert len(np.unique(labels)) >= 4


def miou(truth, prediction):
    confusion = np.bincount(truth * 5 + prediction, minlength=25).reshape(5, 5)
    return (np.diag(confusion) / (confusion.sum(0) + confusion.sum(1) - np.diag(confusion))).mean()


def colour_classifier(train, test, weights=None):
    """Return the mIoU of the likeliest class of each colour (16 x 16 x 16 bins)."""

    def bins(scenes):
        images = np.concatenate([image.reshape(3, -1) for image, _ in scenes], axis=1).astype(np.int64) // 16
        return images[0] * 256 + images[1] * 16 + images[2], np.concatenate(
            [labels.ravel() for _, labels in scenes]
        )

    colours, truth = bins(train)
    counts = np.bincount(colours * 5 + truth, minlength=4096 * 5).reshape(4096, 5)
    likeliest = (counts * (1 if weights is None else weights(counts.sum(axis=0)))).argmax(axis=1)
    colours, truth = bins(test)
    return miou(truth.astype(np.int64), likeliest[colours])


def test_colours_alone_do_not_solve_it(scenes):
    train, test = scenes
    assert colour_classifier(train, test) < 0.45
    assert colour_classifier(train, test, weights=lambda totals: 1 / totals**0.5) < 0.45
    assert colour_classifier(train, train) < 0.5  # not even with the answers known


def test_texture_tells_woodland_from_fields_of_the_same_colour(scenes):
    """Local contrast is no colour: it separates what colour cannot, so context is worth learning."""
    wood, rest = [], []
    for image, labels in scenes[0]:
        grey = image.mean(axis=0)
        windows = grey.reshape(64, 8, 64, 8).std(axis=(1, 3))
        share = (labels == 2).reshape(64, 8, 64, 8).mean(axis=(1, 3))
        background = (labels == 0).reshape(64, 8, 64, 8).mean(axis=(1, 3))
        wood.append(windows[share == 1])
        rest.append(windows[background == 1])
    wood, rest = np.concatenate(wood), np.concatenate(rest)
    threshold = np.median(np.concatenate([wood, rest]))
    assert (wood > threshold).mean() > 0.9
    assert (rest > np.percentile(wood, 10)).mean() < 0.35
