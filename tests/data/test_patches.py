import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from qhybrid.data.patches import GridPatches, RandomPatches
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.data.statistics import BandStatistics, compute_statistics
from qhybrid.errors import DataError


@pytest.fixture
def parts(folder_dataset):
    root, config = folder_dataset
    dataset = open_dataset(config, root)
    statistics = compute_statistics(dataset.scenes("train"), config.bands, dataset.classes)
    return dataset, statistics, config


def random_patches(parts, seed=0, **changes):
    dataset, statistics, config = parts
    return RandomPatches(
        dataset.scenes("train"), dataset.classes, statistics, config.model_copy(update=changes), seed
    )


def test_samples_are_standardised_windows(parts):
    dataset, statistics, _ = parts
    patches = random_patches(parts)
    number, window = patches.window(0, 5)
    scene = dataset.scenes("train")[number]
    from rasterio import open as open_file
    from rasterio.windows import Window

    part = Window(window.col, window.row, 32, 32)
    with open_file(scene.image) as image, open_file(scene.mask) as mask:
        raw, values = image.read(window=part).astype(float), mask.read(1, window=part)
    sample = patches[5]
    mean, std = (np.array(numbers)[:, None, None] for numbers in (statistics.mean, statistics.std))
    np.testing.assert_allclose(sample["image"], (raw - mean) / std, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(sample["mask"], np.select([values == 1, values == 3], [0, 2], 1))
    assert (sample["image"].dtype, sample["mask"].dtype) == (torch.float32, torch.int64)
    assert (tuple(sample["image"].shape), tuple(sample["mask"].shape)) == ((3, 32, 32), (32, 32))


def test_a_patch_is_a_function_of_seed_epoch_and_index(parts):
    first, second, other = (
        random_patches(parts),
        random_patches(parts, cache_mb=0),
        random_patches(parts, seed=1),
    )
    for patches in (first, second, other):
        patches.set_epoch(3)
    assert torch.equal(first[7]["image"], second[7]["image"])  # in memory or by windows
    assert torch.equal(first[7]["mask"], second[(3, 7)]["mask"])
    assert not torch.equal(first[7]["image"], first[8]["image"])
    assert not torch.equal(first[7]["image"], other[7]["image"])
    assert not torch.equal(first[7]["image"], first[(4, 7)]["image"])


def test_positions_are_uniform_over_all_scenes(tmp_path, make_raster, parts):
    _, _, config = parts
    scenes = []
    for name, height, width in (("small", 32, 40), ("large", 64, 48)):
        image = make_raster(tmp_path / f"{name}.tif", np.ones((3, height, width), np.uint8))
        mask = make_raster(tmp_path / f"{name}_mask.tif", np.ones((height, width), np.uint8))
        scenes.append(Scene(name, image, mask, name))
    dataset, statistics, _ = parts
    patches = RandomPatches(scenes, dataset.classes, statistics, config, 0)
    drawn = [patches.window(0, index) for index in range(3000)]
    positions = 1 * 9, 33 * 17
    share = np.mean([number == 0 for number, _ in drawn])
    assert share == pytest.approx(positions[0] / sum(positions), abs=0.01)
    rows, columns = np.array([(window.row, window.col) for number, window in drawn if number == 1]).T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 32, 0, 16)
    assert rows.mean() == pytest.approx(16, abs=0.8)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_see_the_epoch_and_change_nothing(parts, workers):
    patches = random_patches(parts, patches_per_epoch=12)
    expected = {epoch: torch.stack([patches[(epoch, i)]["image"] for i in range(12)]) for epoch in (0, 1, 5)}
    loader = DataLoader(patches, batch_size=4, num_workers=workers, persistent_workers=workers > 0)
    for epoch in (0, 1, 5):
        patches.set_epoch(epoch)
        images = torch.cat([batch["image"] for batch in loader])
        assert torch.equal(images, expected[epoch])


@pytest.mark.slow
def test_spawned_workers(parts):
    patches = random_patches(parts, patches_per_epoch=4)
    patches.set_epoch(2)
    loader = DataLoader(patches, batch_size=4, num_workers=1, multiprocessing_context="spawn")
    (batch,) = list(loader)
    assert torch.equal(batch["image"][3], patches[(2, 3)]["image"])


def test_global_random_state_is_not_touched(parts):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    _ = random_patches(parts)[0]
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_patches_must_fit_into_scenes(parts):
    with pytest.raises(
        DataError, match=r"train0.tif: a training scene must be at least as large as a patch.*96 x 80.*81"
    ):
        random_patches(parts, patch_size=81)
    assert len(random_patches(parts, patch_size=80)) == 40


def test_there_must_be_scenes_with_masks(parts):
    dataset, statistics, config = parts
    with pytest.raises(DataError, match="the split is empty"):
        RandomPatches([], dataset.classes, statistics, config, 0)
    scene = dataset.scenes("train")[0]
    with pytest.raises(DataError, match=r"train0.tif: labels are needed for training"):
        GridPatches([Scene("x", scene.image, None, "x")], dataset.classes, statistics, config)
    with pytest.raises(IndexError):
        _ = random_patches(parts)[40]


