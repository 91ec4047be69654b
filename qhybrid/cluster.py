"""Jobs on many processes: here, on all cores, or on a Dask cluster. The one home of Dask's client.

Who gives jobs writes down what is finished, so that nothing is lost with the cluster: a worker that dies is
replaced by another one, and after the death of the scheduler the same command goes on.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qhybrid.control_groups import allowed_cores
from qhybrid.errors import ConfigError, PluginError, QHybridError, WorkspaceError
from qhybrid.plugins import check_plugins, load_plugins, loaded_plugins, named_plugins
from qhybrid.version import __version__
from qhybrid.worker_process import collected_warnings, keep_freed_memory

Job = dict[str, Any]
Answer = dict[str, Any]
Work = Callable[[Job], Answer]
CONNECT_SECONDS = 20
WARNINGS = "warnings"
"""Under which an answer brings what a worker warned of: it is told where the command was given."""
SCHEDULER_HELP = (
    "Dask cluster that does the work: the address of its scheduler, or local:N for N processes here."
)
_LOCAL = re.compile(r"local:(\d+)")


def run_jobs(
    jobs: Sequence[Job],
    work: Work,
    processes: int | None = None,
    scheduler: str | None = None,
) -> Iterator[Answer]:
    """Yield the answers of jobs as they come; see `Pool.run` and `opened`."""
    if not jobs:
        return
    count = min(len(jobs), usable_cores() if processes is None else processes)
    with opened(count, scheduler) as pool:
        yield from pool.run(jobs, work)


def usable_cores() -> int:
    """Return the number of cores that this process may use, by its set of cores and its container's limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = allowed_cores()
    return cores if limit is None else max(1, min(cores, int(limit)))


def check_workers(jobs: int | None, scheduler: str | None) -> None:
    """Check how many processes of this machine are asked for, or which cluster in their place.

    Raises:
        ConfigError: If there are none, both are asked for, or the cluster is named otherwise.
    """
    check_scheduler(scheduler)
    if jobs is not None and jobs < 1:
        raise ConfigError(f"Argument `jobs` must be at least 1, but is {jobs}.")
    if jobs not in (None, 1) and scheduler is not None:
        raise ConfigError(
            f"Argument `jobs` must be left out with `scheduler`, whose workers do the work, but is {jobs}."
        )


def check_scheduler(scheduler: str | None) -> int | None:
    """Check how a cluster is named, and return N of `local:N`; None for an address.

    Raises:
        ConfigError: If it is neither, or N is 0.
    """
    if scheduler is None:
        return None
    found = _LOCAL.fullmatch(scheduler) if isinstance(scheduler, str) else None
    if found is not None and int(found[1]) > 0:
        return int(found[1])
    address = isinstance(scheduler, str) and ":" in scheduler and not scheduler.startswith("local")
    if found is not None or not address:
        raise ConfigError(
            "Argument `scheduler` must be the address of a Dask scheduler, as in tcp://10.0.0.1:8786, or "
            f"local:N for N processes on this machine, but is {scheduler!r}."
        )
    return None


class Pool:
    """Processes that do jobs; see `opened`.

    Attributes:
        workers: Number of processes when it was opened.
        where: What it is called in messages.
    """

    def __init__(self, client: Any, where: str, workers: int) -> None:
        self._client, self.where, self.workers = client, where, workers

    @property
    def several(self) -> bool:
        """Whether jobs are done side by side, in other processes."""
        return self._client is not None

    def run(self, jobs: Sequence[Job], work: Work) -> Iterator[Answer]:
        """Yield the answers of jobs as they come.

        A worker process that dies takes nothing with it: its job is given to another one; a job during which
        workers die several times is answered with an error.

        Args:
            jobs: Plain values with a `key` each.
            work: Function of a module, which does a job.

        Raises:
            WorkspaceError: If the scheduler has gone.
        """
        if self._client is None:
            for job in jobs:
                yield work(job)
            return
        yield from self._answers(jobs, work)

    def _answers(self, jobs: Sequence[Job], work: Work) -> Iterator[Answer]:
        from distributed import as_completed
        from distributed.comm import CommClosedError

        giver, call = Giver.here(), uuid.uuid4().hex[:12]
        try:
            # No worker starts with a convolution on all cores: there is one worker a core.
            futures = {
                self._client.submit(
                    _on_worker, work, job, giver, pure=False, key=f"{job['key']}-{call}"
                ): job["key"]
                for job in jobs
            }
            for future in as_completed(list(futures)):
                if future.status in ("cancelled", "lost"):
                    raise self._gone()
                answer = _answer(future, futures[future])
                for text in answer.pop(WARNINGS, ()):
                    warnings.warn(text, stacklevel=2)
                yield answer
                future.release()
        except CommClosedError as error:
            raise self._gone() from error

    def _gone(self) -> WorkspaceError:
        return WorkspaceError(
            f"The Dask scheduler at {self.where} must be there until all is done, but has gone. Fix: start "
            "it and its workers again, and give the same command: it goes on with what is missing."
        )


