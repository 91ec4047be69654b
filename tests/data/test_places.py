"""Connected places: scenes laid out by hand, and the real test scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine, from_origin

from qhybrid.config import load_recipe
from qhybrid.data.places import connected_places
from qhybrid.data.raster import Window
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import Scene

SIDE, PIXEL = 16, 10.0
RECIPES = Path(__file__).resolve().parents[2] / "runs"


@pytest.fixture
def scene_at(tmp_path):
    """Write a scene whose upper left corner is so many pixels from the origin; None: nowhere."""

    def make(name, place, location="", window=None, crs="EPSG:32652"):
        file = tmp_path / f"{name.split('#')[0]}.tif"
        transform = (
            Affine.identity()
            if place is None
            else from_origin(300_000 + PIXEL * place[0], 4_000_000 - PIXEL * place[1], PIXEL, PIXEL)
        )
        options = {} if place is None else {"crs": crs}
        with rasterio.open(
            file, "w", driver="GTiff", width=SIDE, height=SIDE, count=1, dtype="uint8",
            transform=transform, **options,
        ) as target:  # fmt: skip
            target.write(np.zeros((1, SIDE, SIDE), dtype=np.uint8))
        return Scene(name, file, None, location, window)

    return make


def test_scenes_that_touch_are_one_place_and_a_gap_parts_them(scene_at):
    scenes = [
        scene_at("a", (0, 0)),
        scene_at("b", (SIDE, 0)),  # touches a
        scene_at("c", (SIDE + SIDE - 4, 8)),  # overlaps b
        scene_at("d", (5 * SIDE, 0)),  # alone
        scene_at("e", (5 * SIDE, SIDE + 4)),  # four pixels below d
        scene_at("f", (6 * SIDE, SIDE)),  # touches d's corner
    ]
    found = connected_places(scenes)
    assert found.of[:3] == (0, 0, 0)
    assert found.of[3] == found.of[5] != 0
    # f and e lie side by side, too.
    assert found.of[4] == found.of[5]
    assert found.count == 2
    assert connected_places(scenes[:5]).count == 3


def test_windows_of_a_file_and_scenes_of_a_name_are_one_place(scene_at):
    one = scene_at("a#1", (0, 0), window=Window(0, 0, 4, 4))
    other = Scene("a#2", one.image, None, "", Window(10, 10, 4, 4))
    far, farther = scene_at("b", (900, 0), location="seoul"), scene_at("c", (1800, 0), location="seoul")
    alone = scene_at("d", (2700, 0), location="test")
    found = connected_places([one, other, far, farther, alone])
    assert found.of == (0, 0, 1, 1, 2)
    assert found.count == 3


def test_places_that_are_not_known_are_not_counted(scene_at):
    found = connected_places([scene_at("a", (0, 0)), scene_at("b", None), scene_at("c", None, "busan")])
    assert found.unknown == 1
    assert found.count is None


@pytest.mark.shared_data
def test_the_sentinel_2_test_scenes_are_two_places(shared_data):
    config = load_recipe(RECIPES / "sentinel2_hq_unet.yaml").data
    scenes = open_dataset(config, shared_data).scenes("test")
    assert (len(scenes), connected_places(scenes).count) == (8, 2)
