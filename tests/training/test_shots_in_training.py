"""Training under shots: what is drawn depends on the seed and the epoch, not on interruptions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from qhybrid.config import Recipe, validated
from qhybrid.training import train
from qhybrid.training.images import module as image_module
from qhybrid.training.images import task as image_task
from qhybrid.training.preparation import draws_shots, with_shots_seed
from qhybrid.training.run_folder import read_recipe
from qhybrid.training.scenes import module

CLASSIFIER = ["head.classifier.circuit"]
TRAJECTORIES = {"method": "statevector", "trajectories": 5}
ENGINES = {
    "exact": {"shots": 16, "seed": 5, "noise": "depolarizing_0.05_0.1"},
    "exact, no seed": {"shots": 16},
    "exact, classifier": {"shots": 16, "layers": CLASSIFIER, "options": {"shots_law": "independent"}},
    "aer": {"kind": "aer", "shots": 16, "layers": CLASSIFIER, "options": {"method": "density_matrix"}},
    "aer, trajectories": {
        "kind": "aer", "noise": "depolarizing_0.05_0.1", "layers": CLASSIFIER, "options": TRAJECTORIES,
    },
    "routed": {"kind": "routed", "shots": 16, "layers": CLASSIFIER, "options": {"backend": "fake_manila"}},
}  # fmt: skip


def content_of(engine, **training):
    options = {"classes": [3, 5], "validation": 0.05, "test": 0.85}
    return {
        "name": "tiny",
        "seed": 3,
        "data": {"dataset": "digits", "options": options},
        "model": {"name": "qcq_cnn", "channels": [2, 2]},
        "engine": engine,
        "training": {"epochs": 3, "batch_size": 10, "progress": False, **training},
    }


@pytest.fixture
def run(monkeypatch):
    """Train, and stop in the middle of an epoch if one is given."""
    monkeypatch.setattr(image_task, "SAVE_INTERVAL", 0.0)

    def start(content, folder: Path, stop_in=None, resume=False):
        original = image_module.ImageModule.take_step

        def take_step(self, batch, step, *rest):
            if (self.current_epoch, step) == (stop_in, 1):
                raise ConnectionError("cut")
            return original(self, batch, step, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(image_module.ImageModule, "take_step", take_step)
            return train(validated(Recipe, content, "tiny.yaml"), Path(), folder, resume=resume)

    return start


def left_behind(folder):
    """Return weights as bytes, and the table of metrics without its times."""
    weights = {which: (folder / which / "weights.safetensors").read_bytes() for which in ("best", "last")}
    return weights, pd.read_csv(folder / "metrics.csv").iloc[:, :-2]


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_an_interrupted_run_ends_like_one_that_was_not(engine, run, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    content = content_of(engine, epochs=2)
    run(content, whole)
    with pytest.raises(ConnectionError):
        run(content, cut, stop_in=1)
    assert pd.read_csv(cut / "metrics.csv").epoch.tolist() == [1]
    run(content, cut, resume=True)
    weights, table = left_behind(whole)
    resumed, resumed_table = left_behind(cut)
    assert resumed == weights
    pd.testing.assert_frame_equal(resumed_table, table)


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_scenes_too(average, tiny_data, tiny_content, tmp_path, monkeypatch):
    recipe = validated(
        Recipe, {**tiny_content(epochs=2, weight_average=average), "engine": {"shots": 16}}, "tiny.yaml"
    )
    whole, cut = train(recipe, tiny_data, tmp_path / "whole"), tmp_path / "cut"
    original = module.SegmentationModule.training_step

    def step(self, batch, batch_idx):
        if (self.current_epoch, batch_idx) == (1, 1):
            raise ConnectionError("cut")
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(module.SegmentationModule, "training_step", step)
        with pytest.raises(ConnectionError):
            train(recipe, tiny_data, cut)
    train(recipe, tiny_data, cut, resume=True)
    weights, table = left_behind(whole)
    resumed, resumed_table = left_behind(cut)
    assert resumed == weights
    pd.testing.assert_frame_equal(resumed_table, table)


def test_epochs_and_seeds_draw_other_shots(run, tmp_path):
    # Weights that stand still: what differs between epochs is the shots alone.
    engine = {"shots": 16, "layers": CLASSIFIER}
    tables = {}
    for seed in (3, 4):
        content = {**content_of({**engine, "seed": seed}, learning_rate=1e-12, warmup=0, weight_decay=0)}
        run(content, tmp_path / str(seed))
        tables[seed] = pd.read_csv(tmp_path / str(seed) / "metrics.csv")
        assert tables[seed].val_loss.nunique() == 3
    assert (tables[3].val_loss != tables[4].val_loss).all()


def test_shots_without_a_seed_follow_the_seed_of_the_run(run, tmp_path):
    recipe = validated(Recipe, content_of({"shots": 16}), "tiny.yaml")
    assert recipe.engine.seed is None
    assert with_shots_seed(recipe).engine.seed == 3
    run(content_of({"shots": 16}, epochs=1), tmp_path / "run")
    assert read_recipe(tmp_path / "run").engine.seed == 3
    # A given seed is kept, and exact values take none.
    for engine, seed in (({"shots": 16, "seed": 0}, 0), ({}, None)):
        recipe = validated(Recipe, content_of(engine), "tiny.yaml")
        assert with_shots_seed(recipe).engine.seed == seed


def test_where_there_is_chance():
    nested = {
        "kind": "routed",
        "options": {"backend": "fake_manila", "engine": "aer", "options": TRAJECTORIES},
    }
    for engine, expected in (({}, False), ({"noise": "readout"}, False), (nested, True)):
        recipe = validated(Recipe, content_of(engine), "tiny.yaml")
        assert draws_shots(recipe.engine) is expected


def test_a_model_without_circuits_takes_no_shots(run, tmp_path):
    content = {**content_of({"shots": 16}, epochs=1), "model": {"name": "cnn"}}
    run(content, tmp_path / "run")
    assert (tmp_path / "run" / "last").is_dir()
