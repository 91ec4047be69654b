"""A tiny MNIST on disk, and run folders of a QCQ-CNN that was not trained."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch

from qhybrid.config import Recipe, validated
from qhybrid.config.sweeps import SweepConfig
from qhybrid.models import build_model, resolve_model
from qhybrid.training.images.run import ImageMeta
from qhybrid.training.run_folder import FORMAT, save_weights, write_recipe

CLASSIFIER = "head.classifier.circuit"
FILTER = "quanvolution.filter"


def write_idx(path, values):
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory):
    """Data root with `mnist`: threes are bright on the left, fives on the right."""
    folder = tmp_path_factory.mktemp("root") / "mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 24), ("t10k", 16)):
        labels = np.tile([3, 5], count // 2)
        images = rng.integers(0, 60, (count, 28, 28))
        for image, label in zip(images, labels):
            image[:, slice(0, 14) if label == 3 else slice(14, 28)] += 150
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return folder.parent


def recipe_content(model="qcq_cnn", **training):
    return {
        "name": "tiny_qcq",
        "data": {
            "dataset": "mnist",
            "root": "mnist",
            "options": {"classes": [3, 5], "train": 16, "validation": 8, "test": 16},
        },
        "model": {"name": model} | ({"channels": [2, 2]} if "cnn" in model else {}),
        "training": {"epochs": 1, "batch_size": 8, "progress": False, **training},
    }


@pytest.fixture
def tiny_recipe():
    """Content of a recipe that trains in a second."""
    return recipe_content()


@pytest.fixture
def make_image_run(tmp_path):
    """Write a run folder; weights are random but fixed by `seed`."""

    def make(folder="run", seed=0, model="qcq_cnn", **options):
        root = tmp_path / folder
        content = recipe_content(model)
        content["seed"] = seed
        content["model"].update(options)
        decided = {"in_channels": 1, "num_classes": 2, "image_size": [28, 28]}
        section = resolve_model({**content["model"], **decided})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = build_model(section)
        meta = ImageMeta(
            format=FORMAT,
            kind="images",
            task="classification",
            model=section,
            class_names=("3", "5"),
            in_channels=1,
            image_size=(28, 28),
            epoch=1,
            step=1,
            metrics={},
            qhybrid="0",
        )
        write_recipe(root, Recipe.model_validate(content))
        save_weights(root, "best", network, meta)
        return root

    return make


@pytest.fixture
def sweep_of():
    """Return a sweep of run folders from grids and settings."""

    def make(runs, *grids, **settings):
        section = {"runs": [str(run) for run in runs], "grids": list(grids), **settings}
        return validated(SweepConfig, {"name": "tiny_sweep", "sweep": section}, "test")

    return make
