"""Two copies of a plan that submit at the same time: every chunk runs once, and neither stops the other."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import replace

import pytest
from ibm_service_state import Fault
from outcome_checks import check_complete, finish
from plan_cases import map_workload, quick

from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs import sending, turns
from qhybrid.hardware.jobs.collecting import collect_jobs
from qhybrid.hardware.jobs.context import Clock
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.reconciling import reconcile
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.jobs.turns import Turn, turn
from qhybrid.hardware.ledger import LEDGER_FILE, Ledger
from qhybrid.hardware.plan.planning import make_plan

COMMON_FOLDER = turns.common_folder
"""That of processes of a user; tests have one of their own."""


def in_a_process(folder, home, workload):
    """Open a plan in a process that says when it is ready, and submits and collects when it is told to.

    Returns:
        Its number, where it says something, and where it is told something.
    """
    said, told = os.pipe(), os.pipe()
    child = os.fork()
    if child:
        return child, said[0], told[1]
    code = 1
    try:
        turns.common_folder = lambda: home
        with open_plan(folder, lambda *_: workload) as execution:
            execution.context.service.find("nothing")
            os.write(said[1], b"ready")
            os.read(told[0], 1)
            sent = execution.submit()
            os.write(said[1], f"{sent} {execution.collect() is not None}".encode())
            code = 0
    except BaseException:
        os.write(said[1], traceback.format_exc().encode())
    finally:
        os._exit(code)


def submit_both(folders, homes, workload):
    """Submit and collect both folders at the same time, each in a process; return what they say."""
    running = [in_a_process(folder, home, workload) for folder, home in zip(folders, homes, strict=True)]
    for _, said, _ in running:
        assert (text := os.read(said, 10_000)) == b"ready", text.decode()
    for *_, told in running:
        os.write(told, b" ")
    said = [os.read(said, 10_000).decode() for _, said, _ in running]
    for child, *_ in running:
        assert os.waitpid(child, 0)[1] == 0, said
    return [text.split() for text in said]


@pytest.mark.parametrize(("queue", "machines"), [(0.0, 1), (2.0, 1), (2.0, 2)])
def test_two_processes_submit_at_once(queue, machines, server, service_state, tmp_path):
    """On one machine copies take turns; on two the younger job of a tag is stopped while it waits."""
    service_state.queue_seconds = queue
    patience = {"poll_s": 0.05, "poll_max_s": 0.1, "resend_after_s": 0.3}
    limits = {"executions": 2 * 200, "jobs_per_minute": 1e6}
    settings = quick(backend="ibm_manila", shots=200, mode="job", limits=limits, patience=patience)
    workload = map_workload()
    folder = make_plan(workload, settings, tmp_path / "plans")
    copy = shutil.copytree(folder, tmp_path / "copy")
    homes = [tmp_path / "home-0", tmp_path / f"home-{machines - 1}"]
    for home in homes:
        home.mkdir(exist_ok=True)
    said = submit_both([folder, copy], homes, workload)
    ran = [job for job in service_state.jobs.values() if job.executions]
    assert Counter(job.tags[1] for job in ran) == dict.fromkeys((job.tags[1] for job in ran), 1)
    assert len(ran) == 4
    assert [one[1] for one in said] == ["True", "True"]
    if machines == 1:
        assert sum(int(one[0]) for one in said) == len(service_state.jobs) == 4
    name = json.loads((folder / "plan.json").read_text())["plan"]
    kept = []
    for one in (folder, copy):
        with Ledger(one / LEDGER_FILE, name) as ledger:
            kept.append({job.tag: job.id for job in ledger.jobs()})
    assert kept[0] == kept[1] == {job.tags[1]: job.id for job in ran}


def test_a_process_that_takes_its_time_is_waited_for(make_plan, server, service_state):
    """It may go on to send: nobody else does so because it has not answered for a while."""
    plan = make_plan(patience={"send_timeout_s": 0.05, "deadline_s": 0.5})
    with (slow := plan.context()).ledger, turn(slow):
        with (
            (other := plan.context()).ledger,
            pytest.raises(HardwareError, match="No other process"),
        ):
            send_open_chunks(other)
        assert not service_state.jobs
        assert any("waiting for another process" in one for one in plan.said)
    with (other := plan.context()).ledger:
        assert send_open_chunks(other) == 3


def copied(plan, tmp_path):
    copy = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-copy"))
    return replace(plan, path=copy / plan.path.name)


@pytest.fixture
def two_machines(monkeypatch):
    """Copies do not wait for each other, and know of each other by listings alone."""
    monkeypatch.setattr(sending, "turn", lambda context: contextlib.nullcontext(Turn(context, None)))


@pytest.mark.usefixtures("two_machines")
def test_the_oldest_job_of_a_tag_stays_on_both_sides(make_plan, server, service_state, samples, tmp_path):
    """Neither listing shows the other's jobs until both have sent all of theirs."""
    service_state.listing_seconds = service_state.queue_seconds = 1e6
    plan = make_plan(patience={"resend_after_s": 10.0})
    contexts = [plan.context(), copied(plan, tmp_path).context()]
    try:
        for context in contexts:
            assert send_open_chunks(context) == 3
        jobs = service_state.jobs.values()
        oldest = {job.tags[1]: job.id for job in reversed(list(jobs))}
        for job in jobs:
            job.listed_at = 0.0
        for context in reversed(contexts):
            reconcile(context)
            assert {job.tag: job.id for job in context.ledger.jobs()} == oldest
        for job in jobs:
            job.starts_at = 0.0
        for context in reversed(contexts):
            finish(context)
            check_complete(context, service_state, samples[1])
            assert {job.tag: job.id for job in context.ledger.jobs()} == oldest
        assert sum(service_state.executions().values()) == 3
    finally:
        for context in contexts:
            context.ledger.close()


