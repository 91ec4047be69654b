"""Every recipe in the tree is discovered and checked, down to the keys of its model and data set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_vits import TINY

from qhybrid.config import load_recipe, read_yaml
from qhybrid.config.sweeps import is_sweep
from qhybrid.data.images.image_datasets import is_image_dataset, open_image_dataset
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.errors import DatasetNotFoundError
from qhybrid.models import build_model, resolve_model
from qhybrid.training.images.defaults import with_image_defaults
from qhybrid.training.images.task import image_model_section
from qhybrid.workspace import starter_root

FILES = sorted((starter_root() / "runs").glob("*.yaml"))
RECIPES = [file for file in FILES if not is_sweep(read_yaml(file))]
GUIDED = [file for file in RECIPES if "guidance" in read_yaml(file)["model"]]


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe_file(request) -> Path:
    return request.param


def test_there_are_recipes():
    assert "demo" in [path.stem for path in RECIPES]


def test_recipe_is_valid_and_carries_its_file_name(recipe_file):
    recipe = load_recipe(recipe_file)
    assert recipe.name == recipe_file.stem
    assert recipe.description


@pytest.mark.parametrize("name", ["deepglobe", "oem", "sen1floods11", "naip_blocks"])
def test_sets_as_they_come_need_at_most_25_lines(name):
    assert len((starter_root() / "runs" / f"{name}.yaml").read_text().splitlines()) <= 25


def test_data_section_is_valid(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file)
    if is_image_dataset(recipe.data.dataset):
        assert len(open_image_dataset(recipe.data, tmp_path).class_names) > 1
        with_image_defaults(recipe)
        return
    try:
        dataset = open_dataset(recipe.data, tmp_path)
    except DatasetNotFoundError:
        return  # its keys were fine; the data are not here
    assert dataset.classes.num_classes > 1


def test_model_section_builds_and_runs(recipe_file):
    recipe = load_recipe(recipe_file)
    if is_image_dataset(recipe.data.dataset):
        check_image_model(recipe)
        return
    size = recipe.data.patch_size
    decided = {"in_channels": len(recipe.data.bands or (1, 2, 3)), "num_classes": 5, "patch_size": size}
    for section in (recipe.model, *recipe.ablation.models.values()):
        if "guidance" in section:  # its weights are not part of the project: all other keys hold for any ViT
            pytest.importorskip("transformers")
            guidance = {**section["guidance"], "backbone": "random", "config": TINY}
            section = {**section, "guidance": guidance}
        if section["name"] == "unet_plus_plus":
            pytest.importorskip("monai")
        check_scene_model(section, decided)


@pytest.mark.shared_data
@pytest.mark.parametrize("file", GUIDED, ids=lambda path: path.stem)
def test_model_section_builds_on_the_real_vit(file, shared_data, monkeypatch):
    pytest.importorskip("transformers")
    recipe = load_recipe(file)
    monkeypatch.setenv("QHYBRID_DATA", str(shared_data))
    bands = len(recipe.data.bands or (1, 2, 3))
    check_scene_model(recipe.model, {"in_channels": bands, "num_classes": 5, "patch_size": 32})


def check_scene_model(section, decided):
    """Build the model of a recipe for scenes, and run it on a patch."""
    model = build_model(resolve_model({**section, **decided})).eval()
    size = decided["patch_size"]
    with torch.inference_mode():
        logits = model(torch.zeros(1, decided["in_channels"], size, size))
    assert logits.shape == (1, 5, size, size)


def check_image_model(recipe):
    """Build the model of a recipe for whole images, and run it on one of the data set's size."""
    dataset = open_image_dataset(recipe.data, Path())
    model = build_model(image_model_section(recipe, dataset)).eval()
    with torch.inference_mode():
        logits = model(torch.zeros(1, *dataset.image_shape))
    expected = {
        "classification": (1, len(dataset.class_names)),
        "segmentation": (1, 1, *dataset.image_shape[1:]),
    }
    assert logits.shape == expected[dataset.task]
