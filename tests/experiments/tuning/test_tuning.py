"""Searches: what is drawn, what is kept, what is judged, and that a kill changes nothing."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio

from qhybrid import training
from qhybrid.cli.main import execute
from qhybrid.config import Recipe, load_recipe, to_yaml, validated
from qhybrid.config.tuning import Distribution, TuneSpace, load_space
from qhybrid.errors import ConfigError, DataError, TrainingError
from qhybrid.experiments.tuning import (
    TrialRow,
    candidate_recipes,
    default_space,
    read_trials,
    results,
    tune,
)
from qhybrid.experiments.tuning.candidates import with_model
from qhybrid.training.callbacks import RunKeeper
from qhybrid.training.images.data_module import ImageDataModule

pytest.importorskip("optuna")

CONTENT = {
    "name": "digits",
    "data": {"dataset": "digits"},
    "model": {"name": "cnn", "channels": [2]},
    "training": {"epochs": 2, "batch_size": 64, "progress": False, "precision": "32-true"},
}
SPACE = TuneSpace(
    space={
        "training.learning_rate": Distribution(low=1e-4, high=1e-1, log=True),
        "training.batch_size": Distribution(low=100, high=300, integer=True),
        "model.hidden": Distribution(choices=([], [4])),
    }
)


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """Only a hundred training images, and no pictures: what is tested is the search, not the learning."""
    load = ImageDataModule.__init__

    def short(self, *arguments):
        load(self, *arguments)
        for name in ("train", "val"):
            part = getattr(self, name)
            setattr(self, name, type(part)(part.images[:100], part.targets[:100], part.ids[:100]))

    monkeypatch.setattr(ImageDataModule, "__init__", short)
    monkeypatch.setattr("qhybrid.training.images.task.draw_image_run_pictures", lambda folder: None)


def recipes(**training):
    base = validated(Recipe, {**CONTENT, "training": {**CONTENT["training"], **training}}, "test")
    other, lost = with_model(base, "mlp")
    assert lost == ["channels"]
    return {"cnn": base, "mlp": other}


def without_time(rows):
    return [(row.model, row.trial, row.state, row.value, row.parameters, row.error) for row in rows]


def test_all_trials_are_kept_with_what_was_drawn_and_found(tmp_path):
    seen = []
    rows = tune(recipes(), SPACE, tmp_path, tmp_path / "s", trials=3, report=seen.append)
    assert [(row.model, row.trial) for row in seen] == [(m, n) for n in (1, 2, 3) for m in ("cnn", "mlp")]
    assert {row.state for row in rows} == {"complete"}
    assert rows == read_trials(tmp_path / "s")
    # The first trials are drawn at random, and are the same for both models.
    for one, other in zip(rows[:3], rows[3:], strict=True):
        assert one.parameters == other.parameters
    assert len({json.dumps(row.parameters) for row in rows}) == 3
    for row in rows:
        run = load_recipe(row.folder / "recipe.yaml")
        assert run.training.learning_rate == row.parameters["training.learning_rate"]
        assert run.training.batch_size == row.parameters["training.batch_size"]
        assert list(run.model["hidden"]) == row.parameters["model.hidden"]
        # Independently: the best epoch's accuracy as the table of the training has it.
        with (row.folder / "metrics.csv").open() as handle:
            accuracies = [float(line["val_accuracy"]) for line in csv.DictReader(handle)]
        assert (row.metric, row.value) == ("val_accuracy", pytest.approx(max(accuracies)))


def test_table_best_recipe_and_picture(tmp_path):
    rows = tune(recipes(epochs=1), SPACE, tmp_path, tmp_path / "s", trials=2)
    with (tmp_path / "s" / "trials.csv").open() as handle:
        table = list(csv.DictReader(handle))
    assert [line["run"] for line in table] == [f"trials/{m}/{n:03d}" for m in ("cnn", "mlp") for n in (1, 2)]
    assert [float(line["value"]) for line in table] == [row.value for row in rows]
    assert all(float(line["seconds"]) > 0 for line in table)
    best = max(rows[2:], key=lambda row: row.value)
    found = load_recipe(tmp_path / "s" / "best_mlp.yaml")
    assert found.model["name"] == "mlp"
    assert found.training.learning_rate == best.parameters["training.learning_rate"]
    assert (tmp_path / "s" / "trials.png").stat().st_size > 5000


def killed_after(epochs, folder):
    keep, count = RunKeeper.on_train_epoch_end, 0

    def counted(self, trainer, module):
        nonlocal count
        keep(self, trainer, module)
        count += 1
        if count == epochs:
            os.kill(os.getpid(), signal.SIGKILL)

    RunKeeper.on_train_epoch_end = counted
    tune(recipes(), SPACE, folder, folder / f"killed_{epochs}", trials=2)


def test_a_killed_search_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch):
    """Killed in the middle of the second of four trials of two epochs, and right after its last epoch."""
    monkeypatch.setattr("qhybrid.training.images.task.SAVE_INTERVAL", 0.0)
    whole = tune(recipes(), SPACE, tmp_path, tmp_path / "whole", trials=2)
    trained, fit = [], RunKeeper.on_train_epoch_end

    def counted(self, trainer, module):
        trained.append(1)
        fit(self, trainer, module)

    for epochs in (3, 4):
        process = multiprocessing.get_context("fork").Process(target=killed_after, args=(epochs, tmp_path))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        assert len(read_trials(tmp_path / f"killed_{epochs}")) == 1
        trained.clear()
        with monkeypatch.context() as patch:
            patch.setattr(RunKeeper, "on_train_epoch_end", counted)
            resumed = tune(recipes(), SPACE, tmp_path, tmp_path / f"killed_{epochs}", trials=2)
        assert len(trained) == 4 * 2 - epochs  # no epoch twice
        assert without_time(resumed) == without_time(whole)


def test_more_trials_extend_a_search_and_other_settings_do_not(tmp_path):
    first = tune(recipes(epochs=1), SPACE, tmp_path, tmp_path / "s", trials=1)
    more = tune(recipes(epochs=1), SPACE, tmp_path, tmp_path / "s", trials=2)
    assert [more[0], more[2]] == first
    with pytest.raises(ConfigError, match="other recipes: its trials cannot be compared.*another --output"):
        tune(recipes(epochs=2), SPACE, tmp_path, tmp_path / "s", trials=2)
    smaller = TuneSpace(space={"training.learning_rate": Distribution(low=1e-3, high=1e-2)})
    with pytest.raises(ConfigError, match="other space and seed"):
        tune(recipes(epochs=1), smaller, tmp_path, tmp_path / "s", trials=2, seed=1)


def test_numbers_of_numpy_are_the_same_search_and_halves_are_none(tmp_path):
    first = tune(recipes(epochs=1), SPACE, tmp_path, tmp_path / "s", trials=1, seed=3)
    same = tune(recipes(epochs=1), SPACE, tmp_path, tmp_path / "t", trials=np.int64(1), seed=np.int64(3))
    assert without_time(same) == without_time(first)
    for wrong in ({"seed": 0.5}, {"seed": -1}, {"trials": 1.5}, {"trials": True}, {"trials": 0}):
        with pytest.raises(ConfigError, match=f"`{next(iter(wrong))}` must be a whole number of at least"):
            tune(recipes(epochs=1), SPACE, tmp_path, tmp_path / "u", **wrong)


def test_trials_that_fail_are_part_of_the_budget(tmp_path, monkeypatch):
    calls, original = [], training.train

    def train(*arguments, **named):
        calls.append(1)
        if len(calls) == 1:
            raise TrainingError("The loss is nan at epoch 1")
        return original(*arguments, **named)

    monkeypatch.setattr("qhybrid.training.train", train)
    rows = tune({"cnn": recipes(epochs=1)["cnn"]}, SPACE, tmp_path, tmp_path / "s", trials=2)
    assert [row.state for row in rows] == ["failed", "complete"]
    assert rows[0].error == "The loss is nan at epoch 1"
    assert without_time(
        tune({"cnn": recipes(epochs=1)["cnn"]}, SPACE, tmp_path, tmp_path / "s", trials=2)
    ) == (without_time(rows))
    assert len(calls) == 2


def test_the_test_split_is_not_read(tmp_path, monkeypatch):
    from qhybrid.data.images.image_datasets import open_image_dataset

    kind, asked = type(open_image_dataset(recipes()["cnn"].data, tmp_path)), []
    load = kind.load
    monkeypatch.setattr(kind, "load", lambda self, split: (asked.append(split), load(self, split))[1])
    tune(recipes(epochs=1), SPACE, tmp_path, tmp_path / "s", trials=1)
    assert set(asked) == {"train", "val"}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("training.learnig_rate", "Did you mean `learning_rate`"),
        ("model.channel", "`cnn` .*does not have it. Did you mean `channels`"),
        ("model.channels", "`mlp` .*does not have it"),
        ("training.epochs.x", "`epochs` is not a section"),
    ],
)
def test_keys_of_the_space_are_checked_before_anything_is_trained(tmp_path, key, message):
    space = TuneSpace(space={key: Distribution(low=1, high=2)})
    with pytest.raises(ConfigError, match=message):
        tune(recipes(), space, tmp_path, tmp_path / "s", trials=1)
    assert not (tmp_path / "s").exists()


def test_models_on_other_data_are_no_comparison(tmp_path):
    both = recipes()
    other = validated(
        Recipe, {**CONTENT, "data": {"dataset": "digits", "options": {"validation": 0.3}}}, "test"
    )
    with pytest.raises(ConfigError, match="tuned on the same data, but section `data` of `mlp` differs"):
        candidate_recipes({"cnn": both["cnn"], "mlp": other}, SPACE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"seed": {"low": 0, "high": 9}}, "`seed` cannot be tuned"),
        ({"data.options.fold": {"low": 0, "high": 9}}, "cannot be tuned: it decides what is judged"),
        ({"training.epochs": {"low": 3}}, "either `low` and `high`, or `choices`"),
        ({"training.epochs": {"low": 3, "high": 1}}, "at most `high`"),
        ({"training.epochs": {"low": 0, "high": 1, "log": True}}, "above 0"),
        ({"training.epochs": {"choices": [1], "log": True}}, "`choices` has no"),
        ({"training.epochs": {"lo": 1}}, "Did you mean `low`"),
        ({}, "at least 1 item"),
    ],
)
def test_bad_spaces(tmp_path, content, message):
    file = tmp_path / "space.yaml"
    file.write_text(to_yaml(content))
    with pytest.raises(ConfigError, match=message):
        load_space(file)


def test_default_spaces_fit_their_kind_of_data(tiny_content):
    scenes = validated(Recipe, tiny_content(), "test")
    twin, _ = with_model(scenes, "hq_unet_twin")
    space = default_space(scenes)
    assert "training.loss.class_weights" in space.space
    assert set(candidate_recipes({"hq_unet": scenes, "hq_unet_twin": twin}, space)) == {
        "hq_unet",
        "hq_unet_twin",
    }
    assert set(default_space(recipes()["cnn"]).space) == {
        "training.learning_rate",
        "training.weight_decay",
        "training.schedule",
    }


def test_scenes_are_judged_by_their_miou(tmp_path, tiny_data, tiny_content):
    recipe = validated(Recipe, tiny_content(epochs=1), "test")
    (row,) = tune({"hq_unet": recipe}, default_space(recipe), tiny_data, tmp_path / "s", trials=1)
    assert row.metric == "val_miou"
    content = json.loads((row.folder / "best" / "meta.json").read_text())
    assert row.value == content["metrics"]["val_miou"]


def test_a_search_does_not_go_on_with_other_data(tmp_path, tiny_data, tiny_content):
    root = shutil.copytree(tiny_data, tmp_path / "data")
    models = {"hq_unet": validated(Recipe, tiny_content(epochs=1), "test")}
    space = default_space(models["hq_unet"])
    (row,) = tune(models, space, root, tmp_path / "s", trials=1)
    root = root.rename(tmp_path / "moved")
    assert tune(models, space, root, tmp_path / "s", trials=1) == [row]
    file = tmp_path / "s" / "tune.json"
    kept = json.loads(file.read_text())
    with rasterio.open(root / "tiny" / "val" / "masks" / "c.tif", "r+") as mask:
        mask.write(np.full_like(mask.read(), 10))
    with pytest.raises(DataError, match="training and validation data must be those of the trials"):
        tune(models, space, root, tmp_path / "s", trials=2)
    file.write_text(json.dumps({key: kept[key] for key in ("recipes", "space", "seed")}))
    assert tune(models, space, root, tmp_path / "s", trials=1) == [row]  # of an earlier version


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qhybrid.cli.console.console.width", 80)
    Path("digits.yaml").write_text(to_yaml(CONTENT))
    Path("space.yaml").write_text("training.learning_rate: {low: 1.0e-3, high: 1.0e-1, log: true}\n")
    words = ["tune", "digits.yaml", "--models", "cnn,mlp", "--space", "space.yaml", "--trials", "1"]
    assert execute([*words, "--set", "training.epochs=1"]) == 0
    printed = capsys.readouterr().out
    assert "mlp: without model.channels" in printed
    assert "judged on the validation split alone" in printed
    assert "  1 to go, about 0:00:" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert "qhybrid train runs/digits/tune/best_mlp.yaml" in printed
    assert Path("runs/digits/tune/trials/cnn/001/recipe.yaml").is_file()
    assert execute(["tune", *words[1:-1], "2", "--set", "training.epochs=1"]) == 0
    capsys.readouterr()
    assert execute([*words, "--set", "training.epochs=1"]) == 0
    assert "Best of 2 trials a model" in capsys.readouterr().out  # those of an earlier call included
    assert execute([*words, "--set", "training.epochs=2"]) == 1
    assert execute(["tune", "digits.yaml", "--models", "cnn,cnn"]) == 1
    assert "cnn is named twice" in capsys.readouterr().err


def test_test_scenes_that_cannot_be_read_do_not_matter(tmp_path, tiny_data, tiny_content):
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    (data / "tiny" / "test" / "images" / "d.tif").write_bytes(b"damaged")
    recipe = validated(Recipe, tiny_content(epochs=1), "test")
    (row,) = tune({"hq_unet": recipe}, default_space(recipe), data, tmp_path / "s", trials=1)
    assert row.state == "complete"


def test_trials_on_data_that_have_changed_are_no_search(tmp_path, tiny_data, tiny_content):
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    recipe = validated(Recipe, tiny_content(epochs=1), "test")
    tune({"hq_unet": recipe}, default_space(recipe), data, tmp_path / "s", trials=1)
    with rasterio.open(data / "tiny" / "train" / "images" / "a.tif", "r+") as file:
        file.write(255 - file.read())
    with pytest.raises(DataError, match=r"tune\.json.*have changed"):
        tune({"hq_unet": recipe}, default_space(recipe), data, tmp_path / "s", trials=2)


@pytest.mark.parametrize(
    "key", ["data.fold", "data.folds", "data.resolution", "data.fit_masks", "data.color_tolerance"]
)
def test_keys_that_decide_the_truth_cannot_be_tuned(key):
    with pytest.raises(ConfigError, match="cannot be tuned: it decides what is judged"):
        validated(TuneSpace, {"space": {key: {"low": 1, "high": 2}}}, "test")


def test_numbers_below_the_panels_of_the_picture_do_not_overlap(tmp_path, monkeypatch):
    """A rate over less than two decades, where matplotlib writes numbers at all minor ticks."""
    figures = []
    monkeypatch.setattr(results, "save_figure", lambda figure, file: figures.append(figure) or file)
    rows = [
        TrialRow("unet", n, "complete", "val_miou", 0.5, 1.0, {"training.weight_decay": rate}, tmp_path, None)
        for n, rate in enumerate((1.3e-3, 5e-3, 4.4e-2), 1)
    ]
    results.draw_trials(tmp_path, rows)
    figures[0].draw_without_rendering()
    axis = figures[0].axes[1].xaxis
    assert axis.get_scale() == "log"
    assert not any(label.get_text() for label in axis.get_ticklabels(minor=True))
    assert any(label.get_text() for label in axis.get_ticklabels())
