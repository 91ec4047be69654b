"""Sweeps that are killed, and sweeps on a cluster that loses a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from qhybrid.config import to_yaml
from qhybrid.experiments.sweeps import run_sweep
from qhybrid.workspace import whole_files

CLASSIFIER = "head.classifier.circuit"
MANY = {
    "profiles": ["ideal", "depolarizing_0.01_0.02", "depolarizing_0.05_0.1"],
    "shots": [128, 256, 512],
    "seeds": list(range(8)),
    "engines": ["aer_density_matrix"],
    "layers": [[CLASSIFIER]],
}
CELLS = 72
# On the filter too: its many patches take Aer so long that even a test on a busy machine is in time.
SLOW = MANY | {"layers": ["all"], "seeds": [0, 1, 2]}
SLOW_CELLS = 27
# Python leaves Ctrl-C ignored where it was, as in a job that a shell script started in the background.
HEEDED = """
import signal
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from qhybrid.cli.main import run
    run()
"""
PATIENCE = 300


def finished(out):
    return {path.name: path.stat().st_mtime_ns for path in whole_files(out / "cells", ".json")}


def wait_for(condition, what):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < PATIENCE, what
        time.sleep(0.02)


def end(*processes):
    for process in processes:
        process.kill()
        process.wait()


def test_a_killed_sweep_resumes(make_image_run, sweep_of, mnist_root, tmp_path):
    config = sweep_of([make_image_run()], SLOW, samples=1)
    file, out = tmp_path / "tiny_sweep.yaml", tmp_path / "out"
    file.write_text(to_yaml(config))
    words = ["sweep", str(file), "--jobs", "1", "--output", str(out), "--data-root", str(mnist_root)]
    process = subprocess.Popen([sys.executable, "-m", "qhybrid.cli", *words])
    try:
        wait_for(lambda: len(finished(out)) >= 3 or process.poll() is not None, "no cell was finished")
        process.send_signal(signal.SIGKILL)
    finally:
        end(process)
    kept = finished(out)
    assert 3 <= len(kept) < SLOW_CELLS
    assert not (out / "results.parquet").exists()
    outcome = run_sweep(config, mnist_root, out, processes=1)
    assert (outcome.cells, outcome.computed) == (SLOW_CELLS, SLOW_CELLS - len(kept))
    assert finished(out).items() >= kept.items()
    assert all(json.loads(path.read_text())["metrics"] for path in whole_files(out / "cells", ".json"))


@pytest.mark.slow
def test_ctrl_c_keeps_finished_cells_and_prints_no_traceback(make_image_run, sweep_of, mnist_root, tmp_path):
    config = sweep_of([make_image_run()], SLOW, samples=3)
    file, out = tmp_path / "tiny_sweep.yaml", tmp_path / "out"
    file.write_text(to_yaml(config))
    words = ["sweep", str(file), "--jobs", "2", "--output", str(out), "--data-root", str(mnist_root)]
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDED, *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(lambda: finished(out) or process.poll() is not None, "no cell was finished")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        end(process)
    assert process.returncode == 130
    assert "Interrupted. Finished cells are kept" in said
    assert "Traceback" not in said
    assert 0 < len(finished(out)) < SLOW_CELLS


def start(module, *words):
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_loses_no_cell(make_image_run, sweep_of, mnist_root, tmp_path):
    config = sweep_of([make_image_run()], MANY)
    out, address_file = tmp_path / "out", tmp_path / "scheduler.json"
    scheduler = start(
        "dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(address_file)
    )
    words = ("--scheduler-file", str(address_file), "--nthreads", "1", "--no-nanny", "--no-dashboard")
    processes = [scheduler]
    found = {}
    try:
        wait_for(lambda: address_file.is_file() and address_file.read_text().endswith("}"), "no scheduler")
        workers = [start("dask_worker", *words) for _ in range(2)]
        processes += workers
        address = json.loads(address_file.read_text())["address"]

        def sweep():
            found["outcome"] = run_sweep(config, mnist_root, out, scheduler=address)

        thread = threading.Thread(target=sweep)
        thread.start()
        wait_for(lambda: len(finished(out)) >= 4 or not thread.is_alive(), "no cell was finished")
        assert len(finished(out)) < CELLS
        workers[0].send_signal(signal.SIGKILL)
        thread.join(PATIENCE)
        assert not thread.is_alive()
    finally:
        end(*processes)
    assert (found["outcome"].cells, found["outcome"].computed, found["outcome"].failures) == (
        CELLS,
        CELLS,
        [],
    )
    assert len(finished(out)) == CELLS


@pytest.mark.slow
def test_local_processes_give_the_same_numbers(make_image_run, sweep_of, mnist_root, tmp_path):
    from qhybrid.experiments.sweeps import read_results

    config = sweep_of([make_image_run()], MANY | {"seeds": [0]}, samples=4)
    alone = run_sweep(config, mnist_root, tmp_path / "one", processes=1)
    together = run_sweep(config, mnist_root, tmp_path / "two", processes=2)
    one, two = read_results(alone.folder), read_results(together.folder)
    assert one["value"].tolist() == two["value"].tolist()
