"""What is found before the first step of training, and what is said of it."""

from __future__ import annotations

import shutil
from collections import Counter, namedtuple

import numpy as np
import pytest
import rasterio
import torch
from image_folders import write_picture

from qhybrid.config import Recipe, validated
from qhybrid.data.raster import RasterReader
from qhybrid.errors import (
    ConfigError,
    DataError,
    EngineError,
    MissingDependencyError,
    QHybridError,
    WorkspaceError,
)
from qhybrid.models import build_model
from qhybrid.training import load_run, train
from qhybrid.training.images.module import ImageModule
from qhybrid.training.preparation import check_free_space, claimed
from qhybrid.training.scenes.module import SegmentationModule
from qhybrid.training.scenes.task import model_section
from qhybrid.workspace import write_text


def recipe_of(content: dict) -> Recipe:
    return validated(Recipe, content, "tiny.yaml")


@pytest.fixture
def data(tiny_data, tmp_path):
    shutil.copytree(tiny_data, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def no_step(monkeypatch):
    """Fail the test if a training step is taken."""

    def step(self, *arguments):
        pytest.fail("a step was taken")

    monkeypatch.setattr(SegmentationModule, "training_step", step)
    monkeypatch.setattr(ImageModule, "training_step", step)


class StopHere(Exception):
    """All is checked, and the first step would come."""


def stop(_):
    raise StopHere


def truncate(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 3 // 4])


def rewrite(file, change):
    with rasterio.open(file) as source:
        values, profile = source.read(), source.profile
    with rasterio.open(file, "w", **profile) as target:
        target.write(change(values))


@pytest.mark.usefixtures("no_step")
class TestBeforeTheFirstStep:
    @pytest.mark.parametrize(
        "file", ["test/masks/d.tif", "test/images/d.tif", "val/masks/c.tif", "train/images/b.tif"]
    )
    def test_a_truncated_file_of_any_split(self, data, tmp_path, tiny_content, file):
        truncate(data / "tiny" / file)
        with pytest.raises(DataError, match=file.replace(".", r"\.")):
            train(recipe_of(tiny_content()), data, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_all_faults_are_named_at_once(self, data, tmp_path, tiny_content):
        rewrite(data / "tiny/test/masks/d.tif", lambda mask: np.where(mask == 7, 9, mask).astype(np.uint8))
        truncate(data / "tiny/val/masks/c.tif")
        with pytest.raises(DataError, match="2 problems with the data") as caught:
            train(recipe_of(tiny_content()), data, tmp_path / "run")
        for name in ("test/masks/d.tif", "9 is not", "val/masks/c.tif"):
            assert name in str(caught.value)

    def test_a_mask_of_the_test_split_that_does_not_fit(self, data, tmp_path, tiny_content):
        shutil.copy(data / "tiny/val/masks/c.tif", data / "tiny/test/masks/d.tif")  # of another place
        with pytest.raises(DataError, match=r"must lie at the same place.*d\.tif"):
            train(recipe_of(tiny_content()), data, tmp_path / "run")

    def test_splits_without_labels(self, data, tmp_path, tiny_content):
        content = tiny_content()
        content["data"]["ignore_values"] = [200]
        for split in ("val", "train"):
            for mask in (data / "tiny" / split / "masks").iterdir():
                rewrite(mask, lambda values: np.full_like(values, 200))
            with pytest.raises(DataError, match=f"Split {split} must have labels"):
                train(recipe_of(content), data, tmp_path / "run")
            for mask in (data / "tiny" / split / "masks").iterdir():
                rewrite(mask, np.zeros_like)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"model": {"name": "hq_unett"}}, ConfigError, "Did you mean `hq_unet`"),
            ({"model": {"name": "hq_unet", "widths": [4, 4]}}, ConfigError, "`widths` has too few values: 2"),
            ({"model": {"name": "hq_unet", "grid": "two"}}, ConfigError, "`grid`: Input should"),
            (
                {"model": {"name": "hq_unet", "gird": 2}},
                ConfigError,
                "`gird` is unknown. Did you mean `grid`",
            ),
            ({"model": {"name": "qcnn"}}, ConfigError, "must be a model for segmentation"),
            ({"engine": {"options": {"metod": 1}}}, EngineError, "metod"),
            ({"engine": {"noise": "fake_torinoo"}}, QHybridError, "fake_torino"),
        ],
    )
    def test_wrong_names_without_a_look_at_the_data(self, tmp_path, tiny_content, change, error, message):
        """There are no data: whoever looked for them first would say so."""
        with pytest.raises(error, match=message):
            train(recipe_of({**tiny_content(), **change}), tmp_path / "nothing", tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_missing_logger_and_a_missing_start(self, tmp_path, tiny_content, monkeypatch):
        def absent(module, extra):
            raise MissingDependencyError(f"{module} of {extra}")

        monkeypatch.setattr("qhybrid.training.preparation.optional_import", absent)
        with pytest.raises(MissingDependencyError, match="mlflow of loggers"):
            train(recipe_of(tiny_content(loggers=["mlflow"])), tmp_path / "nothing", tmp_path / "run")
        with pytest.raises(QHybridError, match=r"training\.start"):
            train(recipe_of(tiny_content(start="runs/none")), tmp_path / "nothing", tmp_path / "run")

    def test_a_key_that_the_headers_contradict(self, data, tmp_path, tiny_content, monkeypatch):
        """The number of bands is known from headers; only a sample of the first image is read before."""
        read, original = set(), RasterReader.read

        def noting(self, window):
            read.add("/".join(self.path.parts[-3:]))
            return original(self, window)

        monkeypatch.setattr(RasterReader, "read", noting)
        content = tiny_content()
        content["model"]["in_channels"] = 5
        with pytest.raises(ConfigError, match=r"model\.in_channels` is 5, but the data say 2"):
            train(recipe_of(content), data, tmp_path / "run")
        assert read <= {"train/images/a.tif"}

    def test_a_folder_that_cannot_be_written(self, data, tmp_path, tiny_content):
        write_text(tmp_path / "file", "")
        with pytest.raises(WorkspaceError, match="Folder .*file/run must be writable"):
            train(recipe_of(tiny_content()), data, tmp_path / "file" / "run")

    def test_a_disk_without_room(self, data, tmp_path, tiny_content, monkeypatch):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
        with pytest.raises(WorkspaceError, match="must have room for weights"):
            train(recipe_of(tiny_content()), data, tmp_path / "run")
        assert not (tmp_path / "run").exists()
        check_free_space(tmp_path, torch.nn.Linear(7, 5, bias=False))  # 5 x 35 x 4 = 700 bytes
        with pytest.raises(WorkspaceError):
            check_free_space(tmp_path, torch.nn.Linear(11, 5, bias=False))  # 1100 bytes

    def test_a_damaged_test_image_of_an_image_data_set(self, tmp_path):
        random = np.random.default_rng(1)
        for kind in ("glioma", "meningioma", "notumor", "pituitary"):
            for number in range(12):
                write_picture(tmp_path / "mri" / kind / f"{number}.png", random.integers(0, 255, (32, 32)))
        content = {"name": "mri", "data": {"dataset": "brain_mri", "root": "mri"}, "model": {"name": "cnn"}}
        content["training"] = {"epochs": 1, "progress": False}
        seen = []
        with pytest.raises(BaseException, match="a step was taken"):
            train(recipe_of(content), tmp_path, tmp_path / "run", on_start=seen.append)
        splits = seen[0].data.splits
        assert list(splits) == ["train", "val", "test"]
        assert all(found.pixels == found.count * 128**2 for found in splits.values())
        from qhybrid.data import open_image_dataset

        test = open_image_dataset(recipe_of(content).data, tmp_path).load("test").ids[0]
        truncate(tmp_path / "mri" / f"{test}.png")
        with pytest.raises(DataError, match="truncated"):
            train(recipe_of(content), tmp_path, tmp_path / "other")


def test_what_the_test_split_is_needed_for(data, tmp_path, tiny_content):
    recipe = recipe_of(tiny_content(epochs=1))
    truncate(data / "tiny/test/masks/d.tif")
    assert load_run(train(recipe, data, tmp_path / "unused", test=False), "last").meta.epoch == 1
    shutil.rmtree(data / "tiny/test")
    assert load_run(train(recipe, data, tmp_path / "absent"), "last").meta.epoch == 1
    with pytest.raises(DataError, match="tiny/test/images"):
        train(recipe, data, tmp_path / "needed", test=True)


def test_training_and_test_that_share_ground_are_not_used_in_silence(data, tmp_path, tiny_content):
    for kind in ("images", "masks"):
        shutil.copy(data / f"tiny/train/{kind}/a.tif", data / f"tiny/test/{kind}/again.tif")
    warned = r"1 pair\(s\) of scenes .* show the same ground \(train and test\)"
    with pytest.warns(UserWarning, match=warned), pytest.raises(StopHere):
        train(recipe_of(tiny_content(epochs=1)), data, tmp_path / "run", on_start=stop)


def test_training_images_are_read_once_before_the_first_step(tiny_data, tmp_path, tiny_content, monkeypatch):
    read: Counter[str] = Counter()
    original = RasterReader.read

    def counting(self, window):
        read["/".join(self.path.parts[-3:])] += window[2] * window[3]
        return original(self, window)

    monkeypatch.setattr(RasterReader, "read", counting)
    with pytest.raises(StopHere):
        train(recipe_of(tiny_content()), tiny_data, tmp_path / "run", on_start=stop)
    whole, ends = 48 * 48, 2 * 48
    sample = whole  # of so small an image; what large ones are judged by is a bounded part of them
    assert read["train/images/a.tif"] == sample + whole + ends
    assert read["train/masks/a.tif"] == whole + ends
    assert (read["test/images/d.tif"], read["test/masks/d.tif"]) == (sample + ends, whole)


def test_what_is_said_before_the_first_step(tiny_data, tmp_path, tiny_content):
    seen = []

    def note_and_stop(start):
        seen.append(start)
        raise StopHere

    with pytest.raises(StopHere):
        train(recipe_of(tiny_content(epochs=2)), tiny_data, tmp_path / "run", on_start=note_and_stop)
    (start,) = seen
    counted = {split: (found.count, found.pixels) for split, found in start.data.splits.items()}
    assert counted == {"train": (2, 2 * 48 * 48), "val": (1, 48 * 48), "test": (1, 48 * 48)}
    section = {**tiny_content()["model"], "in_channels": 2, "num_classes": 2, "patch_size": 16}
    weights = dict(build_model(section).named_parameters())
    assert start.parameters == sum(one.numel() for one in weights.values())
    assert start.circuit_weights == weights["bottleneck.core.weight"].numel() > 0
    assert (start.epochs, start.steps, start.batch_size, start.device) == (2, 3, 4, "cpu")


def test_a_claimed_folder_is_for_one_process(tmp_path):
    folder = tmp_path / "run"
    with claimed(folder, resume=False):
        with pytest.raises(WorkspaceError, match="Only one process"), claimed(folder, resume=False):
            pass
        write_text(folder / "recipe.yaml", "")
    with pytest.raises(WorkspaceError, match="not empty"), claimed(folder, resume=False):
        pass
    with claimed(folder, resume=True):
        pass


def test_one_class_alone_says_what_else_is_needed(tiny_content):
    with pytest.raises(ConfigError, match="at least 2 classes .* holds 1. Fix: a class for all the rest"):
        model_section(recipe_of(tiny_content()), (1, 2, 3), 1)
