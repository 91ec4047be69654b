"""A sweep folder and a run folder to report on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "sweep_fixtures", Path(__file__).parents[1] / "sweep" / "conftest.py"
)
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
mnist_root = _fixtures.mnist_root


@pytest.fixture(scope="session")
def reported(mnist_root, tmp_path_factory):
    """Folders of a sweep that trains four tiny runs, with every kind of cell, one of which failed."""
    from qhybrid.config import to_yaml, validated
    from qhybrid.config.sweeps import SweepConfig
    from qhybrid.experiments.sweeps import run_sweep

    folder = tmp_path_factory.mktemp("reported")
    recipe = folder / "tiny_qcq.yaml"
    recipe.write_text(to_yaml(_fixtures.recipe_content(epochs=2)))
    grid = {
        "profiles": ["ideal", "depolarizing_0.05_0.1", "fake_torino"],
        "shots": ["infinite", 64],
        "seeds": [0, 1],
        "mitigations": ["none", "readout_zne"],
        "layers": [["head.classifier.circuit"]],
    }
    train = {
        "recipe": str(recipe),
        "set": {"engine.layers": ["head.classifier.circuit"]},
        "vary": {"engine.shots": [32, None], "seed": [0, 1]},
    }
    content = {"name": "tiny", "description": "A <tiny> sweep.", "sweep": {"train": [train], "grids": [grid]}}
    return run_sweep(
        validated(SweepConfig, content, "test"), mnist_root, folder / "sweep", processes=1
    ).folder
