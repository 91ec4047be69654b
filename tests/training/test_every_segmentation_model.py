"""Every segmentation model trains, is evaluated and comes back, on scenes and on whole images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from qhybrid.config import Recipe, validated
from qhybrid.errors import ConfigError
from qhybrid.evaluation import evaluate_run
from qhybrid.inference.scene import iterate_probabilities
from qhybrid.models import MODELS
from qhybrid.training import load_run, train
from qhybrid.training.images.run import load_image_run

NAMES = sorted(name for name, entry in MODELS.items() if "segmentation" in entry.tasks)
FOUR = {"name": "four", "builder": "hq_unet_qcnn", "arguments": {"grid": 2}, "observables": None}
OF_PARTS = {
    "unet of parts": {
        "name": "unet",
        "bottleneck": {"circuit": FOUR},
        "skips": {"circuit": FOUR, "levels": [0, 3]},
    },
    "qu_unet of parts": {"name": "qu_unet", "bottleneck": {"circuit": FOUR}, "skips": {"circuit": FOUR}},
}
VIT = {
    "backbone": "random",
    "config": {
        "model_type": "dinov2",
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    },
    "bands": [1, 2, 2],
    "dim": 2,
    "heads": 1,
}
CASES = {**{name: {"name": name} for name in NAMES}, **OF_PARTS}

OF_IMAGES = {name: case for name, case in CASES.items() if name != "unet_vit_concat"}
"""A frozen ViT goes with scenes alone."""


def tiny(section):
    """Return a model section with small values for the keys that make a model large."""
    fields = MODELS.get(section["name"]).options.model_fields
    small = {
        "grid": 2,
        "widths": [2, 2, 3, 3, 4] if MODELS.get(section["name"]).size == "patch_size" else [3, 4],
    }
    beside = {"guidance": VIT} if section["name"] == "unet_vit_concat" else {}
    return {**{key: value for key, value in small.items() if key in fields}, **beside, **section}


def scenes(model, tiny_content, patch_size=16):
    content = tiny_content(epochs=1)
    return {**content, "data": {**content["data"], "patch_size": patch_size}, "model": tiny(model)}


def images(model, folder, size=(32, 48)):
    return {
        "name": "tiny",
        "data": {"dataset": "ph2", "root": str(folder), "options": {"size": size, "validation": 0.25}},
        "model": tiny(model),
        "training": {"epochs": 1, "batch_size": 4, "progress": False},
    }


def run(content, root, folder):
    return train(validated(Recipe, content, "tiny.yaml"), root, folder)


@pytest.mark.parametrize("model", CASES.values(), ids=CASES)
def test_on_scenes(model, tiny_data, tiny_content, tmp_path):
    folder = run(scenes(model, tiny_content), tiny_data, tmp_path / "run")
    metrics = evaluate_run(folder, data_root=tiny_data)
    assert 0 <= metrics["miou"] <= 1
    assert metrics.count == 48 * 48
    loaded = load_run(folder)
    meta = json.loads((folder / "best" / "meta.json").read_text())["model"]
    assert loaded.model.config == meta
    assert (meta["in_channels"], meta["num_classes"]) == (2, 2)
    assert meta.get("patch_size", meta.get("image_size")) in (16, [16, 16])
    assert loaded.model(torch.rand(3, 2, 16, 16)).shape == (3, 2, 16, 16)


@pytest.mark.parametrize("model", OF_IMAGES.values(), ids=OF_IMAGES)
def test_on_whole_images(model, ph2_folder, tmp_path):
    folder = run(images(model, ph2_folder), Path(), tmp_path / "run")
    metrics = evaluate_run(folder, data_root=Path())
    assert 0 <= metrics["soft_iou"] <= 1
    assert metrics.count == 4 * 32 * 48
    loaded = load_image_run(folder)
    assert (loaded.model.config["num_classes"], loaded.model.config["image_size"]) == (1, [32, 48])
    assert "patch_size" not in loaded.model.config
    assert loaded.model(torch.rand(2, 3, 32, 48)).shape == (2, 1, 32, 48)


def test_square_images_are_patches_of_their_size(ph2_folder, tmp_path):
    content = images({"name": "hq_unet"}, ph2_folder, size=(32, 32))
    content["model"]["num_classes"] = 2
    loaded = load_image_run(run(content, Path(), tmp_path / "run"))
    assert (loaded.model.config["patch_size"], loaded.model.config["num_classes"]) == (32, 2)
    assert "image_size" not in loaded.model.config


def test_the_full_interface_has_the_size_of_the_images(ph2_folder, tmp_path):
    loaded = load_image_run(run(images({"name": "hq_unet"}, ph2_folder), Path(), tmp_path / "run"))
    assert loaded.model.bottleneck.expand.out_features == 4 * 2 * 3
    with pytest.raises(ConfigError, match=r"takes 2 x 3 feature maps, but got 3 x 2.*post_q: grid"):
        loaded.model(torch.rand(1, 3, 48, 32))


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ({"name": "unet"}, (40, 48), r"`image_size` must be multiples of 16, but is 40 x 48\. Fix"),
        ({"name": "unet", "patch_size": 32}, (32, 48), "either `patch_size` or `image_size`"),
        ({"name": "qu_net", "patch": [3, 4]}, (32, 48), r"Patches of 3 x 4 must tile.*8 x 12"),
    ],
)
def test_images_that_do_not_fit(model, size, message, ph2_folder, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run(images(model, ph2_folder, size), Path(), tmp_path / "run")


def test_scenes_that_do_not_fit(tiny_data, tiny_content, tmp_path):
    content = scenes({"name": "qu_net"}, tiny_content, patch_size=18)
    with pytest.raises(ConfigError, match=r"multiples of 4 .*but is 18 x 18.*the key `data\.patch_size`"):
        run(content, tiny_data, tmp_path / "run")
    content = scenes({"name": "unet"}, tiny_content)
    content["data"]["classes"] = [{"name": "all", "values": [0, 7], "color": "#000000"}]
    with pytest.raises(ConfigError, match=r"`data\.classes` must hold at least 2 classes.*holds 1"):
        run(content, tiny_data, tmp_path / "run")


def test_windows_of_other_sizes(tiny_data, tiny_content, tmp_path):
    loaded = load_run(run(scenes({"name": "qu_net"}, tiny_content), tiny_data, tmp_path / "run"))
    scene = tiny_data / "tiny" / "test" / "images" / "d.tif"
    blocks = list(iterate_probabilities(loaded, scene, window_size=24))
    assert sum(block.valid.size for block in blocks) == 48 * 48
    with pytest.raises(ConfigError, match="must be a multiple of 8 here, but is 20"):
        iterate_probabilities(loaded, scene, window_size=20)
