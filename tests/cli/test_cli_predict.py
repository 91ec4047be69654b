"""`qhybrid predict` with all it can write, through the real command on a tiny run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
import zipfile

import numpy as np
import pyogrio
import pytest
import rasterio
from rasterio.warp import transform_bounds

from qhybrid.cli.main import execute


@pytest.fixture
def scenes(scene, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("one", "two"):
        shutil.copy(scene, folder / f"{name}.tif")
    return folder


def test_a_folder_of_scenes(run_folder, scenes, tmp_path, capsys):
    out = tmp_path / "maps"
    assert execute(["predict", "runs/tiny", str(scenes), "-o", str(out)]) == 0
    assert (out / "one.tif").read_bytes() == (out / "two.tif").read_bytes()
    assert "2 of 2, 0 of them finished before" in capsys.readouterr().out
    (scenes / "three.tif").write_text("no raster")
    assert execute(["predict", "runs/tiny", str(scenes / "*.tif"), "-o", str(out)]) == 1
    said = capsys.readouterr()
    assert "2 of 3, 2 of them finished before" in said.out
    assert "1 of 3 scenes could not be mapped" in said.err
    assert "three.tif: cannot be opened" in said.err
    assert sorted(file.name for file in out.glob("*")) == [
        "one.tif",
        "one.tif.aux.xml",
        "two.tif",
        "two.tif.aux.xml",
    ]


def test_a_folder_for_a_single_scene(run_folder, scenes, tmp_path):
    assert execute(["predict", str(run_folder), str(scenes / "one.tif"), "-o", f"{tmp_path / 'new'}/"]) == 0
    assert (tmp_path / "new" / "one.tif").is_file()


def test_a_scene_in_an_archive(run_folder, scene, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(scene, "[1].tif")
    inside = f"/vsizip/{tmp_path}/x.zip/[1].tif"
    for name, place in (("a.tif", str(scene)), ("b.tif", inside)):
        assert execute(["predict", str(run_folder), place, "-o", str(tmp_path / name)]) == 0
    with rasterio.open(tmp_path / "a.tif") as plain, rasterio.open(tmp_path / "b.tif") as zipped:
        np.testing.assert_array_equal(plain.read(), zipped.read())
    assert execute(["predict", str(run_folder), str(tmp_path / "no.tif"), "-o", str(tmp_path / "c.tif")]) == 1
    assert "no.tif: must be a raster file, but is missing" in capsys.readouterr().err


def test_everything_at_once(run_folder, scene, tmp_path, capsys):
    target = tmp_path / "map.tif"
    with rasterio.open(scene) as image:
        left, bottom, right, top = transform_bounds(image.crs, "EPSG:4326", *image.bounds)
    box = f"{left},{(bottom + top) / 2},{(left + right) / 2},{top}"
    arguments = ["predict", "runs/tiny", str(scene), "-o", str(target), "--codes", "--format", "gtiff"]
    arguments += ["--polygons", "geojson", "--simplify", "0", "--min-area", "1", "--preview"]
    arguments += ["--bbox", box, "--bbox-crs", "EPSG:4326"]
    arguments += ["--uncertainty", "--noise", "depolarizing_0.01_0.02", "--shots", "64", "--draws", "3"]
    assert execute([*arguments, "--seed", "4"]) == 0
    labels = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "map" in line]
    assert labels == ["map", "uncertainty", "polygons", "preview"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "map.geojson",
        "map.html",
        "map.tif",
        "map.tif.aux.xml",
        "map_uncertainty.tif",
    ]
    with rasterio.open(target) as file:
        assert (file.height < 40, file.width < 40, file.overviews(1)) == (True, True, [])
    with rasterio.open(tmp_path / "map_uncertainty.tif") as file:
        assert file.descriptions == ("entropy", "winner_std", "disagreement")
        first = file.read()
        key = file.tags()["QHYBRID_MAP"]
    assert np.isfinite(first).all()
    assert 0 < first[0].max() <= np.log2(5)
    assert pyogrio.read_info(tmp_path / "map.geojson")["features"] > 0
    assert execute([*arguments, "--seed", "4"]) == 1
    assert "map.tif exists already" in capsys.readouterr().err
    assert execute([*arguments, "--seed", "5", "--overwrite"]) == 0
    with rasterio.open(tmp_path / "map_uncertainty.tif") as file:
        assert file.tags()["QHYBRID_MAP"] != key


def test_mistakes_are_found_before_the_model_is_loaded(
    run_folder, scene, scenes, tmp_path, capsys, monkeypatch
):
    def loaded(*arguments):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("qhybrid.training.load_run", loaded)
    one, many = [str(scene), "-o", str(tmp_path / "map.tif")], [str(scenes), "-o", str(tmp_path / "out")]
    for arguments, message in (
        ([str(scene), "-o", str(tmp_path / "map.png")], "must end in .tif"),
        ([str(tmp_path / "none.tif"), "-o", str(tmp_path / "map.tif")], "none.tif: must be a raster"),
        ([str(tmp_path / "*.tif"), "-o", str(tmp_path / "out")], "must hold scenes"),
        ([str(scenes), "-o", str(tmp_path / "map.tif")], "go to a folder"),
        ([str(scenes), "-o", str(scenes)], "belongs to"),
        ([*one, "--format", "cgo"], "Did you mean `cog`?"),
        ([*one, "--polygons", "shp"], "gpkg or geojson"),
        ([*one, "--polygons", "a.shp"], ".gpkg, .geojson"),
        ([*one, "--bbox", "1,2,3"], "left,bottom,right,top"),
        ([*many, "--polygons", "a.gpkg"], "gpkg or geojson, which names"),
    ):
        assert execute(["predict", str(run_folder), *arguments]) == 1
        assert message in " ".join(capsys.readouterr().err.split())
    assert execute(["predict", str(run_folder), *one, "--bbox-crs", "EPSG:4326"]) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


def test_ctrl_c_says_how_to_go_on(run_folder, scene, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("qhybrid.api.maps.map_one_scene", interrupted)
    assert execute(["predict", str(run_folder), str(scene), "-o", str(tmp_path / "map.tif")]) == 130
    assert "same command goes on where it stopped" in capsys.readouterr().err


def test_warnings_are_lines(run_folder, scene, tmp_path, capsys):
    with rasterio.open(scene) as file:
        values, profile = file.read(), file.profile
    plain = tmp_path / "plain.tif"
    profile.update(crs=None, transform=None)
    with warnings.catch_warnings(action="ignore"), rasterio.open(plain, "w", **profile) as file:
        file.write(values)
    target = str(tmp_path / "map.tif")
    assert execute(["predict", str(run_folder), str(plain), "-o", target, "--polygons", "gpkg"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert next(line for line in lines if "no coordinate system" in line).startswith("warning: ")


@pytest.mark.slow
def test_a_killed_process_resumes_with_the_same_bytes(run_folder, scene, tmp_path):
    """A real kill -9, as soon as some rows are complete."""
    with rasterio.open(scene) as file:
        values, profile = np.tile(file.read(), (1, 6, 3)), file.profile
    large = tmp_path / "large.tif"
    profile.update(height=values.shape[1], width=values.shape[2])
    with rasterio.open(large, "w", **profile) as file:
        file.write(values)
    script = (
        "import sys, qhybrid.inference.part_folder as p; p.CHECKPOINT_SECONDS = 0.0\n"
        "from qhybrid.cli.main import execute; sys.exit(execute(sys.argv[1:]))"
    )
    target = tmp_path / "killed" / "map.tif"
    arguments = ["predict", str(run_folder), str(large), "--probabilities", "-o"]
    state = tmp_path / "killed" / ".map.tif.part" / "state.json"
    process = subprocess.Popen([sys.executable, "-c", script, *arguments, str(target)], env=os.environ)
    limit = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < limit:
        if state.exists() and '"position": [0, 0]' not in state.read_text():
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert state.exists()
    assert not target.exists()
    assert execute([*arguments, str(target)]) == 0
    assert execute([*arguments, str(tmp_path / "whole" / "map.tif")]) == 0
    found, expected = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("killed", "whole")
    )
    assert found == expected
