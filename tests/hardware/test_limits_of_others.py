"""Jobs that others sent count with their own limits; what the service denies holds up nothing."""

from __future__ import annotations

from dataclasses import replace

import ibm_service_server
import pytest
from ibm_service_state import Fault
from outcome_checks import check_complete
from test_two_copies import copied

from qhybrid.hardware.jobs.collecting import MOST_FAILURES, collect_jobs
from qhybrid.hardware.jobs.reconciling import reconcile
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.ledger import Ledger
from qhybrid.hardware.ledger.records import CANCELLED, DENIED, STOPPED

ONE_CHUNK = {"jobs_per_minute": 1000.0}


@pytest.mark.parametrize("lost", [False, True])
def test_the_cap_holds_for_jobs_of_a_copy(lost, make_plan, server, service_state, tmp_path):
    """They were given more than the estimate, which a ledger that did not send them must count."""
    service_state.queue_seconds = 1e6
    plan = make_plan(max_qpu_seconds=60.0)
    other = copied(plan, tmp_path)
    with (first := plan.context()).ledger:
        send_open_chunks(first, only=(0,))
        (limit,) = [job.limit_seconds for job in service_state.jobs.values()]
        assert limit > 2 * first.ledger.chunks()[0].limit
        if lost:  # as a ledger that was made again
            first.ledger._write("DELETE FROM jobs")
    with (second := (plan if lost else other).context()).ledger:
        reconcile(second)
        assert second.ledger.committed_seconds() == limit
        send_open_chunks(second)
        assert second.ledger.committed_seconds() <= 60.0
    assert len(service_state.jobs) == 3
    assert sum(job.limit_seconds for job in service_state.jobs.values()) <= 60.0


def a_second_job(state, **changes):
    (own,) = state.jobs.values()
    state.jobs["second"] = replace(own, id="second", created=own.created + 1e-6, executions=0, **changes)
    return state.jobs["second"]


@pytest.mark.parametrize("limit", [None, 7])
@pytest.mark.parametrize(("status", "outcome"), [("Running", STOPPED), ("Queued", CANCELLED)])
def test_a_second_job_that_was_stopped_counts_until_its_bill_is_there(
    status, outcome, limit, make_plan, server, service_state
):
    """One that waited may have begun in that moment: services cancel as exactly as they can."""
    service_state.queue_seconds = 1e6
    with (context := make_plan(max_qpu_seconds=60.0, limits=ONE_CHUNK).context()).ledger:
        send_open_chunks(context)
        (own,) = service_state.jobs.values()
        tags = own.tags if limit is None else [*own.tags[:2], f"qhybrid-limit-{limit}s"]
        second = a_second_job(service_state, status=status, tags=tags)
        service_state.billed = False
        reconcile(context)
        assert [one.outcome for one in context.ledger.duplicates()] == [outcome]
        assert context.ledger.spent_seconds() < own.limit_seconds
        assert context.ledger.committed_seconds() == own.limit_seconds + (limit or own.limit_seconds)
        service_state.billed, second.seconds, own.starts_at = True, 1.5, 0.0
        collect_jobs(context)
        assert context.ledger.committed_seconds() == own.seconds + 1.5


def denied(monkeypatch, *routes):
    """Let the service deny the job `second`, though it lists it."""
    for route in routes:
        method = getattr(ibm_service_server._Handler, route)

        def refuse(self, id, *arguments, method=method, **named):
            if id == "second":
                raise ibm_service_server.Refusal(404, "Job not found. Job ID: second", 1291)
            return method(self, id, *arguments, **named)

        monkeypatch.setattr(ibm_service_server._Handler, route, refuse)


def test_a_second_job_that_the_service_denies_holds_up_no_result(
    make_plan, server, service_state, samples, monkeypatch
):
    service_state.queue_seconds = 1e6
    with (context := make_plan(limits=ONE_CHUNK, patience={"retries": 1}).context()).ledger:
        send_open_chunks(context)
        (own,) = service_state.jobs.values()
        second = a_second_job(service_state, status="Running")
        with monkeypatch.context() as patch:
            denied(patch, "_found")
            own.starts_at = 0.0
            collect_jobs(context)
            assert [one.outcome for one in context.ledger.duplicates()] == [DENIED]
            check_complete(context, service_state, samples[1])
        # Once the service knows it again, it is stopped.
        reconcile(context)
        assert [one.outcome for one in context.ledger.duplicates()] == [STOPPED]
        assert second.status == "Cancelled"


def test_a_bill_that_cannot_be_had_holds_up_no_other(make_plan, server, service_state, samples, monkeypatch):
    plan = make_plan(patience={"retries": 1})
    method = ibm_service_server._Handler._metrics

    def refuse(self, id, body):
        if id == next(iter(service_state.jobs)):
            raise ibm_service_server.Refusal(404, "no metrics", 1)
        return method(self, id, body)

    monkeypatch.setattr(ibm_service_server._Handler, "_metrics", refuse)
    with (context := plan.context()).ledger:
        send_open_chunks(context)
        collect_jobs(context)
        check_complete(context, service_state, samples[1])
        assert [job.usage for job in context.ledger.jobs()] == [None, 2.0, 2.0]
        assert context.ledger.open_bills() == 1
    assert any("costs are not complete" in text for text in plan.said)


def test_a_service_that_is_away_is_not_asked_for_every_bill(make_plan, server, service_state):
    limits = {"executions": 2 * 256, "jobs_per_minute": 1000.0}
    with (context := make_plan(patience={"retries": 1}, limits=limits).context()).ledger:
        send_open_chunks(context)
        assert len(service_state.jobs) > MOST_FAILURES
        service_state.faults = [Fault("metrics", "404", times=1000)]
        service_state.requests.clear()
        collect_jobs(context)
        assert service_state.requests["metrics"] == MOST_FAILURES + 1


def test_ledgers_of_earlier_versions_know_no_limits(make_plan, server, service_state):
    plan = make_plan()
    with (context := plan.context()).ledger:
        context.ledger._write("DROP TABLE limits")
    with Ledger(plan.path, plan.name, read_only=True) as ledger:
        assert ledger.limits() == {}
        assert ledger.committed_seconds() == 0.0
