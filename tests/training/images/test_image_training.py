"""Training on whole images: what a run leaves behind, resuming, fixed filters, folds without validation."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
from pathlib import Path

import lightning
import pandas as pd
import pytest
import torch
from children import in_child
from safetensors.torch import load_file

from qhybrid.config import Recipe, validated
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.errors import CheckpointError, ConfigError, DatasetNotFoundError
from qhybrid.training import load_run, train
from qhybrid.training.images import data_module as image_data_module
from qhybrid.training.images import module as image_module
from qhybrid.training.images import task as image_task
from qhybrid.training.images.run import load_image_run
from qhybrid.training.run_folder import kept_epoch, start_weights, training_ended
from qhybrid.workspace import write_text


def content_of(model=None, data=None, **training):
    return {
        "name": "tiny",
        "seed": 3,
        "data": {"dataset": "digits", "options": {"classes": [3, 5]}, **(data or {})},
        "model": model or {"name": "mlp"},
        "training": {"epochs": 2, "batch_size": 64, "progress": False, **training},
    }


def ph2(folder, **options):
    return {"dataset": "ph2", "root": str(folder), "options": {"size": [32, 48], **options}}


def run(content, folder, **options):
    return train(validated(Recipe, content, "tiny.yaml"), Path(), folder, **options)


def weights_of(folder, which="last"):
    return load_file(folder / which / "weights.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(content_of(), tmp_path_factory.mktemp("runs") / "run")


def test_run_folder_explains_itself(finished):
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert names == {
        "recipe.yaml",
        "data.json",
        "environment.json",
        "metrics.csv",
        "curves.png",
        "best/weights.safetensors",
        "best/meta.json",
        "last/weights.safetensors",
        "last/meta.json",
        "resume/state.ckpt",
        ".lock",
    }
    table = pd.read_csv(finished / "metrics.csv")
    assert table.epoch.tolist() == [1, 2]
    columns = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "epoch_seconds"]
    assert table[columns].notna().all().all()
    meta = json.loads((finished / "best" / "meta.json").read_text())
    assert meta["class_names"] == ["3", "5"]
    assert meta["model"]["image_size"] == [8, 8]
    assert meta["metrics"]["val_accuracy"] == pytest.approx(table.val_accuracy.max())


def test_seeds_decide_everything(finished, tmp_path):
    again = run(content_of(), tmp_path / "again")
    other = run({**content_of(), "seed": 4}, tmp_path / "other")
    assert same(weights_of(finished), weights_of(again))
    assert not same(weights_of(finished), weights_of(other))


def test_the_best_weights_are_those_of_the_best_epoch(finished):
    loaded = load_image_run(finished)
    assert loaded.which == "best"
    assert not loaded.model.training
    arrays = open_image_dataset(loaded.recipe.data, Path()).load("val")
    with torch.no_grad():
        right = (loaded.model(arrays.images).argmax(dim=1) == arrays.targets).float().mean()
    assert float(right) == pytest.approx(loaded.meta.metrics["val_accuracy"])


def killed_in_the_second_epoch(content, folder):
    """Train in a process that is killed in its second epoch; return its exit code."""

    def work():
        original = image_module.ImageModule.take_step

        def take_step(self, batch, step, *rest):
            if self.current_epoch == 1 and step == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, batch, step, *rest)

        image_task.SAVE_INTERVAL = 0.0
        image_module.ImageModule.take_step = take_step
        run(content, folder)

    return in_child(work)


def test_killed_run_resumes_to_the_same_weights(tmp_path):
    data = {"augmentation": {"noise": 0.1, "shift": 0.1}}
    content = content_of({"name": "mlp", "hidden": [8], "dropout": 0.3}, data, epochs=3)
    whole, cut = run(content, tmp_path / "whole"), tmp_path / "cut"
    assert killed_in_the_second_epoch(content, cut) == -signal.SIGKILL
    assert pd.read_csv(cut / "metrics.csv").epoch.tolist() == [1]
    run(content, cut, resume=True)
    assert same(weights_of(whole), weights_of(cut))
    tables = [pd.read_csv(folder / "metrics.csv").iloc[:, :-2] for folder in (whole, cut)]
    pd.testing.assert_frame_equal(*tables)


def test_steps_do_not_depend_on_the_blocks_they_come_in(finished, tmp_path, monkeypatch):
    blocks = []
    original = image_module.ImageModule.training_step
    monkeypatch.setattr(image_data_module, "VALUES_A_BLOCK", 2 * 64 * 64)
    monkeypatch.setattr(
        image_module.ImageModule,
        "training_step",
        lambda self, batch, index: (blocks.append(len(batch[0])), original(self, batch, index))[1],
    )
    folder = run(content_of(), tmp_path / "run")
    images = len(open_image_dataset(load_image_run(folder).recipe.data, Path()).load("train"))
    assert blocks == 2 * ([128] * (images // 128) + [images % 128])
    assert same(weights_of(finished), weights_of(folder))
    tables = [pd.read_csv(place / "metrics.csv").iloc[:, :-2] for place in (finished, folder)]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0].step.tolist() == [-(-images // 64), 2 * -(-images // 64)]


def test_states_from_before_there_were_blocks_are_resumed(tmp_path):
    content, cut = content_of(epochs=3), tmp_path / "cut"
    whole = run(content, tmp_path / "whole")
    killed_in_the_second_epoch(content, cut)
    state = torch.load(cut / "resume" / "state.ckpt", weights_only=True)
    loops = state["loops"]["fit_loop"]
    steps = loops["epoch_loop.manual_optimization.optim_step_progress"]
    loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"] = copy.deepcopy(steps)
    for counts in steps.values():
        counts.update(dict.fromkeys(counts, 0))
    torch.save(state, cut / "resume" / "state.ckpt")
    run(content, cut, resume=True)
    assert same(weights_of(whole), weights_of(cut))
    found = [pd.read_csv(folder / "metrics.csv").step.tolist() for folder in (whole, cut)]
    assert found[0] == found[1]


def test_gradients_are_clipped(tmp_path):
    def change(**training) -> float:
        folder = run(content_of(weight_decay=0, epochs=1, **training), tmp_path / f"run{len(training)}")
        return sum(float((new - start[name]).abs().sum()) for name, new in weights_of(folder).items())

    start = weights_of(run(content_of(learning_rate=1e-12, weight_decay=0, epochs=1), tmp_path / "start"))
    # AdamW divides by the size of the gradients, until they are far below its epsilon of 1e-8.
    assert change(gradient_clip=1e-10) < 0.1 * change()


def test_states_of_short_epochs_are_not_all_written(tmp_path, monkeypatch):
    saved = []
    original = lightning.Trainer.save_checkpoint
    monkeypatch.setattr(
        lightning.Trainer,
        "save_checkpoint",
        lambda trainer, file: (saved.append(trainer.current_epoch + 1), original(trainer, file)),
    )
    monkeypatch.setattr(image_task, "SAVE_INTERVAL", 1e9)
    folder = run(content_of(epochs=4), tmp_path / "run")
    assert saved == [1, 4]
    assert pd.read_csv(folder / "metrics.csv").epoch.tolist() == [1, 2, 3, 4]
    assert json.loads((folder / "last" / "meta.json").read_text())["epoch"] == 4


def test_fixed_filters_see_the_images_once(tmp_path, monkeypatch):
    calls = []
    original = image_task.cached_features
    monkeypatch.setattr(
        image_task,
        "cached_features",
        lambda layer, images: (calls.append(len(images)), original(layer, images))[1],
    )
    content = content_of({"name": "qcq_cnn", "channels": [2, 3]})
    folder = run(content, tmp_path / "run")
    arrays = open_image_dataset(load_image_run(folder).recipe.data, Path())
    assert calls == [len(arrays.load("train")), len(arrays.load("val"))]
    loaded = load_image_run(folder)
    images = arrays.load("val").images[:5]
    with torch.no_grad():
        features = original(loaded.model.quanvolution, images)
        torch.testing.assert_close(loaded.model(images), loaded.model.forward_features(features))


def test_augmented_images_go_through_the_filter(tmp_path, monkeypatch):
    monkeypatch.setattr(image_task, "cached_features", lambda *_: pytest.fail("features of other images"))
    content = content_of({"name": "quanvo_mlp"}, {"augmentation": {"noise": 0.1}}, epochs=1)
    assert (run(content, tmp_path / "run") / "best").is_dir()


def test_early_stopping_on_validation_accuracy(tmp_path):
    content = content_of(epochs=30, early_stopping=2, learning_rate=1e-9)
    folder = run(content, tmp_path / "run")
    assert pd.read_csv(folder / "metrics.csv").epoch.max() == 3
    before = weights_of(folder)
    run(content, folder, resume=True)
    assert pd.read_csv(folder / "metrics.csv").epoch.max() == 3
    assert same(before, weights_of(folder))


def test_the_last_weights_are_kept_on_request(tmp_path):
    content = content_of(epochs=30, early_stopping=2, learning_rate=1e-9, keep="last")
    folder = run(content, tmp_path / "run")
    assert not (folder / "best").exists()
    assert pd.read_csv(folder / "metrics.csv").epoch.max() == 3
    loaded = load_image_run(folder)
    assert (loaded.which, loaded.meta.epoch, loaded.meta.stopped) == ("last", 3, True)
    assert (training_ended(folder), kept_epoch(folder)) == (True, 3)


def test_a_table_that_is_ahead_of_the_weights_ends_nothing(tmp_path):
    folder = run(content_of(epochs=2, keep="last"), tmp_path / "run")
    assert training_ended(folder)
    meta = json.loads((folder / "last" / "meta.json").read_text())
    (folder / "last" / "meta.json").write_text(json.dumps({**meta, "epoch": 1}))
    assert not training_ended(folder)


def test_what_is_kept_decides_and_not_what_is_there(tmp_path):
    folder = run(content_of(epochs=2, keep="last"), tmp_path / "run")
    shutil.copytree(folder / "last", folder / "best")
    assert load_image_run(folder).which == "last"
    assert kept_epoch(folder) == 2
    assert start_weights(folder) == folder / "last" / "weights.safetensors"


def test_weights_to_start_from_are_those_of_the_newest_run_and_never_of_the_last_seed(tmp_path):
    def made(folder):
        for name in ("recipe.yaml", "best/weights.safetensors"):
            write_text(tmp_path / folder / name, "")
        return tmp_path / folder / "best/weights.safetensors"

    made("runs/2026-01-02_00-00-00_9")
    newest = made("runs/2026-01-02_00-00-00_10")
    assert start_weights(tmp_path / "runs") == newest
    write_text(tmp_path / "runs/2026-01-02_00-00-01/repeats.json", "{}")
    with pytest.raises(CheckpointError, match="holds repeated runs. Fix: name one of them"):
        start_weights(tmp_path / "runs")
    one = made("several/seed-10")
    assert start_weights(tmp_path / "several") == start_weights(one.parents[1]) == one
    made("several/seed-9")
    with pytest.raises(CheckpointError, match="holds seed-10, seed-9, of which none can be told"):
        start_weights(tmp_path / "several")


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_cut_run_has_not_ended_whatever_it_keeps(tmp_path, keep):
    content = content_of(epochs=30, early_stopping=3, learning_rate=1e-9, keep=keep)
    cut = tmp_path / "cut"
    killed_in_the_second_epoch(content, cut)
    assert not training_ended(cut)
    run(content, cut, resume=True)
    assert training_ended(cut)
    assert load_image_run(cut, "last").meta.epoch == 4


def test_early_stopped_runs_that_do_not_say_so_have_ended_too(tmp_path):
    folder = run(content_of(epochs=30, early_stopping=2, learning_rate=1e-9), tmp_path / "run")
    for which in ("best", "last"):
        meta = json.loads((folder / which / "meta.json").read_text())
        del meta["stopped"]
        (folder / which / "meta.json").write_text(json.dumps(meta))
    assert training_ended(folder)


def test_a_resumed_run_stops_as_early(tmp_path):
    content = content_of(epochs=30, early_stopping=3, learning_rate=1e-9)
    cut = tmp_path / "cut"
    killed_in_the_second_epoch(content, cut)
    assert pd.read_csv(cut / "metrics.csv").epoch.tolist() == [1]
    run(content, cut, resume=True)
    assert pd.read_csv(cut / "metrics.csv").epoch.max() == 4


UNET = {"name": "qu_unet", "widths": [2, 2]}


class TestSegmentation:
    def test_a_fold_without_validation(self, ph2_folder, tmp_path):
        content = content_of(UNET, ph2(ph2_folder, fold=2), batch_size=6)
        folder = run(content, tmp_path / "run")
        assert not (folder / "best").exists()
        table = pd.read_csv(folder / "metrics.csv")
        assert table.train_soft_iou.notna().all()
        assert table.val_soft_iou.isna().all()
        loaded = load_image_run(folder)
        assert loaded.which == "last"
        assert loaded.model(torch.zeros(1, 3, 32, 48)).shape == (1, 1, 32, 48)

    def test_the_best_epoch_has_the_best_soft_iou(self, ph2_folder, tmp_path):
        content = content_of(UNET, ph2(ph2_folder, validation=0.25), batch_size=6)
        folder = run(content, tmp_path / "run")
        table = pd.read_csv(folder / "metrics.csv")
        best = json.loads((folder / "best" / "meta.json").read_text())
        assert best["metrics"]["val_soft_iou"] == pytest.approx(table.val_soft_iou.max())

    def test_two_logits_on_request(self, ph2_folder, tmp_path):
        content = content_of({**UNET, "num_classes": 2}, ph2(ph2_folder), epochs=1)
        folder = run(content, tmp_path / "run")
        assert json.loads((folder / "last" / "meta.json").read_text())["model"]["num_classes"] == 2

    def test_early_stopping_needs_validation(self, ph2_folder, tmp_path):
        content = content_of(UNET, ph2(ph2_folder), early_stopping=3)
        with pytest.raises(ConfigError, match=r"`training\.early_stopping` needs a validation split"):
            run(content, tmp_path / "run")


class TestErrors:
    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (
                {"name": "qu_unet"},
                r"`model\.name` must be a model for classification.*`digits`.*one of cnn, hybrid_cnn, mlp",
            ),
            ({"name": "mlp", "num_classes": 3}, r"`model\.num_classes` is 3, but the data say 2"),
            (
                {"name": "mlp", "image_size": [9, 9]},
                r"`model\.image_size` is .*, but the data say",
            ),
            ({"name": "mlp", "hiden": [3]}, "hidden"),
            ({"name": "nothing"}, "'nothing' is unknown"),
        ],
    )
    def test_model_keys(self, tmp_path, model, message):
        with pytest.raises(ConfigError, match=message):
            run(content_of(model), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_missing_data(self, tmp_path):
        with pytest.raises(DatasetNotFoundError, match="mnist"):
            run(content_of(data={"dataset": "mnist", "root": str(tmp_path)}), tmp_path / "run")

    def test_runs_of_the_other_kind(self, finished, tmp_path, tiny_data, tiny_content):
        with pytest.raises(CheckpointError, match="run on whole images, but this needs one on scenes"):
            load_run(finished)
        scenes = train(validated(Recipe, tiny_content(epochs=1), "tiny.yaml"), tiny_data, tmp_path / "scenes")
        with pytest.raises(CheckpointError, match="belongs to a run on scenes"):
            load_image_run(scenes)

    def test_damaged_weights(self, finished, tmp_path):
        copy = Path(shutil.copytree(finished, tmp_path / "copy"))
        (copy / "best" / "weights.safetensors").write_bytes(b"")
        with pytest.raises(CheckpointError, match="missing or damaged"):
            load_image_run(copy)
        (copy / "best" / "meta.json").write_text("{}")
        with pytest.raises(CheckpointError):
            load_image_run(copy)
