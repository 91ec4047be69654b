"""Faults of service and connection: every chunk gets one result, and nothing runs twice unnoticed."""

from __future__ import annotations

import shutil
import traceback
from dataclasses import replace

import pytest
from ibm_service_state import Fault
from outcome_checks import TOKEN, check_complete, finish

from qhybrid.errors import HardwareError, ServiceError, SubmissionRefusedError
from qhybrid.hardware.jobs.collecting import cancel_jobs, collect_jobs
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.ledger.records import CANCELLED, DONE, TOO_LONG

FAULTS = {
    "nothing": [],
    "submit dropped before acceptance": [Fault("submit", "drop_before")],
    "submit dropped after acceptance": [Fault("submit", "drop_after", skip=1)],
    "500 before acceptance": [Fault("submit", "500_before", times=2)],
    "500 after acceptance": [Fault("submit", "500_after")],
    "submit hangs, not accepted": [Fault("submit", "hang", seconds=1.0)],
    "submit hangs, accepted": [Fault("submit", "hang_after", seconds=1.0)],
    "submit hangs, accepted in the end": [Fault("submit", "hang_then_serve", seconds=0.7)],
    "submit answered by HTML": [Fault("submit", "html")],
    "429 with Retry-After": [Fault("submit", "429", times=2, seconds=0.05)],
    "accepted late": [Fault("submit", "late", seconds=0.1)],
    "accepted after it was sent again": [Fault("submit", "late", seconds=0.6)],
    "token expired at submit": [Fault("submit", "401")],
    "token expired at poll": [Fault("job", "401", skip=1)],
    "token expired at listing": [Fault("list", "401")],
    "poll dropped": [Fault("job", "drop_before", times=2)],
    "poll answered by HTML": [Fault("job", "html", times=2)],
    "poll hangs": [Fault("job", "hang", seconds=0.6)],
    "listing answered by HTML": [Fault("list", "html", times=2)],
    "result truncated": [Fault("result", "truncate", times=2)],
    "result answered by HTML": [Fault("result", "html", times=2)],
    "cost not available": [Fault("metrics", "400", times=2)],
}


BY_THE_CLIENT = ("500 before acceptance", "500 after acceptance", "submit dropped after acceptance")


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_ends_in_one_result_a_chunk(name, make_plan, server, service_state, samples):
    service_state.faults = list(FAULTS[name])
    service_state.queue_seconds = 0.05
    plan = make_plan(patience={"read_timeout_s": 0.3, "send_timeout_s": 0.5})
    with (context := plan.context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])


@pytest.mark.parametrize("name", BY_THE_CLIENT)
def test_a_client_that_repeats_by_itself_is_put_right(
    name, make_plan, repeating_client, server, service_state, samples
):
    service_state.faults = list(FAULTS[name])
    with (context := make_plan().context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])


@pytest.mark.parametrize("kind", ["500_after", "hang_after", "drop_after"])
def test_a_job_that_was_accepted_is_not_sent_again(kind, make_plan, server, service_state, samples):
    service_state.faults = [Fault("submit", kind, seconds=1.0)]
    with (context := make_plan(patience={"send_timeout_s": 0.5}).context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])
        assert not context.ledger.duplicates()
    assert len(service_state.jobs) == 3
    assert service_state.requests["submit"] == 3


def test_a_long_upload_is_not_cut_short(make_plan, server, service_state, samples):
    # The time-out of questions is shorter than that of submissions.
    service_state.faults = [Fault("submit", "hang_then_serve", seconds=0.6)]
    with (context := make_plan(patience={"read_timeout_s": 0.3}).context()).ledger:
        finish(context)
        assert not any("listings" in text for _, text in context.ledger.events())
    assert service_state.requests["submit"] == 3


def test_a_plan_keeps_to_its_instance(make_plan, server, service_state, monkeypatch):
    plan = make_plan(instance="crn:v1:bluemix:public:quantum-computing:us-east:a/account:other::")
    with pytest.raises(HardwareError, match="in the plan's instance"):
        plan.context()
    assert not service_state.requests["submit"]


def test_jobs_that_are_listed_late_are_still_found(make_plan, server, service_state, samples):
    service_state.listing_seconds = 0.2
    service_state.queue_seconds = 1.0
    service_state.faults = [Fault("submit", "drop_after")]
    with (context := make_plan().context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])
        assert len(service_state.jobs) == 3
        assert any("adopted" in text for _, text in context.ledger.events())


def test_duplicates_of_the_client_are_cancelled_before_they_run(
    make_plan, repeating_client, server, service_state, samples
):
    service_state.queue_seconds = 3.0
    service_state.faults = [Fault("submit", "500_after")]
    with (context := make_plan().context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])
        (duplicate,) = context.ledger.duplicates()
        assert duplicate.outcome == CANCELLED
        assert service_state.jobs[duplicate.id].executions == 0


def test_duplicates_that_ran_are_reported_with_their_cost(
    make_plan, repeating_client, server, service_state, samples
):
    service_state.faults = [Fault("submit", "500_after")]
    with (context := make_plan().context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])
        (duplicate,) = context.ledger.duplicates()
        assert (duplicate.outcome, duplicate.usage) == ("done", 2.0)
        assert context.ledger.spent_seconds() == pytest.approx(4 * 2.0)


