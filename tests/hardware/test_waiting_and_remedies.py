"""Accounts that allow few waiting jobs, clocks that are wrong, and what helps against each failure."""

from __future__ import annotations

import time

import pytest
from conftest import settings_of
from ibm_service_state import Fault
from outcome_checks import check_complete, finish

from qhybrid.errors import HardwareError, ServiceError, SubmissionRefusedError, TooManyPendingError
from qhybrid.hardware.jobs.collecting import collect_jobs
from qhybrid.hardware.jobs.context import Clock
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.jobs.turns import turn
from qhybrid.hardware.services.backends import open_backend
from qhybrid.hardware.services.ibm import list_service_devices
from qhybrid.hardware.services.ibm.failures import remedy


@pytest.mark.parametrize("status", [400, 403, 429])
def test_a_limit_of_waiting_jobs_is_waited_for(status, make_plan, server, service_state, samples):
    """Each job waits until the next one has been refused, however long that takes."""
    service_state.pending_limit, service_state.pending_status = 1, status
    service_state.queue_seconds = 1e6
    plan = make_plan()

    def say(text):
        plan.said.append(text)
        for job in service_state.jobs.values():
            job.starts_at = 0.0 if "waiting until a job has ended" in text else job.starts_at

    with (context := plan.context()).ledger:
        context.say = say
        assert send_open_chunks(context) == 3
        for job in service_state.jobs.values():
            job.starts_at = 0.0
        finish(context)
        check_complete(context, service_state, samples[1])
        assert not context.ledger.duplicates()
    assert len(service_state.jobs) == 3
    assert any("waiting until a job has ended" in text for text in plan.said)


def test_waiting_for_other_jobs_ends_at_the_deadline(make_plan, server, service_state, samples):
    service_state.pending_limit = 1
    service_state.queue_seconds = 60.0
    with (context := make_plan(patience={"deadline_s": 0.3}).context()).ledger:
        with pytest.raises(TooManyPendingError, match="pending jobs"):
            send_open_chunks(context)
        assert [job.state for job in context.ledger.jobs()] == ["sent", "prepared"]
        service_state.pending_limit = None
        assert send_open_chunks(context) == 2


def test_other_refusals_are_no_reason_to_wait(make_plan, server, service_state):
    service_state.faults = [Fault("submit", "403")]
    with (context := make_plan().context()).ledger:
        with pytest.raises(SubmissionRefusedError) as caught:
            send_open_chunks(context)
        assert not isinstance(caught.value, TooManyPendingError)


def test_a_clock_that_ran_ahead_does_not_stop_the_work(make_plan, server, service_state, samples):
    """A listing was noted a day from now, and the clock has been put right since."""
    with (context := make_plan(limits={"jobs_per_minute": 1000.0}).context()).ledger:
        job = context.ledger.prepare_job(0)
        context.ledger.update_job(job.tag, state="sending", empty_since=time.time() + 86400)
        finish(context)
        check_complete(context, service_state, samples[1])


@pytest.mark.parametrize("how", ["sending", "noted", "made again"])
def test_a_clock_that_jumps_between_two_processes_ends_no_waiting(
    how, make_plan, server, service_state, samples
):
    """The first has sent a job, which no listing shows yet, and ended; meanwhile the clock was put right."""
    service_state.listing_seconds = 0.5
    plan = make_plan(limits={"jobs_per_minute": 1000.0}, patience={"resend_after_s": 3.0})
    with (context := plan.context()).ledger:
        job = context.ledger.prepare_job(0)
        with turn(context) as own:
            own.note(job.tag)
        context.service.submit(context.package(job, context.ledger.chunks()[0]))
        if how == "sending":
            context.ledger.update_job(job.tag, state="sending", empty_since=time.time())
        if how == "made again":
            context.ledger._write("DELETE FROM jobs")
            context.ledger.begin_again()
            context.ledger.note_rebuilt(time.time())
    with (context := plan.context(clock=Clock(now=lambda: time.time() + 1e5))).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])
    assert len(service_state.jobs) == 1


