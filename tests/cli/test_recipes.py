"""Every recipe in the tree is discovered and checked, down to the keys of its model and data set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qhybrid.config import load_recipe
from qhybrid.data.registry import open_dataset
from qhybrid.errors import DatasetNotFoundError
from qhybrid.models import build_model, resolve_model
from qhybrid.workspace import starter_root

RECIPES = sorted((starter_root() / "runs").glob("*.yaml"))


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe_file(request) -> Path:
    return request.param


def test_there_are_recipes():
    assert "demo" in [path.stem for path in RECIPES]


def test_recipe_is_valid_and_carries_its_file_name(recipe_file):
    recipe = load_recipe(recipe_file)
    assert recipe.name == recipe_file.stem
    assert recipe.description


def test_data_section_is_valid(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file)
    try:
        dataset = open_dataset(recipe.data, tmp_path)
    except DatasetNotFoundError:
        return  # its keys were fine; the data are not here
    assert dataset.classes.num_classes > 1


def test_model_section_builds_and_runs(recipe_file):
    recipe = load_recipe(recipe_file)
    size = recipe.data.patch_size
    decided = {"in_channels": len(recipe.data.bands or (1, 2, 3)), "num_classes": 5, "patch_size": size}
    resolved = resolve_model({**recipe.model, **decided})
    model = build_model(resolved).eval()
    with torch.inference_mode():
        logits = model(torch.zeros(1, decided["in_channels"], size, size))
    assert logits.shape == (1, 5, size, size)