@pytest.mark.usefixtures("two_machines")
def test_a_result_that_is_there_is_taken_from_whichever_job_has_it(
    make_plan, server, service_state, samples, tmp_path
):
    """The younger job has ended when the older one is found: the older one is stopped, and none is lost."""
    plan = make_plan(limits={"jobs_per_minute": 1000.0})
    first, second = plan.context(), copied(plan, tmp_path).context()
    with first.ledger, second.ledger:
        service_state.queue_seconds, service_state.listing_seconds = 3.0, 0.7
        send_open_chunks(first)
        service_state.queue_seconds = 0.0
        send_open_chunks(second)
        for context in (second, first):
            finish(context)
            check_complete(context, service_state, samples[1])
        assert sum(service_state.executions().values()) == 1


def test_a_job_that_was_stopped_gives_way_to_one_that_goes_on(make_plan, server, service_state, samples):
    """The own job of a tag was stopped from outside, and another one with its tag is waiting."""
    service_state.queue_seconds = 1e6
    with (context := make_plan(limits={"jobs_per_minute": 1000.0}).context()).ledger:
        send_open_chunks(context)
        (own,) = service_state.jobs.values()
        own.status = "Cancelled"
        starts = {"created": own.created + 1e-6, "starts_at": time.time() + 0.5}  # listed at once
        service_state.jobs["other"] = replace(own, id="other", status="Queued", **starts)
        collect_jobs(context)
        check_complete(context, service_state, samples[1])
        assert context.ledger.jobs()[0].id == "other"


def between(service, name, action):
    """Do something once right before a service's next answer of one kind."""
    method, done = getattr(service, name), []

    def first(*arguments):
        if not done:
            done.append(True)
            action()
        return method(*arguments)

    setattr(service, name, first)


@pytest.mark.usefixtures("two_machines")
@pytest.mark.parametrize("queue", [3.0, 0.0])
@pytest.mark.parametrize("order", ["the other was faster", "the other was slower"])
def test_both_machines_send_in_the_same_moment(
    order, queue, make_plan, server, service_state, samples, tmp_path
):
    """Both have listed nothing before either sends. Whoever comes second stops its own job if it waits."""
    service_state.queue_seconds = queue
    plan = make_plan(limits={"jobs_per_minute": 1000.0})
    first, second = plan.context(), copied(plan, tmp_path).context()
    with first.ledger, second.ledger:
        if order == "the other was faster":
            # The other lists, sends and lists again between our listing and our sending.
            between(first.service, "submit", lambda: send_open_chunks(second))
            send_open_chunks(first)
            own = list(service_state.jobs)[1]
        else:
            # The other has listed, and sends after our last look.
            between(second.service, "submit", lambda: send_open_chunks(first))
            send_open_chunks(second)
            own = list(service_state.jobs)[1]
        older = next(iter(service_state.jobs))
        assert service_state.jobs[own].status == ("Cancelled" if queue else "Completed")
        for context in (first, second):
            finish(context)
            check_complete(context, service_state, samples[1])
            assert [job.id for job in context.ledger.jobs()] == [older]
            (duplicate,) = context.ledger.duplicates()
            assert duplicate.id == own
            # Without a queue both ran: the second bill is there, and counted.
            assert duplicate.usage == (0.0 if queue else 2.0)
            assert context.ledger.billed_seconds() == (2.0 if queue else 4.0)
        assert sum(service_state.executions().values()) == (1 if queue else 2)
        assert first.shared or second.shared


def test_a_plan_that_is_shared_is_sent_in_any_order(make_plan, server, service_state, monkeypatch):
    """Two that take different ways hardly meet."""
    monkeypatch.setattr(random.SystemRandom, "shuffle", lambda _self, values: values.reverse())
    with (context := make_plan().context()).ledger:
        context.shared = True
        send_open_chunks(context)
        tags = [job.tags[1] for job in service_state.jobs.values()]
        assert [tag.split("-")[-2] for tag in tags] == ["c2", "c1", "c0"]


