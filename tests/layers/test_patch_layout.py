"""Patches against index arithmetic written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qhybrid.errors import ConfigError
from qhybrid.layers.patches import PatchLayout


@given(st.integers(0, 2), st.tuples(*[st.integers(1, 3)] * 5), st.integers(1, 7))
def test_rows_by_hand_and_back(batch, numbers, channels):
    rows, columns, height, width, maps = numbers
    layout = PatchLayout(height, width, maps)
    features = torch.randn(batch, channels, rows * height, columns * width)
    found = layout.rows(features)
    groups = -(-channels // maps)
    padded = torch.zeros(batch, groups * maps, *features.shape[2:])
    padded[:, :channels] = features
    expected = [
        [
            padded[b, g * maps + m, r * height + i, c * width + j].item()
            for i in range(height)
            for j in range(width)
            for m in range(maps)
        ]
        for b in range(batch)
        for g in range(groups)
        for r in range(rows)
        for c in range(columns)
    ]
    assert torch.equal(found, torch.tensor(expected).reshape(-1, layout.size))
    assert torch.equal(layout.stitch(found, features.shape), features)


def test_evaluations_per_image_of_the_papers_variants():
    features = torch.zeros(1, 8, 6, 8)
    counts = {(2, 2, 1): 96, (3, 2, 1): 64, (2, 2, 2): 48, (3, 4, 1): 32, (3, 2, 2): 32, (2, 2, 3): 36}
    assert {layout: len(PatchLayout(*layout).rows(features)) for layout in counts} == counts


@pytest.mark.parametrize("size", [(7, 8), (6, 7)])
def test_patches_that_do_not_tile(size):
    with pytest.raises(
        ConfigError, match=rf"Patches of 3 x 2 must tile .* it is {size[0]} x {size[1]}\. Fix"
    ):
        PatchLayout(3, 2).rows(torch.zeros(1, 1, *size))
