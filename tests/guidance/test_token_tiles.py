"""Token maps of windows: between tokens, across tiles, mirrored and turned with their window."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qhybrid.config import AugmentationConfig
from qhybrid.data.augmentation import PatchAugmentation
from qhybrid.data.raster import Window
from qhybrid.data.statistics import BandStatistics
from qhybrid.guidance.tiles import TileGrid, sample_window, token_count

STATISTICS = BandStatistics((1,), (0.0,), (1.0,), (-1.0,), (1.0,), 10)


def ramp(grid, row, column, tokens):
    """Maps of a tile that hold y and x of the tokens' centres in the scene, shape (1, 2, h, w)."""
    at = grid.window(row, column)
    y = at.row + (torch.arange(tokens[0]) + 0.5) * at.height / tokens[0]
    x = at.col + (torch.arange(tokens[1]) + 0.5) * at.width / tokens[1]
    return torch.stack([y[:, None].expand(tokens), x.expand(tokens)])[None].float()


@given(st.integers(1, 70), st.integers(1, 90), st.integers(8, 40))
def test_tiles_cover_a_scene_and_stay_inside(height, width, side):
    grid = TileGrid((height, width), side)
    seen = torch.zeros(height, width, dtype=torch.bool)
    for row, column in grid.places():
        at = grid.window(row, column)
        assert (at.height, at.width) == (min(height, side), min(width, side))
        assert at.row + at.height <= height
        assert at.col + at.width <= width
        seen[at.row : at.row + at.height, at.col : at.col + at.width] = True
    assert seen.all()
    assert len(grid.places()) == -(-height // side) * -(-width // side)


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([7, 16, 30]))
def test_a_window_gets_the_values_at_its_own_places(row, column, side):
    """Maps that hold coordinates are interpolated exactly, but for the outer half token of a tile."""
    grid = TileGrid((90, 90), 90)
    window = Window(row, column, side, side)
    count, pitch = token_count(side, 5.0), 5.0
    found = sample_window(lambda r, c: ramp(grid, r, c, (18, 18)), grid, window, pitch)[0].double()
    centres = (torch.arange(count) + 0.5) * side / count
    expected = [(start + centres).clamp(2.5, 87.5) for start in (row, column)]
    torch.testing.assert_close(
        found[0], expected[0][:, None].expand(count, count).double(), atol=0.05, rtol=0
    )
    torch.testing.assert_close(found[1], expected[1].expand(count, count).double(), atol=0.05, rtol=0)


def test_a_window_across_tiles_takes_each_place_from_the_tile_it_is_deepest_in():
    grid = TileGrid((50, 20), 20)  # tiles begin at rows 0, 20 and 30
    assert grid.starts(0) == (0, 20, 30)

    def numbered(row, column):
        return torch.full((1, 1, 4, 4), float(row))

    found = sample_window(numbered, grid, Window(10, 0, 40, 20), 5.0)[0, 0, :, 0]
    # Centres at 12.5, 17.5, ..., 47.5; rows 30 to 40 are in two tiles, and 35 is equally deep in both.
    assert found.tolist() == [0, 0, 1, 1, 1, 2, 2, 2]


def test_outside_of_a_scene_its_edge_goes_on():
    grid = TileGrid((20, 20), 20)
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    found = sample_window(lambda r, c: maps, grid, Window(10, 10, 40, 40), 5.0)[0, 0]
    assert found[3:, 3:].unique().tolist() == [15.0]


@pytest.mark.parametrize("tokens", [(5, 5), (4, 7)])
def test_the_map_of_a_mirrored_window_is_the_mirrored_map(tokens):
    torch.manual_seed(0)
    grid, maps = TileGrid((60, 60), 60), torch.randn(2, 3, *tokens)
    found = sample_window(lambda r, c: maps, grid, Window(11, 7, 24, 24), 9.0)
    mirrored = sample_window(lambda r, c: maps.flip(-1), grid, Window(11, 60 - 7 - 24, 24, 24), 9.0)
    torch.testing.assert_close(mirrored, found.flip(-1), atol=2e-3, rtol=2e-3)
    turned = sample_window(
        lambda r, c: torch.rot90(maps, 1, (-2, -1)), grid, Window(60 - 7 - 24, 11, 24, 24), 9.0
    )
    torch.testing.assert_close(turned, torch.rot90(found, 1, (-2, -1)), atol=2e-3, rtol=2e-3)


def augmented(image, maps, seed=0, **changes):
    config = AugmentationConfig(**{**dict.fromkeys(AugmentationConfig.model_fields, 0), **changes})
    return PatchAugmentation(config, STATISTICS).with_maps(image, image[:, 0].long(), maps, seed)


def smooth(side, batch=6):
    """Images (B, 1, side, side) whose values are bilinear in the coordinates, so that any grid shows them."""
    at = (torch.arange(side) + 0.5) / side
    planes = torch.randn(batch, 3, generator=torch.Generator().manual_seed(0))
    return (planes[:, 0, None, None] * at + planes[:, 1, None, None] * at[:, None] + 5)[:, None]


def test_flips_and_quarter_turns_move_the_maps_as_the_image():
    image, maps = smooth(32), smooth(8)[:, None]
    changed, _, moved = augmented(image, maps, flip=True, rotate90=True)
    assert not torch.equal(changed, image)
    coarse = torch.nn.functional.avg_pool2d(changed, 4)
    torch.testing.assert_close(moved[:, 0], coarse, atol=1e-5, rtol=0)


def test_rotation_zoom_and_shift_move_the_maps_as_the_image():
    image, maps = smooth(64), smooth(16)[:, None]
    changed, _, moved = augmented(image, maps, rotate_degrees=20.0, scale=0.2, shift=0.1)
    coarse = torch.nn.functional.avg_pool2d(changed, 4)
    outside = torch.nn.functional.max_pool2d((changed < 1).float(), 4)
    # A token at the edge of what is seen is interpolated with what is not.
    inside = torch.nn.functional.max_pool2d(outside, 3, stride=1, padding=1) == 0
    inside[..., [0, -1], :] = inside[..., [0, -1]] = False
    assert inside.float().mean() > 0.3
    difference = (moved[:, 0] - coarse)[inside]
    assert difference.abs().max() < 0.05
    assert (maps[:, 0] - coarse)[inside].abs().max() > 0.2


def test_colour_never_reaches_the_maps():
    image, maps = smooth(32), torch.randn(6, 2, 3, 4, 4).half()
    changed, _, moved = augmented(
        image, maps, brightness=0.3, contrast=0.3, band_gain=0.2, noise=0.1, blur=1.0
    )
    assert not torch.equal(changed, image)
    assert torch.equal(moved, maps)


def test_images_change_as_they_do_without_maps():
    image = torch.randn(4, 1, 32, 32)
    augment = PatchAugmentation(AugmentationConfig(), STATISTICS)
    with_maps = augment.with_maps(image, image[:, 0].long(), torch.randn(4, 1, 2, 3, 3).half(), 3)
    for one, other in zip(augment(image, image[:, 0].long(), 3), with_maps[:2], strict=True):
        assert torch.equal(one, other)
