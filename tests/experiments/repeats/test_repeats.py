"""Repeated runs: a folder each, finished ones skipped, failed ones reported, mean and deviation."""

from __future__ import annotations

import csv
import json
import math
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import rasterio

from qhybrid import training
from qhybrid.config import Recipe, validated
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.errors import CheckpointError, ConfigError, DataError, TrainingError
from qhybrid.experiments.repeats.comparison import compare, read_repeats
from qhybrid.experiments.repeats.run import Outcome, run_schedule
from qhybrid.experiments.repeats.schedule import RepeatSchedule, Repetition
from qhybrid.experiments.repeats.summary import summarise
from qhybrid.training import precision


def digits(**training) -> Recipe:
    content = {
        "name": "tiny",
        "data": {"dataset": "digits", "options": {"classes": [3, 5]}},
        "model": {"name": "mlp"},
        "training": {"epochs": 1, "batch_size": 64, "progress": False, **training},
    }
    return validated(Recipe, content, "tiny.yaml")


def ph2(folder) -> Recipe:
    content = {
        "name": "tiny",
        "data": {"dataset": "ph2", "root": str(folder), "options": {"size": [32, 48]}},
        "model": {"name": "qu_unet", "widths": [2, 2]},
        "training": {"epochs": 1, "batch_size": 8, "progress": False},
    }
    return validated(Recipe, content, "tiny.yaml")


def metrics_of(folder) -> dict:
    return json.loads((folder / "evaluation" / "test-exact" / "metrics.json").read_text())


class TestPlan:
    def test_every_seed_with_every_fold(self, ph2_folder):
        schedule = RepeatSchedule.make(ph2(ph2_folder), [0, 2, 0], all_folds=True)
        assert len(schedule.repetitions) == 10
        assert schedule.repetitions[6] == Repetition(2, 2)
        assert schedule.repetitions[6].name == "seed-2-fold-2"
        recipe = schedule.repetitions[6].recipe(schedule.recipe)
        assert (recipe.seed, recipe.data.options["fold"]) == (2, 2)
        assert RepeatSchedule.make(ph2(ph2_folder), folds=[3]).repetitions == (Repetition(0, 3),)
        assert RepeatSchedule.make(digits(), [7]).repetitions == (Repetition(7),)

    def test_folds_must_exist(self, ph2_folder, tiny_content):
        with pytest.raises(ConfigError, match="are 1 to 5, but asked for are 6"):
            RepeatSchedule.make(ph2(ph2_folder), folds=[6])
        with pytest.raises(ConfigError, match="`digits` has no folds"):
            RepeatSchedule.make(digits(), all_folds=True)
        with pytest.raises(ConfigError, match="are 1 to 5, but asked for are 6"):
            RepeatSchedule.make(validated(Recipe, tiny_content(), "x"), folds=[6])

    def test_folds_of_scenes(self, tiny_content, tmp_path):
        content = tiny_content()
        content["data"]["folds"] = 4
        for recipe, count in ((tiny_content(), 5), (content, 4)):
            schedule = RepeatSchedule.make(validated(Recipe, recipe, "x"), [3, 4], all_folds=True)
            assert [run.fold for run in schedule.repetitions] == [*range(1, count + 1)] * 2
            second = schedule.repetitions[1].recipe(schedule.recipe)
            assert (second.seed, second.data.folds, second.data.fold) == (3, count, 2)
            schedule.write(tmp_path / str(count))
            assert RepeatSchedule.read(tmp_path / str(count)) == schedule
            # Each fold's own recipe, too, belongs to the folder.
            replace(schedule, recipe=second.model_copy(update={"seed": 0})).write(tmp_path / str(count))
        with pytest.raises(ConfigError, match=r"differs in data\.folds"):
            schedule.write(tmp_path / "5")

    def test_written_plans_are_read_and_grow(self, tmp_path):
        RepeatSchedule.make(digits(), [0, 1]).write(tmp_path)
        RepeatSchedule.make(digits(), [1, 2]).write(tmp_path)
        found = RepeatSchedule.read(tmp_path)
        assert [run.seed for run in found.repetitions] == [0, 1, 2]
        assert found.recipe.training.loss.dice == 0

    def test_a_folder_belongs_to_one_recipe(self, tmp_path):
        RepeatSchedule.make(digits(), [0]).write(tmp_path)
        with pytest.raises(ConfigError, match=r"differs in training\.epochs"):
            RepeatSchedule.make(digits(epochs=2), [0]).write(tmp_path)
        RepeatSchedule.make(digits(progress=True), [0]).write(tmp_path)

    def test_no_plan_and_damaged_plans(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"repeats\.json cannot be read"):
            RepeatSchedule.read(tmp_path)
        (tmp_path / "repeats.json").write_text("{}")
        with pytest.raises(CheckpointError, match="is damaged"):
            RepeatSchedule.read(tmp_path)


