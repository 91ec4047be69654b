"""Sweeps see every change of their data: cells and trained runs are of the data that are there."""

from __future__ import annotations

import datetime
import gzip
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from turned_circuit import builder_with

from qhybrid.circuits import CIRCUITS, register_circuit
from qhybrid.config import Recipe, validated
from qhybrid.config.sweeps import SweepConfig
from qhybrid.data.deciding_files import DecidingFiles
from qhybrid.evaluation import evaluate_run, load_subject
from qhybrid.experiments.sweeps import read_results, run_sweep
from qhybrid.experiments.sweeps.cells import Conditions, SweepRun, cell_key
from qhybrid.experiments.sweeps.earlier import made_after
from qhybrid.experiments.sweeps.runs import run_names
from qhybrid.experiments.sweeps.store import CellStore
from qhybrid.experiments.sweeps.training import list_trainings, recipe_key
from qhybrid.experiments.sweeps.worker import loaded_subject, run_job


@pytest.fixture
def data(scenes_root, tmp_path):
    """A copy of the data set that a test may change."""
    return shutil.copytree(scenes_root, tmp_path / "data")


def change(file, how):
    with rasterio.open(file, "r+") as target:
        target.write(how(target.read()))


def other_labels(values):
    """All fields are roads, and all roads fields."""
    return np.where(values == 10, 30, np.where(values == 30, 10, values)).astype(np.uint8)


def half_empty(values):
    """The left half holds no data."""
    values[..., : values.shape[-1] // 2] = 0
    return values


def value_of(outcome):
    table = read_results(outcome.folder)
    return float(table[table["metric"] == "accuracy"]["value"].iloc[0])


def wrap_in_vrt(file):
    """Put a VRT in the place of an image; return its source."""
    source = file.parent.parent / "raw.tif"
    shutil.move(file, source)
    with rasterio.open(source) as image:
        shape, transform = image.shape, ",".join(map(str, image.transform.to_gdal()))
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>0</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">../raw.tif</SourceFilename><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    file.with_suffix(".vrt").write_text(
        f'<VRTDataset rasterXSize="{shape[1]}" rasterYSize="{shape[0]}"><SRS>EPSG:2180</SRS>'
        f"<GeoTransform>{transform}</GeoTransform>{bands}</VRTDataset>"
    )
    return source


