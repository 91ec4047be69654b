"""Starts Dask workers as SLURM jobs, and maps a folder of scenes on them.

    python dask_slurm.py RUN SCENES MAPS

Needs dask-jobqueue (pip install dask-jobqueue) on a machine that may call sbatch. All machines see the same
files at the same paths.
"""

from __future__ import annotations

import sys

from dask_jobqueue import SLURMCluster

import qhybrid


def main(run: str, scenes: str, maps: str) -> None:
    """Map scenes on ten jobs of sixteen workers."""
    cluster = SLURMCluster(
        queue="standard",
        account="my_project",
        cores=16,
        processes=16,  # one thread each: jobs set seeds of their process
        memory="32GB",
        walltime="04:00:00",
        job_extra_directives=["--requeue"],
        job_script_prologue=["export OMP_NUM_THREADS=1"],
    )
    with cluster:
        cluster.scale(jobs=10)
        outcomes = qhybrid.open_run(run).predict(scenes, maps, scheduler=cluster.scheduler_address)
    mapped = sum(one.state != "failed" for one in outcomes)
    sys.stdout.write(f"{mapped} of {len(outcomes)} scenes mapped\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