def test_seeds_one_after_the_other_and_their_summary(tmp_path):
    schedule, seen = RepeatSchedule.make(digits(), [0, 1, 2]), []
    outcomes = run_schedule(
        schedule, Path(), tmp_path, report=lambda outcome: seen.append(outcome.repetition.seed)
    )
    assert seen == [0, 1, 2]
    assert all(outcome.error is None for outcome in outcomes)
    accuracies = [metrics_of(tmp_path / f"seed-{seed}")["accuracy"] for seed in range(3)]
    summary = summarise(schedule, outcomes, tmp_path)
    assert summary["metrics"]["accuracy"] == {
        "mean": pytest.approx(statistics.fmean(accuracies)),
        "std": pytest.approx(statistics.stdev(accuracies)),
        "count": 3,
        # 58 test images: the binomial error, of runs that may all be wrong on the same ones.
        "test_error": pytest.approx(
            math.sqrt(statistics.fmean(p * (1 - p) for p in accuracies) / 58), rel=0.01
        ),
    }
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    rows = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert [float(row["accuracy"]) for row in rows] == accuracies
    assert rows[0]["parameters"] == "130"


def test_finished_runs_are_skipped_and_interrupted_ones_go_on(tmp_path, monkeypatch):
    schedule = RepeatSchedule.make(digits(), [0, 1])
    run_schedule(RepeatSchedule.make(digits(), [0]), Path(), tmp_path)
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "recipe.yaml").write_text((tmp_path / "seed-0" / "recipe.yaml").read_text())
    calls = []
    original = training.train

    def train(recipe, data_root, folder, *, resume):
        calls.append((folder.name, resume))
        (folder / "recipe.yaml").unlink()
        return original(recipe, data_root, folder)

    monkeypatch.setattr("qhybrid.training.train", train)
    assert [outcome.error for outcome in run_schedule(schedule, Path(), tmp_path)] == [None, None]
    assert calls == [("seed-1", True)]


def test_a_failed_run_does_not_stop_the_others(tmp_path, monkeypatch):
    original = training.train

    def train(recipe, *rest, **named):
        if recipe.seed == 1:
            raise TrainingError("The loss is nan. Fix: lower it.")
        if recipe.seed == 2:
            raise ZeroDivisionError("a defect")
        return original(recipe, *rest, **named)

    monkeypatch.setattr("qhybrid.training.train", train)
    schedule = RepeatSchedule.make(digits(), [0, 1, 2])
    outcomes = run_schedule(schedule, Path(), tmp_path)
    assert [outcome.error for outcome in outcomes] == [
        None,
        "The loss is nan. Fix: lower it.",
        "ZeroDivisionError: a defect",
    ]
    assert "Traceback" in (tmp_path / "seed-2" / "error.txt").read_text()
    summary = summarise(schedule, outcomes, tmp_path)
    assert summary["metrics"]["accuracy"]["count"] == 1
    assert summary["metrics"]["accuracy"]["std"] is None
    monkeypatch.setattr("qhybrid.training.train", original)
    assert [outcome.error for outcome in run_schedule(schedule, Path(), tmp_path)] == [None, None, None]
    assert not (tmp_path / "seed-2" / "error.txt").exists()


