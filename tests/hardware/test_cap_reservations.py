"""The cap holds for jobs that appear late, and a stop says how far the estimate was wrong."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from ibm_service_state import Fault
from outcome_checks import check_complete, finish
from plan_cases import map_workload, quick

from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.collecting import cancel_jobs
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.reconciling import reconcile
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.plan.planning import make_plan

ONE_CHUNK = {"jobs_per_minute": 1000.0}


def test_a_job_that_appears_late_keeps_its_reservation(make_plan, server, service_state, samples):
    """Its limit is all of the cap: a second one must not be sent, however long no listing shows the first."""
    service_state.faults = [Fault("submit", "late", seconds=1.2)]
    service_state.takes_its_limit = True
    plan = make_plan(max_qpu_seconds=8.0, limits=ONE_CHUNK)
    with (context := plan.context()).ledger:
        with pytest.raises(HardwareError, match="may still appear, so its time stays reserved"):
            send_open_chunks(context)
        assert context.ledger.committed_seconds() == 8.0
        with pytest.raises(HardwareError, match="max_qpu_seconds"):
            send_open_chunks(context)
        time.sleep(1.2)
        finish(context)
        check_complete(context, service_state, samples[1])
        assert context.ledger.committed_seconds() == 8.0
    assert [job.limit_seconds for job in service_state.jobs.values()] == [8]


def test_what_is_left_of_the_cap_is_used_meanwhile(make_plan, server, service_state, samples):
    service_state.faults = [Fault("submit", "late", seconds=1.0)]
    service_state.takes_its_limit = True
    plan = make_plan(max_qpu_seconds=8.0, max_execution_seconds=4, limits=ONE_CHUNK)
    with (context := plan.context()).ledger:
        send_open_chunks(context)
        assert context.ledger.committed_seconds() == 8.0
        time.sleep(1.0)
        finish(context)
        check_complete(context, service_state, samples[1])
        assert context.ledger.spent_seconds() <= 8.0
        assert context.ledger.unlisted_seconds() == 0.0
    assert [job.limit_seconds for job in service_state.jobs.values()] == [4, 4]


def test_a_stop_names_the_measured_rate(server, service_state, tmp_path):
    """Three times the estimate: two jobs end at their limits, and the message says what to plan with."""
    workload = map_workload(2)
    limits = {"executions": 2 * 2000, "jobs_per_minute": 1e6}
    settings = {"backend": "ibm_manila", "shots": 2000, "mode": "job", "limits": limits}
    folder = make_plan(workload, quick(**settings, max_qpu_seconds=18.0), tmp_path)
    service_state.outcomes = ["completed", "too_long"]
    service_state.takes_its_limit = True
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit(pilot=False)
        execution.collect()
        planned = sum(chunk.seconds for chunk in execution.ledger.chunks())
        with pytest.raises(HardwareError, match=rf"{18 / planned:.2g} times as much"):
            execution.check_decisions()


@pytest.mark.parametrize("cap", [float("inf"), float("nan")])
def test_a_cap_is_a_number(cap, server, service_state, tmp_path):
    """One that is not would be kept in the ledger and stop all later commands."""
    workload = map_workload(1)
    folder = make_plan(workload, quick(backend="ibm_manila", mode="job"), tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        with pytest.raises(HardwareError, match="must be a number of seconds"):
            execution.raise_cap(cap)
        assert execution.context.cap is None
        if cap > 0:  # as earlier versions kept it
            execution.ledger.raise_cap(cap)
        assert execution.submit(pilot=False) == 1


def test_a_service_without_a_price_for_time_has_jobs_too(make_plan, server, service_state, samples):
    """Estimates of 0 s: nothing is divided by them, and every job has a time limit."""
    with (context := make_plan(max_qpu_seconds=30.0).context()).ledger:
        for chunk in context.ledger.chunks():
            context.ledger.set_layout(0, {chunk.number: 0.0})
        finish(context)
        check_complete(context, service_state, samples[1])
    assert all(job.limit_seconds >= 1 for job in service_state.jobs.values())


def test_each_job_that_appears_gives_back_one_reservation(make_plan, server, service_state):
    """Three jobs of one tag, two of them given up: the larger reservation stays until the third appears."""
    service_state.queue_seconds = 1e6
    with (context := make_plan(limits=ONE_CHUNK, max_qpu_seconds=60.0).context()).ledger:
        send_open_chunks(context)
        (own,) = service_state.jobs.values()
        context.ledger.note_unlisted(own.tags[1], 5.0, 0.0)
        context.ledger.note_unlisted(own.tags[1], 3.0, 0.0)
        service_state.jobs["older"] = replace(own, id="older", created=own.created - 9)
        reconcile(context)
        assert context.ledger.jobs()[0].id == "older"
        assert [one.id for one in context.ledger.duplicates()] == [own.id]
        assert context.ledger.unlisted_seconds() == 5.0
        service_state.jobs["last"] = replace(own, id="last")
        for _ in range(2):
            reconcile(context)
            assert context.ledger.unlisted_seconds() == 0.0


def test_bills_that_came_later_make_room_under_the_cap(make_plan, server, service_state):
    """Jobs that were cancelled count with their limits until `submit` finds that they cost nothing."""
    service_state.queue_seconds, service_state.billed = 1e6, False
    with (context := make_plan(max_qpu_seconds=8.0, limits=ONE_CHUNK).context()).ledger:
        send_open_chunks(context)
        assert cancel_jobs(context) == 1
        with pytest.raises(HardwareError, match="max_qpu_seconds"):
            send_open_chunks(context, again=True)
        service_state.billed = True
        assert send_open_chunks(context, again=True) == 1
