"""The example of a model plugin: two experts and two quantum skips, without a change of the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from qhybrid.config import load_recipe
from qhybrid.errors import ConfigError
from qhybrid.layers import quantum_layers
from qhybrid.plugins import temporary_plugins
from qhybrid.training import load_run, train

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "experts"


def test_it_trains_through_the_plugin_alone(tiny_data, tiny_content, tmp_path):
    content = tiny_content(epochs=1)
    four = {"name": "four", "builder": "hq_unet_qcnn", "arguments": {"grid": 2}, "observables": None}
    content["model"] = {
        "name": "experts_unet",
        "widths": [2, 2, 3, 3, 4],
        "experts": [{"circuit": four, "post_q": "grid"}, {"circuit": four}],
        "skips": {"circuit": four, "levels": [2, 3]},
    }
    recipe = tmp_path / "experts.yaml"
    recipe.write_text(yaml.safe_dump(content))
    with temporary_plugins(EXAMPLE / "experts_plugin.py"):
        model = load_run(train(load_recipe(recipe), tiny_data, tmp_path / "run")).model
        assert list(quantum_layers(model)) == [
            "bottleneck.experts.0.core",
            "bottleneck.experts.1.core",
            "skips.2.core",
            "skips.3.core",
        ]
        router, features = model.bottleneck, torch.rand(3, 4, 1, 1)
        weights = router.weights(features)
        both = [expert(features) for expert in router.experts]
        by_hand = sum(weights[:, k, None, None, None] * both[k] for k in range(2))
        torch.testing.assert_close(router(features), by_hand)
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    meta = json.loads((tmp_path / "run" / "best" / "meta.json").read_text())["model"]
    assert [expert["circuit"] for expert in meta["experts"]] == [four, four]
    with pytest.raises(ConfigError, match="made with plugin `experts_plugin`.*adds model `experts_unet`"):
        load_run(tmp_path / "run")


def test_its_recipe_is_valid():
    recipe = load_recipe(EXAMPLE / "experts.yaml")
    assert recipe.model["name"] == "experts_unet"
    assert recipe.model["skips"]["levels"] == [2, 3]
