"""A map that several processes make has the bytes of one process, whoever dies on the way."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from qhybrid.cluster import Pool
from qhybrid.config import PredictionConfig
from qhybrid.errors import DataError, WorkspaceError
from qhybrid.inference import MapOptions, Spread, map_one_scene, map_scenes, part_folder, spread, write_map
from qhybrid.inference.map_writing import prepare_map
from qhybrid.inference.part_folder import part_path

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
ALL = MapOptions(probabilities=True, uncertainty=True)


class Shuffled(Pool):
    """Does jobs in this process, in any order, and dies when it is told to."""

    def __init__(self, seed: int = 0, lives: int = 10**6, workers: int = 2) -> None:
        super().__init__(None, "tcp://x:1", workers)
        self.seed, self.lives, self.done = seed, lives, 0

    def run(self, jobs, work):
        jobs = list(jobs)
        random.Random(self.seed).shuffle(jobs)
        for job in jobs:
            if self.done == self.lives:
                raise WorkspaceError("gone")
            self.done += 1
            yield work(job)


@pytest.fixture
def run(run):
    return replace(run, patch_size=32)


@pytest.fixture
def scene(write_raster):
    image = np.random.default_rng(4).integers(1, 256, (2, 250, 130), dtype=np.uint8)
    image[:, 120:, :40] = 0
    return write_raster(image, nodata=0)


@pytest.fixture(autouse=True)
def small_bands(monkeypatch):
    monkeypatch.setattr(spread, "WINDOWS_A_BAND", 2)
    monkeypatch.setattr(part_folder, "CHECKPOINT_SECONDS", 0.0)


def made_by(pool, run, source=None):
    return Spread(pool, (lambda: run) if source is None else source)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("memory", [512.0, 0.05])
@pytest.mark.parametrize("box", [None, (10.0, 20.0, 100.0, 190.0)])
@pytest.mark.parametrize("overlap", [0.5, 0.0, 0.8])
def test_bands_have_the_bytes_of_one_process(run, scene, tmp_path, memory, box, overlap):
    options = {
        "options": replace(ALL, box=box), "max_memory_mb": memory,
        "settings": PredictionConfig(batch_size=3, overlap=overlap),
    }  # fmt: skip
    write_map(run, scene, tmp_path / "one" / "map.tif", **options)
    pool = Shuffled(seed=3)
    map_one_scene(run, scene, tmp_path / "many" / "map.tif", spread=made_by(pool, run), **options)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert pool.done > 2


def test_bands_cover_a_map_once(run, scene):
    job = prepare_map(run, scene, scene.with_name("map.tif"), MapOptions(), max_memory_mb=0.05)
    bands = spread.plan_bands(run, job)
    seen = np.zeros((250, 130), int)
    for band in bands:
        seen[band.row : band.row + band.height, band.begin : band.end] += 1
    assert (seen == 1).all()
    assert len({band.begin for band in bands}) > 1
    assert [(band.begin, band.row) for band in bands] == sorted((band.begin, band.row) for band in bands)


@pytest.mark.parametrize("lives", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_what_a_cluster_has_finished_is_not_computed_again(run, scene, tmp_path, lives, seed):
    write_map(run, scene, tmp_path / "one" / "map.tif", options=ALL)
    output = tmp_path / "many" / "map.tif"
    first = Shuffled(seed=seed, lives=lives)
    with pytest.raises(WorkspaceError, match="gone"):
        map_one_scene(run, scene, output, options=ALL, spread=made_by(first, run))
    assert not output.exists()
    second = Shuffled(seed=seed + 1)
    map_one_scene(run, scene, output, options=ALL, spread=made_by(second, run))
    bands = spread.plan_bands(run, prepare_map(run, scene, tmp_path / "other.tif", ALL))
    assert first.done + second.done == len(bands)
    assert contents(output.parent) == contents(tmp_path / "one")


def test_one_process_goes_on_with_the_map_of_a_cluster(run, scene, tmp_path):
    write_map(run, scene, tmp_path / "one" / "map.tif", options=ALL)
    output = tmp_path / "many" / "map.tif"
    with pytest.raises(WorkspaceError, match="gone"):
        map_one_scene(run, scene, output, options=ALL, spread=made_by(Shuffled(lives=4), run))
    write_map(run, scene, output, options=ALL)
    assert contents(output.parent) == contents(tmp_path / "one")


def test_a_cluster_goes_on_with_the_map_of_one_process(run, scene, tmp_path):
    write_map(run, scene, tmp_path / "one" / "map.tif", options=ALL)
    output = tmp_path / "many" / "map.tif"

    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_map(run, scene, output, options=ALL, progress=stop)
    pool = Shuffled()
    map_one_scene(run, scene, output, options=ALL, spread=made_by(pool, run))
    assert contents(output.parent) == contents(tmp_path / "one")
    assert 0 < pool.done < len(spread.plan_bands(run, prepare_map(run, scene, tmp_path / "o.tif", ALL)))


def test_a_worker_that_dies_in_a_band_leaves_no_half_of_it(run, scene, tmp_path, monkeypatch):
    write_map(run, scene, tmp_path / "one" / "map.tif", options=ALL)
    output, compute = tmp_path / "many" / "map.tif", spread._compute
    calls = []

    def dies(*arguments):
        calls.append(arguments)
        compute(*arguments)
        if len(calls) == 3:
            raise WorkspaceError("killed")

    monkeypatch.setattr(spread, "_compute", dies)
    with pytest.raises(WorkspaceError, match="killed"):
        map_one_scene(run, scene, output, options=ALL, spread=made_by(Shuffled(seed=5), run))
    assert not list(part_path(output).glob("draft_*"))
    map_one_scene(run, scene, output, options=ALL, spread=made_by(Shuffled(seed=5), run))
    assert contents(output.parent) == contents(tmp_path / "one")


def test_a_worker_with_another_scene_or_model_is_refused(run, scene, tmp_path):
    output = tmp_path / "map.tif"
    other = replace(run, model=type(run.model)())
    with torch.no_grad():
        other.model.mix.bias += 1
    spread._MODELS.clear()
    with pytest.raises(DataError, match="every worker must have the run and the scene"):
        map_one_scene(run, scene, output, spread=made_by(Shuffled(), run, lambda: other))
    assert not output.exists()
    with pytest.raises(DataError, match="1 of 2 scenes|every worker must have the run"):
        map_scenes(
            run, [scene, scene], tmp_path / "maps", spread=made_by(Shuffled(workers=1), run, lambda: other)
        )


def test_files_that_workers_have_written_elsewhere_are_missed(run, scene, tmp_path, monkeypatch):
    monkeypatch.setattr(spread, "map_band", lambda job: {"key": job["key"]})
    with pytest.raises(
        WorkspaceError, match="are not there. Fix: have the workers of tcp://x:1 see the same"
    ):
        map_one_scene(run, scene, tmp_path / "map.tif", spread=made_by(Shuffled(), run))


def test_a_job_that_workers_die_of_ends_the_map_and_keeps_it(run, scene, tmp_path, monkeypatch):
    output, compute = tmp_path / "map.tif", spread.map_band
    killed = []

    def work(job):
        if len(killed) == 3:
            return {"key": job["key"], "error": "KilledWorker: no memory"}
        killed.append(job)
        return compute(job)

    monkeypatch.setattr(spread, "map_band", work)
    with pytest.raises(WorkspaceError, match="KilledWorker: no memory. Fix: see to its workers"):
        map_one_scene(run, scene, output, spread=made_by(Shuffled(), run))
    assert part_path(output).is_dir()


def test_many_scenes_are_mapped_one_by_each(run, write_raster, tmp_path):
    scenes = []
    for number in range(3):
        image = np.random.default_rng(number).integers(1, 256, (2, 60, 50 + number), dtype=np.uint8)
        scenes.append(write_raster(image, nodata=0).rename(tmp_path / f"scene_{number}.tif"))
    scenes[1].write_bytes(b"no raster")
    told = []
    alone = map_scenes(run, scenes, tmp_path / "one", options=ALL)
    found = map_scenes(
        run, scenes, tmp_path / "many", options=ALL, spread=made_by(Shuffled(seed=2), run), done=told.append
    )
    assert [one.state for one in found] == [one.state for one in alone] == ["mapped", "failed", "mapped"]
    assert [one.scene for one in found] == scenes
    assert sorted(one.scene for one in told) == scenes
    assert found[1].reason == alone[1].reason
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    again = map_scenes(run, scenes, tmp_path / "many", options=ALL, spread=made_by(Shuffled(), run))
    assert [one.state for one in again] == ["kept", "failed", "kept"]


def test_few_scenes_are_mapped_by_all(run, scene, tmp_path):
    pool = Shuffled(workers=5)
    map_scenes(run, [scene], tmp_path / "many", spread=made_by(pool, run))
    map_scenes(run, [scene], tmp_path / "one")
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert pool.done > 2
