"""Data with other pixels than training's are judged and mapped at training's pixel size, where asked for."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scene_runs import CLASSES
from typer.testing import CliRunner

from qhybrid.cli.main import app
from qhybrid.config import Recipe
from qhybrid.errors import ConfigError
from qhybrid.evaluation import evaluate_run
from qhybrid.inference import read_as
from qhybrid.report.labels import evaluation_label
from qhybrid.training import load_run


@pytest.fixture
def fine(scenes_root, tmp_path):
    """The test scenes with each pixel of 0.5 m as four of 0.25 m: resampled they are as they were."""
    root = tmp_path / "fine"
    for file in (scenes_root / "test").rglob("*.tif"):
        with rasterio.open(file) as source:
            values, profile, place = source.read(), source.profile, source.transform
        values = values.repeat(2, axis=1).repeat(2, axis=2)
        profile.update(height=values.shape[1], width=values.shape[2])
        profile["transform"] = from_origin(place.c, place.f, 0.25, 0.25)
        target = root / file.relative_to(scenes_root)
        target.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(target, "w", **profile) as out:
            out.write(values)
    return root


def test_a_recipe_says_at_which_pixel_size_other_data_are_judged(run_folder, scenes_root, fine):
    official = evaluate_run(run_folder, data_root=scenes_root)
    section = {
        "dataset": "geotiff_folder",
        "root": str(fine),
        "classes": CLASSES,
        "ignore_values": [99],
        "resolution": 0.5,
    }
    recipe = Recipe.model_validate({"name": "fine", "data": section, "model": {"name": "unet"}})
    found = evaluate_run(run_folder, data_root=scenes_root, on=recipe)
    assert found.counts.support.tolist() == official.counts.support.tolist()
    assert found.metrics == official.metrics


def test_the_command_says_it_too(run_folder, scenes_root, fine):
    official = evaluate_run(run_folder, data_root=scenes_root)
    with pytest.warns(UserWarning, match=r"its pixels are 0\.25 m wide.*`--resolution 0\.5`"):
        found = evaluate_run(run_folder, data_root=scenes_root, on=fine)
    assert found.counts.support.sum() == 4 * official.counts.support.sum()
    arguments = ["evaluate", str(run_folder), "--data-root", str(scenes_root), "--on", str(fine)]
    done = CliRunner().invoke(app, [*arguments, "--resolution", "0.5"])
    assert done.exit_code == 0, done.output
    folder = run_folder / "evaluation" / "on-fine-test-exact-read-as-0.5m"
    written = json.loads((folder / "metrics.json").read_text())
    assert written["metrics"] == pytest.approx(official.metrics, nan_ok=True)
    assert evaluation_label(folder.name, written).endswith("resampled to 0.5 m")


def test_maps_at_another_pixel_size(run_folder, scenes_root, fine, tmp_path):
    scene, out = "test/images/a.tif", tmp_path / "map.tif"
    plain = ["predict", str(run_folder), str(scenes_root / scene), "-o", str(tmp_path / "plain.tif")]
    other = ["predict", str(run_folder), str(fine / scene), "-o", str(out), "--resolution", "0.5"]
    for arguments in (plain, other):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "plain.tif") as expected, rasterio.open(out) as found:
        assert found.transform == expected.transform
        np.testing.assert_array_equal(found.read(1), expected.read(1))
    with pytest.raises(ConfigError, match="`resolution` must be a number above 0"):
        read_as(load_run(run_folder), resolution=0)
