"""A map goes on where it was stopped: the state on the disk at any moment leads to the same bytes."""

import errno
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from rasterio._err import CPLE_FileIOError
from turned_circuit import builder_with

from qhybrid.circuits import register_circuit
from qhybrid.circuits.library import CIRCUITS
from qhybrid.config import PredictionConfig
from qhybrid.errors import WorkspaceError
from qhybrid.inference import MapOptions, map_scenes, part_folder, write_map
from qhybrid.inference.map_key import model_key
from qhybrid.inference.part_folder import RawRaster, part_path
from qhybrid.models import build_model

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
ALL = MapOptions(probabilities=True, uncertainty=True)


@pytest.fixture
def run(run):
    return replace(run, patch_size=32)


@pytest.fixture
def scene(write_raster):
    image = np.random.default_rng(4).integers(1, 256, (2, 150, 130), dtype=np.uint8)
    image[:, 120:, :40] = 0
    return write_raster(image, nodata=0)


@pytest.fixture(autouse=True)
def note_every_row(monkeypatch):
    monkeypatch.setattr(part_folder, "CHECKPOINT_SECONDS", 0.0)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def killed_after(windows, run, scene, output, **options):
    """Return the part folder as a kill -9 would have left it after some windows."""
    saved = output.parent / "saved"

    def snapshot(done, total):
        if done >= windows and not saved.exists():
            shutil.copytree(part_path(output), saved)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_map(run, scene, output, progress=snapshot, **options)
    shutil.rmtree(part_path(output), ignore_errors=True)
    saved.rename(part_path(output))


@pytest.mark.parametrize(("windows", "memory"), [(1, 512.0), (40, 512.0), (9, 0.05), (90, 0.05)])
def test_a_killed_map_ends_as_the_same_bytes(run, scene, tmp_path, windows, memory):
    write_map(run, scene, tmp_path / "whole" / "map.tif", options=ALL, max_memory_mb=memory)
    output = tmp_path / "killed" / "map.tif"
    output.parent.mkdir()
    killed_after(windows, run, scene, output, options=ALL, max_memory_mb=memory)
    assert not output.exists()
    seen = []
    write_map(run, scene, output, options=ALL, max_memory_mb=memory, progress=lambda *a: seen.append(a))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert seen[-1][0] == seen[-1][1]
    if windows >= 40:
        assert seen[0][0] > 1  # not from the start again


def test_finished_windows_are_not_predicted_again(run, scene, tmp_path):
    output = tmp_path / "map.tif"
    killed_after(50, run, scene, output)
    run.model.batches.clear()
    write_map(run, scene, output)
    assert 0 < sum(run.model.batches) < 40  # of 72; one row of windows reaches into the next


def test_interrupted_is_kept_and_success_leaves_nothing(run, scene, tmp_path):
    output = tmp_path / "out" / "map.tif"

    def stop(done, total):
        if done > 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_map(run, scene, output, progress=stop)
    assert list(output.parent.iterdir()) == [part_path(output)]
    write_map(run, scene, output)
    assert sorted(file.name for file in output.parent.iterdir()) == ["map.tif", "map.tif.aux.xml"]


@pytest.mark.parametrize("change", ["weights", "scene", "overlap", "codes", "classes"])
def test_another_map_does_not_go_on_from_it(run, scene, tmp_path, change):
    output = tmp_path / "map.tif"
    killed_after(50, run, scene, output)
    options = {}
    if change == "weights":
        with torch.no_grad():
            run.model.mix.bias += 1.0
    elif change == "scene":
        scene.write_bytes(scene.read_bytes()[:-1] + b"\x01")
    elif change == "overlap":
        options["settings"] = PredictionConfig(overlap=0.25, batch_size=3)
    elif change == "codes":
        options["options"] = MapOptions(codes=True)
    else:
        run = replace(run, classes=replace(run.classes, names=("a", "b", "c")))
    with pytest.warns(UserWarning, match="another map was begun here"):
        write_map(run, scene, output, **options)
    fresh = tmp_path / "fresh.tif"
    write_map(run, scene, fresh, **options)
    assert output.read_bytes() == fresh.read_bytes()


