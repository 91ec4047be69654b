"""What was made with a map does not stay beside another one in its place."""

import warnings

import numpy as np
import pyogrio
import pytest
import rasterio

from qhybrid.errors import WorkspaceError
from qhybrid.inference import MapOptions, Products, map_one_scene, map_scenes, write_map

ALL = MapOptions(probabilities=True, uncertainty=True)
MADE = Products(polygons="gpkg", simplify=0, preview=True)
GRID = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(4e5, 5e6, 10, 10)}


@pytest.fixture
def scenes(write_raster, tmp_path):
    for seed, name in enumerate(("a", "b")):
        values = np.random.default_rng(seed).integers(1, 256, (2, 40, 50), dtype=np.uint8)
        write_raster(values, f"{name}.tif", **GRID)
    return tmp_path / "a.tif", tmp_path / "b.tif"


def names(folder):
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".aux.xml"))


def test_a_replaced_map_takes_with_it_what_was_made_of_it(run, scenes, tmp_path):
    out = tmp_path / "out" / "map.tif"
    map_one_scene(run, scenes[0], out, options=ALL, products=MADE)
    assert len(names(out.parent)) == 5
    with pytest.warns(
        UserWarning, match=r"map_probabilities\.tif, map_uncertainty\.tif, map\.gpkg, map\.html"
    ):
        write_map(run, scenes[1], out, options=MapOptions(overwrite=True))
    assert names(out.parent) == ["map.tif"]


def test_what_is_asked_for_again_is_made_again(run, scenes, tmp_path):
    out = tmp_path / "out" / "map.tif"
    map_one_scene(run, scenes[0], out, options=ALL, products=MADE)
    wanted = MapOptions(probabilities=True, overwrite=True)
    with pytest.warns(UserWarning, match=r"map_uncertainty\.tif, map\.html\."):
        map_one_scene(run, scenes[1], out, options=wanted, products=Products(polygons="gpkg", simplify=0))
    assert names(out.parent) == ["map.gpkg", "map.tif", "map_probabilities.tif"]
    _, _, _, fields = pyogrio.raw.read(out.with_suffix(".gpkg"), read_geometry=False, columns=["pixels"])
    assert fields[0].sum() == 40 * 50


@pytest.mark.parametrize("several", [False, True])
def test_a_map_that_is_gone_is_not_made_beside_the_rest_of_another(run, scenes, tmp_path, several):
    out = tmp_path / "out"
    write_map(run, scenes[0], out / "b.tif", options=ALL)
    (out / "b.tif").unlink()
    places = ([scenes[1]], out) if several else (scenes[1], out / "b.tif")
    with pytest.raises(WorkspaceError, match=r"b_probabilities\.tif was made with another map.*--overwrite"):
        (map_scenes if several else write_map)(run, *places)
    assert not (out / "b.tif").exists()


def test_files_of_others_stay(run, scenes, tmp_path):
    out = tmp_path / "out" / "map.tif"
    write_map(run, scenes[0], out)
    # A map of a scene of that name is a map; the others are not made by qhybrid.
    write_map(run, scenes[1], out.with_name("map_probabilities.tif"))
    out.with_suffix(".html").write_text('<meta name="description" content="my page">')
    out.with_suffix(".geojson").write_text('{"type": "FeatureCollection", "features": []}')
    before = names(out.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_map(run, scenes[1], out, options=MapOptions(overwrite=True))
    assert names(out.parent) == before
