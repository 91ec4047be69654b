"""Maps one scene on 1, 2, 4 and 8 worker processes of this machine: efficiency, and equal bytes.

    python benchmarks/workers.py                       # 2048 x 4096 px, U-Net
    python benchmarks/workers.py --workers 8 --rows 1024

With fewer cores than workers clocks say nothing of a cluster, so processor time is counted: efficiency is
that of one process without a cluster over that of all workers and of the process that gives the work
together. What is lost are the windows that two bands share, and the bytes that are written twice. Workers
read their own processor time before and after: starting them (imports, the model) is a column by itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from dask.distributed import Client, LocalCluster
from timing import table
from whole_scenes import write_run, write_scene

from qhybrid.api import Run

WIDTHS = [8, 16, 32, 64, 128]


def main() -> None:
    """Map in processes of their own, compare the maps, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(mapped(options.folder, options.one)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_scene(folder / "scene.tif", options.rows, options.columns, 3, "uint8", big=False)
        write_run(folder / "run", {"name": options.model, "widths": WIDTHS}, 3, "uint8")
        alone = elsewhere(folder, 0)
        rows = [["none", f"{alone['seconds']:.1f}", "", f"{alone['clock']:.1f}", "1.00", ""]]
        for workers in options.workers:
            found = elsewhere(folder, workers)
            equal = (folder / f"{workers}.tif").read_bytes() == (folder / "0.tif").read_bytes()
            rows.append(
                [
                    str(workers),
                    f"{found['seconds']:.1f}",
                    f"{found['start']:.1f}",
                    f"{found['clock']:.1f}",
                    f"{alone['seconds'] / found['seconds']:.2f}",
                    "yes" if equal else "NO",
                ]
            )
        heads = ["workers", "processor s", "start, processor s", "clock s", "efficiency", "equal bytes"]
        print(f"{options.model}, {options.rows} x {options.columns} px")
        print(table(heads, rows))


def elsewhere(folder: Path, workers: int) -> dict[str, float]:
    """Map in another process, so that every map starts with nothing that another one has left."""
    command = [sys.executable, __file__, "--one", str(workers), "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def mapped(folder: Path, workers: int) -> dict[str, float]:
    """Map with some workers; 0 is this process alone."""
    torch.set_num_threads(1)
    run, scene, output = Run(folder / "run"), folder / "scene.tif", folder / f"{workers}.tif"
    if not workers:
        before, clock = time.process_time(), time.perf_counter()
        run.predict(scene, output)
        return {"seconds": time.process_time() - before, "clock": time.perf_counter() - clock, "start": 0.0}
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(load, str(folder / "run"))
        started = client.run(time.process_time)
        before, clock = time.process_time(), time.perf_counter()
        run.predict(scene, output, scheduler=cluster.scheduler_address)
        clock = time.perf_counter() - clock
        ended = client.run(time.process_time)
        seconds = time.process_time() - before + sum(ended[one] - started[one] for one in started)
    return {"seconds": seconds, "clock": clock, "start": sum(started.values())}


def load(folder: str) -> None:
    """Import what a worker needs, and load the run."""
    Run(folder).load()


if __name__ == "__main__":
    main()
