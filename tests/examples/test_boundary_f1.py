"""The documented metric plugin: right in itself, and through evaluation, sweep and report with no edit."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from image_runs import sweep_of
from rich.console import Console
from scene_runs import data_config, make_run, scenes_root

from qhybrid import plugins
from qhybrid.cli.console import evaluation_table
from qhybrid.evaluation import Sample, evaluate_run
from qhybrid.experiments.sweeps import read_cells, read_results, run_sweep
from qhybrid.metrics import METRICS
from qhybrid.plugins import loading
from qhybrid.report import write_report_page

__all__ = ["data_config", "make_run", "scenes_root", "sweep_of"]
ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "examples" / "boundary_f1" / "boundary_f1_plugin.py"
NAMES = ("a", "b", "c")


@pytest.fixture
def plugin(monkeypatch):
    """The plugin as `--plugin` loads it; other tests do not see what it adds."""
    monkeypatch.setattr(loading, "_PLUGINS", {})
    monkeypatch.setattr(loading, "_STATE", loading._State())
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    monkeypatch.setattr(METRICS, "_origins", dict(METRICS._origins))
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.delitem(sys.modules, FILE.stem, raising=False)
    plugins.name_plugins([str(FILE)])
    yield sys.modules[FILE.stem]
    del sys.modules[FILE.stem]


def by_hand(predicted, truth, tolerance):
    """F1 of every class by its definition: each pixel, each neighbour, each distance."""
    height, width = truth.shape
    predicted = np.where(truth == 255, 255, predicted)

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


def test_through_the_commands_with_no_edit(make_run, scenes_root, sweep_of, tmp_path, monkeypatch, request):
    """A sweep that is finished without it; then evaluated, swept again on two processes, reported."""
    run = make_run("scenes", name="hq_unet", grid=2)
    config = sweep_of([run], {"profiles": ["ideal", "depolarizing_0.05_0.1"]})
    out = tmp_path / "out"
    run_sweep(config, scenes_root, out, processes=1)
    request.getfixturevalue("plugin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the worker processes
    found = evaluate_run(run, data_root=scenes_root)
    page = Console(width=80, file=io.StringIO())
    page.print(evaluation_table("test split", "tiny", found, {}))
    assert "boundary F1 (2 px)" in page.file.getvalue()
    written = json.loads((run / "evaluation" / "test-exact" / "metrics.json").read_text())["metrics"]
    assert 0 <= written["boundary_f1"] < 1
    again = run_sweep(config, scenes_root, out, processes=2)
    assert (again.computed, again.measured, again.failures) == (0, 2, [])
    for rows in (read_cells(out), read_results(out)):
        rows = rows[rows["metric"] == "boundary_f1"]
        assert len(rows) == 2
        ideal = rows[rows["profile"] == "ideal"]["value"].item()
        assert ideal == pytest.approx(written["boundary_f1"], rel=1e-12)
    for file in (out / "cells").glob("*.json"):
        assert json.loads(file.read_text())["measured"]["boundary_f1"] == "boundary_f1_plugin 1.0"
    text = write_report_page([out, run], tmp_path / "a.html").read_text()
    assert text.count("boundary F1 (2 px)") >= 3
    assert f"{written['boundary_f1']:.4f}" in text
