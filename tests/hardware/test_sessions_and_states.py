"""Sessions and batches end, their bills count; what the account and the device cannot do is said before."""

from __future__ import annotations

import pytest
from ibm_service_state import Fault
from outcome_checks import check_complete, finish
from plan_cases import map_workload, quick
from test_two_copies import copied

from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs import sending
from qhybrid.hardware.jobs.collecting import cancel_jobs, collect_jobs
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.reserving import SessionTime
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.plan.planning import draft_plan, make_plan

ONE_CHUNK = {"jobs_per_minute": 1000.0}


@pytest.mark.parametrize("mode", ["batch", "session"])
def test_sessions_and_batches_end_by_themselves_and_are_in_the_ledger(mode, make_plan, server, service_state):
    service_state.plan = "premium"
    with (context := make_plan(mode=mode).context()).ledger:
        finish(context)
        (one,) = service_state.sessions.values()
        (known,) = context.ledger.sessions()
        assert (known.id, known.mode, known.max_time) == (one["id"], mode, one["max_ttl"])
        assert one["max_ttl"] == (28_800 if mode == "batch" else 600)
        assert known.closed
        assert not one["accepting_jobs"]


@pytest.mark.parametrize("command", [collect_jobs, cancel_jobs, send_open_chunks])
def test_what_a_crash_left_open_is_closed_by_the_next_command(
    command, make_plan, server, service_state, monkeypatch
):
    service_state.plan = "premium"
    service_state.queue_seconds = 0.2
    plan = make_plan(mode="session", limits=ONE_CHUNK)
    with (context := plan.context()).ledger, monkeypatch.context() as patch:
        patch.setattr(sending, "_close", lambda *_: None)
        send_open_chunks(context)
    (one,) = service_state.sessions.values()
    assert one["accepting_jobs"]
    with (context := plan.context()).ledger:
        command(context)
        assert not one["accepting_jobs"]
        assert [known.closed for known in context.ledger.sessions()] == [True]
    assert len(service_state.jobs) == 1


def test_the_bill_of_a_session_counts(make_plan, server, service_state, samples):
    """It is billed from its first job to its end: here for 17 s, of which its jobs took 6."""
    service_state.plan = "premium"
    with (context := make_plan(mode="session", max_qpu_seconds=60.0).context()).ledger:
        send_open_chunks(context)
        (one,) = service_state.sessions.values()
        (known,) = context.ledger.sessions()
        assert context.ledger.committed_seconds() >= known.max_time
        one |= {"state": "closed", "elapsed_time": 17.0}
        collect_jobs(context)
        check_complete(context, service_state, samples[1])
        assert context.ledger.billed_seconds() == context.ledger.spent_seconds() == 17.0


@pytest.mark.parametrize("cap", [9.0, 10.0, 15.0])
def test_a_session_has_room_for_its_jobs(cap, make_plan, server, service_state, samples):
    """All of it counts as spent when it opens; its jobs need nothing beside it."""
    service_state.plan = "premium"
    with (context := make_plan(mode="session", max_qpu_seconds=cap).context()).ledger:
        chunks = context.ledger.chunks()
        assert sum(chunk.limit for chunk in chunks) <= cap < 2 * sum(chunk.limit for chunk in chunks)
        assert send_open_chunks(context) == len(chunks)
        (known,) = context.ledger.sessions()
        assert sum(job.limit_seconds for job in service_state.jobs.values()) <= known.max_time <= cap
        assert context.ledger.committed_seconds() <= cap
        collect_jobs(context)
        check_complete(context, service_state, samples[1])
    assert len(service_state.sessions) == 1


def test_a_job_that_is_adopted_takes_its_time_of_the_session(make_plan, server, service_state, samples):
    """Its sending broke off and the service has it: a session must not be filled beyond its end."""
    service_state.plan = "premium"
    with (context := make_plan(mode="session", max_qpu_seconds=60.0).context()).ledger:
        chunks = context.ledger.chunks()
        context.service.open(6)
        context.service.begin()
        context.session = SessionTime(6.0, 1.0)
        service_state.faults = [Fault("submit", "drop_after")]
        assert sending._send_all(context, list(chunks)) == 2 < len(chunks)
        assert sum(job.limit_seconds for job in service_state.jobs.values()) <= 6
        assert context.session.left == 0