@pytest.mark.parametrize(("circuit", "changes"), [("turned", True), ("hqf_local", False)])
def test_a_map_by_a_circuit_that_has_changed_under_its_name_is_another_one(run, circuit, changes):
    section = {"name": "unet", "in_channels": 2, "num_classes": 3, "widths": [4] * 5}
    keys = []
    with CIRCUITS.restored():
        for gate in ("rx", "ry", "ry"):
            register_circuit("turned", builder_with(gate), "a circuit of a script", replace=True)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = build_model({**section, "bottleneck": {"circuit": circuit}})
            keys.append(model_key(replace(run, model=model)))
    assert keys[1] == keys[2]
    assert (keys[0] != keys[1]) == changes


def test_a_process_killed_between_the_files_of_a_map_goes_on(run, scene, tmp_path):
    write_map(run, scene, tmp_path / "whole" / "map.tif", options=ALL)
    output = tmp_path / "killed" / "map.tif"
    output.parent.mkdir()
    killed_after(72, run, scene, output, options=ALL)
    shutil.copy(tmp_path / "whole" / "map.tif", output)  # the first of three is in its place
    write_map(run, scene, output, options=ALL)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_one_process_at_a_time(run, scene, tmp_path):
    def again(done, total):
        with pytest.raises(WorkspaceError, match="Only one process"):
            write_map(run, scene, tmp_path / "map.tif")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_map(run, scene, tmp_path / "map.tif", progress=again)


def test_a_full_disk_is_found_before_the_first_window(run, scene, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(WorkspaceError, match=r"room for a map.*free disk space"):
        write_map(run, scene, tmp_path / "out" / "map.tif")
    assert run.model.batches == []
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_loses_nothing(run, scene, tmp_path, monkeypatch):
    """A file system without allocation ahead (network, copy on write) is full on writing."""
    write, calls = os.pwrite, []

    def full(handle, data, offset):
        calls.append(offset)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data, offset)

    output = tmp_path / "out" / "map.tif"
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(WorkspaceError, match="free disk space and give the same command again"):
            write_map(run, scene, output)
    assert not output.exists()
    run.model.batches.clear()
    write_map(run, scene, output)
    assert 0 < sum(run.model.batches) < 72
    whole = write_map(run, scene, tmp_path / "whole.tif")
    assert output.read_bytes() == whole[0].read_bytes()


@pytest.mark.parametrize("limit", [1, 400, 1 << 25])
def test_raw_rows_are_read_as_they_were_written(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(part_folder, "_READ_BYTES", limit)
    values = np.random.default_rng(0).random((3, 10, 9)).astype(np.float32)
    raster = RawRaster(tmp_path / "a.raw", 3, 10, 9, "float32")
    raster.write(values[:, :6, :4], 0, 0)
    raster.write(values[:, :6, 4:], 0, 4)
    raster.write(values[:, 6:], 6, 0)
    found = np.zeros_like(values)
    for row, col, block in raster.chunks(4):
        assert row % 4 == col % 4 == 0
        found[:, row : row + block.shape[1], col : col + block.shape[2]] = block
    raster.close()
    np.testing.assert_array_equal(found, values)


def test_a_map_that_was_not_put_in_place_wholly_is_not_finished(run, scene, tmp_path):
    """A kill between the map and the names of its classes, or before the hidden folder was removed."""
    whole = tmp_path / "whole"
    map_scenes(run, [scene], whole, options=ALL)
    output = tmp_path / "killed" / scene.name
    output.parent.mkdir()
    killed_after(72, run, scene, output, options=ALL)
    for file in whole.glob("*.tif"):
        shutil.copy(file, output.parent)
    map_scenes(run, [scene], output.parent, options=ALL)
    assert contents(output.parent) == contents(whole)


def test_gdals_own_errors_keep_what_is_done(run, scene, tmp_path, monkeypatch):
    """Copying raises errors of GDAL that are none of rasterio's, as on a disk that fills up at the end."""

    def full(*arguments, **options):
        raise CPLE_FileIOError(3, 3, "Failed to write block")

    output = tmp_path / "map.tif"
    with monkeypatch.context() as patch:
        patch.setattr("rasterio.shutil.copy", full)
        with pytest.raises(WorkspaceError, match=r"cannot be written.*Fix: free disk space"):
            write_map(run, scene, output)
    run.model.batches.clear()
    write_map(run, scene, output)
    assert run.model.batches == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["map.tif", "map.tif.aux.xml", scene.name]
