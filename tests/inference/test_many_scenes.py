"""Folders of scenes: what is finished is kept, what fails stops nothing, nothing is replaced unasked."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from rasterio.shutil import copy

from qhybrid.errors import ConfigError, DataError, WorkspaceError
from qhybrid.inference import (
    MapOptions,
    Products,
    find_scenes,
    map_one_scene,
    map_places,
    map_scenes,
    write_map,
)
from qhybrid.inference.part_folder import part_path

GRID = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(4e5, 5e6, 10, 10)}
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture
def run(run):
    return replace(run, patch_size=32)


@pytest.fixture
def scenes(write_raster, tmp_path):
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(("a", "b", "c")):
        values = np.random.default_rng(seed).integers(1, 256, (2, 40, 50), dtype=np.uint8)
        write_raster(values, f"in/{name}.tif", **GRID)
    return tmp_path / "in"


def states(outcomes):
    return [outcome.state for outcome in outcomes]


def test_a_folder_is_mapped_once(run, scenes, tmp_path):
    out = tmp_path / "out"
    first = map_scenes(run, [scenes], out, options=MapOptions(probabilities=True))
    assert states(first) == ["mapped"] * 3
    assert sorted(file.name for file in out.glob("*.tif")) == sorted(
        f"{name}{what}.tif" for name in "abc" for what in ("", "_probabilities")
    )
    alone = write_map(run, scenes / "b.tif", tmp_path / "alone.tif", probabilities=True)
    assert (out / "b.tif").read_bytes() == alone[0].read_bytes()
    run.model.batches.clear()
    assert states(map_scenes(run, [scenes], out, options=MapOptions(probabilities=True))) == ["kept"] * 3
    assert run.model.batches == []
    (out / "b_probabilities.tif").unlink()
    again = map_scenes(run, [scenes], out, options=MapOptions(probabilities=True, overwrite=True))
    assert states(again) == ["kept", "mapped", "kept"]


def test_a_failed_scene_does_not_stop_the_others(run, scenes, tmp_path):
    content = (scenes / "b.tif").read_bytes()
    (scenes / "b.tif").write_bytes(content[: len(content) // 2])
    told = []
    outcomes = map_scenes(run, [scenes], tmp_path / "out", done=told.append)
    assert states(outcomes) == ["mapped", "failed", "mapped"]
    assert "b.tif" in outcomes[1].reason
    assert told == outcomes
    assert not list((tmp_path / "out").glob("*b.tif*"))
    (scenes / "b.tif").write_bytes(content)
    assert states(map_scenes(run, [scenes], tmp_path / "out")) == ["kept", "mapped", "kept"]


def test_a_changed_scene_or_model_is_refused_before_the_first_map(run, scenes, tmp_path):
    out = tmp_path / "out"
    map_scenes(run, [scenes], out)
    before = (out / "c.tif").read_bytes()
    (out / "a.tif").unlink()
    shutil.copy(scenes / "a.tif", scenes / "c.tif")
    run.model.batches.clear()
    with pytest.raises(WorkspaceError, match=r"c\.tif exists already.*--overwrite"):
        map_scenes(run, [scenes], out)
    assert run.model.batches == []
    assert (out / "c.tif").read_bytes() == before
    assert states(map_scenes(run, [scenes], out, options=MapOptions(overwrite=True))) == [
        "mapped",
        "kept",
        "mapped",
    ]
    assert (out / "c.tif").read_bytes() == (out / "a.tif").read_bytes()


def test_an_interrupted_folder_goes_on(run, scenes, tmp_path):
    def progress(number, count, scene):
        def stop(done, total):
            if number == 2:
                raise KeyboardInterrupt

        return stop

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        map_scenes(run, [scenes], out, progress=progress)
    assert (out / "a.tif").is_file()
    assert states(map_scenes(run, [scenes], out)) == ["kept", "mapped", "mapped"]
    assert not list(out.glob(".*"))


def test_products_are_made_and_kept(run, scenes, tmp_path):
    out = tmp_path / "out"
    products = Products(polygons="gpkg", preview=True)
    outcomes = map_scenes(run, [scenes / "a.tif"], out, products=products)
    assert [file.name for file in outcomes[0].files] == ["a.tif", "a.gpkg", "a.html"]
    meta, _, _, fields = pyogrio.raw.read(out / "a.gpkg")
    assert dict(zip(meta["fields"], fields))["pixels"].sum() == 40 * 50
    assert states(map_scenes(run, [scenes / "a.tif"], out, products=products)) == ["kept"]
    with pytest.raises(WorkspaceError, match=r"a\.gpkg exists already"):
        map_scenes(run, [scenes / "a.tif"], out, products=replace(products, simplify=3.0))
    other = map_scenes(
        run,
        [scenes / "a.tif"],
        out,
        products=replace(products, simplify=3.0),
        options=MapOptions(overwrite=True),
    )
    assert states(other) == ["mapped"]
    (out / "a.html").unlink()
    run.model.batches.clear()
    assert states(map_scenes(run, [scenes / "a.tif"], out, products=replace(products, simplify=3.0))) == [
        "mapped"
    ]
    assert run.model.batches == []  # of the map that is there


def test_one_scene_with_products(run, scenes, tmp_path):
    products = Products(polygons=str(tmp_path / "areas.geojson"), preview=True)
    files = map_one_scene(run, scenes / "a.tif", tmp_path / "map.tif", products=products)
    assert [file.name for file in files] == ["map.tif", "areas.geojson", "map.html"]
    assert all(file.is_file() for file in files)
    with pytest.raises(WorkspaceError, match=r"map\.tif exists already"):
        map_one_scene(run, scenes / "a.tif", tmp_path / "map.tif", products=products)
    (tmp_path / "map.tif").unlink()
    with pytest.raises(WorkspaceError, match=r"areas\.geojson exists already"):
        map_one_scene(run, scenes / "a.tif", tmp_path / "map.tif", products=replace(products, simplify=2.0))


@pytest.mark.parametrize("several", [True, False])
def test_a_kill_while_products_are_made_leaves_nothing(run, scenes, tmp_path, monkeypatch, several):
    out, products = tmp_path / "out", Products(polygons="gpkg", preview=True)

    def mapped():
        if several:
            assert states(map_scenes(run, [scenes / "a.tif"], out, products=products)) == ["mapped"]
        else:
            map_one_scene(run, scenes / "a.tif", out / "a.tif", products=products)
        return {file.name: file.read_bytes() for file in out.iterdir()}

    whole = mapped()
    assert sorted(whole) == ["a.gpkg", "a.html", "a.tif", "a.tif.aux.xml"]
    shutil.rmtree(out)
    with monkeypatch.context() as patch:
        patch.setattr(pyogrio.raw, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mapped()
    assert sorted(file.name for file in out.iterdir()) == ["a.tif", "a.tif.aux.xml"]
    part_path(out / "a.gpkg").mkdir()  # as after kill -9
    (part_path(out / "a.gpkg") / ".a.gpkg.x.part.gpkg").write_text("half")
    run.model.batches.clear()
    assert mapped() == whole
    assert run.model.batches == []  # the map was there


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


def test_products_are_refused_before_mapping(run, scenes, tmp_path):
    with pytest.raises(ConfigError, match=r"gpkg or geojson.*Did you mean `gpkg`"):
        map_one_scene(run, scenes / "a.tif", tmp_path / "m.tif", products=Products(polygons="gpgk"))
    with rasterio.open(scenes / "a.tif", "r+") as file:
        points = [rasterio.control.GroundControlPoint(r, c, c, -r) for r in (0, 40) for c in (0, 50)]
        file.gcps = (points, "EPSG:4326")
    with pytest.raises(DataError, match="gdalwarp"):
        map_one_scene(run, scenes / "a.tif", tmp_path / "m.tif", products=Products(polygons="gpkg"))
    assert run.model.batches == []


def test_wrong_settings_are_one_error(run, scenes, tmp_path):
    for options, more in (
        (MapOptions(draws=3), {}),
        (MapOptions(file_format="x"), {}),
        (None, {"device": "x"}),
    ):
        with pytest.raises(ConfigError):
            map_scenes(run, [scenes], tmp_path / "out", options=options, **more)
    assert not (tmp_path / "out").exists()


def test_which_scenes_are_meant(scenes, tmp_path):
    (scenes / "notes.txt").write_text("x")
    (scenes / ".hidden.tif").write_text("x")
    part_path(scenes / "m.tif").mkdir()
    (part_path(scenes / "m.tif") / "m.tif").write_text("x")
    (scenes / "deep").mkdir()
    shutil.copy(scenes / "a.tif", scenes / "deep" / "a.tif")
    names = [scenes / f"{name}.tif" for name in "abc"]
    assert list(find_scenes([scenes])) == names
    assert list(find_scenes([str(scenes / "[ab].tif"), scenes / "b.tif"])) == names[:2]
    assert list(find_scenes([str(scenes / "**" / "*.tif")])) == [*names, scenes / "deep" / "a.tif"]
    assert list(find_scenes([str(scenes / "**" / "*.tif")], scenes / "deep")) == names
    for nothing in (tmp_path / "in" / "*.jp2", part_path(scenes / "m.tif")):
        with pytest.raises(DataError, match="must hold scenes"):
            find_scenes([nothing])


def test_scenes_below_a_hidden_folder(scenes, tmp_path):
    hidden = tmp_path / ".data" / "in"
    shutil.copytree(scenes, hidden)
    names = [hidden / f"{name}.tif" for name in "abc"]
    assert list(find_scenes([hidden])) == names
    assert list(find_scenes([str(hidden / "*.tif")])) == names
    with pytest.raises(DataError, match="must hold scenes"):
        find_scenes([str(tmp_path / "*" / "in" / "*.tiff")])


def test_scenes_in_archives_and_by_address(run, scenes, tmp_path, monkeypatch):
    archive = Path(shutil.make_archive(str(tmp_path / "scenes"), "zip", scenes))
    plain = map_scenes(run, [scenes], tmp_path / "plain")
    inside = map_scenes(run, [archive], tmp_path / "zip")
    (one,) = map_scenes(run, [f"/vsizip/{archive}/b.tif"], tmp_path / "one")
    assert states(inside) == ["mapped"] * 3
    assert [outcome.files[0].name for outcome in inside] == ["a.tif", "b.tif", "c.tif"]
    for found, wanted in [*zip(inside, plain), (one, plain[1])]:
        with rasterio.open(found.files[0]) as first, rasterio.open(wanted.files[0]) as second:
            np.testing.assert_array_equal(first.read(), second.read())
            assert first.transform == second.transform
    assert states(map_scenes(run, [archive], tmp_path / "zip")) == ["kept"] * 3
    addresses = ["https://host.org/x/a.tif?key=1", "https://host.org/x/y/b.tif", "s3://bucket/c.tif"]
    assert [str(scene) for scene in find_scenes(addresses)] == addresses
    places = map_places(find_scenes(addresses[:2]), "out", MapOptions(), Products())
    assert list(places.values()) == [Path("out/a.tif"), Path("out/y/b.tif")]


def test_the_sources_of_a_scene_are_not_replaced(run, scenes, tmp_path):
    copy(scenes / "a.tif", tmp_path / "a.vrt", driver="VRT")
    with pytest.raises(ConfigError, match=r"one of its files, but .*a\.tif is"):
        write_map(run, tmp_path / "a.vrt", scenes / "a.tif", options=MapOptions(overwrite=True))


def test_names_that_would_meet_are_refused(run, scenes, tmp_path):
    (scenes / "deep").mkdir()
    shutil.copy(scenes / "a.tif", scenes / "deep" / "a.tif")
    outcomes = map_scenes(run, [str(scenes / "**" / "a.tif")], tmp_path / "tree")
    assert [outcome.files[0].relative_to(tmp_path / "tree").as_posix() for outcome in outcomes] == [
        "a.tif",
        "deep/a.tif",
    ]
    shutil.copy(scenes / "a.tif", scenes / "a.tiff")
    with pytest.raises(ConfigError, match=r"a\.tif is to be written for scene .*a\.tiff, but belongs to"):
        map_scenes(run, [scenes], tmp_path / "out")
    (scenes / "a.tiff").unlink()
    with pytest.raises(ConfigError, match="belongs to"):
        map_scenes(run, [scenes], scenes)
    shutil.copy(scenes / "a.tif", scenes / "a_probabilities.tif")
    with pytest.raises(ConfigError, match="a_probabilities"):
        map_scenes(run, [scenes], tmp_path / "out", options=MapOptions(probabilities=True))
    assert not (tmp_path / "out").exists()
