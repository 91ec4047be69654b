"""TensorBoard and MLflow on request: what they show is what the run's own table says."""

from __future__ import annotations

import csv

import pytest

from qhybrid.config import Recipe, validated
from qhybrid.training import train

CONTENT = {
    "name": "logged",
    "data": {"dataset": "digits", "options": {"classes": [3, 5]}},
    "model": {"name": "mlp"},
    "training": {"epochs": 2, "batch_size": 64, "progress": False, "loggers": ["tensorboard", "mlflow"]},
}


def test_both_loggers_get_the_metrics_of_every_epoch(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # Set and undone here, since training sets it for the process.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    folder = train(validated(Recipe, CONTENT, "logged.yaml"), tmp_path, tmp_path / "run")
    with (folder / "metrics.csv").open(newline="") as handle:
        expected = [float(row["val_loss"]) for row in csv.DictReader(handle)]
    board = events.EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    assert [event.value for event in board.Scalars("val_loss")] == pytest.approx(expected)
    client = mlflow.MlflowClient(tracking_uri=f"file:{folder / 'mlflow'}")
    experiment = client.get_experiment_by_name("logged")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "val_loss")
    assert [point.value for point in history] == pytest.approx(expected)