def test_a_job_of_a_process_that_ended_is_waited_for(make_plan, server, service_state, samples, tmp_path):
    """It was sent by a copy on this machine that was killed at once, and listings show it late."""
    service_state.listing_seconds = 0.6
    plan = make_plan(limits={"jobs_per_minute": 1000.0}, patience={"resend_after_s": 5.0})
    first, second = plan.context(), copied(plan, tmp_path).context()
    with first.ledger, second.ledger:
        service_state.faults = [Fault("submit", "hang_after", seconds=20.0)]
        child = os.fork()
        if child == 0:
            try:
                send_open_chunks(first)
            finally:
                os._exit(0)
        while not service_state.jobs:
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for context in (second, first):
            finish(context)
            check_complete(context, service_state, samples[1])
        assert len(service_state.jobs) == 1


def test_notes_of_a_clock_that_ran_ahead_stop_nobody(make_plan, server, service_state, samples):
    plan = make_plan(limits={"jobs_per_minute": 1000.0})
    with (context := plan.context()).ledger:
        ahead = replace(context, clock=Clock(now=lambda: time.time() + 1e5))
        with turn(ahead) as own:
            own.note(f"{context.ledger.tag}-c0-a1")
        finish(context)
        check_complete(context, service_state, samples[1])


@pytest.mark.usefixtures("two_machines")
def test_a_copy_lets_others_go_first(make_plan, server, service_state, samples, tmp_path):
    """Both have listed nothing; the device is idle; whoever works on a copy waits, and pays nothing twice."""
    plan = make_plan(patience={"poll_s": 4.0})
    first, waits = plan.context(), []

    def others_go_first(seconds):
        waits.append(seconds)
        assert send_open_chunks(first) == 3

    second = copied(plan, tmp_path).context(clock=Clock(sleep=others_go_first))
    second.copied = True
    with first.ledger, second.ledger:
        assert send_open_chunks(second) == 0
        assert 4.0 <= waits[0] <= 12.0
        second.clock = Clock()
        for context in (second, first):
            collect_jobs(context)
            check_complete(context, service_state, samples[1])
            assert not context.ledger.duplicates()
    assert len(service_state.jobs) == 3


def test_copies_take_turns_whatever_their_environment_is(make_plan, server, monkeypatch, tmp_path):
    """Each session of a cluster or a service has a folder for temporary files of its own."""
    monkeypatch.setattr(turns, "common_folder", COMMON_FOLDER)
    plan = make_plan(tmp_path.name, patience={"deadline_s": 0.1})
    with (context := plan.context()).ledger, turn(context):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(HardwareError, match="No other process"), turn(context):
            pass


def test_locks_and_notes_lie_in_a_folder_of_the_user(make_plan, server, monkeypatch, tmp_path):
    """The folder for temporary files belongs to all: whatever stays there is in one place, and ours."""
    monkeypatch.setattr(turns, "Path", lambda _name: tmp_path)
    folder = COMMON_FOLDER()
    assert (folder.parent, folder.stat().st_mode & 0o777) == (tmp_path, 0o700)
    monkeypatch.setattr(turns, "common_folder", lambda: folder)
    with (context := make_plan().context()).ledger, turn(context) as own:
        own.note("tag")
    assert sorted(one.suffix for one in folder.iterdir()) == [".json", ".lock"]
    assert list(tmp_path.glob("*.lock")) == []
    shutil.rmtree(folder)
    folder.write_text("")  # somebody else has taken the name
    assert COMMON_FOLDER() == tmp_path


def test_that_no_file_can_be_locked_is_told_once(make_plan, server, service_state, monkeypatch, tmp_path):
    (tmp_path / "no-folder").write_text("")
    monkeypatch.setattr(turns, "common_folder", lambda: tmp_path / "no-folder")
    plan = make_plan()
    with (context := plan.context()).ledger:
        assert send_open_chunks(context) == 3
    assert sum("do not take turns" in one for one in plan.said) == 1


def test_copies_know_that_they_are_copies(server, tmp_path):
    workload = map_workload(1)
    folder = make_plan(workload, quick(backend="ibm_manila", mode="job"), tmp_path / "plans")
    for place, is_copy in ((folder, False), (shutil.copytree(folder, tmp_path / "copy"), True)):
        with open_plan(place, lambda *_: workload) as execution:
            assert execution.context.copied is is_copy
    content = json.loads((folder / "plan.json").read_text())
    assert str(tmp_path) not in str(content.pop("home"))
    (tmp_path / "copy" / "plan.json").write_text(json.dumps(content))  # of an earlier version
    with open_plan(tmp_path / "copy", lambda *_: workload) as execution:
        assert execution.context.copied is False
