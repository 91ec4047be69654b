"""A full disk, metrics that are not finite, pictures that cannot be drawn: what is kept of a run."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from qhybrid.config import Recipe, validated
from qhybrid.errors import TrainingError, WorkspaceError
from qhybrid.training import callbacks, load_run, run_folder, train
from qhybrid.training.scenes import task
from qhybrid.training.scenes.module import SegmentationModule
from qhybrid.workspace import atomic_path, disk_is_full


def recipe_of(content: dict) -> Recipe:
    return validated(Recipe, content, "tiny.yaml")


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space_in_rust(*_, **__):
    raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")


@pytest.fixture(scope="module")
def whole(tiny_data, tiny_content, tmp_path_factory):
    """A run of two epochs that was not stopped."""
    return train(recipe_of(tiny_content(epochs=2)), tiny_data, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize(
    ("place", "name", "failing"),
    [
        (run_folder, "save_model", no_space_in_rust),
        (callbacks.RunKeeper, "_table", no_space),
        (callbacks.lightning.Trainer, "save_checkpoint", no_space),
    ],
)
def test_a_disk_that_is_full_in_the_second_epoch(
    place, name, failing, tiny_data, tmp_path, tiny_content, whole
):
    """The first epoch stays whole, and the run goes on to the weights of one that was not stopped."""
    recipe = recipe_of(tiny_content(epochs=2))
    original = SegmentationModule.training_step
    kept = {}
    cut = tmp_path / "cut"

    def step(self, batch, batch_idx):
        if self.current_epoch == 1:
            kept.update({file: file.read_bytes() for file in (cut / "last").iterdir()})
            kept[cut / "metrics.csv"] = (cut / "metrics.csv").read_bytes()
            patch.setattr(place, name, failing)
        return original(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationModule, "training_step", step)
        with pytest.raises(WorkspaceError, match="disk is full") as caught:
            train(recipe, tiny_data, cut)
    assert "Epoch 2 was trained but not kept. Epochs up to 1 are kept" in str(caught.value)
    assert f"qhybrid train --resume {cut}" in str(caught.value)
    assert {file: file.read_bytes() for file in kept} == kept
    assert len(kept) == 3
    assert not list(cut.rglob("*.part*"))
    assert load_run(cut, "last").meta.epoch == 1
    train(recipe, tiny_data, cut, resume=True)
    expected, found = (load_file(folder / "last/weights.safetensors") for folder in (whole, cut))
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert pd.read_csv(cut / "metrics.csv").epoch.tolist() == [1, 2]


def test_errors_of_a_full_disk_are_told_from_others(tmp_path):
    for fail in (no_space, no_space_in_rust):
        with pytest.raises(WorkspaceError, match="The disk is full"), atomic_path(tmp_path / "a"):
            fail()
    with pytest.raises(SafetensorError), atomic_path(tmp_path / "a"):
        raise SafetensorError("header too large")
    assert not disk_is_full(RuntimeError("file write failed"), tmp_path)  # there is room
    usage = namedtuple("usage", "total used free")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 0))
        assert disk_is_full(RuntimeError("PytorchStreamWriter: file write failed"), tmp_path)
        assert disk_is_full(ValueError("Write error at scanline 3"), tmp_path)
        assert not disk_is_full(ValueError("something else"), tmp_path)
    assert not disk_is_full(PermissionError(errno.EACCES, "no"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_an_epoch_without_a_finite_metric_is_never_the_best(
    wrong, tiny_data, tmp_path, tiny_content, monkeypatch
):
    def log(self):
        score = (0.5, wrong, 0.4)[self.current_epoch]
        self.log("val_miou", score)
        self.log("val_accuracy", 0.5)
        self.val_matrix.reset()

    monkeypatch.setattr(SegmentationModule, "on_validation_epoch_end", log)
    recipe = recipe_of(tiny_content(epochs=3, early_stopping=2))
    with pytest.warns(UserWarning, match=rf"Epoch 2: val_miou is {wrong}: this epoch cannot be the best one"):
        run = train(recipe, tiny_data, tmp_path / "run")
    assert json.loads((run / "best/meta.json").read_text())["epoch"] == 1
    table = pd.read_csv(run / "metrics.csv")
    assert table.epoch.tolist() == [1, 2, 3]
    assert table.val_miou.tolist()[::2] == [0.5, pytest.approx(0.4)]
    assert json.loads((run / "last/meta.json").read_text())["metrics"]["val_miou"] == pytest.approx(0.4)
    assert (run / "curves.png").is_file()


def test_pictures_that_fail_do_not_lose_the_run(tiny_data, tmp_path, tiny_content, monkeypatch):
    monkeypatch.setattr(task, "draw_run_pictures", no_space)
    with pytest.warns(
        UserWarning, match="could not be drawn .*No space left.*Its weights and metrics are complete"
    ):
        run = train(recipe_of(tiny_content(epochs=1)), tiny_data, tmp_path / "run")
    assert load_run(run).meta.epoch == 1
    assert not (Path(run) / "samples.png").exists()


def test_a_validation_split_without_labels_where_there_are_data(
    tiny_data, tmp_path, tiny_content, monkeypatch
):
    """All epochs would be trained, and none of them be the best one."""
    for_all = SegmentationModule.validation_step

    def step(self, batch, batch_idx):
        for_all(self, {**batch, "mask": torch.full_like(batch["mask"], 255)}, batch_idx)

    monkeypatch.setattr(SegmentationModule, "validation_step", step)
    with pytest.raises(TrainingError, match=r"The validation split must have labels .*no pixel has both"):
        train(recipe_of(tiny_content(epochs=2)), tiny_data, tmp_path / "best")
    content = tiny_content(epochs=1)
    content["training"]["keep"] = "last"
    with pytest.warns(UserWarning, match="val_miou is nan"):
        run = train(recipe_of(content), tiny_data, tmp_path / "last")
    assert pd.read_csv(run / "metrics.csv").get("val_loss").isna().all()  # not known, not 0