def mask_half(file):
    """Write the mask file that GDAL reads with an image: its upper half holds no data."""
    with rasterio.open(file) as image:
        profile, shape = image.profile, image.shape
    valid = np.full(shape, 255, np.uint8)
    valid[: shape[0] // 2] = 0
    profile.update(count=1, dtype="uint8", nodata=None)
    with rasterio.open(f"{file}.msk", "w", **profile) as target:
        target.write(valid, 1)
        target.update_tags(INTERNAL_MASK_FLAGS_1="2")


def say_nodata(file):
    """Say in a file beside an image that 0 is no data."""
    band = '<PAMRasterBand band="{}"><NoDataValue>0</NoDataValue></PAMRasterBand>'
    bands = "".join(band.format(number) for number in (1, 2, 3))
    file.with_name(file.name + ".aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")


CHANGES = {
    "mask": lambda test: change(test / "masks" / "a.tif", other_labels),
    "image": lambda test: change(test / "images" / "a.tif", half_empty),
    ".msk": lambda test: mask_half(test / "images" / "a.tif"),
    ".aux.xml": lambda test: say_nodata(test / "images" / "a.tif"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_cell_is_computed_again_when_its_data_change(what, make_run, sweep_of, data, tmp_path):
    run = make_run("scenes", name="hq_unet", grid=2)
    config, out = sweep_of([run], {}), tmp_path / "out"
    if what == ".aux.xml":
        with rasterio.open(data / "test" / "images" / "a.tif", "r+") as image:
            image.nodata = None
    before = value_of(run_sweep(config, data, out, processes=1))
    CHANGES[what](data / "test")
    again = run_sweep(config, data, out, processes=1)
    assert again.computed == 1
    right = evaluate_run(run, data_root=data, output=tmp_path / "right")
    assert value_of(again) == pytest.approx(right["accuracy"], rel=1e-6)
    assert value_of(again) != before
    assert run_sweep(config, data, out, processes=1).computed == 0


def test_sources_behind_a_vrt_are_data(make_run, sweep_of, data, tmp_path):
    run = make_run("scenes", name="hq_unet", grid=2)
    source = wrap_in_vrt(data / "test" / "images" / "a.tif")
    config, out = sweep_of([run], {}), tmp_path / "out"
    before = value_of(run_sweep(config, data, out, processes=1))
    change(source, half_empty)
    again = run_sweep(config, data, out, processes=1)
    assert again.computed == 1
    right = evaluate_run(run, data_root=data, output=tmp_path / "right")
    assert value_of(again) == pytest.approx(right["accuracy"], rel=1e-6)
    assert value_of(again) != before


def test_data_that_lie_elsewhere_are_the_same_cells(make_run, sweep_of, data, tmp_path):
    config, out = sweep_of([make_run("scenes", name="hq_unet", grid=2)], {}), tmp_path / "out"
    run_sweep(config, data, out, processes=1)
    assert run_sweep(config, shutil.move(data, tmp_path / "moved"), out, processes=1).computed == 0


def test_images_that_changed_are_not_taken_from_memory(make_image_run, sweep_of, mnist_root, tmp_path):
    root = shutil.copytree(mnist_root, tmp_path / "data")
    config, out = sweep_of([make_image_run()], {}), tmp_path / "out"
    before = value_of(run_sweep(config, root, out, processes=1))
    labels, images = (root / "mnist" / f"t10k-{kind}-ubyte.gz" for kind in ("labels-idx1", "images-idx3"))
    content = bytearray(gzip.decompress(labels.read_bytes()))
    content[8:] = bytes(8 - value for value in content[8:])
    labels.write_bytes(gzip.compress(bytes(content)))
    assert images.is_file()
    again = run_sweep(config, root, out, processes=1)
    assert again.computed == 1
    assert value_of(again) == pytest.approx(1 - before)


def test_circuits_of_others_count_by_their_gates(make_image_run, sweep_of, mnist_root, tmp_path):
    """A plugin or script that changes its circuit keeps the builder's name."""

    out, found = tmp_path / "out", []
    with CIRCUITS.restored():
        register_circuit("turned", builder_with("rx"))
        config = sweep_of([make_image_run(model="hybrid_cnn", head={"circuit": "turned"})], {}, samples=4)
        for gate in ("rx", "ry", "rx"):
            register_circuit("turned", builder_with(gate), replace=True)
            found.append(run_sweep(config, mnist_root, out, processes=1).computed)
    assert found == [1, 1, 0]


def test_recipes_whose_keys_stand_in_another_order_are_one():
    content = {"name": "a", "data": {"dataset": "mnist", "options": {"train": 16, "test": 8}}, "model": {}}
    content["model"] = {"name": "mlp", "hidden": [4], "dropout": 0.1}
    other = {**content, "seed": 1, "model": dict(reversed(content["model"].items()))}
    other["data"] = {"options": {"test": 8, "train": 16}, "dataset": "mnist"}
    recipes = [(Path(str(one)), Recipe.model_validate(given)) for one, given in enumerate((content, other))]
    assert run_names(recipes) == ["a", "a"]


def test_data_that_change_while_a_sweep_runs_are_an_error(make_run, sweep_of, data, tmp_path):
    """A cell must not be kept under the key of other data than it was computed of."""
    run = make_run("scenes", name="hq_unet", grid=2)
    settings = {"which": "best", "split": "test", "samples": None, "data_root": str(data)}
    subject = loaded_subject(str(run), *settings.values())
    job = {
        "key": "k", "folder": str(run), "weights": None, "data_hash": subject.identify().hash,
        "conditions": Conditions("exact", "ideal").to_dict(), "noise": None, "settings": settings,
    }  # fmt: skip
    job["weights"] = ""
    assert "weights must stay as they are" in run_job(job)["error"]
    job["weights"] = None
    assert "result" in run_job(job)
    change(data / "test" / "masks" / "a.tif", other_labels)
    assert "images and masks must stay as they are" in run_job(job)["error"]


def test_what_cannot_be_told_is_computed_each_time(make_run, sweep_of, data, tmp_path, monkeypatch):
    monkeypatch.setattr("qhybrid.data.identity.deciding_files", _unknown)
    config, out = sweep_of([make_run("scenes", name="hq_unet", grid=2)], {}), tmp_path / "out"
    assert [run_sweep(config, data, out, processes=1).computed for _ in range(2)] == [1, 1]


def _unknown(location, listings=None):
    return DecidingFiles({}, unknown=(str(location),))


class TestEarlierCells:
    """Cells of earlier versions were kept under masks' bytes and samples of images."""

    @pytest.fixture
    def earlier(self, make_run, sweep_of, data, tmp_path):
        """A sweep whose cell lies under its earlier key, computed in ten seconds' time."""
        run = make_run("scenes", name="hq_unet", grid=2)
        config, out = sweep_of([run], {}), tmp_path / "out"
        run_sweep(config, data, out, processes=1)
        (file,) = (out / "cells").glob("*.json")
        subject = load_subject(run, "best", "test", None, data)
        identity = subject.earlier_identity(subject.identify())
        kept = json.loads(next((out / "runs").iterdir()).read_text())
        named = {**kept["identity"], "data": {"dataset": "geotiff_folder", **identity}}
        settings = {"split": "test", "samples": None}
        key = cell_key(
            SweepRun("", str(run), named, kept["facts"]), Conditions("exact", "ideal"), None, settings
        )
        content = json.loads(file.read_text())
        store = CellStore(out)
        store.save_predictions(key, store.predictions(file.stem).read_bytes())
        made = datetime.datetime.fromtimestamp(time.time() + 10, datetime.UTC).isoformat()
        content["made_with"]["created"] = made
        content["metrics"]["accuracy"] = 0.5  # recognised by it
        store.save(key, content)
        for old in (out / "cells").glob(f"{file.stem}*"):
            old.unlink()
        return config, data, out

    def test_they_are_taken_over_when_nothing_has_changed_since(self, earlier):
        config, data, out = earlier
        outcome = run_sweep(config, data, out, processes=1)
        assert (outcome.computed, outcome.taken, outcome.doubtful) == (0, 1, 0)
        assert value_of(outcome) == 0.5
        assert run_sweep(config, data, out, processes=1).taken == 0

    def test_they_are_computed_again_when_it_is_not_known(self, earlier):
        """Of a large image a change may lie between the samples."""
        config, data, out = earlier
        (file,) = (out / "cells").glob("*.json")
        content = json.loads(file.read_text())
        content["made_with"]["created"] = "2020-01-01T00:00:00+00:00"
        file.write_text(json.dumps(content))
        outcome = run_sweep(config, data, out, processes=1)
        assert (outcome.computed, outcome.taken, outcome.doubtful) == (1, 0, 1)
        assert value_of(outcome) != 0.5

    def test_a_result_must_be_younger_than_the_newest_change(self):
        made = "2024-05-01T12:00:00+00:00"
        moment = datetime.datetime.fromisoformat(made).timestamp()
        assert made_after(made, moment - 3)
        assert not made_after(made, moment - 1)
        assert not made_after(made, moment + 100)
        assert not made_after(made, None)
        assert not made_after("", moment - 100)


class TestTraining:
    @pytest.fixture(scope="class")
    def config(self, tiny_content, tmp_path_factory):
        """A sweep that trains on scenes of its own."""
        recipe = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
        recipe.write_text(yaml.safe_dump(tiny_content(epochs=1)))
        section = {"train": [{"recipe": str(recipe), "vary": {"seed": [0]}}]}
        return validated(SweepConfig, {"name": "t", "sweep": section}, "test")

    @pytest.fixture
    def tiny(self, config, tiny_data, tmp_path):
        """The sweep, and a copy of its scenes that a test may change."""
        return config, shutil.copytree(tiny_data, tmp_path / "data")

    @pytest.fixture(scope="class")
    def done(self, config, tiny_data, tmp_path_factory):
        """The folder of the sweep, finished."""
        out = tmp_path_factory.mktemp("done") / "out"
        assert run_sweep(config, tiny_data, out, processes=1).failures == []
        return out

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_runs_are_trained_again_when_their_masks_change(self, tiny, done, tmp_path, split):
        config, data = tiny
        out = shutil.copytree(done, tmp_path / "out")
        (first,) = (out / "trained").iterdir()
        (known,) = list_trainings(config.sweep.train, out, data)  # its data are the same elsewhere
        assert (known.folder.name, known.finished) == (first.name, True)
        weights = (first / "best" / "weights.safetensors").read_bytes()
        (mask, *_) = sorted((data / "tiny" / split / "masks").iterdir())
        change(mask, lambda values: (7 - values).astype(np.uint8))
        assert run_sweep(config, data, out, processes=1).failures == []
        folders = set((out / "trained").iterdir())
        assert len(folders) == 2
        assert (first / "best" / "weights.safetensors").read_bytes() == weights
        assert {run.folder.name for run in list_trainings(config.sweep.train, out, data)} == {
            folder.name for folder in folders - {first}
        }
        # Cells are of the new run alone.
        assert set(read_results(out)["seeds"]) == {1}

    def test_test_data_do_not_decide_a_training(self, tiny, tmp_path):
        config, data = tiny
        before = [run.key for run in list_trainings(config.sweep.train, tmp_path, data)]
        change(data / "tiny" / "test" / "masks" / "d.tif", lambda values: (7 - values).astype(np.uint8))
        assert [run.key for run in list_trainings(config.sweep.train, tmp_path, data)] == before

    def test_runs_of_earlier_versions_are_used_when_nothing_has_changed_since(self, tiny, tmp_path):
        config, data = tiny
        (run,) = list_trainings(config.sweep.train, tmp_path, data)
        earlier = run.folder.with_name(recipe_key(run.recipe))
        earlier.mkdir(parents=True)
        (earlier / "sweep.done").write_text("")
        for created, used in (("2020-01-01T00:00:00+00:00", False), ("2100-01-01T00:00:00+00:00", True)):
            (earlier / "environment.json").write_text(json.dumps({"created": created}))
            (found,) = list_trainings(config.sweep.train, tmp_path, data)
            assert (found.folder == earlier, found.finished, found.doubtful) == (used, used, not used)

    def test_data_that_change_while_a_run_trains_do_not_finish_it(self, tiny, tmp_path):
        config, data = tiny
        (run,) = list_trainings(config.sweep.train, tmp_path, data)
        change(data / "tiny" / "train" / "masks" / "a.tif", lambda values: (7 - values).astype(np.uint8))
        answer = run_job(run.job(data, "test"))
        assert "training data must stay as they are" in answer["error"]
        assert not run.finished

    @pytest.mark.parametrize("removed", ["masks/d.tif", "images", ""])
    def test_a_test_split_that_cells_need_is_missed_before_runs_are_trained(self, tiny, tmp_path, removed):
        config, data = tiny
        place = data / "tiny" / "test" / removed
        (shutil.rmtree if place.is_dir() else Path.unlink)(place)
        (run,) = list_trainings(config.sweep.train, tmp_path, data)
        answer = run_job(run.job(data, "test"))
        assert str(data / "tiny" / "test" / "images") in answer["error"]
        assert not run.folder.exists()

    def test_runs_without_data_are_never_finished(self, tiny, tmp_path):
        config, _ = tiny
        (run,) = list_trainings(config.sweep.train, tmp_path, tmp_path / "nowhere")
        run.folder.mkdir(parents=True)
        (run.folder / "sweep.done").write_text("")
        assert not run.finished

    def test_keys_of_recipes_stay(self, tiny_content):
        """As they were before later keys of recipes came, and when another learning rate was the default."""
        recipe = Recipe.model_validate(tiny_content(epochs=1, learning_rate=1e-3))
        assert recipe_key(recipe) == "1568235a2d6e039c"
