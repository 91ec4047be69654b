"""Evaluation on whole images: numbers that can be checked, files, engines, and bad requests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from qhybrid.config import EngineConfig, Recipe, validated
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.errors import ConfigError, WorkspaceError
from qhybrid.evaluation import evaluate_run
from qhybrid.training import train
from qhybrid.training.images.run import load_image_run

pytestmark = pytest.mark.pictures


def recipe_of(**content) -> Recipe:
    base = {"name": "tiny", "training": {"epochs": 1, "batch_size": 32, "progress": False}}
    return validated(Recipe, {**base, **content}, "tiny.yaml")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    recipe = recipe_of(
        data={"dataset": "digits", "options": {"classes": [3, 5]}},
        model={"name": "qcq_cnn", "channels": [2, 3], "reps": 1},
    )
    return train(recipe, Path(), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory, ph2_folder) -> Path:
    recipe = recipe_of(
        data={"dataset": "ph2", "root": str(ph2_folder), "options": {"size": [32, 48]}},
        model={"name": "qu_unet", "widths": [2, 2]},
    )
    return train(recipe, Path(), tmp_path_factory.mktemp("runs") / "run")


def test_classification_files_say_what_the_model_says(classifier, tmp_path):
    calls = []
    metrics = evaluate_run(classifier, output=tmp_path, progress=lambda *done: calls.append(done))
    arrays = open_image_dataset(load_image_run(classifier).recipe.data, Path()).load("test")
    with torch.no_grad():
        probabilities = load_image_run(classifier).model(arrays.images).softmax(dim=1).numpy()
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert tuple(table["id"]) == arrays.ids
    np.testing.assert_allclose(table[["p(3)", "p(5)"]], probabilities, atol=2e-6)
    right = probabilities.argmax(axis=1) == arrays.targets.numpy()
    assert ((table.truth == table.prediction) == right).all()
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["accuracy"] == metrics["accuracy"] == pytest.approx(right.mean())
    assert written["parameters"] == sum(
        part.numel() for part in load_image_run(classifier).model.parameters() if part.requires_grad
    )
    assert sum(map(sum, written["confusion"])) == len(arrays)
    assert calls[-1] == (len(arrays), len(arrays))
    assert {file.name for file in tmp_path.iterdir()} == {
        "metrics.json",
        "predictions.csv",
        "confusion.png",
        "samples.png",
    }


def test_other_engines_give_the_same_numbers(classifier):
    exact = evaluate_run(classifier, "val")
    aer = evaluate_run(classifier, "val", EngineConfig(kind="aer", options={"method": "statevector"}))
    assert exact.images.to_dict() == aer.images.to_dict()
    assert (classifier / "evaluation" / "val-aer-method=statevector" / "metrics.json").is_file()


def test_engine_for_some_layers(classifier, tmp_path):
    engine = EngineConfig(kind="aer", options={"method": "statevector"})
    layer = "quanvolution.filter"
    evaluate_run(classifier, "val", engine, output=tmp_path, layers=[layer])
    found = json.loads((tmp_path / "metrics.json").read_text())["quantum_layers"]
    assert len({json.dumps(engine) for engine in found.values()}) == 2
    with pytest.raises(ConfigError, match="No quantum layer named nothing"):
        evaluate_run(classifier, "val", engine, output=tmp_path, layers=["nothing"])


def test_segmentation_files(segmenter, tmp_path):
    metrics = evaluate_run(segmenter, output=tmp_path)
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert table["id"].tolist() == ["IMD000", "IMD005", "IMD010", "IMD015"]
    assert table.soft_iou.mean() == pytest.approx(metrics["soft_iou_per_image"], abs=1e-5)
    assert table.accuracy.mean() == pytest.approx(metrics["accuracy"], abs=1e-5)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["which"] == "last"
    assert written["pixels"] == 4 * 32 * 48
    assert written["soft_iou"] == pytest.approx(metrics["soft_iou"])
    assert (tmp_path / "samples.png").stat().st_size > 1000


def test_soft_iou_is_that_of_all_pixels_together(segmenter, tmp_path):
    run = load_image_run(segmenter)
    arrays = open_image_dataset(run.recipe.data, Path()).load("test")
    with torch.no_grad():
        said = run.model(arrays.images).sigmoid()[:, 0].double()
    truth = arrays.targets.double()
    overlap = float((said * truth).sum())
    expected = overlap / (float(said.sum() + truth.sum()) - overlap)
    assert evaluate_run(segmenter, output=tmp_path)["soft_iou"] == pytest.approx(expected, rel=1e-5)


def test_intervals_and_references_are_written(classifier, segmenter, tmp_path):
    found = evaluate_run(classifier, output=tmp_path / "a", baselines=True)
    written = json.loads((tmp_path / "a" / "metrics.json").read_text())
    right, count = np.trace(found.counts.matrix), found.counts.pixels
    expected = stats.binomtest(int(right), count).proportion_ci(method="wilson")
    kept = written["intervals"]["metrics"]["accuracy"]
    assert (kept["low"], kept["high"]) == pytest.approx((expected.low, expected.high))
    assert written["intervals"]["units"] == count
    assert list(written["baselines"]) == ["majority_class", "nearest_neighbour", "linear_model", "rbf_svm"]
    evaluate_run(segmenter, output=tmp_path / "b", baselines=True)
    written = json.loads((tmp_path / "b" / "metrics.json").read_text())
    assert list(written["baselines"]) == ["majority_class", "pixel_linear"]
    # Four images are too few units.
    assert written["intervals"]["metrics"] == {}
    assert "fewer than 5" in written["intervals"]["missing"]["iou"]
    with pytest.warns(UserWarning, match=r"references \(majority_class, pixel_linear\) .* does not measure"):
        evaluate_run(segmenter, output=tmp_path / "b")


def test_bad_requests(segmenter, classifier, tmp_path):
    with pytest.raises(ConfigError, match="no quantum layers"):
        evaluate_run(segmenter, engine=EngineConfig(kind="aer"), output=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError):
        evaluate_run(classifier, output=tmp_path / "file")
