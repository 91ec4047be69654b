"""Runs that a sweep trains itself, under noise and shots."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from qhybrid.config import validated
from qhybrid.config.sweeps import SweepConfig
from qhybrid.errors import ConfigError
from qhybrid.evaluation.sweep import read_results, run_sweep
from qhybrid.training.image_run import load_image_run

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
