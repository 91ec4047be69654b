"""Private jobs: a result can be read once, so it is on disk before anything looks at it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import tempfile

import pytest
from ibm_service_state import Fault
from outcome_checks import check_complete, finish

from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.jobs import collecting, received
from qhybrid.hardware.jobs.collecting import collect_jobs
from qhybrid.hardware.jobs.received import file_of
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.ledger.records import CANCELLED
from qhybrid.hardware.settings import HardwareSettings

ONE = {"jobs_per_minute": 1000.0}


def test_the_key_goes_along_and_is_kept_only_where_it_is_used(make_plan, server, service_state, samples):
    with (context := make_plan(private=True).context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])
        assert {job.private for job in service_state.jobs.values()} == {True}
        for job in context.ledger.jobs():
            assert file_of(context, job.id).read_text() == service_state.jobs[job.id].result
        assert service_state.requests["result"] == 3
    assert "private" not in HardwareSettings(backend="fake_manila").model_dump()
    with (context := make_plan(name="usual").context()).ledger:
        finish(context)
        assert not file_of(context, context.ledger.jobs()[0].id).exists()


def killed(plan, install):
    child = os.fork()
    if child == 0:
        try:
            install(lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            collect_jobs(plan.context())
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_killed_between_receiving_and_reading(make_plan, server, service_state, samples):
    plan = make_plan(private=True, limits=ONE)
    with (context := plan.context()).ledger:
        send_open_chunks(context)

    def install(kill):
        collecting.decode_chunk = kill

    for _ in range(2):  # the second process finds the file, and asks for nothing
        assert killed(plan, install)
        assert service_state.requests["result"] == 1
    with (context := plan.context()).ledger:
        assert not context.ledger.results()
        finish(context)
        check_complete(context, service_state, samples[1])
        # A ledger that lost it has it again.
        context.ledger.drop_result(0)
        context.estimates.clear()
        finish(context)
        check_complete(context, service_state, samples[1])
    assert service_state.requests["result"] == 1


def test_a_page_in_its_place_is_not_kept(make_plan, server, service_state, samples):
    """It would stand for the paid result for ever."""
    with (context := make_plan(private=True, limits=ONE, patience={"retries": 0}).context()).ledger:
        send_open_chunks(context)
        service_state.advance()
        service_state.faults = [Fault("result", "html")]
        with pytest.raises(ServiceError, match="must be JSON, but something else came"):
            collect_jobs(context)
        assert not file_of(context, context.ledger.jobs()[0].id).exists()
        finish(context)
        check_complete(context, service_state, samples[1])


def test_a_result_that_was_read_and_lost_needs_a_decision(make_plan, server, service_state, samples):
    """Read from a copy of the folder, or by a process that ended in the moment of the transfer."""
    with (context := make_plan(private=True, limits=ONE).context()).ledger:
        send_open_chunks(context)
        service_state.advance()
        (job,) = service_state.jobs.values()
        job.read = True
        collect_jobs(context)
        assert [chunk.state for chunk in context.ledger.chunks()] == [CANCELLED]
        assert "pays for it once more" in context.ledger.jobs()[0].message
        assert send_open_chunks(context) == 0
        assert send_open_chunks(context, again=True) == 1
        finish(context)
        check_complete(context, service_state, samples[1])


def test_a_broken_answer_before_the_reading_is_asked_again(make_plan, server, service_state, samples):
    service_state.faults = [Fault("result", "503"), Fault("result", "drop_before")]
    with (context := make_plan(private=True, limits=ONE).context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])


def test_a_file_that_is_no_result_is_kept_for_people(make_plan, server, service_state):
    with (context := make_plan(private=True, limits=ONE, patience={"retries": 0}).context()).ledger:
        send_open_chunks(context)
        file = file_of(context, context.ledger.jobs()[0].id)
        file.parent.mkdir()
        file.write_text("half of a res")
        with pytest.raises(ServiceError):
            collect_jobs(context)
        assert file.read_text() == "half of a res"
        assert service_state.requests["result"] == 0


def test_what_cannot_be_written_is_not_asked_for(make_plan, server, service_state, samples, monkeypatch):
    """The service deletes a result when it is read: there must be room before."""
    with (context := make_plan(private=True, limits=ONE).context()).ledger:
        send_open_chunks(context)
        with monkeypatch.context() as patch:
            patch.setattr(received, "ROOM", 10**18)
            with pytest.raises(HardwareError, match="must have room for a private result.*not asked for yet"):
                collect_jobs(context)
        assert service_state.requests["result"] == 0
        finish(context)
        check_complete(context, service_state, samples[1])


def test_a_result_that_cannot_be_written_is_somewhere_else(
    make_plan, server, service_state, samples, monkeypatch, tmp_path
):
    """The disk is full in the moment in which the result arrives."""
    write_text = received.write_text

    def full(path, text):
        if len(text) > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(path, text)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (context := make_plan(private=True, limits=ONE).context()).ledger:
        send_open_chunks(context)
        monkeypatch.setattr(received, "write_text", full)
        with pytest.raises(HardwareError, match=r"No space left.*move (\S+) there") as caught:
            collect_jobs(context)
        file = file_of(context, context.ledger.jobs()[0].id)
        shutil.move(re.search(r"move (\S+) there", str(caught.value))[1], file)
        finish(context)
        check_complete(context, service_state, samples[1])
    assert service_state.requests["result"] == 1
