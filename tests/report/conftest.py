"""A sweep folder and a run folder to report on."""

from __future__ import annotations

import pytest
from image_runs import make_image_run, mnist_root, recipe_content
from scene_runs import data_config, make_run, run_folder, scenes_root

__all__ = [
    "data_config",
    "make_image_run",
    "make_run",
    "mnist_root",
    "run_folder",
    "scenes_root",
]


@pytest.fixture(scope="session")
def reported(mnist_root, tmp_path_factory):
    """Folders of a sweep that trains four tiny runs, with every kind of cell, one of which failed."""
    from qhybrid.config import to_yaml, validated
    from qhybrid.config.sweeps import SweepConfig
    from qhybrid.experiments.sweeps import run_sweep

    folder = tmp_path_factory.mktemp("reported")
    recipe = folder / "tiny_qcq.yaml"
    recipe.write_text(to_yaml(recipe_content(epochs=2)))
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
