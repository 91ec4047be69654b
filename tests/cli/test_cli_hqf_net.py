"""Every command on one tiny run of HQF-Net: five quantum layers, three of them experts of one mixture."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import rasterio

from qhybrid.cli.main import execute

EXPERTS = ["hqf_local", "hqf_global", "hqf_directional"]
LAYERS = [*(f"bottleneck.core.{name}" for name in EXPERTS), "skips.2.core", "skips.3.core"]
RECIPE = """\
name: hqf
data:
  dataset: synthetic
  options: {train: 1, val: 1, test: 1, size: 64}
  patch_size: 32
  patches_per_epoch: 16
model:
  name: hqf_net
  widths: [4, 4, 6, 6, 8]
  qskip: {levels: [2, 3]}
  qmoe:
    circuit:
      - {name: hqf_local, arguments: {grid: 2}}
      - {name: hqf_global, arguments: {grid: 2}}
      - {name: hqf_directional, arguments: {grid: 2}}
training: {epochs: 2, batch_size: 4, progress: false}
"""
SWEEP = """\
name: hqf_noise
sweep:
  runs: [hqf]
  grids:
    - profiles: [ideal, depolarizing_0.01_0.02]
      layers: [all, [bottleneck.core.hqf_local], [skips.3.core]]
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hqf")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("QHYBRID_CACHE", str(folder / "cache"))
        (folder / "runs").mkdir()
        (folder / "runs" / "hqf.yaml").write_text(RECIPE)
        (folder / "runs" / "hqf_noise.yaml").write_text(SWEEP)
        assert execute(["train", "hqf", "--no-diagnose"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _there(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("QHYBRID_CACHE", str(workspace / "cache"))


@pytest.fixture
def run():
    (folder,) = (one for one in Path("runs/hqf").iterdir() if (one / "best").is_dir())
    return folder


def test_the_table_of_epochs_has_entropy_and_load(run):
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert len(rows) == 2
    for row in rows:
        assert 0 < float(row["router_entropy bottleneck.router"]) <= 1
        loads = [float(row[f"router_load bottleneck.router {name}"]) for name in EXPERTS]
        assert sum(loads) == pytest.approx(1)
        assert all(float(row[f"gradient_weights {layer}"]) > 0 for layer in LAYERS)


def test_evaluate_under_noise_and_one_layer_alone(run):
    assert execute(["evaluate", str(run), "--no-diagnose"]) == 0
    assert execute(["evaluate", str(run), "--noise", "depolarizing_0.01_0.02", "--no-diagnose"]) == 0


def test_predict(run, workspace):
    (scene,) = (workspace / "cache").glob("synthetic/*/test/images/*.tif")
    assert execute(["predict", str(run), str(scene), "-o", "map.tif"]) == 0
    with rasterio.open("map.tif") as made, rasterio.open(scene) as given:
        assert (made.shape, made.crs) == (given.shape, given.crs)


def test_sweep_with_all_layers_and_each_alone():
    assert execute(["sweep", "hqf_noise", "--jobs", "1"]) == 0
    assert execute(["report", "hqf_noise", "hqf", "-o", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert "skips.3.core" in page
    assert "hqf_directional" in page


def test_diagnose(run):
    assert execute(["diagnose", str(run), "--samples", "6"]) == 0
    found = [json.loads(file.read_text()) for file in run.glob("diagnosis/**/*.json")]
    assert any("bottleneck.core.hqf_local" in json.dumps(one) for one in found)


def test_ablate():
    arms = ",".join(["zero@bottleneck.core.hqf_local", "removed", "twin"])
    assert execute(["ablate", "hqf", "--arms", arms, "--seeds", "0"]) == 0
    assert list(Path("runs/hqf").glob("ablation/**/*.json"))


def test_hardware_executes_all_layers_in_one_round(run, capsys):
    options = ["--data", "test", "--backend", "fake_manila", "--limit", "2", "--shots", "100"]
    quick = ["--set", "layouts=1", "--set", "copies=1"]
    assert execute(["hardware", "plan", str(run), *options, *quick]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*EXPERTS, "hqf_qskip"))
    assert execute(["hardware", "run", str(run), *options, *quick]) == 0
    capsys.readouterr()
    results = list(run.glob("hardware/*/results/metrics.json"))
    assert [json.loads(file.read_text())["samples"] for file in results] == [2]
    plans = [json.loads(file.read_text()) for file in run.glob("hardware/*/plan.json")]
    assert len(plans) >= 1
