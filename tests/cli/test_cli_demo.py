"""`qhybrid demo`, small, and how results are shown."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rich.console import Console

import qhybrid
from qhybrid.cli.console import metrics_table, progress_bar, short
from qhybrid.cli.demo import _verdict
from qhybrid.cli.main import execute
from qhybrid.metrics import metrics_in
from qhybrid.training.metrics import SegmentationMetrics

pytestmark = pytest.mark.pictures

SMALL = [
    "data.options={train: 1, val: 1, test: 1, size: 64}",
    "data.patch_size=32",
    "data.patches_per_epoch=4",
    "model.widths=[4, 4, 8, 8, 8]",
    "training.epochs=1",
    "training.batch_size=4",
    "training.progress=false",
]


def metrics(matrix):
    return SegmentationMetrics(np.array(matrix), ("land", "water"))


def test_demo_leaves_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = [word for setting in SMALL for word in ("--set", setting)]
    assert execute(["demo", "--output", "out", *settings]) == 0
    out = capsys.readouterr().out
    for name in ("HQ-UNet", "majority class", "colour alone", "mIoU", "accuracy"):
        assert name in out
    paths = dict(
        line.split(maxsplit=1) for line in out.splitlines() if line.startswith(("run", "scene", "pictures"))
    )
    assert paths["run"] == "out"
    assert (tmp_path / paths["pictures"] / "test-exact" / "confusion.png").is_file()
    written = json.loads((tmp_path / "out" / "evaluation" / "test-exact" / "metrics.json").read_text())
    assert f"{written['miou']:.4f}" in out
    with rasterio.open(paths["scene"]) as scene, rasterio.open(tmp_path / "out" / "map.tif") as written_map:
        assert (written_map.crs, written_map.transform) == (scene.crs, scene.transform)
        assert written_map.shape == scene.shape


def test_verdict_says_which_is_better_either_way():
    right, wrong, worst = {"miou": 0.81, "accuracy": 0.9}, {"miou": 0.33}, {"miou": 0.25}
    above = _verdict({"HQ-UNet": right, "majority class": worst, "colour alone": wrong})
    assert above == f"HQ-UNet's mIoU is {0.81 - 0.33:.3f} above the best baseline (colour alone)."
    below = _verdict({"HQ-UNet": wrong, "majority class": worst, "colour alone": right})
    assert "BELOW colour alone" in below


def test_table_shows_numbers_and_absent_classes():
    both = {"a": metrics([[3, 1], [0, 4]]), "b": metrics([[5, 0], [0, 0]])}
    table = metrics_table("test", {name: metrics_in(found.to_dict()) for name, found in both.items()})
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table)
    rows = [line.split("│")[1:-1] for line in console.export_text().splitlines() if line.startswith("│")]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    assert cells["mIoU"] == [f"{(3 / 4 + 4 / 5) / 2:.4f}", "1.0000"]
    assert cells["accuracy"] == ["87.50 %", "100.00 %"]
    assert cells["IoU of land"] == ["0.7500", "1.0000"]
    assert cells["IoU of water"] == ["0.8000", "–"]


def test_paths_are_relative_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert short(tmp_path / "a" / "b") == "a/b"
    assert short(tmp_path.parent) == str(tmp_path.parent)


def test_progress_takes_totals_that_are_not_known():
    with progress_bar("bytes", bytes_=True) as progress:
        progress(1, None)
        progress(2, 3)


@pytest.mark.slow
def test_real_ctrl_c_then_resume(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(qhybrid.__file__).parents[1]))
    command = [sys.executable, "-m", "qhybrid.cli", "train"]
    target = tmp_path / "run"
    settings = ["--set", "training.epochs=12", "--set", "data.patches_per_epoch=64"]
    started = [*command, "tiny", "--output", str(target), *settings]
    process = subprocess.Popen(started, stderr=subprocess.PIPE, text=True)
    while not (target / "resume" / "state.ckpt").is_file() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"qhybrid train --resume {target}" in errors
    assert "Traceback" not in errors
    assert len((target / "metrics.csv").read_text().splitlines()) < 13
    subprocess.run([*command, "--resume", str(target)], check=True, capture_output=True)
    assert len((target / "metrics.csv").read_text().splitlines()) == 13
