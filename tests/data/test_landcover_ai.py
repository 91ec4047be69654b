import hashlib
import zipfile

import numpy as np
import pytest
from test_download import CHUNK, Server, serving

from qhybrid.config import DataConfig
from qhybrid.data.landcover_ai import fetch_landcover_ai
from qhybrid.data.patches import RandomPatches
from qhybrid.data.raster import Window
from qhybrid.data.scene_datasets import fetch_dataset, open_dataset
from qhybrid.data.scenes import SceneReader
from qhybrid.data.splits import find_leaks
from qhybrid.data.statistics import compute_statistics
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError, WorkspaceError

SIZE = (1100, 1600)  # 2 x 3 whole tiles, 3 x 4 positions


@pytest.fixture(scope="module")
def root(tmp_path_factory, make_raster):
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for number, name in enumerate(("N-33-60-D-c-4-2", "M-33-7-A-d-2-3", "N-34-1")):
        place = {"origin": (500_000.0 + 5000 * number, 600_000.0)}
        image = random.integers(1, 255, (3, *SIZE), dtype=np.uint8)
        make_raster(folder / "landcover_ai" / "images" / f"{name}.tif", image, **place)
        mask = random.integers(0, 5, SIZE, dtype=np.uint8)
        make_raster(folder / "landcover_ai" / "masks" / f"{name}.tif", mask, crs=None)
    return folder


@pytest.fixture
def lists(root):
    content = {
        "train": "N-33-60-D-c-4-2_0\nN-33-60-D-c-4-2_6\n",
        "val": "M-33-7-A-d-2-3_4",
        "test": "N-34-1_2",
    }
    for split, text in content.items():
        (root / "landcover_ai" / f"{split}.txt").write_text(text)
    yield content
    for split in content:
        (root / "landcover_ai" / f"{split}.txt").unlink(missing_ok=True)


def config(**options):
    return DataConfig(dataset="landcover_ai", root="landcover_ai", options=options, patches_per_epoch=8)


def test_official_tiles_are_windows_numbered_over_all_positions(root, lists):
    dataset = open_dataset(config(), root)
    assert dataset.classes.names == ("background", "building", "woodland", "water", "road")
    windows = {scene.id: scene.window for split in lists for scene in dataset.scenes(split)}
    # The authors' split.py counts partial positions too: 4 in a row of 1600 pixels.
    assert windows == {
        "N-33-60-D-c-4-2_0": Window(0, 0, 512, 512),
        "N-33-60-D-c-4-2_6": Window(512, 1024, 512, 512),
        "M-33-7-A-d-2-3_4": Window(512, 0, 512, 512),
        "N-34-1_2": Window(0, 1024, 512, 512),
    }
    assert find_leaks(dataset) == []
    scene = dataset.scenes("train")[1]
    reader, whole = SceneReader(scene, dataset.classes), SceneReader(scene, dataset.classes)
    whole.move_to(type(scene)("w", scene.image, scene.mask, "w"))
    np.testing.assert_array_equal(reader.read((0, 0, 512, 512))[0], whole.read((512, 1024, 512, 512))[0])
    np.testing.assert_array_equal(
        reader.read_labels((0, 0, 512, 512)), whole.read_labels((512, 1024, 512, 512))
    )


def test_training_on_official_tiles_stays_inside_them(root, lists):
    dataset = open_dataset(config(), root)
    scenes = dataset.scenes("train")
    statistics = compute_statistics(scenes, None, dataset.classes)
    assert statistics.pixels == 2 * 512 * 512
    patches = RandomPatches(scenes, dataset.classes, statistics, config(), 0)
    for index in range(8):
        assert (patches[index]["mask"] != 255).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("N-33-60-D-c-4-2_3", r"window \(0, 1536, 512, 512\)"),
        ("N-33-60-D-c-4-2_8", "must lie in its scene"),
        ("elsewhere_0", "of a scene in"),
        ("N-34-1_x", "<scene>_<number>"),
    ],
)
def test_wrong_names_in_the_lists_are_errors(root, lists, line, message):
    (root / "landcover_ai" / "val.txt").write_text(line)
    with pytest.raises(DataError, match=rf"(?s)val.txt: tile {line} .*{message}"):
        open_dataset(config(), root).scenes("val")
    (root / "landcover_ai" / "val.txt").write_text("")
    with pytest.raises(DataError, match="split val must have scenes, but is empty"):
        open_dataset(config(), root).scenes("val")


def test_without_lists_scenes_are_split_by_location(root):
    thirds = {"train": 0.34, "val": 0.33, "test": 0.33}
    dataset = open_dataset(config(fractions=thirds), root)
    found = {split: [scene.id for scene in dataset.scenes(split)] for split in thirds}
    assert sorted(name for names in found.values() for name in names) == [
        "M-33-7-A-d-2-3",
        "N-33-60-D-c-4-2",
        "N-34-1",
    ]
    assert all(len(names) == 1 for names in found.values())
    assert dataset.scenes("test")[0].window is None
    with pytest.raises(DatasetNotFoundError, match=r"train.txt: must be the official list"):
        open_dataset(config(split="official"), root).scenes("train")


def test_lists_can_be_set_aside(root, lists):
    dataset = open_dataset(config(split="location", fractions={"train": 1.0}), root)
    assert len(dataset.scenes("train")) == 3
    with pytest.raises(DataError, match="is empty"):
        dataset.scenes("val")


def test_a_missing_data_set_says_how_to_get_it(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"qhybrid data fetch landcover_ai"):
        open_dataset(config(), tmp_path).scenes("train")


@pytest.fixture
def published(root, lists, tmp_path):
    path = tmp_path / "landcover.ai.v1.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for file in sorted((root / "landcover_ai").rglob("*")):
            bundle.write(file, file.relative_to(root / "landcover_ai"))
    return path.read_bytes()


def test_fetch_unpacks_an_interrupted_download(published, tmp_path):
    server = Server()
    server.content, server.cut_after = published, [len(published) // 3 // CHUNK * CHUNK]
    with serving(server):
        md5 = hashlib.md5(published).hexdigest()
        folder = fetch_landcover_ai(tmp_path / "sets" / "landcover_ai", server.url, md5)
        dataset = open_dataset(config(), folder.parent)
        assert len(dataset.scenes("train")) == 2
        assert sorted(path.name for path in folder.parent.iterdir()) == ["landcover_ai"]
        assert server.sent == len(published)
        with pytest.raises(WorkspaceError, match="already exists"):
            fetch_dataset("landcover_ai", tmp_path / "sets", server.url)


def test_another_archive_at_the_address_is_refused(published, tmp_path):
    server = Server()
    server.content = published
    with serving(server), pytest.raises(DataError, match="md5 must be 3268c89070e8734b4e91d531c0617e03"):
        fetch_dataset("landcover_ai", tmp_path / "sets", server.url)
    assert not list((tmp_path / "sets").iterdir())


def test_data_sets_without_an_address_cannot_be_fetched(tmp_path):
    with pytest.raises(ConfigError, match=r"synthetic cannot be downloaded; these can: landcover_ai"):
        fetch_dataset("synthetic", tmp_path)
