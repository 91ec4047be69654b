"""Columns of metrics.csv with what reaches the circuits, against gradients that torch retains."""

from __future__ import annotations

import math

import image_runs
import pandas as pd
import pytest
import torch

from qhybrid.config import validated
from qhybrid.config.sections import Recipe
from qhybrid.layers import quantum_layers
from qhybrid.training import train
from qhybrid.training.gradients import GradientNorms, gradient_columns

LAYER = "bottleneck.core"
mnist_root, tiny_recipe = image_runs.mnist_root, image_runs.tiny_recipe


def test_scenes_have_both_columns(tiny_data, tiny_content, tmp_path, monkeypatch):
    inputs, weights, angles = [], [], []
    add = GradientNorms.on_before_optimizer_step

    def on_before(callback, trainer, module, optimizer):
        (layer,) = quantum_layers(module.model).values()
        weights.append(float(layer.weight.grad.norm()))
        inputs.append(float(angles.pop().grad.norm()))
        add(callback, trainer, module, optimizer)

    def retain(layer, given):
        if given[0].requires_grad and torch.is_grad_enabled():
            given[0].retain_grad()
            angles.append(given[0])

    start = GradientNorms.on_train_start

    def on_start(callback, trainer, module):
        start(callback, trainer, module)
        for layer in quantum_layers(module.model).values():
            layer.register_forward_pre_hook(retain)

    monkeypatch.setattr(GradientNorms, "on_before_optimizer_step", on_before)
    monkeypatch.setattr(GradientNorms, "on_train_start", on_start)
    folder = tmp_path / "run"
    train(validated(Recipe, tiny_content(epochs=2), "test"), tiny_data, folder)
    table = pd.read_csv(folder / "metrics.csv")
    steps = len(weights) // 2
    for column, values in ((f"gradient_weights {LAYER}", weights), (f"gradient_inputs {LAYER}", inputs)):
        for epoch in range(2):
            part = values[epoch * steps : (epoch + 1) * steps]
            expected = math.sqrt(sum(value**2 for value in part) / steps)
            assert table[column][epoch] == pytest.approx(expected, rel=1e-4)
            assert expected > 0
    assert list(table.columns)[-3:] == ["learning_rate", "seconds_per_step", "epoch_seconds"]


def test_images_have_them_where_there_is_a_gradient(mnist_root, tiny_recipe, tmp_path):
    folder = tmp_path / "run"
    train(validated(Recipe, tiny_recipe, "test"), mnist_root, folder)
    table = pd.read_csv(folder / "metrics.csv")
    assert (table["gradient_weights head.classifier.circuit"] > 0).all()
    assert (table["gradient_inputs head.classifier.circuit"] > 0).all()
    # The filter is not trained, and its features come from the cache.
    assert table["gradient_weights quanvolution.filter"].isna().all()
    assert table["gradient_inputs quanvolution.filter"].isna().all()


def test_models_without_circuits_have_no_columns(tiny_data, tiny_content, tmp_path):
    content = tiny_content(epochs=1)
    content["model"] = {"name": "unet", "widths": [2, 2, 3, 3, 4]}
    train(validated(Recipe, content, "test"), tiny_data, tmp_path / "run")
    assert "gradient" not in (tmp_path / "run" / "metrics.csv").read_text()
    assert gradient_columns(torch.nn.Linear(2, 2)) == ()
