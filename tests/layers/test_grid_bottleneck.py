"""Pre-Q and post-Q of HQ-UNet, and the classical core, against direct formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qhybrid.errors import ConfigError
from qhybrid.layers import GridBottleneck, SeparableFilter


def test_inputs_are_cell_major_and_scaled():
    bottleneck = GridBottleneck(5, nn.Identity(), 48, angle_scale=np.pi)
    features = torch.randn(2, 5, 8, 8)
    angles = bottleneck.angles(features)
    pooled = features.reshape(2, 5, 4, 2, 4, 2).mean((3, 5))
    cell = torch.einsum("fc,bcrs->bfrs", bottleneck.reduce.weight[:, :, 0, 0], pooled)
    cell = torch.tanh(cell + bottleneck.reduce.bias[:, None, None]) * np.pi
    for row in range(4):
        for column in range(4):
            start = 3 * (4 * row + column)
            torch.testing.assert_close(angles[:, start : start + 3], cell[:, :, row, column])


def test_full_has_the_papers_linear_layer_and_fixes_the_size():
    bottleneck = GridBottleneck(6, nn.Identity(), 48, map_size=8)
    assert bottleneck.expand.weight.shape == (6 * 8 * 8, 48)
    features = torch.randn(3, 6, 8, 8)
    expected = bottleneck.expand(bottleneck.angles(features)).reshape(3, 6, 8, 8)
    torch.testing.assert_close(bottleneck(features), expected)
    with pytest.raises(ConfigError, match="post_q: grid"):
        bottleneck(torch.randn(1, 6, 16, 16))


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (5, 9)])
def test_grid_takes_any_size(size):
    bottleneck = GridBottleneck(6, nn.Identity(), 48, post_q="grid")
    assert bottleneck.any_size
    assert bottleneck(torch.randn(2, 6, *size)).shape == (2, 6, *size)


def test_separable_filter_against_a_loop():
    layer = SeparableFilter(3)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 8
    angles = torch.randn(2, 27)
    w = layer.weight.detach().numpy()
    for sample in range(2):
        f = angles[sample].numpy().reshape(3, 3, 3)
        cells = np.zeros((3, 3, 2))
        for r in range(3):
            for c in range(3):
                a, b, g = f[r, c]
                half = [
                    np.array([[np.cos(a / 2), -1j * np.sin(a / 2)], [-1j * np.sin(a / 2), np.cos(a / 2)]])
                ]
                half.append(np.array([[np.cos(b / 2), -np.sin(b / 2)], [np.sin(b / 2), np.cos(b / 2)]]))
                half.append(np.diag([np.exp(-1j * g / 2), np.exp(1j * g / 2)]))
                state = half[2] @ half[1] @ half[0] @ np.array([1, 0])
                cells[r, c] = (
                    abs(state[0]) ** 2 - abs(state[1]) ** 2,
                    2 * (state[0].conj() * state[1]).real,
                )
        for r in range(3):
            for c in range(1, 3):
                cells[r, c, 0] = np.tanh(w[0] * cells[r, c, 0] + w[1] * cells[r, c - 1, 0])
                cells[r, c, 1] = np.tanh(w[2] * cells[r, c, 1] + w[3] * cells[r, c - 1, 1])
        for c in range(3):
            for r in range(1, 3):
                cells[r, c, 0] = np.tanh(w[4] * cells[r, c, 0] + w[5] * cells[r - 1, c, 0])
                cells[r, c, 1] = np.tanh(w[6] * cells[r, c, 1] + w[7] * cells[r - 1, c, 1])
        expected = np.concatenate([cells[..., 0].ravel(), cells[..., 1].ravel()])
        np.testing.assert_allclose(layer(angles)[sample].detach().numpy(), expected, atol=1e-5)
