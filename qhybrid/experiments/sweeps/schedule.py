"""Jobs on many processes: here, on all cores, or on a Dask cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from qhybrid.errors import PluginError, QHybridError, WorkspaceError
from qhybrid.plugins import check_plugins, load_plugins, loaded_plugins, named_plugins

Job = dict[str, Any]
Answer = dict[str, Any]
CONNECT_SECONDS = 20


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[Job], Answer],
    processes: int | None = None,
    scheduler: str | None = None,
) -> Iterator[Answer]:
    """Yield the answers of jobs as they come.

    A worker process that dies takes nothing with it: its job is given to another one; a job during which
    workers die several times is answered with an error.

    Args:
        jobs: Plain values with a `key` each.
        work: Function of a module, which does a job.
        processes: Processes on this machine; all usable cores if None, 1 works in this process.
        scheduler: Address of a Dask scheduler, for example `tcp://10.0.0.1:8786`; its workers do the jobs.

    Raises:
        WorkspaceError: If the scheduler cannot be reached.
    """
    if not jobs:
        return
    count = min(len(jobs), usable_cores() if processes is None else processes)
    if scheduler is None and count <= 1:
        for job in jobs:
            yield work(job)
        return
    with _client(count, scheduler) as client:
        yield from _answers(client, jobs, work)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _client(count: int, scheduler: str | None) -> Any:
    # Imported when first needed: it takes seconds.
    from distributed import Client, LocalCluster

    if scheduler is None:
        with _quiet_start():
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                memory_limit=None,
                silence_logs="CRITICAL",
            )
            client = Client(cluster)
        client.run(_log_nothing)
        return _Owned(client, cluster)
    try:
        return Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise WorkspaceError(
            f"No Dask scheduler answers at {scheduler} ({error}). Fix: start one with `dask scheduler`, and "
            "workers with `dask worker ADDRESS`, and give its address."
        ) from error


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Start workers that leave Ctrl-C to this process: it ends them, and they print no tracebacks.

    What is ignored while a process starts stays ignored in it. Signals can be set in the main thread alone.
    """
    alone = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if alone else None
    try:
        with warnings.catch_warnings():
            # A second sweep on the same machine; nobody asked for this port.
            warnings.filterwarnings("ignore", r"Port \d+ is already in use")
            yield
    finally:
        if alone:
            signal.signal(signal.SIGINT, before)


def _log_nothing() -> None:
    """Silence a worker: a heartbeat at the end of a sweep logs a traceback; jobs report by themselves."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


class _Owned:
    """A client that takes its cluster down with it."""

    def __init__(self, client: Any, cluster: Any) -> None:
        self._client, self._cluster = client, cluster

    def __enter__(self) -> Any:
        return self._client

    def __exit__(self, *error: object) -> None:
        self._client.close()
        self._cluster.close()


def _answers(client: Any, jobs: Sequence[Job], work: Callable[[Job], Answer]) -> Iterator[Answer]:
    from distributed import as_completed

    needed = loaded_plugins()
    # No worker starts with a convolution on all cores: there is one worker a core.
    futures = {
        client.submit(
            _on_worker, work, job, named_plugins(), needed, pure=False, key=f"{job['key']}-{os.getpid()}"
        ): job["key"]
        for job in jobs
    }
    for future in as_completed(list(futures)):
        error = future.exception()
        if error is None:
            yield future.result()
        elif isinstance(error, QHybridError):
            raise error
        else:
            name = type(error).__name__
            yield {"key": futures[future], "error": f"{name}: {error}", "details": repr(error)}
        future.release()


def _on_worker(
    work: Callable[[Job], Answer], job: Job, named: Sequence[str], needed: Sequence[dict[str, Any]]
) -> Answer:
    """Do a job in a worker process, with the plugins of the process that gave it.

    A worker of a cluster inherits no variables, and may lack a plugin that is installed elsewhere.
    """
    import torch

    torch.set_num_threads(1)
    try:
        load_plugins(named)
        check_plugins(needed, "This worker")
    except PluginError as error:
        return {"key": job["key"], "error": str(error), "details": type(error).__name__}
    return work(job)
