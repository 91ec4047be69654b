"""Repeats, searches and ablations on a Dask cluster give what one process gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from qhybrid.config import Recipe, validated
from qhybrid.config.tuning import Distribution, TuneSpace
from qhybrid.errors import ConfigError, WorkspaceError
from qhybrid.experiments.ablations import ablate
from qhybrid.experiments.repeats.run import run_schedule, run_schedules
from qhybrid.experiments.repeats.schedule import RepeatSchedule
from qhybrid.experiments.tuning import candidates, study, tune

pytestmark = pytest.mark.filterwarnings("ignore:Port .* is already in use")
SPACE = TuneSpace(space={"training.learning_rate": Distribution(low=1e-4, high=1e-1, log=True)})


@pytest.fixture(scope="module")
def cluster():
    """A worker of one thread inside this process: what it does is what a process of a cluster does."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs="CRITICAL"
    ) as found:
        yield found.scheduler_address


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr("qhybrid.training.images.task.draw_image_run_pictures", lambda folder: None)


def digits(model="mlp", **training) -> Recipe:
    content = {
        "name": "tiny",
        "data": {"dataset": "digits", "options": {"classes": [3, 5]}},
        "model": {"name": model, **({"channels": [2, 2]} if model == "qcq_cnn" else {})},
        "training": {"epochs": 1, "batch_size": 64, "progress": False, "precision": "32-true", **training},
    }
    return validated(Recipe, content, "tiny.yaml")


def weights_of(folder):
    return load_file(folder / "last" / "weights.safetensors")


def same(one, two):
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_repeats(cluster, tmp_path):
    schedule = RepeatSchedule.make(digits(), [0, 1])
    told = []
    found = run_schedule(schedule, tmp_path, tmp_path / "many", scheduler=cluster, report=told.append)
    alone = run_schedule(schedule, tmp_path, tmp_path / "one")
    assert [one.error for one in found] == [None, None]
    assert sorted(one.folder.name for one in told) == ["seed-0", "seed-1"]
    for one, other in zip(alone, found):
        same(weights_of(one.folder), weights_of(other.folder))
    told.clear()
    run_schedule(schedule, tmp_path, tmp_path / "many", scheduler=cluster, report=told.append)
    assert len(told) == 2  # finished ones are not trained again, but told


def test_a_repeat_that_fails_is_told(cluster, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise ConfigError("not this one")

    monkeypatch.setattr("qhybrid.training.train", fails)
    schedule = RepeatSchedule.make(digits(), [0])
    (found,) = run_schedule(schedule, tmp_path, tmp_path / "many", scheduler=cluster)
    assert found.error == "not this one"
    with pytest.raises(ConfigError, match="or local:N"):
        run_schedules({tmp_path / "other": schedule}, tmp_path, scheduler="nowhere")
    assert not (tmp_path / "other").exists()


def test_a_search_draws_and_finds_the_same(cluster, tmp_path):
    pytest.importorskip("optuna")
    base = digits()
    recipes = {"mlp": base, "cnn": candidates.with_model(base, "cnn")[0]}
    alone = tune(recipes, SPACE, tmp_path, tmp_path / "one", trials=2)
    found = tune(recipes, SPACE, tmp_path, tmp_path / "many", trials=2, scheduler=cluster)
    assert [(row.model, row.trial, row.value, row.parameters) for row in found] == [
        (row.model, row.trial, row.value, row.parameters) for row in alone
    ]
    assert {row.state for row in found} == {"complete"}
    more = tune(recipes, SPACE, tmp_path, tmp_path / "many", trials=2, scheduler=cluster)
    assert [row.value for row in more] == [row.value for row in found]


def test_a_trial_that_workers_die_of_is_tried_again(cluster, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    train_trial = study.train_trial
    monkeypatch.setattr(study, "train_trial", lambda job: {"key": job["key"], "error": "KilledWorker: x"})
    with pytest.raises(WorkspaceError, match=r"has left none \(KilledWorker: x\)"):
        tune({"mlp": digits()}, SPACE, tmp_path, tmp_path / "s", trials=1)
    monkeypatch.setattr(study, "train_trial", train_trial)
    (row,) = tune({"mlp": digits()}, SPACE, tmp_path, tmp_path / "s", trials=1)
    (alone,) = tune({"mlp": digits()}, SPACE, tmp_path, tmp_path / "one", trials=1)
    assert (row.value, row.parameters) == (alone.value, alone.parameters)


def test_an_ablation_decides_the_same(cluster, tmp_path):
    pytest.importorskip("optuna")
    options = {"arms": ["zero@head.classifier.circuit"], "seeds": [0], "trials": 1, "space": SPACE}
    recipe = digits("qcq_cnn")
    alone = ablate(recipe, tmp_path, tmp_path / "one", **options)
    found = ablate(recipe, tmp_path, tmp_path / "many", scheduler=cluster, **options)
    assert [row["arm"] for row in found["arms"]] == [row["arm"] for row in alone["arms"]]
    for one, other in zip(alone["arms"], found["arms"]):
        assert (one["metrics"], one["error"], one["parameters"]) == (
            other["metrics"],
            other["error"],
            other["parameters"],
        )
    assert json.loads((tmp_path / "many" / "ablation.json").read_text())["arms"]