def test_an_instance_without_time_enough_is_told_before(make_plan, server, service_state):
    service_state.usage_limit_seconds = 5
    with (context := make_plan().context()).ledger:
        with pytest.raises(HardwareError, match=r"has 5 s left and about 6\.\d s are to be sent"):
            send_open_chunks(context)
        assert not service_state.jobs


def test_a_device_in_maintenance_is_told_before(make_plan, server, service_state, samples):
    service_state.edits["status"] = lambda content: content.update(state=False, status="maintenance")
    plan = make_plan(limits=ONE_CHUNK)
    with (context := plan.context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])
    assert any("is `maintenance` now: jobs wait" in text for text in plan.said)


def test_a_mode_that_the_instance_lacks_is_told_by_the_plan(server, service_state):
    settings = quick(backend="ibm_manila", shots=100, mode="session")
    with pytest.raises(HardwareError, match=r"`mode` must be one .*\(open\) has no sessions"):
        draft_plan(map_workload(1), settings)
    service_state.plan = "premium"
    draft_plan(map_workload(1), settings)


def set_gate_error(qubits, value):
    def edit(content):
        for gate in content["gates"]:
            if gate["gate"] == "cx" and gate["qubits"] in (qubits, qubits[::-1]):
                for one in gate["parameters"]:
                    if one["name"] == "gate_error":
                        one["value"] = value

    return edit


@pytest.fixture
def planned(server, service_state, tmp_path):
    workload = map_workload(1)
    folder = make_plan(workload, quick(backend="ibm_manila", shots=100, mode="job"), tmp_path)
    return workload, folder


def test_a_coupling_that_died_since_the_plan_stops_it(planned, service_state):
    workload, folder = planned
    service_state.edits["properties"] = set_gate_error([1, 2], 1.0)
    with open_plan(folder, lambda *_: workload) as execution:
        with pytest.raises(HardwareError, match=r"gone out of order: cx 1 2|cx 2 1"):
            execution.submit()
        assert not execution.ledger.jobs()
    assert not service_state.jobs


def test_a_calibration_that_moved_is_told(planned, service_state):
    workload, folder = planned
    service_state.edits["properties"] = set_gate_error([1, 2], 0.3)
    said = []
    with open_plan(folder, lambda *_: workload, say=said.append) as execution:
        assert execution.submit() == 1
    (told,) = (text for text in said if "has moved since the plan" in text)
    assert "cx 1 2" in told or "cx 2 1" in told
    assert "read-out" not in told


def test_a_calibration_that_stays_is_not_spoken_of(planned, service_state):
    workload, folder = planned
    service_state.edits["properties"] = set_gate_error([1, 2], 0.012)
    said = []
    with open_plan(folder, lambda *_: workload, say=said.append) as execution:
        execution.submit()
    assert not any("moved" in text for text in said)


def test_a_token_that_ends_opens_no_second_session(make_plan, server, service_state, samples):
    """It would be in no ledger, nobody would close it, and the cap would not count it."""
    service_state.plan = "premium"
    plan = make_plan(mode="session", max_qpu_seconds=60.0)
    with (context := plan.context()).ledger:
        service_state.faults = [Fault("submit", "401", skip=1), Fault("session", "404")]
        with pytest.raises(HardwareError, match="session must be open .* Fix: submit again"):
            send_open_chunks(context)
        (one,) = service_state.sessions.values()
        assert not one["accepting_jobs"]
        assert [known.id for known in context.ledger.sessions()] == [one["id"]]
        service_state.faults = [Fault("submit", "401", skip=1)]
        finish(context)
        check_complete(context, service_state, samples[1])
        known = {known.id: known.closed for known in context.ledger.sessions()}
        assert known == dict.fromkeys(service_state.sessions, True)
        assert len(known) == 2