@pytest.mark.parametrize("cache_mb", [0, 64])
def test_nodata_is_zero_and_ignored_and_empty_windows_are_drawn_again(tmp_path, make_raster, parts, cache_mb):
    dataset, _, config = parts
    image = np.zeros((3, 200, 200), np.uint8)
    image[:, :40, :40] = 100
    scene = Scene(
        "corner",
        make_raster(tmp_path / "i.tif", image, nodata=0),
        make_raster(tmp_path / "m.tif", np.ones((200, 200), np.uint8)),
        "corner",
    )
    statistics = BandStatistics((1, 2, 3), (50.0,) * 3, (10.0,) * 3, (0.0,) * 3, (255.0,) * 3, 1)
    config = config.model_copy(update={"cache_mb": cache_mb})
    patches = RandomPatches([scene], dataset.classes, statistics, config, 0)
    for index in range(10):
        sample = patches[index]
        inside = sample["image"][0] != 0
        assert inside.any()
        assert ((sample["image"] == 5.0).all(dim=0) == inside).all()
        assert ((sample["mask"] == 0) == inside).all()
        assert (sample["mask"][~inside] == 255).all()


def test_scenes_without_labels_end_in_an_error(tmp_path, make_raster, parts):
    dataset, statistics, config = parts
    image = make_raster(tmp_path / "i.tif", np.zeros((3, 40, 40), np.uint8), nodata=0)
    mask = make_raster(tmp_path / "m.tif", np.ones((40, 40), np.uint8))
    patches = RandomPatches([Scene("e", image, mask, "e")], dataset.classes, statistics, config, 0)
    with pytest.raises(DataError, match=r"i.tif: patches must have labelled pixels.*data\.nodata"):
        _ = patches[0]


@pytest.mark.parametrize("cache_mb", [0, 64])
def test_the_grid_covers_every_pixel_once(parts, cache_mb):
    dataset, statistics, config = parts
    scenes = dataset.scenes("val")
    grid = GridPatches(scenes, dataset.classes, statistics, config.model_copy(update={"cache_mb": cache_mb}))
    assert len(grid) == 2 * 3 * 3
    counted = sum(int((grid[i]["mask"] != 255).sum()) for i in range(len(grid)))
    assert counted == 2 * 96 * 80
    last = grid[2]  # columns 64 to 95 of 80
    assert (last["mask"][:, 16:] == 255).all()
    assert (last["image"][:, :, 16:] == 0).all()
    assert (last["mask"][:, :16] != 255).all()


@pytest.mark.parametrize(("cache_mb", "in_memory"), [(0, set()), (2, {"a"}), (4, {"a", "b"})])
def test_a_cache_that_holds_only_some_scenes_changes_nothing(
    tmp_path, make_raster, parts, monkeypatch, cache_mb, in_memory
):
    """Two scenes of 1.4 MiB each in memory; those that fit are read once, as a whole."""
    dataset, _, config = parts
    random = np.random.default_rng(0)
    scenes = []
    for name in "ab":
        image = make_raster(tmp_path / f"{name}.tif", random.integers(1, 200, (1, 700, 700), np.uint8))
        mask = make_raster(tmp_path / f"{name}_mask.tif", np.ones((700, 700), np.uint8))
        scenes.append(Scene(name, image, mask, name))
    statistics = compute_statistics(scenes, (1,))

    def patches(megabytes):
        changed = config.model_copy(update={"cache_mb": megabytes})
        return RandomPatches(scenes, dataset.classes, statistics, changed, 0)

    expected = [patches(64)[index]["image"] for index in range(20)]
    small, read, original = patches(cache_mb), [], SceneReader.read

    def recorded(reader, window):
        read.append((reader.scene.id, window.height))
        return original(reader, window)

    monkeypatch.setattr(SceneReader, "read", recorded)
    for index in range(20):
        assert torch.equal(small[index]["image"], expected[index])
    whole = [name for name, height in read if height == 700]
    assert sorted(whole) == sorted(in_memory)
    assert {name for name, height in read if height < 700} == {"a", "b"} - in_memory


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 2, 4, 7])
def test_any_number_of_bands_and_type(tmp_path, make_raster, parts, dtype, bands):
    dataset, _, config = parts
    raw = np.random.default_rng(0).integers(1, 200, (bands, 40, 40)).astype(dtype)
    image = make_raster(tmp_path / "i.tif", raw)
    mask = make_raster(tmp_path / "m.tif", np.ones((40, 40), np.uint8))
    scenes = [Scene("a", image, mask, "a")]
    statistics = compute_statistics(scenes, tuple(range(1, bands + 1)))
    sample = RandomPatches(scenes, dataset.classes, statistics, config, 0)[0]
    assert sample["image"].shape == (bands, 32, 32)
    assert sample["image"].abs().max() < 5


@pytest.mark.shared_data
def test_a_batch_of_real_patches_comes_in_milliseconds(shared_data):
    from qhybrid.config import ClassConfig, DataConfig

    values = {"building": 10, "road": 30, "field": 50, "forest": 70, "background": 100}
    classes = tuple(
        ClassConfig(name=name, values=(value,), color="#000000") for name, value in values.items()
    )
    config = DataConfig(dataset="geotiff_folder", root="sentinel2_korea", bands=(3, 2, 1), classes=classes)
    dataset = open_dataset(config, shared_data)
    scenes = dataset.scenes("train")
    assert (len(scenes), len(dataset.scenes("val")), len(dataset.scenes("test"))) == (21, 6, 8)
    statistics = compute_statistics(scenes, config.bands, dataset.classes)
    assert statistics.pixels == sum(statistics.pixels_per_class) == 21 * 512 * 512
    patches = RandomPatches(scenes, dataset.classes, statistics, config, 0)
    batch = next(iter(DataLoader(patches, batch_size=16)))
    assert batch["image"].shape == (16, 3, 128, 128)
    assert batch["mask"].unique().max() < 5
