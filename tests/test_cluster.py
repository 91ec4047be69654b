"""Processes that do jobs: how a cluster is named, what is refused, and what its end means."""

from __future__ import annotations

import resource
import threading
import warnings
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import dask
import pytest
import torch

from qhybrid.cluster import Giver, _on_worker, check_scheduler, opened, run_jobs, usable_cores
from qhybrid.errors import ConfigError, WorkspaceError

pytestmark = pytest.mark.filterwarnings("ignore:Port .* is already in use")
GO = threading.Event()


@pytest.fixture
def cluster():
    """Return a function that starts a cluster inside this process."""
    from distributed import LocalCluster

    made = []

    def start(threads=1, workers=1):
        found = LocalCluster(
            n_workers=workers, threads_per_worker=threads, processes=False, dashboard_address=None,
            silence_logs="CRITICAL",
        )  # fmt: skip
        made.append(found)
        return found

    yield start
    GO.set()
    for found in made:
        with suppress(TimeoutError):  # one has lost its scheduler
            found.close(timeout=1)
    GO.clear()


def double(job):
    return {"key": job["key"], "result": 2 * job["number"]}


def fail(job):
    raise ZeroDivisionError("by nothing")


def where(job):
    return {"key": job["key"], "result": str(Path.cwd())}


def warn(job):
    for text in ("of something", "of something", f"of {job['key']}"):
        warnings.warn(text, stacklevel=1)
    return {"key": job["key"]}


def page_faults(job):
    """Fill as many tensors of 8 MiB as asked for, and count the pages that the system had to give."""
    for round_ in (3, job["rounds"]):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(round_):
            torch.empty(2**21).fill_(1.0)
    return {"key": job["key"], "result": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before}


def wait(job):
    GO.wait(60)
    return {"key": job["key"]}


def test_how_a_cluster_is_named():
    assert check_scheduler(None) is None
    assert check_scheduler("tcp://10.0.0.1:8786") is None
    assert check_scheduler("local:3") == 3


@pytest.mark.parametrize("name", ["local:0", "local", "local:x", "somewhere", "local:-1"])
def test_a_cluster_of_no_name(name):
    with pytest.raises(ConfigError, match=r"must be the address of a Dask scheduler.*or local:N"):
        list(run_jobs([{"key": "a"}], double, scheduler=name))


def test_one_process_works_here():
    with opened(1) as pool:
        assert not pool.several
        assert list(pool.run([{"key": "a", "number": 4}], double)) == [{"key": "a", "result": 8}]
    assert list(run_jobs([], double, scheduler="tcp://127.0.0.1:1")) == []
    assert usable_cores() >= 1


def test_a_cluster_does_jobs_and_says_what_failed(cluster):
    address = cluster().scheduler_address
    with opened(scheduler=address) as pool:
        assert (pool.several, pool.workers) == (True, 1)
        jobs = [{"key": f"k{number}", "number": number} for number in range(5)]
        answers = list(pool.run(jobs, double))
        assert {one["key"]: one["result"] for one in answers} == {f"k{n}": 2 * n for n in range(5)}
        (failed,) = pool.run(jobs[:1], fail)
        assert (failed["key"], failed["error"]) == ("k0", "ZeroDivisionError: by nothing")
        assert len(list(pool.run(jobs, double))) == 5  # the same keys again are new jobs


def test_warnings_of_workers_are_told_where_the_command_was_given(cluster, monkeypatch):
    """As the command tells its own: without places in the code, and those of other threads are left alone."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with opened(scheduler=cluster().scheduler_address) as pool:
        with pytest.warns(UserWarning, match="of something") as told:
            (answer,) = pool.run([{"key": "a"}], warn)
        assert answer == {"key": "a"}
        assert [str(one.message) for one in told] == ["of something", "of a"]
        with pytest.warns(UserWarning, match="outside"):
            warnings.warn("outside", stacklevel=1)


def test_other_processes():
    """Their warnings are told, and they keep freed memory: Dask has them give back every tensor."""
    with opened(scheduler="local:1") as pool:
        with pytest.warns(UserWarning, match="of b"):
            list(pool.run([{"key": "b"}], warn))
        (answer,) = pool.run([{"key": "c", "rounds": 40}], page_faults)
    every = 40 * 2**23 / resource.getpagesize()
    assert answer["result"] < every / 2


def test_workers_with_several_threads_are_refused(cluster):
    """Two jobs in one process would share seeds and the number of threads."""
    address = cluster(threads=2).scheduler_address
    with pytest.raises(ConfigError, match=r"one thread each.*but one has 2. Fix: .*--nthreads 1"):
        list(run_jobs([{"key": "a", "number": 1}], double, scheduler=address))


def test_workers_with_several_threads_that_come_late_are_refused(cluster):
    found, stack = cluster(threads=2, workers=0), ExitStack()
    with pytest.warns(UserWarning, match="has no workers yet; work begins when there is one: `dask worker"):
        pool = stack.enter_context(opened(scheduler=found.scheduler_address))
    with stack:
        found.scale(1)
        with pytest.raises(ConfigError, match=r"one thread each.*but one has 2"):
            list(pool.run([{"key": "a", "number": 1}], double))


def test_workers_work_in_the_folder_of_the_command(cluster, tmp_path, monkeypatch):
    """There a circuit has the name that a recipe gives it; elsewhere it may be another one's."""
    own = Giver.here()
    answers = list(run_jobs([{"key": "a"}], where, scheduler=cluster().scheduler_address))
    assert answers == [{"key": "a", "result": own.folder}]
    monkeypatch.setattr("distributed.get_worker", lambda: SimpleNamespace(state=SimpleNamespace(nthreads=1)))
    before = Path.cwd()
    elsewhere = replace(own, folder=str(tmp_path))
    assert _on_worker(where, {"key": "a"}, elsewhere)["result"] == str(tmp_path)
    with pytest.raises(ZeroDivisionError):
        _on_worker(fail, {"key": "a"}, elsewhere)
    with pytest.raises(WorkspaceError, match=r"must see the working directory of the command, .*nowhere"):
        _on_worker(where, {"key": "a"}, replace(own, folder=str(tmp_path / "nowhere")))
    assert Path.cwd() == before


def test_workers_of_another_version_are_refused(monkeypatch):
    monkeypatch.setattr("distributed.get_worker", lambda: SimpleNamespace(state=SimpleNamespace(nthreads=1)))
    with pytest.raises(ConfigError, match=r"must have qhybrid 0\.0\.1, .* Fix: install the same version"):
        _on_worker(where, {"key": "a"}, replace(Giver.here(), version="0.0.1"))


def test_a_scheduler_that_goes_is_told(cluster):
    found = cluster()
    # Its workers stay: they would wait for what they do.
    closing = threading.Timer(0.5, found.sync, (found.scheduler.close,))
    closing.start()
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(WorkspaceError, match=r"has gone. Fix: start it and its workers again.*goes on"),
    ):
        list(run_jobs([{"key": "a"}, {"key": "b"}], wait, scheduler=found.scheduler_address))
    closing.join()