@pytest.mark.parametrize(("kind", "fix"), [("400", "the open plan has no sessions"), ("401", "new API key")])
def test_why_no_batch_can_be_opened_is_told(kind, fix, make_plan, server, service_state):
    with (context := make_plan(mode="batch").context()).ledger:
        service_state.faults = [Fault("open_session", kind, times=10)]
        with pytest.raises(HardwareError, match=f"batch must be open.*{fix}"):
            send_open_chunks(context)
        assert not service_state.jobs


def test_a_session_that_could_not_be_closed_is_closed_later(make_plan, server, service_state):
    """Another one that is closed meanwhile says nothing of it."""
    service_state.plan = "premium"
    plan = make_plan(mode="session", patience={"retries": 0})
    with (context := plan.context()).ledger:
        service_state.faults = [Fault("session", "403", times=2)]
        send_open_chunks(context, only=(0,))
        (first,) = context.ledger.sessions()
        assert not first.closed
        send_open_chunks(context)
        assert [one.closed for one in context.ledger.sessions()] == [False, True]
        collect_jobs(context)
        assert [one.closed for one in context.ledger.sessions()] == [True, True]
    assert not any(one["accepting_jobs"] for one in service_state.sessions.values())


def test_time_that_jobs_in_flight_may_take_is_told(make_plan, server, service_state):
    """The instance counts what has run: what waits in its queue is not in its answer."""
    service_state.queue_seconds = 1e6
    plan = make_plan()
    with (context := plan.context()).ledger:
        send_open_chunks(context, only=(0, 1))
    service_state.usage_limit_seconds = 5
    told = "jobs that were sent before may take"
    assert not any(told in text for text in plan.said)
    with (context := plan.context()).ledger:
        assert send_open_chunks(context) == 1
    (text,) = (text for text in plan.said if told in text)
    assert "has 5 s left" in text
    assert "may take 4." in text


@pytest.mark.parametrize("mode", ["batch", "session"])
def test_what_is_open_is_closed_though_the_ledger_is_lost(mode, server, service_state, tmp_path, monkeypatch):
    """Its bill counts: nobody would know of the time between its jobs otherwise."""
    service_state.plan = "premium"
    workload = map_workload(1)
    folder = make_plan(workload, quick(backend="ibm_manila", shots=100, mode=mode), tmp_path)
    with open_plan(folder, lambda *_: workload) as execution, monkeypatch.context() as patch:
        patch.setattr(sending, "_close", lambda *_: None)
        execution.submit()
    (folder / "ledger.sqlite").unlink()
    (one,) = service_state.sessions.values()
    assert one["accepting_jobs"]
    with open_plan(folder, lambda *_: workload) as execution:
        execution.collect()
        assert not one["accepting_jobs"]
        (known,) = execution.ledger.sessions()
        assert (known.id, known.mode, known.closed) == (one["id"], mode, True)
        one |= {"state": "closed", "elapsed_time": 17.0}
        execution.collect()
        assert execution.ledger.billed_seconds() == (17.0 if mode == "session" else 2.0)


def test_a_session_of_a_copy_is_billed_and_left_to_it(make_plan, server, service_state, tmp_path):
    service_state.plan, service_state.queue_seconds = "premium", 1e6
    plan = make_plan(mode="session", max_qpu_seconds=60.0)
    other = copied(plan, tmp_path)
    with (first := plan.context()).ledger, (second := other.context()).ledger:
        first.service.open(20)
        name, *_ = first.service.begin()
        first.service.submit(first.package(first.ledger.prepare_job(0), first.ledger.chunks()[0]))
        collect_jobs(second, wait=False)
        assert service_state.sessions[name]["accepting_jobs"]
        assert [(one.id, one.closed) for one in second.ledger.sessions()] == [(name, True)]
        service_state.sessions[name] |= {"state": "closed", "elapsed_time": 17.0}
        collect_jobs(second, wait=False)
        assert second.ledger.billed_seconds() == 17.0
