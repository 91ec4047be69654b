"""The documented metric plugin: right in itself, and through evaluation, sweep and report with no edit."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from image_runs import sweep_of
from scene_runs import data_config, make_run, scenes_root

from qhybrid.config import to_yaml
from qhybrid.evaluation import Sample
from qhybrid.metrics import METRICS, Metric
from qhybrid.plugins import VARIABLE

__all__ = ["data_config", "make_run", "scenes_root", "sweep_of"]
ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "examples" / "boundary_f1" / "boundary_f1_plugin.py"
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def plugin():
    """The plugin's code, without its entry in the table, which other tests must not see."""
    spec = importlib.util.spec_from_file_location("boundary_f1_under_test", FILE)
    module = importlib.util.module_from_spec(spec)
    with METRICS.temporarily("boundary_f1", Metric("boundary_f1", "taken")):
        before = METRICS.register
        METRICS.register = lambda name, entry, replace=False: entry
        try:
            spec.loader.exec_module(module)
        finally:
            METRICS.register = before
    return module


def by_hand(predicted, truth, tolerance):
    """F1 of every class by its definition: each pixel, each neighbour, each distance."""
    height, width = truth.shape
    predicted = [
        [255 if truth[y, x] == 255 else predicted[y, x] for x in range(width)] for y in range(height)
    ]

    def points(labels, number):
        found = []
        for y in range(height):
            for x in range(width):
                around = [
                    labels[b, a]
                    for b, a in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                    if 0 <= b < height and 0 <= a < width
                ]
                if labels[y, x] == number and any(one not in (number, 255) for one in around):
                    found.append((y, x))
        return found

    def met(some, others):
        return sum(any(math.dist(one, other) <= tolerance for other in others) for one in some)

    scores = []
    for number in range(len(NAMES)):
        found, true = points(predicted, number), points(truth, number)
        if found or true:
            precision = met(found, true) / len(found) if found else 0.0
            recall = met(true, found) / len(true) if true else 0.0
            scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return sum(scores) / len(scores)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_definition(plugin, seed):
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 3, (4, 5)), np.ones((5, 4), dtype=int)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.15, rng.integers(0, 3, truth.shape), truth)
    truth[rng.random(truth.shape) < 0.1] = 255
    found = plugin.value(plugin.count(Sample(predicted.astype(np.uint8), truth, NAMES)))
    assert found == pytest.approx(by_hand(predicted, truth, plugin.TOLERANCE), rel=1e-12)
    assert 0 < found < 1


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (2, 1.0), (-2, 1.0), (3, 0.0), (-3, 0.0)])
def test_a_straight_edge_that_is_shifted(plugin, shift, expected):
    """The boundary of either class is a line of pixels, which a shift by d moves d pixels away."""
    truth = np.zeros((12, 24), dtype=np.uint8)
    truth[:, 10:] = 1
    predicted = np.zeros_like(truth)
    predicted[:, 10 + shift :] = 1
    found = plugin.value(plugin.count(Sample(predicted, truth, NAMES)))
    assert found == expected


def test_counts_of_samples_are_added(plugin):
    """One met line and one missed one of the same length: precision and recall are a half each."""
    truth = np.zeros((12, 24), dtype=np.uint8)
    truth[:, 10:] = 1
    far = np.zeros_like(truth)
    far[:, 18:] = 1
    total = plugin.count(Sample(truth, truth, NAMES)) + plugin.count(Sample(far, truth, NAMES))
    assert plugin.value(total) == pytest.approx(0.5)
    assert math.isnan(plugin.value(plugin.count(Sample(truth * 0, truth * 0, NAMES))))


def test_through_the_commands_with_no_edit(make_run, scenes_root, sweep_of, tmp_path):
    """Evaluate, then a sweep that was finished before, on two processes, then the report."""
    run = make_run("scenes", name="hq_unet", grid=2)
    config = sweep_of([run], {"profiles": ["ideal", "depolarizing_0.05_0.1"]})
    sweep, out = tmp_path / "tiny_sweep.yaml", tmp_path / "out"
    sweep.write_text(to_yaml(config))
    place = ["--data-root", str(scenes_root)]
    bare = {key: value for key, value in os.environ.items() if key != VARIABLE}

    def command(*words, **more):
        found = subprocess.run(
            [sys.executable, "-m", "qhybrid.cli", *map(str, words)],
            env={**bare, "PYTHONPATH": str(ROOT), **more}, cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert found.returncode == 0, found.stdout + found.stderr
        return " ".join(found.stdout.split())

    command("sweep", sweep, "--output", out, "--jobs", 1, *place)
    loaded = {VARIABLE: str(FILE)}
    said = command("evaluate", run, *place, **loaded)
    assert "boundary F1 (2 px)" in said
    written = json.loads((run / "evaluation" / "test-exact" / "metrics.json").read_text())["metrics"]
    assert 0 <= written["boundary_f1"] < 1
    said = command("sweep", sweep, "--output", out, "--jobs", 2, *place, **loaded)
    assert "0 of them computed now" in said
    assert "2 finished cells got new metrics" in said
    for table in ("cells", "results"):
        rows = pd.read_parquet(out / f"{table}.parquet").query("metric == 'boundary_f1'")
        assert len(rows) == 2
        ideal = rows[rows["profile"] == "ideal"]["value"].item()
        assert ideal == pytest.approx(written["boundary_f1"], rel=1e-12)
    command("report", out, run, "--output", tmp_path / "a.html", **loaded)
    page = (tmp_path / "a.html").read_text()
    assert page.count("boundary F1 (2 px)") >= 3
    assert f"{written['boundary_f1']:.4f}" in page