def test_failed_chunks_alone_are_redone(make_plan, server, service_state, samples):
    service_state.outcomes = ["completed", "failed", "completed", "failed"]
    with (context := make_plan().context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])
        assert [job.attempt for job in context.ledger.jobs() if job.chunk == 1] == [1, 2, 3]
        assert len(service_state.jobs) == 5


def test_failures_are_bounded(make_plan, server, service_state):
    service_state.outcomes = ["failed"] * 20
    with (context := make_plan().context()).ledger:
        finish(context, rounds=10)
        assert len(service_state.jobs) == 3 * context.settings.patience.attempts
        assert {chunk.state for chunk in context.ledger.chunks()} == {"failed"}


def test_cancelled_jobs_are_not_sent_again_unasked(make_plan, server, service_state, samples):
    service_state.outcomes = ["completed", "cancelled"]
    with (context := make_plan().context()).ledger:
        finish(context)
        assert [chunk.state for chunk in context.ledger.chunks()] == [DONE, CANCELLED, DONE]
        assert send_open_chunks(context) == 0
        assert len(service_state.jobs) == 3
        assert send_open_chunks(context, again=True) == 1
        collect_jobs(context)
        check_complete(context, service_state, samples[1])


def test_jobs_over_their_time_limit_need_a_decision(make_plan, server, service_state):
    service_state.outcomes = ["too_long"]
    with (context := make_plan(max_execution_seconds=7).context()).ledger:
        finish(context)
        assert [chunk.state for chunk in context.ledger.chunks()] == [TOO_LONG, DONE, DONE]
        assert "1305" in context.ledger.jobs()[0].message or "longer" in context.ledger.jobs()[0].message
        assert {job.limit_seconds for job in service_state.jobs.values()} == {7}


def test_one_result_that_cannot_be_had_does_not_hold_up_the_others(make_plan, server, service_state, samples):
    service_state.faults = [Fault("result", "truncate", times=2)]
    with (context := make_plan(patience={"retries": 1}).context()).ledger:
        send_open_chunks(context)
        with pytest.raises(ServiceError, match="result of job"):
            collect_jobs(context)
        assert sorted(context.ledger.results()) == [1, 2]
        finish(context)
        check_complete(context, service_state, samples[1])
        assert len(service_state.jobs) == 3


def test_jobs_that_the_service_has_lost_need_a_decision(make_plan, server, service_state, samples):
    with (context := make_plan(max_qpu_seconds=60.0).context()).ledger:
        send_open_chunks(context)
        lost = context.ledger.jobs()[0]
        del service_state.jobs[lost.id]
        collect_jobs(context)
        assert [chunk.state for chunk in context.ledger.chunks()] == [CANCELLED, DONE, DONE]
        job = context.ledger.jobs()[0]
        assert f"does not know job {lost.id}" in job.message
        assert job.usage == lost.reserved
        assert send_open_chunks(context, again=True) == 1
        finish(context)
        assert len(context.ledger.results()) == 3


def test_a_job_that_is_denied_for_a_while_is_not_paid_again(make_plan, server, service_state, samples):
    """The service says that there is no such job: while it lists it, and then while it lists it neither."""
    with (context := make_plan(patience={"retries": 1}).context()).ledger:
        send_open_chunks(context)
        job = context.ledger.jobs()[0]
        service_state.faults = [Fault("job", "404", times=2)]
        with pytest.raises(ServiceError, match=f"for job {job.id}, but says that there is none"):
            collect_jobs(context)
        assert sorted(context.ledger.results()) == [1, 2]
        kept = service_state.jobs.pop(job.id)
        collect_jobs(context)
        assert [chunk.state for chunk in context.ledger.chunks()] == [CANCELLED, DONE, DONE]
        service_state.jobs[job.id] = kept
        assert send_open_chunks(context, again=True) == 0
        finish(context)
        check_complete(context, service_state, samples[1])
        assert context.ledger.billed_seconds() == 3 * 2.0
    assert len(service_state.jobs) == 3


def test_results_do_not_wait_for_their_bills(make_plan, server, service_state, samples):
    service_state.faults = [Fault("metrics", "400", times=1000)]
    plan = make_plan(patience={"retries": 1})
    with (context := plan.context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])
        assert any("costs are not complete" in text for text in plan.said)
        service_state.faults.clear()
        collect_jobs(context)
        assert context.ledger.spent_seconds() == pytest.approx(3 * 2.0)


def test_a_job_that_comes_late_is_noticed_after_the_end(make_plan, server, service_state, samples):
    with (context := make_plan().context()).ledger:
        finish(context)
        assert not context.ledger.duplicates()
        first = service_state.jobs[context.ledger.jobs()[0].id]
        service_state.jobs["late"] = replace(first, id="late")
        collect_jobs(context)
        check_complete(context, service_state, samples[1])
        assert len(context.ledger.duplicates()) == 1


