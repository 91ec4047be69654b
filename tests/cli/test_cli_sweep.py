"""`qhybrid sweep` and `qhybrid report`, through the real commands on the tiny run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from qhybrid.cli.main import execute
from qhybrid.cli.sweep import results_tables
from qhybrid.config import read_yaml
from qhybrid.config.sweeps import is_sweep, load_sweep
from qhybrid.experiments.sweeps import read_results
from qhybrid.metrics import METRICS, Metric
from qhybrid.noise import load_profile
from qhybrid.workspace import starter_root

SWEEPS = [file for file in sorted((starter_root() / "runs").glob("*.yaml")) if is_sweep(read_yaml(file))]
SWEEP = """\
name: noise
description: The tiny run under noise.
sweep:
  runs: [tiny]
  grids:
    - profiles: [ideal, depolarizing_0.05_0.1, fake_manila]
      shots: [infinite, 64]
      seeds: [0, 1]
"""


@pytest.fixture
def swept(workspace, monkeypatch):
    """The tiny workspace with runs/noise.yaml."""
    (workspace / "runs" / "noise.yaml").write_text(SWEEP)
    (workspace / "noise_profiles").mkdir(exist_ok=True)
    from qhybrid.noise import NoiseProfile

    file = workspace / "noise_profiles" / "fake_manila.yaml"
    if not file.exists():
        NoiseProfile.from_backend("fake_manila").save(file)
    return workspace


def test_sweep_then_report(swept, capsys):
    assert execute(["sweep", "noise", "-j", "1"]) == 0
    out = capsys.readouterr().out
    assert "9 cells" in out
    folder = swept / "runs" / "noise" / "sweep"
    assert out.splitlines()[-1] == f"results     {Path('runs/noise/sweep/results.parquet')}"
    table = read_results(folder)
    assert set(table["profile"]) == {"ideal", "depolarizing_0.05_0.1", "fake_manila"}
    assert set(table["mapping"]) == {"all_to_all", "fake_manila"}
    shown = table[(table["metric"] == "miou") & table["shots"].isna()].set_index("profile")["value"]
    assert f"{shown['ideal']:.4f}" in out
    (run,) = (swept / "runs" / "tiny").iterdir()
    written = json.loads((run / "evaluation" / "test-exact" / "metrics.json").read_text())
    assert shown["ideal"] == pytest.approx(written["miou"])
    assert execute(["sweep", "noise", "-j", "1"]) == 0
    assert "9 cells, 0 of them computed now" in capsys.readouterr().out
    assert execute(["report", "noise", "tiny"]) == 0
    page = (folder / "report.html").read_text()
    assert "depolarizing_0.05_0.1" in page
    assert page.count("<svg") >= 3  # heat map with lines, learning curves, circuit


def test_new_metrics_of_finished_cells(swept, capsys):
    """From kept label maps, which have no probabilities; on request the cells are computed again."""
    sweep = swept / "runs" / "short.yaml"
    sweep.write_text("name: short\nsweep: {runs: [tiny], grids: [{}]}\n")
    assert execute(["sweep", "short", "-j", "1"]) == 0
    capsys.readouterr()
    new = {
        "tasks": ("scenes",),
        "value": lambda total: float(total),
        "count": lambda sample: sample.truth.size,
    }
    soft = Metric("soft", "their soft score", probabilities=True, **new)
    with METRICS.temporarily("size", Metric("size", "size", **new)), METRICS.temporarily("soft", soft):
        assert execute(["sweep", "short", "-j", "1"]) == 0
        out = capsys.readouterr().out
        assert "1 cell, 0 of them computed now" in out
        assert "1 finished cell got new metrics from kept predictions" in out
        assert "their soft score is missing in 1 finished cell" in out
        assert execute(["sweep", "short", "-j", "1", "--recompute"]) == 0
        out = capsys.readouterr().out
        assert "1 cell, 1 of them computed now" in out
        assert "missing" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "nothing"], "Recipe nothing must be a YAML file"),
        (["sweep", "tiny"], "must be a sweep"),
        (["train", "noise"], "Fix: qhybrid sweep"),
        (["report", "nothing"], "must be a run folder"),
    ],
)
def test_wrong_names(arguments, message, swept, capsys):
    assert execute(arguments) == 1
    assert message in capsys.readouterr().err


def test_jobs_and_scheduler_exclude_each_other(swept):
    assert execute(["sweep", "noise", "-j", "1", "--scheduler", "tcp://x:1"]) == 2


def test_tables_fit_a_terminal():
    row = {
        "run": "r", "settings": "{}", "profile": "depolarizing_0.05_0.1", "scale": 1.0, "shots": None,
        "mapping": "all_to_all", "metric": "accuracy", "value": 0.5, "standard_error": None, "seeds": 1,
    }  # fmt: skip
    rows = [
        {**row, "engine": engine, "mitigation": mitigation, "layers": layers}
        for layers in ("head.classifier.circuit", "all")
        for engine in ("exact", "aer_density_matrix")
        for mitigation in ("none", "readout_zne")
    ]
    tables = results_tables(pd.DataFrame(rows))
    assert [table.title for table in tables] == ["accuracy, noise in head.classifier.circuit", "accuracy"]
    page = Console(width=90, file=io.StringIO())
    for table in tables:
        page.print(table)
    shown = page.file.getvalue()
    # No word is cut in two.
    for word in ("mitigation", "density", "matrix", "readout_zne", "depolarizing_0.05_0.1", "infinite"):
        assert word in shown
    assert results_tables(pd.DataFrame()) == []


@pytest.mark.parametrize("file", SWEEPS, ids=lambda path: path.stem)
def test_committed_sweeps_are_valid(file):
    sweep = load_sweep(file)
    assert sweep.name == file.stem
    assert sweep.description
    for grid in sweep.sweep.grids:
        for profile in grid.profiles:
            load_profile(profile)
    for train in sweep.sweep.train:
        assert (file.parent / f"{train.recipe}.yaml").is_file()
