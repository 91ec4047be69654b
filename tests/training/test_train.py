"""Whole training runs on tiny data: what they leave behind, resuming, and bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from children import in_child
from safetensors.torch import load_file

from qhybrid.config import Recipe, validated
from qhybrid.errors import CheckpointError, ConfigError, TrainingError, WorkspaceError
from qhybrid.training import load_run, train
from qhybrid.training.scenes.module import SegmentationModule


def recipe_of(content: dict) -> Recipe:
    return validated(Recipe, content, "tiny.yaml")


@pytest.fixture(scope="module")
def finished(tiny_data, tmp_path_factory, tiny_content) -> Path:
    return train(recipe_of(tiny_content()), tiny_data, tmp_path_factory.mktemp("runs") / "run")


def test_run_folder_explains_itself(finished):
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert names == {
        "recipe.yaml",
        "data.json",
        "environment.json",
        "metrics.csv",
        "curves.png",
        "samples.png",
        "best/weights.safetensors",
        "best/meta.json",
        "last/weights.safetensors",
        "last/meta.json",
        "resume/state.ckpt",
        ".lock",
    }
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["seed"] == 3
    assert environment["packages"]["qiskit"]
    data = environment["data"]
    assert (data["train"]["scenes"], data["val"]["scenes"]) == (2, 1)
    assert data["train"]["pixels"] == load_run(finished).statistics.pixels > 0
    table = pd.read_csv(finished / "metrics.csv")
    assert table.epoch.tolist() == [1, 2]
    assert table.step.tolist() == [3, 6]
    assert table[["train_loss", "train_miou", "val_loss", "val_miou", "val_accuracy"]].notna().all().all()
    assert yaml.safe_load((finished / "recipe.yaml").read_text())["training"]["epochs"] == 2


def test_loaded_run_predicts(finished, tiny_data):
    run = load_run(finished)
    assert run.classes.names == ("dark", "bright")
    assert run.bands == (1, 2)
    assert run.patch_size == 16
    assert not run.any_size
    assert not run.model.training
    assert run.model(torch.zeros(1, 2, 16, 16)).shape == (1, 2, 16, 16)
    assert run.statistics.pixels_per_class[0] > 0


def test_same_recipe_gives_the_same_weights_and_another_seed_others(
    finished, tiny_data, tmp_path, tiny_content
):
    again = train(recipe_of(tiny_content()), tiny_data, tmp_path / "again")
    other = train(recipe_of({**tiny_content(), "seed": 4}), tiny_data, tmp_path / "other")
    weights = [load_file(folder / "last/weights.safetensors") for folder in (finished, again, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def hurt_in_the_second_epoch(recipe, data_root, folder, hurt=signal.SIGKILL):
    """Train until a signal in the second epoch; the process ends with 130 if it was interrupted."""
    original = SegmentationModule.training_step

    def step(self, batch, batch_idx):
        if self.current_epoch == 1 and batch_idx == 1:
            os.kill(os.getpid(), hurt)
        return original(self, batch, batch_idx)

    # A shell's background job starts with Ctrl-C ignored, and so would these tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    SegmentationModule.training_step = step
    try:
        train(recipe, data_root, folder)
    except KeyboardInterrupt:
        os._exit(130)


@pytest.mark.parametrize(("workers", "epochs", "average"), [(0, 3, 0.5), (2, 2, 0.0)])
def test_killed_run_resumes_to_the_same_weights(workers, epochs, average, tiny_data, tmp_path, tiny_content):
    content = tiny_content(epochs=epochs, weight_average=average)
    content["data"]["workers"] = workers
    whole = train(recipe_of(content), tiny_data, tmp_path / "whole")
    cut = tmp_path / "cut"
    code = in_child(hurt_in_the_second_epoch, recipe_of(content), tiny_data, cut)
    assert code == -signal.SIGKILL
    assert pd.read_csv(cut / "metrics.csv").epoch.tolist() == [1]
    train(recipe_of(content), tiny_data, cut, resume=True)
    expected, found = (load_file(folder / "last/weights.safetensors") for folder in (whole, cut))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    tables = [pd.read_csv(folder / "metrics.csv") for folder in (whole, cut)]
    columns = ["epoch", "step", "train_loss", "train_miou", "val_loss", "val_miou", "learning_rate"]
    pd.testing.assert_frame_equal(tables[0][columns], tables[1][columns])
    best = [json.loads((folder / "best/meta.json").read_text())["epoch"] for folder in (whole, cut)]
    assert best[0] == best[1]
    if workers:
        content["data"]["workers"] = 0
        plain = load_file(
            train(recipe_of(content), tiny_data, tmp_path / "plain") / "last/weights.safetensors"
        )
        assert all(torch.equal(expected[name], plain[name]) for name in expected)


def test_the_average_of_the_weights_is_what_is_kept(tiny_data, tmp_path, tiny_content, monkeypatch):
    seen: list[dict[str, torch.Tensor]] = []

    def record(self, *arguments):
        seen.append({name: value.clone() for name, value in self.model.named_parameters()})

    monkeypatch.setattr(SegmentationModule, "on_train_batch_end", record)
    run = train(recipe_of(tiny_content(weight_average=0.7)), tiny_data, tmp_path / "run")
    average = dict(seen[0])
    for weights in seen[1:]:
        average = {name: 0.7 * average[name] + 0.3 * value for name, value in weights.items()}
    kept = load_run(run, "last")
    for name, value in kept.model.named_parameters():
        torch.testing.assert_close(value.detach(), average[name], msg=name)
        assert not value.requires_grad or not torch.equal(value, seen[-1][name])
    table = pd.read_csv(run / "metrics.csv")
    assert table.val_miou.iloc[-1] == pytest.approx(kept.meta.metrics["val_miou"])


def test_killed_before_the_first_epoch_starts_over(tiny_data, tmp_path, finished, tiny_content):
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "recipe.yaml").write_text((finished / "recipe.yaml").read_text())
    train(recipe_of(tiny_content()), tiny_data, cut, resume=True)
    expected, found = (load_file(folder / "last/weights.safetensors") for folder in (finished, cut))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_early_stopping_ends_before_the_last_epoch(tiny_data, tmp_path, tiny_content):
    content = tiny_content(epochs=30, early_stopping=1, learning_rate=1e-9)
    run = train(recipe_of(content), tiny_data, tmp_path / "run")
    assert len(pd.read_csv(run / "metrics.csv")) < 30


def test_the_last_weights_are_kept_on_request(tiny_data, tmp_path, tiny_content):
    run = train(recipe_of(tiny_content(epochs=2, keep="last")), tiny_data, tmp_path / "run")
    assert not (run / "best").exists()
    assert (run / "samples.png").is_file()
    loaded = load_run(run)
    assert (loaded.which, loaded.meta.epoch) == ("last", 2)


def test_tensorboard_on_request(tiny_data, tmp_path, tiny_content):
    pytest.importorskip("tensorboard")
    run = train(recipe_of(tiny_content(epochs=1, loggers=["tensorboard"])), tiny_data, tmp_path / "run")
    assert list((run / "tensorboard").glob("events.*"))


def test_interrupt_keeps_complete_epochs(tiny_data, tmp_path, tiny_content):
    content = tiny_content(epochs=3)
    cut = tmp_path / "cut"
    assert in_child(hurt_in_the_second_epoch, recipe_of(content), tiny_data, cut, signal.SIGINT) == 130
    assert load_run(cut, "last").meta.epoch == 1


def test_nan_loss_names_the_place_and_keeps_complete_epochs(tiny_data, tmp_path, tiny_content):
    content = tiny_content(epochs=50, learning_rate=1e30, gradient_clip=0, warmup=0)
    with pytest.raises(
        TrainingError, match=r"(loss is nan|angles that are not finite) at epoch \d+, step \d+\. Fix: lower"
    ):
        train(recipe_of(content), tiny_data, tmp_path / "run")


def test_a_batch_too_small_for_batch_norms_says_so(tiny_data, tmp_path, tiny_content):
    content = tiny_content(batch_size=1)
    content["data"] = {**content["data"], "patch_size": 16}
    content["model"] = {"name": "unet", "widths": [2, 2, 2, 2, 2]}
    with pytest.raises(
        TrainingError, match=r"1 image\(s\) of 16 x 16 .* Fix: a larger `training.batch_size`"
    ):
        train(recipe_of(content), tiny_data, tmp_path / "run")


def test_folder_in_the_way(finished, tiny_data, tiny_content):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with pytest.raises(WorkspaceError, match="not empty"):
        train(recipe_of(tiny_content()), tiny_data, finished)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_resume_with_another_recipe(finished, tiny_data, tiny_content):
    with pytest.raises(ConfigError, match=r"differs from the given recipe in training\.learning_rate"):
        train(recipe_of(tiny_content(learning_rate=0.5)), tiny_data, finished, resume=True)


def test_resume_of_no_run(tiny_data, tmp_path, tiny_content):
    with pytest.raises(CheckpointError, match="not a run folder"):
        train(recipe_of(tiny_content()), tiny_data, tmp_path, resume=True)


def test_keys_that_the_data_decide(tiny_data, tmp_path, tiny_content):
    content = tiny_content()
    content["model"]["in_channels"] = 5
    with pytest.raises(ConfigError, match=r"model\.in_channels` is 5, but the data say 2"):
        train(recipe_of(content), tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unknown_model_key_writes_nothing(tiny_data, tmp_path, tiny_content):
    content = tiny_content()
    content["model"]["gird"] = 3
    with pytest.raises(ConfigError, match="gird"):
        train(recipe_of(content), tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class TestDamagedRuns:
    @pytest.fixture
    def copy(self, finished, tmp_path) -> Path:
        return Path(shutil.copytree(finished, tmp_path / "copy"))

    def test_truncated_weights(self, copy):
        file = copy / "best/weights.safetensors"
        file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(CheckpointError, match=r"best.weights\.safetensors is missing or damaged"):
            load_run(copy)

    def test_missing_meta(self, copy):
        (copy / "best/meta.json").unlink()
        with pytest.raises(CheckpointError, match=r"meta\.json cannot be read"):
            load_run(copy)

    def test_meta_of_another_architecture(self, copy):
        meta = json.loads((copy / "best/meta.json").read_text())
        meta["model"]["widths"] = [2, 2, 3, 3, 6]
        (copy / "best/meta.json").write_text(json.dumps(meta))
        with pytest.raises(CheckpointError, match="another architecture"):
            load_run(copy)

    def test_meta_that_is_no_json(self, copy):
        (copy / "best/meta.json").write_text("{")
        with pytest.raises(CheckpointError, match="damaged"):
            load_run(copy)

    def test_meta_of_a_later_format(self, copy):
        meta = json.loads((copy / "best/meta.json").read_text())
        (copy / "best/meta.json").write_text(json.dumps({**meta, "format": 99}))
        with pytest.raises(CheckpointError, match="format 99"):
            load_run(copy)

    def test_pickle_in_the_resume_state_is_not_executed(self, copy, tiny_data, tmp_path, tiny_content):
        class Payload:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "executed",))

        torch.save({"state_dict": Payload()}, copy / "resume/state.ckpt")
        with pytest.raises(CheckpointError):
            train(recipe_of(tiny_content()), tiny_data, copy, resume=True)
        assert not (tmp_path / "executed").exists()

    def test_truncated_resume_state(self, copy, tiny_data, tiny_content):
        state = copy / "resume/state.ckpt"
        state.write_bytes(state.read_bytes()[:200])
        with pytest.raises(CheckpointError, match="cannot be resumed from"):
            train(recipe_of(tiny_content()), tiny_data, copy, resume=True)


def test_overlapping_splits_are_not_used_in_silence(tiny_data, tmp_path, tiny_content):
    shutil.copytree(tiny_data, tmp_path / "data")
    for kind in ("images", "masks"):
        shutil.copy(tmp_path / f"data/tiny/train/{kind}/a.tif", tmp_path / f"data/tiny/val/{kind}/again.tif")
    with pytest.warns(UserWarning, match=r"1 pair\(s\) of scenes in different splits show the same ground"):
        train(recipe_of(tiny_content(epochs=1)), tmp_path / "data", tmp_path / "run")


def test_a_run_knows_the_noise_that_it_was_trained_under(tiny_data, tmp_path, tiny_content):
    profile = tmp_path / "mine.yaml"
    profile.write_text("name: mine\np_1q: 0.01\n")
    recipe = recipe_of({**tiny_content(epochs=1), "engine": {"noise": str(profile)}})
    run = train(recipe, tiny_data, tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_run(run)
    profile.write_text("name: mine\np_1q: 0.02\n")
    with pytest.warns(UserWarning, match=r"meta.json: noise profile .*mine.yaml has changed since"):
        load_run(run)
    with pytest.raises(ConfigError, match=r"mine.yaml must be what it was .* Fix: put it back"):
        train(recipe, tiny_data, run, resume=True)
    meta = json.loads((run / "last/meta.json").read_text())
    (run / "last/meta.json").write_text(json.dumps({**meta, "noise": ""}))  # as of an earlier version
    train(recipe, tiny_data, run, resume=True)


def test_a_resumed_run_keeps_its_circuit(tiny_data, tmp_path, tiny_content, monkeypatch):
    monkeypatch.chdir(tmp_path)
    definition = tmp_path / "circuits" / "hq_unet_qcnn.yaml"
    definition.parent.mkdir()
    definition.write_text("builder: hq_unet_qcnn\narguments: {reps: 2}\n")
    run = train(recipe_of(tiny_content()), tiny_data, tmp_path / "run")
    before = load_file(run / "last/weights.safetensors")
    assert before["bottleneck.core.weight"].shape == (16,)
    definition.write_text("builder: hq_unet_qcnn\narguments: {reps: 3}\n")
    train(recipe_of(tiny_content()), tiny_data, run, resume=True)
    after = load_file(run / "last/weights.safetensors")
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