def _answer(future: Any, key: str) -> Answer:
    """Return the answer of a job that has ended; errors of other kinds than ours are answers too."""
    error = future.exception()
    if error is None:
        answer: Answer = future.result()
        return answer
    if isinstance(error, QHybridError):
        raise error
    return {"key": key, "error": f"{type(error).__name__}: {error}", "details": repr(error)}


@contextmanager
def opened(processes: int | None = None, scheduler: str | None = None) -> Iterator[Pool]:
    """Open processes on this machine or on a cluster, and close those of this machine at the end.

    Args:
        processes: Processes on this machine; all usable cores if None, 1 works in this process.
        scheduler: Address of a Dask scheduler, for example `tcp://10.0.0.1:8786`, whose workers do the jobs;
            or `local:N` for N processes on this machine, even for one.

    Raises:
        ConfigError: If the scheduler is named otherwise, or its workers have several threads each.
        WorkspaceError: If the scheduler cannot be reached.
    """
    local = check_scheduler(scheduler)
    count = usable_cores() if processes is None else processes
    if scheduler is None and count <= 1:
        yield Pool(None, "this process", 1)
        return
    if scheduler is not None and local is None:
        client = _connected(scheduler)
        try:
            yield Pool(client, scheduler, _check_workers(client, scheduler))
        finally:
            # A client whose scheduler has gone tells at length that it cannot say good-bye.
            with suppress(Exception):
                client.close()
        return
    with _local_cluster(local or count) as client:
        yield Pool(client, f"local:{local or count}", local or count)


def _connected(scheduler: str) -> Any:
    # Imported when first needed: it takes seconds.
    from distributed import Client

    _log_nothing()
    try:
        return Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise WorkspaceError(
            f"No Dask scheduler answers at {scheduler} ({error}). Fix: start one with `dask scheduler`, and "
            "workers with `dask worker ADDRESS --nthreads 1`, and give its address."
        ) from error


def _check_workers(client: Any, scheduler: str) -> int:
    """Return the number of workers, at least 1; warn where there is none yet.

    Jobs set seeds and threads of their process: two of them in one process would disturb each other.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        warnings.warn(
            f"The Dask scheduler at {scheduler} has no workers yet; work begins when there is one: "
            f"`dask worker {scheduler} --nthreads 1 --nworkers N`.",
            stacklevel=4,
        )
    _check_threads(max((one["nthreads"] for one in workers), default=1))
    return max(len(workers), 1)


def _check_threads(threads: int) -> None:
    if threads > 1:
        raise ConfigError(
            "Workers of the Dask cluster must have one thread each, since jobs set seeds of their process, "
            f"but one has {threads}. Fix: start them with `dask worker ADDRESS --nthreads 1 --nworkers N`."
        )


@contextmanager
def _local_cluster(count: int) -> Iterator[Any]:
    """Give the client of a cluster on this machine, which goes with it."""
    from distributed import Client, LocalCluster

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
    try:
        client.run(_log_nothing)
        yield client
    finally:
        client.close()
        cluster.close()


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
    """Silence Dask in a process: what ends logs tracebacks of its heartbeats; jobs report by themselves."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Giver:
    """What the process that gives jobs has, and workers need: they inherit none of it.

    Attributes:
        folder: Its working directory, in which names of circuits, noise profiles and runs are looked up.
        version: Its version of qhybrid.
        named: Plugins that were named to it.
        needed: Plugins that it has loaded.
    """

    folder: str
    version: str
    named: Sequence[str]
    needed: Sequence[dict[str, Any]]

    @classmethod
    def here(cls) -> Giver:
        """Return what this process has."""
        return cls(str(Path.cwd()), __version__, tuple(named_plugins()), tuple(loaded_plugins()))


def _on_worker(work: Work, job: Job, giver: Giver) -> Answer:
    """Do a job in a worker process, in the folder and with the plugins of the process that gave it.

    Raises:
        ConfigError: If the worker has several threads, or another version.
        WorkspaceError: If it does not see that folder.
    """
    import torch
    from distributed import get_worker

    _check_threads(get_worker().state.nthreads)  # it may have come after the command began
    if giver.version != __version__:
        raise ConfigError(
            f"Workers of the Dask cluster must have qhybrid {giver.version}, as the process that gives the "
            f"work, but one has {__version__}. Fix: install the same version."
        )
    torch.set_num_threads(1)
    keep_freed_memory()
    with _working_in(giver.folder), collected_warnings() as told:
        try:
            load_plugins(giver.named)
            check_plugins(giver.needed, "This worker")
        except PluginError as error:
            return {"key": job["key"], "error": str(error), "details": type(error).__name__}
        answer = work(job)
    return {**answer, WARNINGS: list(dict.fromkeys(told))}


@contextmanager
def _working_in(folder: str) -> Iterator[None]:
    """Work in the folder of the process that gave the job: elsewhere a name may be that of another circuit.

    Raises:
        WorkspaceError: If it is not there.
    """
    before = Path.cwd()
    if before == Path(folder):
        yield
        return
    try:
        os.chdir(folder)
    except OSError as error:
        raise WorkspaceError(
            f"Workers of the Dask cluster must see the working directory of the command, {folder}, but one "
            f"does not ({error.strerror}). Fix: give the command in a folder that all machines share."
        ) from error
    try:
        yield
    finally:
        os.chdir(before)
