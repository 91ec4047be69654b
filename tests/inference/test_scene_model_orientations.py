"""Averaging over orientations: exact for equivariant models, and the mean of all orientations for others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from qhybrid.inference.scene_model import window_probabilities


def run_of(model: nn.Module) -> SimpleNamespace:
    recipe = SimpleNamespace(training=SimpleNamespace(channels_last=False))
    return SimpleNamespace(model=model, recipe=recipe, classes=SimpleNamespace(num_classes=2))


@pytest.mark.parametrize("orientations", [1, 4, 8])
def test_pointwise_model_is_not_changed(orientations):
    torch.manual_seed(0)
    model = run_of(nn.Conv2d(3, 2, 1))
    windows = [np.random.default_rng(seed).normal(size=(3, 6, 6)).astype(np.float32) for seed in range(2)]
    plain = window_probabilities(model, windows, torch.device("cpu"), "scene")
    found = window_probabilities(model, windows, torch.device("cpu"), "scene", orientations)
    np.testing.assert_allclose(found, plain, atol=1e-6)


@pytest.mark.parametrize("orientations", [4, 8])
def test_other_model_becomes_equivariant(orientations):
    torch.manual_seed(1)
    model = run_of(nn.Conv2d(3, 2, 3, padding=1))
    window = np.random.default_rng(0).normal(size=(3, 6, 6)).astype(np.float32)

    def predict(image: np.ndarray, number: int) -> np.ndarray:
        return window_probabilities(model, [image.copy()], torch.device("cpu"), "scene", number)[0]

    turned = np.rot90(window, 1, (1, 2))
    averaged = predict(window, orientations)
    np.testing.assert_allclose(predict(turned, orientations), np.rot90(averaged, 1, (1, 2)), atol=1e-6)
    mirrored = predict(window[:, :, ::-1], orientations)[:, :, ::-1]
    assert np.allclose(mirrored, averaged, atol=1e-6) == (orientations == 8)
    assert not np.allclose(predict(turned, 1), np.rot90(predict(window, 1), 1, (1, 2)), atol=1e-3)
