"""Runs that a sweep trains itself, under noise and shots."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml

from qhybrid.config import Recipe, validated
from qhybrid.config.sweeps import SweepConfig
from qhybrid.errors import ConfigError
from qhybrid.experiments.sweeps import read_results, run_sweep
from qhybrid.experiments.sweeps.training import list_trainings, recipe_key
from qhybrid.noise import NoiseProfile
from qhybrid.training import train
from qhybrid.training.images.run import load_image_run
from qhybrid.training.run_folder import read_recipe

CLASSIFIER = "head.classifier.circuit"


@pytest.fixture
def training_sweep(tmp_path, tiny_recipe):
    recipe = tmp_path / "tiny_qcq.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe))

    def make(vary, grids=(), **set_):
        train = [{"recipe": str(recipe), "set": {"engine.layers": [CLASSIFIER], **set_}, "vary": vary}]
        content = {"name": "trained", "sweep": {"train": train, "grids": list(grids)}}
        return validated(SweepConfig, content, "test")

    return make


def test_runs_are_trained_once_and_evaluated_as_trained(training_sweep, mnist_root, tmp_path):
    vary = {"engine.shots": [16, None], "engine.noise": ["depolarizing_0.05_0.1"], "seed": [0, 1]}
    out = tmp_path / "out"
    outcome = run_sweep(training_sweep(vary, [{}]), mnist_root, out, processes=1)
    assert (outcome.cells, outcome.failures) == (8, [])
    table = read_results(out)
    own = table[(table["engine"] == "trained") & (table["metric"] == "accuracy")]
    assert sorted(own["seeds"]) == [2, 2]
    assert set(own["profile"]) == {"depolarizing_0.05_0.1"}
    assert set(own["settings"]) == {
        json.dumps({"engine.noise": "depolarizing_0.05_0.1", "engine.shots": shots}) for shots in (16, None)
    }
    folders = sorted((out / "trained").iterdir())
    assert len(folders) == 4
    for folder in folders:
        run = load_image_run(folder)
        layers = {
            name: child.engine.describe()
            for name, child in run.model.named_modules()
            if hasattr(child, "engine")
        }
        assert layers["quanvolution.filter"]["noise"] is None
        assert layers[CLASSIFIER]["noise"]["p_2q"] == 0.1
    stamps = [(folder / "metrics.csv").stat().st_mtime_ns for folder in folders]
    again = run_sweep(training_sweep(vary, [{}]), mnist_root, out, processes=1)
    assert (again.computed, again.cells) == (0, 8)
    assert [(folder / "metrics.csv").stat().st_mtime_ns for folder in folders] == stamps


def test_runs_are_trained_as_qhybrid_train_would(training_sweep, tiny_recipe, mnist_root, tmp_path):
    """A recipe that went through plain values keeps the defaults of whole images; shots follow the seed."""
    vary = {"engine.shots": [16, None], "seed": [3]}
    outcome = run_sweep(training_sweep(vary), mnist_root, tmp_path / "out", processes=1)
    assert outcome.failures == []
    for folder in (outcome.folder / "trained").iterdir():
        swept = read_recipe(folder)
        content = {**tiny_recipe, "seed": 3, "engine": swept.engine.model_dump()}
        alone = train(validated(Recipe, content, "test"), mnist_root, tmp_path / f"alone{swept.engine.shots}")
        assert read_recipe(alone) == swept
        assert swept.training.loss.dice == 0
        assert not swept.data.augmentation.flip
        assert swept.engine.seed == (None if swept.engine.shots is None else 3)
        for file in ("best/weights.safetensors", "last/weights.safetensors"):
            assert (folder / file).read_bytes() == (alone / file).read_bytes()


def test_another_start_is_another_run(training_sweep, make_image_run, mnist_root, tmp_path):
    """Weights to start from count by their content, not by the folder's name."""
    start = make_image_run()
    sweep = training_sweep({"seed": [0]}, **{"training.start": str(start)})
    first = run_sweep(sweep, mnist_root, tmp_path / "out", processes=1)
    assert (first.cells, first.failures) == (1, [])
    assert run_sweep(sweep, mnist_root, tmp_path / "out", processes=1).computed == 0
    shutil.rmtree(start)
    make_image_run(seed=1)
    assert run_sweep(sweep, mnist_root, tmp_path / "out", processes=1).computed == 1
    assert len(list((tmp_path / "out" / "trained").iterdir())) == 2


def test_a_profile_of_other_content_is_another_run(training_sweep, tmp_path):
    profile, keys = tmp_path / "mine.yaml", []
    for rate in (0.1, 0.2, 0.1):
        NoiseProfile.depolarizing(p_1q=rate).save(profile)
        sweep = training_sweep({"seed": [0]}, **{"engine.noise": str(profile)})
        keys += [run.key for run in list_trainings(sweep.sweep.train, tmp_path / "out")]
    assert keys[0] == keys[2] != keys[1]
    profile.unlink()
    with pytest.raises(ConfigError, match=r"mine.yaml must be a YAML file or a known name"):
        list_trainings(sweep.sweep.train, tmp_path / "out")


def test_what_a_run_keeps_is_part_of_its_key(tiny_recipe):
    recipe = validated(Recipe, tiny_recipe, "a test")
    content = recipe.model_dump(mode="json")
    last = Recipe.model_validate({**content, "training": {**content["training"], "keep": "last"}})
    assert recipe_key(recipe) == recipe_key(Recipe.model_validate(content))
    assert recipe_key(recipe) != recipe_key(last)


