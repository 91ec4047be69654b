"""The same labels in other forms: training, evaluation, baselines, statistics and tiles see no difference."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from shapely.geometry import box

from qhybrid.config import Recipe, validated
from qhybrid.data import open_dataset
from qhybrid.data.scenes import SceneReader
from qhybrid.data.tiling import MANIFEST, tile_dataset
from qhybrid.evaluation import evaluate_run
from qhybrid.training.training_run import train

PLAIN = {"classes": [("dark", [0], "#000000"), ("bright", [7], "#ffffff")]}
FORMS = {
    "plain": PLAIN,
    "colours, half the size": {
        "classes": [("dark", ["#800000"], "#000000"), ("bright", ["#00ff24"], "#ffffff")],
        "fit_masks": True,
    },
    "lossy grey": {"classes": [("dark", ["<100"], "#000000"), ("bright", [">=100"], "#ffffff")]},
    "polygons": {
        "classes": [("dark", [], "#000000"), ("bright", ["bright"], "#ffffff")],
        "options": {"masks": "labels.gpkg"},
        "vector": {"attribute": "kind", "background": "dark"},
    },
}


def write(path, bands, **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": "uint8"}
    with rasterio.open(path, "w", **size, **profile) as file:
        file.write(bands)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A dark and a bright part in each scene of 48 x 48 pixels; the border is a multiple of 8."""
    root = tmp_path_factory.mktemp("forms")
    polygons = []
    for seed, (split, name) in enumerate([("train", "a"), ("train", "b"), ("val", "c"), ("test", "d")]):
        edge = (16, 24, 32, 24)[seed]
        mask = np.zeros((1, 48, 48), np.uint8)
        mask[:, :, edge:] = 7
        noise = np.random.default_rng(seed).integers(0, 30, (3, 48, 48))
        image = (40 + 20 * mask + noise).astype(np.uint8)
        east = 1000.0 * seed
        place = {"driver": "GTiff", "crs": "EPSG:2180", "transform": from_origin(east, 1000.0, 1.0, 1.0)}
        half = mask[:, ::2, ::2] == 7
        colours = np.concatenate([np.where(half, *pair) for pair in ((0, 128), (255, 0), (36, 0))])
        forms = {
            "plain": ("tif", mask, place),
            "colours, half the size": ("png", colours.astype(np.uint8), {"driver": "PNG"}),
            "lossy grey": ("jpg", mask // 7 * 200, {"driver": "JPEG", "QUALITY": 60}),
        }
        for form in FORMS:
            write(root / form / split / "images" / f"{name}.tif", image, **place)
            if form in forms:
                suffix, content, profile = forms[form]
                write(root / form / split / "masks" / f"{name}.{suffix}", content, **profile)
        polygons.append(box(east + edge, 952, east + 48, 1000))
    pyogrio.raw.write(
        str(root / "polygons" / "labels.gpkg"),
        np.array([shapely.to_wkb(polygon) for polygon in polygons], dtype=object),
        [np.array(["bright"] * 4, dtype=object)],
        ["kind"],
        geometry_type="Polygon",
        crs="EPSG:2180",
    )
    return root


def recipe_of(form):
    keys = dict(FORMS[form])
    names = ("name", "values", "color")
    keys["classes"] = [dict(zip(names, entry)) for entry in keys["classes"]]
    content = {
        "name": "tiny",
        "seed": 3,
        "data": {
            "dataset": "geotiff_folder",
            "root": form,
            "patch_size": 16,
            "patches_per_epoch": 12,
            **keys,
        },
        "model": {"name": "hq_unet", "widths": [2, 2, 3, 3, 4], "grid": 2},
        "training": {"epochs": 1, "batch_size": 4, "progress": False},
    }
    return validated(Recipe, content, form)


@pytest.fixture(scope="module")
def results(root, tmp_path_factory):
    """Figures of training and evaluation, by form."""

    def of(form):
        folder = train(recipe_of(form), root, tmp_path_factory.mktemp("run") / "run")
        evaluate_run(folder, "test", data_root=root, baselines=True)
        meta = json.loads(next(folder.rglob("meta.json")).read_text())
        metrics = json.loads(next(folder.rglob("metrics.json")).read_text())
        return meta["statistics"], meta["metrics"], metrics["metrics"], metrics["baselines"]

    return {form: of(form) for form in FORMS}


@pytest.mark.parametrize("form", [form for form in FORMS if form != "plain"])
def test_runs_are_the_same(results, form):
    assert results[form] == results["plain"]
    assert sum(results[form][0]["pixels_per_class"]) == 2 * 48 * 48


@pytest.mark.parametrize("form", FORMS)
def test_tiles_are_read_back_by_their_manifest(root, tmp_path, form):
    recipe = recipe_of(form)
    dataset = open_dataset(recipe.data, root)
    folder = tile_dataset(dataset, tmp_path / "tiles", size=48)
    classes = json.loads((folder / MANIFEST).read_text())["classes"]
    entries = [
        {"name": name, "values": values, "color": color}
        for name, values, color in zip(classes["names"], classes["values"], classes["colors"])
    ]
    config = recipe.data.model_copy(update={"root": "tiles"}).model_dump()
    config |= {"classes": entries, "options": {}, "fit_masks": False, "vector": None}
    tiled = open_dataset(type(recipe.data).model_validate(config), tmp_path)
    for scene, tile in zip(dataset.scenes("test"), tiled.scenes("test"), strict=True):
        expected = SceneReader(scene, dataset.classes).read_labels((0, 0, 48, 48))
        np.testing.assert_array_equal(SceneReader(tile, tiled.classes).read_labels((0, 0, 48, 48)), expected)
        assert (expected == np.where(np.arange(48) < 24, 0, 1)).all()
