"""Runs and studies from scripts give what the rooms below give."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from image_runs import *  # noqa: F403  (fixtures)

import qhybrid
from qhybrid.api.lookup import find_recipe
from qhybrid.api.maps import MapRequest
from qhybrid.api.recipes import as_engine, as_recipe, as_sweep
from qhybrid.config import EngineConfig, load_recipe
from qhybrid.errors import CheckpointError, ConfigError, HardwareError
from qhybrid.evaluation import evaluate_run
from qhybrid.layers import quantum_layers


@pytest.fixture
def workspace(tmp_path, monkeypatch, mnist_root):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QHYBRID_DATA", str(mnist_root))
    return tmp_path


def test_recipes_by_name_mapping_object_and_settings(tiny_recipe):
    named = as_recipe("demo", {"training.epochs": 3})
    expected = load_recipe(find_recipe("demo"), ["training.epochs=3"])
    assert named == expected
    assert as_recipe(expected) is expected
    assert as_recipe(load_recipe(find_recipe("demo")), {"training.epochs": 3}) == expected
    before = dict(tiny_recipe["training"])
    changed = as_recipe(tiny_recipe, {"training.epochs": 7})
    assert changed.training.epochs == 7
    assert tiny_recipe["training"] == before


@pytest.mark.parametrize(
    ("given", "told"), [(3, "is of type int"), (None, "of type NoneType"), (qhybrid.Run("x"), "`recipe`")]
)
def test_what_is_no_recipe(given, told):
    with pytest.raises(ConfigError, match=told):
        as_recipe(given)


def test_settings_of_an_object_keep_what_was_not_given():
    """Defaults may depend on what was not given, so it must stay not given."""
    plain = load_recipe(find_recipe("digits_cnn"))
    changed = as_recipe(plain, {"training.epochs": 3})
    assert changed.training.model_fields_set == plain.training.model_fields_set | {"epochs"}


@pytest.mark.parametrize(
    "settings", [{"training.": 1}, {"name.x": 1}, {"training.epoch": 1}, ["training.epochs=1"], "x=1"]
)
def test_wrong_settings(tiny_recipe, settings):
    with pytest.raises(ConfigError):
        as_recipe(tiny_recipe, settings)


def test_engines():
    assert as_engine() is None
    assert as_engine(shots=10) == EngineConfig(kind="exact", shots=10)
    whole = EngineConfig(kind="aer", shots=10, options={"method": "statevector"})
    assert as_engine(whole) is whole
    assert as_engine(whole, shots=20) == whole.model_copy(update={"shots": 20})
    with pytest.raises(ConfigError, match="shots"):
        as_engine(shots=0)


def test_train_evaluate_resume(workspace, tiny_recipe):
    run = qhybrid.train(tiny_recipe, settings={"training.epochs": 2})
    assert run.folder.parent.parent.name == "runs"
    assert run.recipe.training.epochs == 2
    assert list(run.history["epoch"]) == [1, 2]
    assert qhybrid.open_run("tiny_qcq").folder == run.folder
    found = run.evaluate(shots=50, engine="exact", output=workspace / "here", diagnose=False)
    again = evaluate_run(run.folder, "test", EngineConfig(shots=50), output=workspace / "there")
    assert found.metrics == again.metrics  # shots are drawn by the recipe's seed where none is given
    other = run.evaluate(engine=EngineConfig(shots=50, seed=1), output=workspace / "other", diagnose=False)
    assert other["cross_entropy"] != found["cross_entropy"]
    assert found.folder == workspace / "here"
    assert qhybrid.resume(run.folder) == run  # nothing is left to do
    assert run.report(workspace / "page.html").is_file()
    assert run.load().model is not None
    values = f"accuracy={found['accuracy']:.4g}, cross_entropy={found['cross_entropy']:.4g}"
    assert repr(found) == f"Evaluation({values}; folder={str(found.folder)!r})"
    diagnosis = run.diagnose()
    assert repr(diagnosis) == f"Diagnosis({diagnosis.verdict!r}, folder={str(diagnosis.folder)!r})"


def test_a_run_that_does_not_change_its_recipe(workspace, tiny_recipe):
    run = qhybrid.train(tiny_recipe)
    with pytest.raises(ConfigError, match="epochs"):
        qhybrid.resume(run.folder, settings={"training.epochs": 5})


def test_repeats_and_sweep_as_tables(workspace, tiny_recipe):
    repeats = qhybrid.repeat(tiny_recipe, seeds=[0, 1], output="runs/twice")
    assert list(repeats.results["seed"]) == [0, 1]
    assert not repeats.failures
    mean = repeats.summary["metrics"]["accuracy"]["mean"]
    assert repeats.results["accuracy"].mean() == pytest.approx(mean, abs=1e-12)
    assert [run.evaluate(diagnose=False)["accuracy"] for run in repeats.runs] == list(
        repeats.results["accuracy"]
    )
    pd.testing.assert_frame_equal(qhybrid.open_repeats("runs/twice").results, repeats.results)
    content = {"name": "s", "sweep": {"runs": ["runs/twice"], "grids": [{"profiles": ["ideal"]}]}}
    assert len(as_sweep(content).sweep.runs) == 2
    tables = qhybrid.sweep(content, jobs=1)
    rows = tables.results[tables.results["metric"] == "accuracy"]
    assert float(rows["value"].iloc[0]) == pytest.approx(mean, abs=1e-12)
    assert tables.outcome.computed == 2
    assert set(tables.cells["metric"]) >= {"accuracy"}


@pytest.mark.parametrize("seeds", [[0.5], [-1], 3, "0-9", [True, "1"]])
def test_seeds_are_whole_numbers(workspace, tiny_recipe, seeds):
    """The folder of a run is named after its seed: that of 0.5 was taken for that of 0."""
    for work in (qhybrid.repeat, lambda recipe, **words: qhybrid.ablate(recipe, ["zero"], **words)):
        with pytest.raises(ConfigError, match=r"`seeds` must be several whole numbers from 0, as in range"):
            work(tiny_recipe, seeds=seeds)
    with pytest.raises(ConfigError, match="`folds` must be several whole numbers"):
        qhybrid.repeat(tiny_recipe, folds=[1.5])
    assert not list(workspace.glob("runs/*/*/repeats.json"))


def test_seeds_of_numpy_and_folders_as_text(workspace, tiny_recipe):
    repeats = qhybrid.repeat(tiny_recipe, seeds=np.arange(1), output="runs/one")
    (run,) = repeats.runs
    assert qhybrid.Run(str(run.folder)) == run
    assert len(qhybrid.Run(str(run.folder)).history) == 1
    for given in (run, run.folder, str(run.folder)):
        content = {"name": "s", "sweep": {"runs": [given], "grids": [{"profiles": ["ideal"]}]}}
        assert as_sweep(content).sweep.runs == (str(run.folder),)
    for wrong, told in (
        ({"jobs": 0}, "at least 1, but is 0"),
        ({"jobs": 2, "scheduler": "local:2"}, "`jobs` must be left out with `scheduler`"),
        ({"scheduler": 2}, "`scheduler` must be the address"),
    ):
        with pytest.raises(ConfigError, match=told):
            qhybrid.sweep(content, **wrong)
        with pytest.raises(ConfigError, match=told):
            qhybrid.repeat(tiny_recipe, seeds=[0], **wrong)


def test_layers_without_an_engine_are_refused(workspace, tiny_recipe):
    run = qhybrid.train(tiny_recipe)
    name = next(iter(quantum_layers(run.load().model)))
    with pytest.raises(ConfigError, match="`layers` must say .* stands without one"):
        run.evaluate(layers=[name])
    with pytest.raises(ConfigError, match="`layers` must say .* is empty"):
        run.evaluate(engine="aer", layers=[])
    with pytest.raises(ConfigError, match="No quantum layer named nothing. "):
        run.evaluate(engine="aer", layers="nothing")
    assert f"in={name}" in run.evaluate(engine="exact", layers=name, diagnose=False).folder.name
    with pytest.raises(KeyError, match="no such metric was measured; there are accuracy"):
        _ = run.evaluate(diagnose=False)["miou"]


def test_no_repeats(workspace):
    with pytest.raises(CheckpointError, match="repeated runs"):
        qhybrid.open_repeats("nothing")


def test_ablation_as_a_table(workspace, tiny_recipe):
    found = qhybrid.ablate(tiny_recipe, ["zero@head.classifier.circuit"], [0, 1])
    table = found.results.set_index("arm")
    assert list(table.index) == ["as_is", "zero@head.classifier.circuit"]
    assert table["mean"].diff().iloc[1] == pytest.approx(table["difference"].iloc[1], abs=1e-12)
    assert set(found.verdicts) == {"zero@head.classifier.circuit"}


def test_comparison_as_a_table(workspace, tiny_recipe):
    first = qhybrid.repeat(tiny_recipe, seeds=[0, 1, 2], output="runs/first")
    settings = {"training.learning_rate": 0.1}
    second = qhybrid.repeat(tiny_recipe, seeds=[0, 1, 2], settings=settings, output="runs/second")
    found = qhybrid.compare(first, "runs/second", metric="accuracy", margin=0.01)
    base, other = (one.results["accuracy"].to_numpy() for one in (first, second))
    table = found.results
    assert table["mean"].tolist() == pytest.approx([base.mean(), other.mean()])
    assert table["std"].tolist() == pytest.approx([base.std(ddof=1), other.std(ddof=1)])
    assert table["difference"].iloc[1] == pytest.approx((other - base).mean())
    assert np.isnan(table["difference"].iloc[0])
    (verdict,) = found.verdicts.values()
    assert verdict == table["verdict"].iloc[1]
    assert verdict.startswith(("equivalent", "different", "not decidable"))
    assert found.remarks == ("The models were not trained alike: learning_rate differ.",)
    assert qhybrid.compare(first, second).metric == "accuracy"


def test_comparisons_that_are_none(workspace, tiny_recipe):
    first = qhybrid.repeat(tiny_recipe, seeds=[0], output="runs/first")
    with pytest.raises(ConfigError, match="at least two folders"):
        qhybrid.compare(first)
    with pytest.raises(ConfigError, match=r"runs/first is given twice"):
        qhybrid.compare(first, "runs/first")
    with pytest.raises(ConfigError, match=r"runs/first is given twice"):
        qhybrid.compare("runs/second", first, first.folder.absolute())
    with pytest.raises(ConfigError, match="The margin must be a number above 0"):
        qhybrid.compare(first, qhybrid.repeat(tiny_recipe, seeds=[0], output="runs/second"), margin=0)
    with pytest.raises(CheckpointError, match="cannot be read"):
        qhybrid.compare(first, "runs/nothing")


def test_search_as_a_table(workspace, tiny_recipe):
    space = {"training.learning_rate": {"low": 0.001, "high": 0.1, "log": True}}
    told = []
    found = qhybrid.tune(
        tiny_recipe, ["qcq_cnn", "mlp"], space=space, trials=2, on_start=told.append, report=told.append
    )
    search, *trials = told
    assert search is found.search
    assert search.folder.as_posix() == f"runs/{tiny_recipe['name']}/tune"
    assert list(search.recipes) == ["qcq_cnn", "mlp"]
    turns = [("qcq_cnn", 1), ("mlp", 1), ("qcq_cnn", 2), ("mlp", 2)]
    assert [(one.model, one.trial) for one in trials] == turns
    table = found.results
    assert len(table) == 4
    assert table["training.learning_rate"].between(0.001, 0.1).all()
    assert list(found.best) == ["qcq_cnn", "mlp"]
    for label, file in found.best.items():
        own = table[table["model"] == label]
        rate = own.loc[own["value"].idxmax(), "training.learning_rate"]
        assert as_recipe(file).training.learning_rate == pytest.approx(rate)
    with pytest.raises(ConfigError, match="mlp is named twice"):
        qhybrid.tune(tiny_recipe, ["mlp", "mlp"], space=space, trials=1)
    with pytest.raises(ConfigError, match=r"space, `training.learning_rate`: key `lo` is unknown"):
        qhybrid.tune(tiny_recipe, space={"training.learning_rate": {"lo": 1}}, trials=1)


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"overwrit": True}, "overwrite"),
        ({"box_crs": "EPSG:4326"}, "must come with `box`"),
        ({"file_format": "png"}, "cog"),
        ({"polygons": "shp"}, "gpkg"),
    ],
)
def test_map_keywords_are_checked_before_anything(tmp_path, keywords, told):
    with pytest.raises(ConfigError, match=told):
        MapRequest.of([str(tmp_path / "none.tif")], tmp_path / "map.tif", keywords)


def test_no_scenes(tmp_path):
    with pytest.raises(ConfigError, match="scene at least"):
        MapRequest.of([], tmp_path / "map.tif", {})


def test_plan_run_and_open_again(workspace, tiny_recipe):
    run = qhybrid.train(tiny_recipe)
    plan = run.plan(backend="aer", limit=3, shots=100, settings={"patience.poll_s": 0.1})
    assert plan.results is None
    assert plan.content["settings"]["shots"] == 100
    assert plan.content["settings"]["patience"]["poll_s"] == 0.1
    assert plan.qpu_seconds == pytest.approx(plan.rounds["qpu_seconds"].sum(), rel=0.01)
    (circuit,) = plan.content["circuits"].values()
    assert list(plan.circuits["qubits"]) == [circuit["qubits"]]
    assert run.plan(backend="aer", limit=3, shots=100, settings={"patience.poll_s": 0.1}) == plan
    assert plan.submit() == plan.rounds["jobs"].sum()
    assert plan.submit(pilot=True, max_qpu_seconds=50.0) == 0
    assert plan.status()["max_qpu_seconds"] == 50.0
    results = plan.collect()
    assert results is not None
    assert len(results.predictions) == 3
    assert results["accuracy"] == results.metrics["obtained"]["accuracy"]
    right = results.predictions["class"] == results.predictions["truth"]
    assert results["accuracy"] == pytest.approx(right.mean(), abs=1e-6)  # metrics are written with six digits
    assert qhybrid.open_plan(run.folder) == qhybrid.open_plan(plan.folder) == plan
    assert qhybrid.open_plan(run) == plan
    keywords = {"backend": "aer", "limit": 3, "shots": 100, "service": "nothing"}
    with pytest.raises(HardwareError, match="nothing"):
        qhybrid.plan(run, **keywords)
    assert plan.results == results
    assert plan.cancel() == 0
    assert set(plan.status()["jobs"]) == {"done"}
    assert list(plan.jobs()["state"]) == ["done"] * int(plan.rounds["jobs"].sum())
    with pytest.raises(HardwareError, match="needs jobs that are not sent yet"):
        plan.remap()
    assert qhybrid.Plan(str(plan.folder)) == plan
    with pytest.raises(HardwareError, match="cap"):
        plan.submit(max_qpu_seconds=float("nan"))
    assert plan.submit(max_qpu_seconds=1e6, pilot=False) == 0
    again = run.plan(again=True, backend="aer", limit=3, shots=100)
    assert again.folder != plan.folder


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"shot": 100}, "shots"),
        ({"shots": 0}, "shots"),
        ({"settings": "mode=job"}, "mapping"),
        ({"limit": 2.5}, "`limit` must be a whole number, but is 2.5"),
        ({"mitigation": None}, "`mitigation` must be a name"),
        ({"layers": "nothing"}, "are nothing"),
    ],
)
def test_requests_are_checked_before_a_plan_is_made(workspace, tiny_recipe, keywords, told):
    run = qhybrid.train(tiny_recipe)
    with pytest.raises(ConfigError, match=told):
        run.plan(backend="aer", **keywords)
    with pytest.raises(HardwareError, match="neither"):
        qhybrid.open_plan(run.folder)
