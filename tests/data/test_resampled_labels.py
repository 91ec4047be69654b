"""Labels of images that are resampled while they are read (`data.resolution`)."""

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.features import shapes

from qhybrid.config import VectorConfig
from qhybrid.data.classes import ClassMap
from qhybrid.data.contract import InputContract, ReadOptions
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneReader

CLASSES = ClassMap(("a", "b", "c"), ("#000000", "#00ff00", "#0000ff"), ((0,), (1,), (2,)))
RNG = np.random.default_rng(0)
FINE = RNG.integers(0, 3, (60, 60), dtype=np.uint8)


def reader(tmp_path, make_raster, mask, classes, pixel, resolution, **image):
    values = RNG.integers(1, 255, (3, round(600 / pixel), round(600 / pixel)), dtype=np.uint8)
    file = make_raster(tmp_path / "image.tif", values, pixel=pixel, **image)
    contract = InputContract.of_scene(file, None, ReadOptions(resolution=resolution))
    return SceneReader(Scene("a", file, mask, "a"), classes, contract)


@pytest.mark.parametrize(("pixel", "resolution", "step"), [(30, 10, 1), (5, 30, 3), (20, 30, 3)])
def test_masks_on_a_grid_of_their_own(tmp_path, make_raster, pixel, resolution, step):
    """Read at the centres of the pixels that the model sees, not at those of the file's."""
    mask = make_raster(tmp_path / "mask.tif", FINE, pixel=10)
    scene = reader(tmp_path, make_raster, mask, replace(CLASSES, fit_masks=True), pixel, resolution)
    expected = FINE[step // 2 :: step, step // 2 :: step]
    assert scene.shape == expected.shape
    assert (scene.read_labels((0, 0, *expected.shape)) == expected).all()
    assert (scene.read_labels((3, 5, 7, 6)) == expected[3:10, 5:11]).all()


def test_polygons(tmp_path, make_raster):
    mask = make_raster(tmp_path / "mask.tif", FINE, pixel=10)
    with rasterio.open(mask) as file:
        drawn = shapes(FINE, transform=file.transform)
    features = [
        {"type": "Feature", "geometry": geometry, "properties": {"kind": int(value)}}
        for geometry, value in drawn
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::2180"}}
    content = {"type": "FeatureCollection", "crs": crs, "features": features}
    (tmp_path / "labels.geojson").write_text(json.dumps(content))
    classes = replace(CLASSES, vector=VectorConfig(attribute="kind"))
    scene = reader(tmp_path, make_raster, tmp_path / "labels.geojson", classes, 30, 10)
    assert (scene.read_labels((0, 0, 60, 60)) == FINE).all()


@pytest.mark.parametrize("placed", [True, False])
def test_masks_on_the_pixels_of_the_file(tmp_path, make_raster, placed):
    """The nearest of the file's pixels, for masks without coordinates too."""
    crs = "EPSG:2180" if placed else None
    mask = make_raster(tmp_path / "mask.tif", FINE, pixel=10, crs=crs)
    scene = reader(tmp_path, make_raster, mask, CLASSES, 10, 30)
    assert (scene.read_labels((0, 0, 20, 20)) == FINE[1::3, 1::3]).all()


def test_blocks(tmp_path, make_raster):
    mask = make_raster(tmp_path / "mask.tif", FINE, pixel=10)
    scene = reader(tmp_path, make_raster, mask, replace(CLASSES, fit_masks=True), 30, 10)
    scene.move_to(replace(scene.scene, id="b", window=Window(4, 6, 10, 8)))
    assert scene.shape == (30, 24)
    assert (scene.read_labels((0, 0, 30, 24)) == FINE[12:42, 18:42]).all()
