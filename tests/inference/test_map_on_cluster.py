"""A scene mapped on a Dask cluster of real processes, of which a worker and the scheduler are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scene_runs import data_config, make_run, scenes_root, write

__all__ = ["data_config", "make_run", "scenes_root"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]
PATIENCE = 600


class Cluster:
    """A scheduler and two workers, each a process that a test may kill."""

    def __init__(self, folder: Path) -> None:
        file = folder / f"scheduler_{time.monotonic_ns()}.json"
        words = ("--scheduler-file", str(file), "--no-dashboard")
        self.scheduler = self._start("dask_scheduler", "--port", "0", *words)
        self.processes = [self.scheduler]
        wait_for(lambda: file.is_file() and file.read_text().endswith("}"), "no scheduler")
        self.address = json.loads(file.read_text())["address"]
        self.workers = [self._start("dask_worker", *words, "--nthreads", "1", "--no-nanny") for _ in range(2)]
        self.processes += self.workers

    def _start(self, module: str, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *words],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def start_cluster(tmp_path):
    made = []

    def start():
        made.append(Cluster(tmp_path))
        return made[-1]

    yield start
    for cluster in made:
        cluster.end()


def wait_for(condition, what):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < PATIENCE, what
        time.sleep(0.02)


def predict(run, scene, output, *words):
    command = [sys.executable, "-m", "qhybrid.cli", "predict", str(run), str(scene), "-o", str(output)]
    return subprocess.Popen(
        [*command, "--probabilities", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def bands_of(output):
    """Return which bands are finished, or in the map already."""
    folder = output.with_name(f".{output.name}.part")
    try:
        row = json.loads((folder / "state.json").read_text())["position"][1]
    except (OSError, ValueError):
        row = 0
    return row or len(list(folder.glob("band_*_0.raw")))


@pytest.fixture
def scene(tmp_path):
    image = np.random.default_rng(4).integers(1, 256, (3, 1100, 500), dtype=np.uint8)
    path = tmp_path / "scene.tif"
    write(path, image, nodata=0)
    return path


def test_a_map_outlives_a_worker_and_the_scheduler(make_run, scene, tmp_path, start_cluster):
    run = make_run(name="hq_unet", grid=2)
    alone = predict(run, scene, tmp_path / "one" / "map.tif")
    said, _ = alone.communicate(timeout=PATIENCE)
    assert alone.returncode == 0, said

    cluster, output = start_cluster(), tmp_path / "many" / "map.tif"
    process = predict(run, scene, output, "--scheduler", cluster.address)
    wait_for(lambda: bands_of(output) or process.poll() is not None, "no band was finished")
    cluster.scheduler.send_signal(signal.SIGKILL)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, said
    assert "error: The Dask scheduler at" in said, said
    assert "it goes on with what is missing" in " ".join(said.split())
    assert "Traceback" not in said
    assert not output.exists()
    kept = bands_of(output)
    assert kept

    cluster = start_cluster()
    process = predict(run, scene, output, "--scheduler", cluster.address)
    wait_for(lambda: bands_of(output) > kept or process.poll() is not None, "no band was added")
    cluster.workers[0].send_signal(signal.SIGKILL)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert contents(output.parent) == contents(tmp_path / "one")