def test_folds_have_a_deviation_over_seeds(tmp_path, ph2_folder):
    schedule = RepeatSchedule.make(ph2(ph2_folder), [0, 1], [1, 2])
    values = {(0, 1): 0.5, (0, 2): 0.7, (1, 1): 0.6, (1, 2): 0.8}
    for run in schedule.repetitions:
        folder = tmp_path / run.name
        (folder / "evaluation" / "test-exact").mkdir(parents=True)
        content = {"soft_iou": values[run.seed, run.fold], "accuracy": 1.0, "epoch": 1}
        (folder / "evaluation" / "test-exact" / "metrics.json").write_text(json.dumps(content))
        (folder / "metrics.csv").write_text("epoch,epoch_seconds\n1,2.0\n")
    outcomes = [Outcome(run, tmp_path / run.name) for run in schedule.repetitions]
    found = summarise(schedule, outcomes, tmp_path)["metrics"]["soft_iou"]
    assert found["mean"] == pytest.approx(0.65)
    assert found["std"] == pytest.approx(statistics.stdev(values.values()))
    assert found["std_over_seeds"] == pytest.approx(statistics.stdev([0.6, 0.7]))


@pytest.mark.parametrize("validation", [0, 0.25])
def test_a_summary_says_what_a_comparison_must_know(tmp_path, ph2_folder, validation):
    recipe = ph2(ph2_folder)
    recipe.data.options["validation"] = validation
    schedule = RepeatSchedule.make(recipe, folds=[2])
    outcomes = [Outcome(run, tmp_path / run.name, "lost") for run in schedule.repetitions]
    found = summarise(schedule, outcomes, tmp_path)
    dataset = open_image_dataset(schedule.repetitions[0].recipe(schedule.recipe).data, Path())
    assert found["test_to_train"] == pytest.approx(len(dataset.load("test")) / len(dataset.load("train")))
    assert found["data"]["options"] == {"size": [32, 48], "validation": validation}
    assert found["training"]["epochs"] == 1
    assert found["training"]["augmentation"]["flip"] is False
    unfolded = summarise(RepeatSchedule.make(digits(), [0]), [], tmp_path)
    assert unfolded["test_to_train"] is None