@pytest.mark.parametrize("sent", ["before", "in between"])
def test_a_copy_of_a_plan_sends_nothing_twice(sent, make_plan, server, service_state, samples, tmp_path):
    """Two folders with one plan: the second finds what the first has sent, and leaves it alone."""
    service_state.queue_seconds = 0.5
    plan = make_plan()
    if sent == "in between":
        with (context := plan.context()).ledger:
            service_state.faults = [Fault("submit", "400", skip=1)]
            with pytest.raises(SubmissionRefusedError):
                send_open_chunks(context)
    copy = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-copy"))
    other = replace(plan, path=copy / plan.path.name)
    for one in (plan, other):
        with (context := one.context()).ledger:
            finish(context)
            check_complete(context, service_state, samples[1])
            assert not context.ledger.duplicates()
    assert len(service_state.jobs) == 3


def test_cancel_stops_what_has_not_run(make_plan, server, service_state):
    service_state.queue_seconds = 60.0
    with (context := make_plan().context()).ledger:
        send_open_chunks(context)
        assert cancel_jobs(context) == 3
        assert {chunk.state for chunk in context.ledger.chunks()} == {CANCELLED}
        assert set(service_state.executions().values()) == {0}
        assert send_open_chunks(context) == 0


def test_server_restarted_between_submit_and_collect(make_plan, server, service_state, samples):
    service_state.queue_seconds = 0.3
    with (context := make_plan(patience={"retries": 0}).context()).ledger:
        send_open_chunks(context)
        server.stop()
        with pytest.raises(ServiceError, match="must answer"):
            collect_jobs(context)
        server.start()
        collect_jobs(context)
        check_complete(context, service_state, samples[1])


def test_429_without_retry_after_waits_a_while(make_plan, server, service_state, samples):
    slept = []
    from qhybrid.hardware.jobs.context import Clock

    service_state.faults = [Fault("submit", "429")]
    with (context := make_plan().context(clock=Clock(sleep=slept.append))).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])
        assert max(slept) == 30.0


def test_refused_jobs_say_why_and_can_be_sent_later(make_plan, server, service_state, samples):
    service_state.faults = [Fault("submit", "400", skip=1)]
    with (context := make_plan().context()).ledger:
        with pytest.raises(SubmissionRefusedError, match="refused a job"):
            send_open_chunks(context)
        assert len(service_state.jobs) == 1
        finish(context)
        check_complete(context, service_state, samples[1])
        assert len(service_state.jobs) == 3


def test_nothing_is_sent_when_the_quota_is_used_up(make_plan, server, service_state):
    service_state.used_up = True
    with (context := make_plan().context()).ledger:
        with pytest.raises(HardwareError, match="used up"):
            send_open_chunks(context)
        assert not service_state.jobs


def test_the_cap_holds_before_anything_is_sent(make_plan, server, service_state):
    with (context := make_plan(max_qpu_seconds=3.0).context()).ledger:
        with pytest.raises(HardwareError, match="max_qpu_seconds"):
            send_open_chunks(context)
        assert not service_state.jobs


def test_the_cap_holds_whatever_jobs_cost(make_plan, server, service_state):
    """Every job takes its whole limit, and the first attempt of one fails: the sum stays within the cap."""
    service_state.outcomes = ["failed"]
    service_state.takes_its_limit = True
    with (context := make_plan(max_qpu_seconds=20.0).context()).ledger:
        with pytest.raises(HardwareError, match="max_qpu_seconds"):
            finish(context)
        assert context.ledger.spent_seconds() <= 20
        assert len(context.ledger.results()) == 2
    jobs = service_state.jobs.values()
    assert sum(job.limit_seconds for job in jobs) <= 20
    with (context := make_plan(name="wide", max_qpu_seconds=60.0).context()).ledger:
        service_state.jobs.clear()
        service_state.outcomes = ["failed"]
        service_state.takes_its_limit = False
        finish(context)
        assert len(context.ledger.results()) == 3
        assert context.ledger.spent_seconds() == pytest.approx(4 * 2.0)


def test_jobs_share_the_cap_as_their_time_limits(make_plan, server, service_state):
    with (context := make_plan(max_qpu_seconds=30.0).context()).ledger:
        send_open_chunks(context)
        limits = [job.limit_seconds for job in service_state.jobs.values()]
        assert sum(limits) <= 30
        assert min(limits) >= 8


def test_open_plan_has_no_sessions(make_plan, server, service_state):
    context = make_plan(mode="session").context()
    with context.ledger, pytest.raises(SubmissionRefusedError, match="mode: job"):
        send_open_chunks(context)
    assert not service_state.jobs


def test_unknown_device_and_bad_account_say_what_to_do(make_plan, server, service_state, monkeypatch):
    plan = make_plan(backend="ibm_nowhere")
    with (
        (context := plan.context()).ledger,
        pytest.raises(HardwareError, match="ibm_nowhere must be one of the account's devices"),
    ):
        send_open_chunks(context)
    service_state.faults = [Fault("token", "400", times=100)]
    with pytest.raises(HardwareError, match="must be reachable") as caught:
        make_plan(name="other").context()
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
