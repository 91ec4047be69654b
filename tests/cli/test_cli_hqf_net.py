"""Every command on one tiny run of HQF-Net with a frozen ViT: five quantum layers, three of them experts.

No command may take a window for a tile: what would do so fails here.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import rasterio
import torch
import yaml
from safetensors.torch import load_file
from tiny_vits import TINY

from qhybrid.cli.main import execute
from qhybrid.guidance import Guidance
from qhybrid.guidance.keys import RANDOM_LABEL
from qhybrid.metrics import find_metric
from qhybrid.report.ablation_part import _facts
from qhybrid.training import load_run

pytest.importorskip("transformers")

EXPERTS = ["hqf_local", "hqf_global", "hqf_directional"]
LAYERS = [*(f"bottleneck.core.{name}" for name in EXPERTS), "skips.2.core", "skips.3.core"]
RECIPE = {
    "name": "hqf",
    "data": {
        "dataset": "synthetic",
        "options": {"train": 1, "val": 1, "test": 1, "size": 64},
        "patch_size": 32,
        "patches_per_epoch": 8,
    },
    "model": {
        "name": "hqf_net",
        "widths": [4, 4, 6, 6, 8],
        "qskip": {"levels": [2, 3]},
        "qmoe": {"circuit": [{"name": name, "arguments": {"grid": 2}} for name in EXPERTS]},
        # Tiles of 42 pixels: a window is never a tile, and tiles of 64 pixels overlap.
        "guidance": {
            "backbone": "random",
            "config": TINY,
            "tile": 42,
            "levels": [3, 4],
            "dim": 4,
            "heads": 2,
            "points": 2,
        },
    },
    "ablation": {"models": {"unet": {"name": "unet", "widths": [4, 4, 4, 4, 4]}}},
    "training": {"epochs": 1, "batch_size": 4, "progress": False},
}
SWEEP = {
    "name": "hqf_noise",
    "sweep": {
        "runs": ["hqf"],
        "grids": [
            {"profiles": ["ideal"]},
            {
                "profiles": ["depolarizing_0.01_0.02"],
                "layers": ["all", ["bottleneck.core.hqf_local"], ["skips.3.core"]],
            },
        ],
    },
}


def no_tile(*_):
    raise AssertionError("a window is taken for a tile")


def at_home(patch, folder):
    patch.chdir(folder)
    patch.setenv("QHYBRID_CACHE", str(folder / "cache"))
    patch.setattr(Guidance, "maps_of", no_tile)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hqf")
    (folder / "runs").mkdir()
    (folder / "runs" / "hqf.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "runs" / "hqf_noise.yaml").write_text(yaml.safe_dump(SWEEP))
    with pytest.MonkeyPatch.context() as patch:
        at_home(patch, folder)
        drawn = []
        patch.setattr("qhybrid.training.scenes.pictures.draw_learning_curves", lambda *_: None)
        patch.setattr("qhybrid.training.scenes.pictures.draw_samples", lambda *given: drawn.append(given))
        assert execute(["train", "hqf", "--no-diagnose"]) == 0
        assert len(drawn) == 1
    return folder


@pytest.fixture(autouse=True)
def _there(workspace, monkeypatch):
    at_home(monkeypatch, workspace)


@pytest.fixture
def run():
    (folder,) = (one for one in Path("runs/hqf").iterdir() if (one / "best").is_dir())
    return folder


def test_the_table_of_epochs_has_entropy_and_load(run):
    (row,) = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    assert 0 < float(row["router_entropy bottleneck.router"]) <= 1
    loads = [float(row[f"router_load bottleneck.router {name}"]) for name in EXPERTS]
    assert sum(loads) == pytest.approx(1)
    assert all(float(row[f"gradient_weights {layer}"]) > 0 for layer in LAYERS)


def test_evaluate_and_predict(run, workspace, capsys):
    assert execute(["evaluate", str(run), "--no-diagnose"]) == 0
    assert f"frozen ViT  {RANDOM_LABEL}" in capsys.readouterr().out
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
    assert "random frozen ViT, not comparable" in page


def test_diagnose(run, monkeypatch):
    monkeypatch.setattr("qhybrid.evaluation.diagnosis.evidence.TRAINING_SAMPLES", 24)
    layers = ["bottleneck.core.hqf_local", "skips.3.core"]
    chosen = [part for layer in layers for part in ("--layer", layer)]
    assert execute(["diagnose", str(run), "--samples", "4", *chosen]) == 0
    assert execute(["diagnose", str(run), *chosen[:2]]) == 0
    found = [json.loads(file.read_text()) for file in run.glob("diagnosis/**/*.json")]
    assert sorted(len(one["targets"]) for one in found) == [1, 3]
    whole = next(one for one in found if len(one["targets"]) == 1)
    assert execute(["evaluate", str(run), "--no-diagnose"]) == 0
    metrics = run / "evaluation" / "test-exact" / "metrics.json"
    assert whole["trained"]["value"] == pytest.approx(json.loads(metrics.read_text())["miou"], abs=1e-6)


def test_ablate(capsys):
    arms = ",".join(["unet", "removed", "twin"])
    assert execute(["ablate", "hqf", "--arms", arms, "--seeds", "0"]) == 0
    (table,) = Path("runs/hqf").glob("ablation/ablation.json")
    found = json.loads(table.read_text())
    assert [one["arm"] for one in found["arms"]] == ["as_is", "unet", "removed", "twin"]
    assert [one.get("frozen_vit") for one in found["arms"]] == [
        RANDOM_LABEL,
        None,
        RANDOM_LABEL,
        RANDOM_LABEL,
    ]
    said = f"Frozen ViT of as_is, removed, twin: {RANDOM_LABEL}."
    assert said in capsys.readouterr().out
    assert said in _facts(found, find_metric("miou"))


def test_hardware_executes_all_layers_in_one_round_with_the_maps_of_the_tiles(run, capsys):
    options = ["--data", "test", "--backend", "fake_manila", "--limit", "2", "--shots", "100"]
    quick = ["--set", "layouts=1", "--set", "copies=1"]
    assert execute(["hardware", "plan", str(run), *options, *quick]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*EXPERTS, "hqf_qskip"))
    assert execute(["hardware", "submit", str(run)]) == 0
    assert execute(["hardware", "collect", str(run)]) == 0
    capsys.readouterr()
    (result,) = run.glob("hardware/*/results/metrics.json")
    assert json.loads(result.read_text())["samples"] == 2
    (plan,) = run.glob("hardware/*/plan.json")
    assert len(json.loads(plan.read_text())["rounds"]) == 1
    kept = load_file(plan.parent / "samples.safetensors")
    loaded = load_run(run)
    with torch.no_grad():
        own = loaded.model.guidance.vit.maps(loaded.model.guidance.input_of(kept["images"]))
    assert kept["token_maps"].shape == (2, 2, 16, 3, 3)
    assert own.shape != kept["token_maps"].shape or not torch.equal(own, kept["token_maps"])