@pytest.mark.parametrize(("native", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_all_runs_of_a_plan_have_one_number_format(tmp_path, monkeypatch, native, chosen):
    monkeypatch.setattr(precision, "native_bf16_cpu", lambda: native)
    monkeypatch.setattr(precision, "native_bf16_gpu", lambda: native)
    schedule = RepeatSchedule.make(digits(precision="bf16-if-native"), [0])
    schedule.write(tmp_path)
    # On another machine the plan keeps what it has, and a command of its own would be another recipe.
    monkeypatch.setattr(precision, "native_bf16_cpu", lambda: not native)
    monkeypatch.setattr(precision, "native_bf16_gpu", lambda: not native)
    assert RepeatSchedule.read(tmp_path).recipe.training.precision == chosen
    with pytest.raises(ConfigError, match=r"differs in training\.precision"):
        RepeatSchedule.make(digits(precision="bf16-if-native"), [1]).write(tmp_path)


def test_a_summary_names_the_number_format_of_its_runs(tmp_path):
    schedule = RepeatSchedule.make(digits(precision="32-true"), [0, 1])
    left_open = replace(
        schedule, recipe=Recipe.model_validate(digits(precision="bf16-if-native").model_dump(mode="json"))
    )
    outcomes = [Outcome(run, tmp_path / run.name) for run in schedule.repetitions]
    empty = summarise(left_open, [replace(outcome, error="lost") for outcome in outcomes], tmp_path)
    assert empty["training"]["precision"] == "bf16-if-native"
    for outcome in run_schedule(schedule, Path(), tmp_path):
        assert outcome.error is None
    assert summarise(left_open, outcomes, tmp_path)["training"]["precision"] == "32-true"


def test_side_by_side_gives_the_same_and_survives_a_killed_process(tmp_path, ph2_folder):
    schedule = RepeatSchedule.make(ph2(ph2_folder), folds=[1, 2])
    (tmp_path / "two" / "seed-0-fold-2").mkdir(parents=True)
    (tmp_path / "two" / "seed-0-fold-2" / "stray").touch()
    outcomes = run_schedule(schedule, Path(), tmp_path / "two", jobs=2)
    assert outcomes[0].error is None
    assert "already exists and is not empty" in (outcomes[1].error or "")
    alone = run_schedule(RepeatSchedule.make(ph2(ph2_folder), folds=[1]), Path(), tmp_path / "one")
    assert alone[0].error is None
    first, second = (metrics_of(tmp_path / part / "seed-0-fold-1")["soft_iou"] for part in ("one", "two"))
    assert first == pytest.approx(second, abs=1e-6)


def test_scenes_can_be_repeated_too(tmp_path, tiny_data, tiny_content):
    schedule = RepeatSchedule.make(validated(Recipe, tiny_content(epochs=1), "tiny.yaml"), [0])
    outcomes = run_schedule(schedule, tiny_data, tmp_path)
    assert outcomes[0].error is None
    assert set(summarise(schedule, outcomes, tmp_path)["metrics"]) == {"miou", "accuracy"}


def test_jobs_must_be_positive(tmp_path):
    with pytest.raises(ConfigError, match="`jobs` must be at least 1, but is 0"):
        run_schedule(RepeatSchedule.make(digits(), [0]), Path(), tmp_path, jobs=0)


def test_folds_of_scenes_are_trained_and_tested_on_other_scenes(tmp_path, tiny_data, tiny_content):
    content = tiny_content(epochs=1)
    content["data"]["folds"] = 4
    schedule = RepeatSchedule.make(validated(Recipe, content, "x"), folds=[1, 2])
    outcomes = run_schedule(schedule, tiny_data, tmp_path)
    assert [outcome.error for outcome in outcomes] == [None, None]
    summary = summarise(schedule, outcomes, tmp_path)
    assert summary["test_to_train"] == 1 / 2
    assert summary["metrics"]["miou"]["count"] == 2
    assert "fold" not in summary["data"]
    tested = [
        open_dataset(run.recipe(schedule.recipe).data, tiny_data).scenes("test")
        for run in schedule.repetitions
    ]
    assert [len(scenes) for scenes in tested] == [1, 1]
    assert tested[0][0].image != tested[1][0].image


class TestChangedData:
    @pytest.fixture
    def repeated(self, tmp_path, tiny_data, tiny_content):
        """Two seeds, of which the first is finished, and their data."""
        data = shutil.copytree(tiny_data, tmp_path / "data")
        recipe = validated(Recipe, tiny_content(epochs=1), "x")
        schedule = RepeatSchedule.make(recipe, [0, 1])
        run_schedule(RepeatSchedule.make(recipe, [0]), data, tmp_path / "runs")
        return schedule, data, tmp_path / "runs"

    @pytest.mark.parametrize("name", ["train/masks/a.tif", "test/masks/d.tif"])
    def test_runs_of_other_data_are_not_added(self, repeated, name):
        schedule, data, output = repeated
        with rasterio.open(data / "tiny" / name, "r+") as mask:
            mask.write(7 - mask.read())
        with pytest.raises(DataError, match=f"seed-0: the data must be those .*changed: tiny/{name}"):
            run_schedule(schedule, data, output)
        assert not (output / "seed-1").exists()

    def test_the_same_data_are(self, repeated):
        schedule, data, output = repeated
        outcomes = run_schedule(schedule, data, output)
        assert [outcome.error for outcome in outcomes] == [None, None]
        hashes = {row["data_hash"] for row in summarise(schedule, outcomes, output)["runs"]}
        assert len(hashes) == 1
        assert None not in hashes

    def test_models_that_were_tested_on_other_content_are_not_compared(self, repeated, tmp_path):
        schedule, _, output = repeated
        one = RepeatSchedule(schedule.recipe, schedule.repetitions[:1])
        summarise(one, [Outcome(one.repetitions[0], output / "seed-0")], output)
        other = shutil.copytree(output, tmp_path / "other")
        assert compare(*map(read_repeats, (output, other)), "accuracy").mean == 0
        content = json.loads((other / "summary.json").read_text())
        content["runs"][0]["data_hash"] = "0" * 64
        (other / "summary.json").write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=r"differ in content \(seed 0\)"):
            compare(*map(read_repeats, (output, other)), "accuracy")
        del content["runs"][0]["data_hash"]  # as summaries of earlier versions
        (other / "summary.json").write_text(json.dumps(content))
        assert compare(*map(read_repeats, (output, other)), "accuracy").mean == 0