def test_a_training_that_fails_stops_no_other(training_sweep, mnist_root, tmp_path):
    vary = {"data.options.train": [16, 10_000]}
    sweep = training_sweep({key: tuple(value) for key, value in vary.items()})
    outcome = run_sweep(sweep, mnist_root, tmp_path / "out", processes=1)
    (failure,) = outcome.failures
    assert "10000" in failure["error"] or "10,000" in failure["error"] or "train" in failure["error"]
    assert outcome.cells == 1


def test_aer_trains_by_parameter_shift(training_sweep, mnist_root, tmp_path):
    engine = {"engine.kind": "aer", "engine.options": {"method": "density_matrix"}}
    sweep = training_sweep({"engine.shots": [32]}, **engine, **{"engine.noise": "depolarizing_0.01_0.02"})
    outcome = run_sweep(sweep, mnist_root, tmp_path / "out", processes=1)
    assert (outcome.cells, outcome.failures) == (1, [])


def test_bad_settings_are_found_before_anything_is_trained(training_sweep, mnist_root, tmp_path):
    with pytest.raises(ConfigError, match=r"engine.shots=0.*engine.shots"):
        run_sweep(training_sweep({"engine.shots": [0]}), mnist_root, tmp_path / "out", processes=1)
    with pytest.raises(ConfigError, match=r"Did you mean `noise`"):
        run_sweep(training_sweep({"engine.nois": ["x"]}), mnist_root, tmp_path / "out", processes=1)
    assert not (tmp_path / "out" / "trained").exists()


def test_runs_that_differ_in_set_alone_are_refused(training_sweep, mnist_root, tmp_path):
    """They would have one name in all tables."""
    one, two = (training_sweep({"seed": [0]}, **{"training.epochs": n}).sweep.train[0] for n in (1, 2))
    sweep = training_sweep({"seed": [0]})
    both = sweep.model_copy(update={"sweep": sweep.sweep.model_copy(update={"train": (one, two)})})
    with pytest.raises(ConfigError, match="differ in `set` alone"):
        run_sweep(both, mnist_root, tmp_path / "out", processes=1)


def test_sections_can_be_varied_and_starts_follow_the_seed(training_sweep, make_image_run, tmp_path):
    for seed in (0, 4):
        make_image_run(f"before/seed-{seed}", seed=seed)
    engines = [{"kind": "exact"}, {"kind": "routed", "options": {"backend": "fake_manila", "scale": 2.0}}]
    start = {"training.start": str(tmp_path / "before" / "seed-{seed}"), "training.learning_rate": 1e-5}
    (grid,) = training_sweep({"engine": engines, "seed": [0, 4]}, **start).sweep.train
    grid = grid.model_copy(update={"set": start})
    runs = list_trainings([grid], tmp_path / "out")
    assert [run.recipe.training.start[-6:] for run in runs] == ["seed-0", "seed-4"] * 2
    assert runs[2].recipe.engine.options == {"backend": "fake_manila", "scale": 2.0}
    assert runs[0].recipe.training.learning_rate == 1e-5
    assert runs[2].settings == {"engine": engines[1]}


def test_a_run_trained_on_a_device_says_so(training_sweep, mnist_root, tmp_path):
    engine = {"engine.kind": "routed", "engine.options": {"backend": "fake_manila", "scale": 2.0}}
    sweep = training_sweep({"seed": [0]}, **engine)
    outcome = run_sweep(sweep, mnist_root, tmp_path / "out", processes=1)
    assert outcome.failures == []
    row = read_results(outcome.folder).iloc[0]
    assert (row["profile"], row["scale"], row["mapping"]) == ("fake_manila", 2.0, "fake_manila")
    assert row["profile_hash"] == NoiseProfile.from_backend("fake_manila").scale(2).fingerprint


def test_training_goes_on_from_a_run(training_sweep, make_image_run, mnist_root, tmp_path):
    """With a learning rate of nothing the weights stay those of the run."""
    start = make_image_run()
    small = {"training.start": str(start), "training.learning_rate": 1e-12, "training.weight_decay": 0}
    sweep = training_sweep({"engine.noise": ["depolarizing_0.01_0.02"]}, **small)
    outcome = run_sweep(sweep, mnist_root, tmp_path / "out", processes=1)
    assert outcome.failures == []
    (folder,) = (outcome.folder / "trained").iterdir()
    after, before = load_image_run(folder).model.state_dict(), load_image_run(start).model.state_dict()
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)
    other = training_sweep({"seed": [0]}, **{"training.start": str(tmp_path / "nothing")})
    (failure,) = run_sweep(other, mnist_root, tmp_path / "two", processes=1).failures
    assert "training.start" in failure["error"]


def test_a_model_without_circuits_is_a_reference_with_one_value(training_sweep, mnist_root, tmp_path):
    """It is trained beside the others; noise and shots of the grids are for those with circuits."""
    vary = {
        "model": [{"name": "qcq_cnn", "channels": [2, 2]}, {"name": "cnn", "channels": [2, 2]}],
        "seed": [0],
    }
    sweep = training_sweep(vary, [{"shots": [8]}], **{"engine.layers": None})
    outcome = run_sweep(sweep, mnist_root, tmp_path / "out", processes=1)
    assert outcome.failures == []
    table = read_results(outcome.folder)
    rows = table[table["metric"] == "accuracy"]
    assert sorted(zip(rows["model"], rows["engine"])) == [
        ("cnn", "trained"),
        ("qcq_cnn", "exact"),
        ("qcq_cnn", "trained"),
    ]
    again = run_sweep(sweep, mnist_root, tmp_path / "out", processes=1)
    assert again.computed == 0
