"""Maps one scene on 1, 2, 4 and 8 worker processes of this machine: efficiency, and equal bytes.

    python benchmarks/workers.py                       # 2048 x 4096 px, U-Net
    python benchmarks/workers.py --workers 8 --rows 1024

With fewer cores than workers clocks say nothing of a cluster, so processor time is counted: efficiency is
that of one process without a cluster over that of all workers and of the process that gives the work
together. What is lost are the windows that two bands share, and the bytes that are written twice. Starting a
worker (imports) is measured by itself, with a job that does nothing, since it is paid once.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from timing import table
from whole_scenes import write_run, write_scene

from qhybrid.api import Run
from qhybrid.cluster import Answer, Job, run_jobs

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
    """Map in another process, so that processor times of children are those of one map."""
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
        before, clock = spent(), time.perf_counter()
        run.predict(scene, output)
        return {"seconds": spent() - before, "clock": time.perf_counter() - clock, "start": 0.0}
    jobs = [{"key": f"start-{number}", "folder": str(folder)} for number in range(4 * workers)]
    before = spent()
    list(run_jobs(jobs, start, scheduler=f"local:{workers}"))
    begun, clock = spent(), time.perf_counter()
    run.predict(scene, output, scheduler=f"local:{workers}")
    started = begun - before
    return {"seconds": spent() - begun - started, "clock": time.perf_counter() - clock, "start": started}


def start(job: Job) -> Answer:
    """Import what a worker needs, and load the run."""
    Run(Path(job["folder"]) / "run").load()
    return {"key": job["key"]}


def spent() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
