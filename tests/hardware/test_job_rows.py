"""Status of jobs: ids, queue positions, the service's estimates, and where to look."""

from __future__ import annotations

import pytest
from plan_cases import map_workload, quick

from qhybrid.cli.console import console
from qhybrid.cli.hardware_tables import print_jobs
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.status import job_rows
from qhybrid.hardware.ledger.records import Duplicate
from qhybrid.hardware.plan.planning import make_plan


@pytest.fixture
def sent(server, service_state, tmp_path):
    """A plan with two jobs in a batch that wait behind one of somebody else."""
    workload = map_workload(2)
    limits = {"executions": 2 * 100, "jobs_per_minute": 1e6}
    folder = make_plan(workload, quick(backend="ibm_manila", shots=100, limits=limits), tmp_path)
    service_state.queue_seconds = 60.0
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit(pilot=False)
        execution.ledger.note_duplicate(
            Duplicate("d0", execution.ledger.jobs()[0].tag, "cancelled", usage=1.5)
        )
    return folder


def test_rows_have_ids_positions_and_estimates(sent, service_state):
    rows, told = job_rows(sent, ask=True)
    assert [row["id"] for row in rows] == list(service_state.jobs)
    assert [(row["state"], row["position"], row["estimate"]) for row in rows] == [
        ("queued", 1, 2.0),
        ("queued", 2, 2.0),
    ]
    assert not any("could" in one or ", but" in one for one in told)
    text = " ".join(told)
    (batch,) = service_state.sessions
    assert f"batch {batch} is closed" in text
    assert "duplicate d0" in text
    assert "1.5 s billed" in text
    assert "IBM Quantum Platform, page Workloads, instance instance (open)" in text
    assert "3 job(s) of all users wait for ibm_manila" in text
    assert rows[0]["tag"].rsplit("-c", 1)[0] in text
    assert "http" not in text
    with console.capture() as captured:
        print_jobs(rows, told)
    assert all(row["id"] in captured.get() for row in rows)


def test_without_the_service_the_ledger_tells(sent, server):
    server.stop()
    rows, told = job_rows(sent, ask=True)
    assert [row["state"] for row in rows] == ["sent", "sent"]
    assert any("asked where jobs stand, but" in text for text in told)
    asked = sum(server.state.requests.values())
    rows, _ = job_rows(sent, ask=False)
    assert [row["position"] for row in rows] == [None, None]
    assert sum(server.state.requests.values()) == asked


def test_a_job_that_the_service_denies_hides_no_other(sent, service_state):
    first, second = service_state.jobs
    del service_state.jobs[first]
    rows, told = job_rows(sent, ask=True)
    assert [(row["id"], row["state"], row["position"]) for row in rows] == [
        (first, "denied", None),
        (second, "queued", 1),
    ]
    assert not any(", but" in one for one in told)