def test_what_this_process_has_waited_for_is_not_waited_for_twice(make_plan, server, service_state, samples):
    """The note of a process that ended and the ledger tell of the same job, which was never accepted."""
    plan = make_plan(limits={"jobs_per_minute": 1000.0}, patience={"resend_after_s": 1.0})
    with (context := plan.context()).ledger:
        job = context.ledger.prepare_job(0)
        with turn(context) as own:
            own.note(job.tag)
        context.ledger.update_job(job.tag, state="sending")
        started = time.monotonic()
        assert send_open_chunks(context) == 1
        assert 1.0 <= time.monotonic() - started < 1.9


def test_a_clock_that_jumps_ends_no_waiting(make_plan, server, service_state, samples):
    """Each look at the clock is a day later: the deadline of 30 s is counted by what really passes."""
    days = iter(range(10**6))
    service_state.queue_seconds = 0.3
    plan = make_plan(limits={"jobs_per_minute": 1000.0})
    clock = Clock(now=lambda: time.time() + 86400 * next(days))
    with (context := plan.context(clock=clock)).ledger:
        send_open_chunks(context)
        collect_jobs(context)
        check_complete(context, service_state, samples[1])


def test_a_jumping_clock_sends_nothing_before_its_time(make_plan, server, service_state, samples):
    """Two listings a moment apart are not a minute apart, whatever the clock says."""
    days = iter(range(10**6))
    service_state.listing_seconds = 0.15
    service_state.faults = [Fault("submit", "drop_after")]
    plan = make_plan(limits={"jobs_per_minute": 1000.0})
    clock = Clock(now=lambda: time.time() + 86400 * next(days))
    with (context := plan.context(clock=clock)).ledger:
        send_open_chunks(context)
        assert not context.ledger.duplicates()
    assert len(service_state.jobs) == 1


def test_no_network_has_its_own_remedy(make_plan, server, service_state):
    with (context := make_plan(patience={"retries": 0}).context()).ledger:
        context.service.find("anything")
        server.stop()
        with pytest.raises(ServiceError, match="check the connection to the internet"):
            context.service.find("anything")


def test_a_token_that_is_not_accepted_has_its_own_remedy(make_plan, server, service_state):
    with (context := make_plan(patience={"retries": 0}).context()).ledger:
        service_state.faults = [Fault("list", "401", times=10)]
        with pytest.raises(ServiceError, match="make a new API key"):
            context.service.find("anything")


def test_a_failed_sign_in_has_its_own_remedy(make_plan, server, service_state):
    service_state.faults = [Fault("token", "400", times=100)]
    with pytest.raises(HardwareError, match=r"make a new API key|the sign-in \(IAM\) failed"):
        make_plan().context()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("This instance has met its usage limit.", "next period"),
        ("Unable to retrieve IBM Cloud access token from IAM", "sign-in"),
        ("HTTPSConnectionPool: Max retries exceeded with url", "connection to the internet"),
        ("400 Client Error. Session has been closed, Error code: 1217..", "which opens another one"),
        ("something else", "see the service's explanation"),
    ],
)
def test_messages_lead_to_remedies(text, words):
    assert words in remedy(RuntimeError(text), text)


@pytest.mark.parametrize("name", ["FAKE_MANILA", "Fake_Manila", "AER", "IBM_Manila"])
def test_names_of_devices_in_other_letters(name, server):
    """Nobody is sent to an account for a fake device."""
    settings = settings_of(backend=name)
    with pytest.raises(HardwareError, match=rf"Did you mean `{name.lower()}`"):
        open_backend(settings)


def test_no_network_at_the_sign_in_is_no_wrong_key(make_plan, server):
    """The client says that the token is not valid when it has reached nobody."""
    plan = make_plan()
    server.stop()
    with pytest.raises(HardwareError, match="check the connection to the internet") as caught:
        plan.context()
    assert "API key" not in str(caught.value).split("Fix: ")[1]
    with pytest.raises(HardwareError, match="check the connection to the internet"):
        list_service_devices()
