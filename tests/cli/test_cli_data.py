"""`qhybrid data`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio

from qhybrid.cli.main import execute
from qhybrid.data.scene_datasets import list_datasets

FOLDER_RECIPE = """\
name: folder
data:
  dataset: geotiff_folder
  root: scenes
  patch_size: 64
  classes:
    - {name: background, values: [0], color: "#000000"}
    - {name: rest, values: [1, 2, 3, 4], color: "#ffffff"}
model: {name: unet}
"""


@pytest.fixture(autouse=True)
def _workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QHYBRID_DATA", raising=False)


@pytest.fixture
def scenes(tmp_path):
    """Generated scenes as a folder of GeoTIFFs, and a recipe that reads them."""
    assert (
        execute(["data", "synthetic", "--to", "data/scenes", "--option", "size=64", "--option", "train=2"])
        == 0
    )
    (tmp_path / "folder.yaml").write_text(FOLDER_RECIPE)
    return tmp_path / "data" / "scenes"


def test_list_and_info_name_every_data_set(capsys):
    assert execute(["data", "list"]) == 0
    out = capsys.readouterr().out
    for name in list_datasets():
        assert name in out
        assert execute(["data", "info", name]) == 0
    assert execute(["data", "info", "nothing"]) == 1
    assert "nothing" in capsys.readouterr().err


def test_synthetic_writes_georeferenced_pairs(scenes, capsys):
    images = sorted(file.relative_to(scenes) for file in scenes.rglob("images/*.tif"))
    assert len(images) == 2 + 2 + 2
    with rasterio.open(scenes / images[0]) as image:
        assert (image.crs.to_epsg(), image.count, image.shape) == (2180, 3, (64, 64))
    assert execute(["data", "synthetic", "--to", str(scenes)]) == 1
    assert "already exists and is not empty" in capsys.readouterr().err
    assert execute(["data", "synthetic", "--to", "other", "--option", "sizes=64"]) == 1
    assert "--option: key `sizes` is unknown. Did you mean `size`?" in capsys.readouterr().err


def test_statistics_equal_numpy(scenes, capsys):
    assert execute(["data", "statistics", "folder.yaml"]) == 0
    out = capsys.readouterr().out
    pixels = np.concatenate(
        [rasterio.open(f).read().reshape(3, -1) for f in scenes.glob("train/images/*")], axis=1
    )
    labels = np.concatenate([rasterio.open(f).read().ravel() for f in scenes.glob("train/masks/*")])
    for band in range(3):
        assert f"{pixels[band].mean():.4g}" in out
        assert f"{pixels[band].std():.4g}" in out
    assert f"{(labels == 0).sum():,}" in out
    assert f"{100 * (labels != 0).mean():.2f} %" in out


@pytest.mark.filterwarnings("error::rasterio.errors.NotGeoreferencedWarning")
def test_tile_writes_tiles_that_can_be_read_back(scenes, tmp_path, capsys):
    capsys.readouterr()
    assert execute(["data", "tile", "folder.yaml", "--to", "tiles", "--size", "32"]) == 0
    answer = capsys.readouterr()
    assert (answer.out, answer.err.strip()) == ("tiles       tiles\n", "")
    manifest = json.loads((tmp_path / "tiles" / "manifest.json").read_text())
    assert len(manifest["tiles"]) == 6 * 4
    assert len(list((tmp_path / "tiles" / "train" / "images").glob("*.png"))) == 2 * 4
    again = ["data", "statistics", "folder.yaml", "--set", "data.root=tiles", "--data-root", "."]
    assert execute(again) == 0


def test_check_names_all_faults_and_leaves_a_report(scenes, tmp_path, capsys):
    assert execute(["data", "check", "folder.yaml", "--output", "ok"]) == 0
    out = capsys.readouterr().out
    assert "Nothing wrong was found." in out
    assert f"{2 * 64 * 64:,}" in out
    assert max(map(len, out.splitlines())) <= 80
    assert json.loads((tmp_path / "ok" / "check.json").read_text())["ok"] is True
    assert (tmp_path / "ok" / "contact_sheet.png").stat().st_size > 1000
    broken = sorted(scenes.glob("test/masks/*.tif"))[0]
    broken.write_bytes(broken.read_bytes()[:-200])
    stray = sorted(scenes.glob("train/images/*.tif"))[0]
    for kind in ("images", "masks"):
        source = scenes / "train" / kind / stray.name
        (scenes / "val" / kind / "stray.tif").write_bytes(source.read_bytes())
    assert execute(["data", "check", "folder.yaml", "--output", "bad"]) == 1
    out = capsys.readouterr().out
    assert "2 problem(s)." in out
    assert f"test/masks/{broken.name}" in out
    assert "stray.tif" in out
    kinds = [one["kind"] for one in json.loads((tmp_path / "bad" / "check.json").read_text())["problems"]]
    assert sorted(kinds) == ["file", "leak"]


def test_check_says_a_fault_of_all_files_once(scenes, capsys):
    """Mask values that no class names: one message with the number of files, and no table of zeros."""
    recipe = [
        "data",
        "check",
        "folder.yaml",
        "--set",
        "data.classes=[{name: a, values: [1], color: '#000000'}]",
    ]
    assert execute(recipe) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("every mask value must be in the class map") == 1
    assert "The same of 5 more: " in out
    assert "6 problem(s)." in out
    assert "scenes" not in out.split("wrong:")[0]


def test_check_looks_at_its_folder_first(scenes, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert execute(["data", "check", "folder.yaml", "--output", "file/out"]) == 1
    answer = capsys.readouterr()
    assert "file/out must be writable" in answer.err
    assert answer.out == ""


def test_check_of_whole_images(tmp_path, capsys):
    (tmp_path / "digits.yaml").write_text("name: digits\ndata: {dataset: digits}\nmodel: {name: cnn}\n")
    assert execute(["data", "check", "digits.yaml", "--output", "out"]) == 0
    out = capsys.readouterr().out
    assert "images" in out
    assert (tmp_path / "out" / "contact_sheet.png").is_file()


def test_fetch_knows_what_it_can_fetch(capsys):
    assert execute(["data", "fetch", "synthetic"]) == 1
    assert "cannot be downloaded" in capsys.readouterr().err


def test_missing_data_set_is_explained(tmp_path, capsys):
    (tmp_path / "folder.yaml").write_text(FOLDER_RECIPE)
    assert execute(["data", "statistics", "folder.yaml"]) == 1
    assert "scenes" in capsys.readouterr().err
