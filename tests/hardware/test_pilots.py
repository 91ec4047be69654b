"""A small job goes first; its bill and deviations decide about the others, and kill -9 pays it once."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
from ibm_service_server import IbmServiceServer
from ibm_service_simulation import executions_of, simulate_upside_down
from ibm_service_state import ServiceState
from outcome_checks import TOKEN
from plan_cases import map_workload, quick
from test_kill_points import KillAt
from typer.testing import CliRunner

from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs import pilot
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome, write_partial
from qhybrid.hardware.jobs.reserving import measured_rate
from qhybrid.hardware.ledger import LEDGER_FILE, Chunk, Ledger, Request
from qhybrid.hardware.model import runs
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.plan.rounds import JobSizes, pilot_sizes, plan_round

FAST = {"poll_s": 0.01, "poll_max_s": 0.02, "resend_after_s": 0.1}
OVERHEAD, SHOTS = 0.5, 2000
EACH = 257.66e-6
"""Seconds of an execution: the usual delay, and circuits of 7.7 us."""


def times(factor):
    """Jobs take so many times the overhead and the usual time an execution, counted from their programs."""
    return lambda job: factor * (OVERHEAD + EACH * executions_of(job.params))


@pytest.fixture(scope="module")
def workload():
    return map_workload(6)


@pytest.fixture(scope="module")
def plan(workload, tmp_path_factory):
    """6 samples of 2 measured circuits, 1 s each: a pilot of 1, then jobs of 2, 2 and 1."""
    settings = quick(
        backend="ibm_manila",
        shots=SHOTS,
        mode="job",
        patience=FAST,
        price={"overhead_s": OVERHEAD},
        pilot={"above_s": 3.0, "seconds": 1.1},
        limits={"jobs_per_minute": 1e6},
    )
    state = ServiceState(devices={"ibm_manila": "fake_manila"})
    with IbmServiceServer(state) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment(TOKEN).items():
            patch.setenv(name, value)
        return make_plan(workload, settings, tmp_path_factory.mktemp("pilot"))


@pytest.fixture
def planned(plan, server, tmp_path):
    """Function that returns a copy of the plan, with other settings if any are given."""

    def make(name="copy", **changes):
        folder = shutil.copytree(plan, tmp_path / name)
        content = json.loads((folder / "plan.json").read_text())
        content["settings"] |= changes
        (folder / "plan.json").write_text(json.dumps(content))
        return folder

    return make


def test_large_plans_begin_with_a_small_job(plan, planned):
    content = json.loads((plan / "plan.json").read_text())
    seconds = {key: count * EACH for key, count in content["pilot"].items()}
    assert seconds == pytest.approx({"executions": 1.1, "job_executions": 3.0}, rel=1e-3)
    assert content["rounds"][0]["jobs"] == 4
    with Ledger(plan / LEDGER_FILE, content["plan"]) as ledger:
        blocks = [[len(points) for _, points in chunk.blocks] for chunk in ledger.chunks()]
        points = [point for chunk in ledger.chunks() for _, own in chunk.blocks for point in own]
    assert blocks == [[1], [2], [2], [1]]
    assert points == list(range(6))


def test_jobs_are_as_small_as_asked_and_hold_all_points(small_prepared, samples):
    circuits, settings = {small_prepared.key: small_prepared}, quick(shots=100)
    requests = [Request(i, "layer", 0, small_prepared.key, row[None]) for i, row in enumerate(samples[0])]
    each = small_prepared.executions(1, 100)

    def sizes(first, others):
        found = plan_round(0, requests, {}, 0, circuits, settings, JobSizes(first, others))
        assert [p for c in found.chunks for _, own in c.blocks for p in own] == [0, 1, 2, 3, 4]
        return [len(own) for chunk in found.chunks for _, own in chunk.blocks]

    assert sizes(None, None) == [5]
    assert sizes(2 * each, None) == [2, 3]
    assert sizes(1, 2 * each) == [1, 2, 2]  # one parameter set at least
    assert sizes(10 * each, 3 * each) == [3, 2]


def test_small_plans_have_no_pilot(small_prepared):
    settings = quick(shots=100, pilot={"above_s": 10.0})
    circuits = {small_prepared.key: small_prepared}
    chunk = Chunk(0, 0, ((small_prepared.key, (0,)),), 10.0)
    assert pilot_sizes([chunk], circuits, settings) is None
    assert pilot_sizes([replace(chunk, seconds=10.1)], circuits, settings) is not None


CAP = 22.0


def opened(folder, workload, said):
    return open_plan(folder, lambda *_: workload, say=said.append)


def test_a_pilot_that_is_as_estimated_lets_the_others_go(planned, workload, service_state):
    folder, said = planned(), []
    service_state.takes = times(1.1)
    with opened(folder, workload, said) as execution:
        execution.submit()
        jobs = list(service_state.jobs.values())
        assert jobs[0].status == "Completed"
        assert len(jobs) == len(execution.ledger.chunks()) > 1
        assert execution.collect() is not None
        assert any("pilot: Measured" in text and "1.1 times" in text for text in said)
        assert any("pilot: observables deviate" in text for text in said)


def test_without_a_cap_a_rate_far_above_the_estimate_stops_the_plan(planned, workload, service_state):
    folder, said = planned(), []
    service_state.takes = times(3)
    with opened(folder, workload, said) as execution:
        for _ in range(2):  # asking again changes nothing, and pays nothing
            with pytest.raises(HardwareError, match=r"3 times as much .* --no-pilot` goes on"):
                execution.submit()
        assert len(service_state.jobs) == 1
        execution.submit(pilot=False)
        assert execution.collect() is not None
        assert set(service_state.executions().values()) == {1}


def test_three_times_the_estimate_ends_with_results_within_the_cap(planned, workload, service_state):
    """As many jobs as the cap allows at the measured rate; then numbers and the remedy, which works."""
    folder, said = planned(max_qpu_seconds=CAP), []
    service_state.takes = times(3)
    with opened(folder, workload, said) as execution:
        with pytest.raises(HardwareError, match=r"3 times as much .*--max-qpu-seconds \d+"):
            execution.run()
        # Bills of 4.5, 7.6 and 4.5 s; one more of 7.6 s does not fit. None was stopped at its limit.
        assert [job.status for job in service_state.jobs.values()] == ["Completed"] * 3
        assert sorted(execution.ledger.results()) == [0, 1, 3]
        spent = execution.ledger.spent_seconds()
        assert spent == pytest.approx(3 * (3 * OVERHEAD + 4 * 2 * SHOTS * EACH))
        assert spent <= CAP < spent + 3 * (OVERHEAD + 2 * 2 * SHOTS * EACH)
        assert measured_rate(execution.context).factor == pytest.approx(3, rel=1e-3)
        # Chunks of 1, 2, 2 and 1 samples: all but the third has come back.
        assert write_partial(execution) == 4
        rows = (folder / "results" / "partial.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in rows] == ["sample", "s0", "s1", "s2", "s5"]
        execution.raise_cap(100.0)
        outputs = execution.run()
        assert write_outcome(execution, outputs)["samples"] == 6
        assert not (folder / "results" / "partial.csv").exists()
        full = (folder / "results" / "predictions.csv").read_text().splitlines()
        assert [row for row in full if row.split(",")[0] in ("sample", "s0", "s1", "s2", "s5")] == rows
        assert set(service_state.executions().values()) == {1}
        with pytest.raises(HardwareError, match="at least 100 s"):
            execution.raise_cap(99.0)


def test_deviations_far_from_the_predicted_ones_stop_the_plan(planned, workload, service_state):
    service_state.simulate = simulate_upside_down
    folder = planned()
    with opened(folder, workload, []) as execution:
        with pytest.raises(HardwareError, match=r"pilot.deviation_factor.*remap"):
            execution.submit()
        assert len(service_state.jobs) == 1


def test_a_pilot_that_fails_or_is_stopped_says_so(planned, workload, service_state):
    service_state.outcomes = ["too_long"]
    with opened(planned(), workload, []) as execution:
        with pytest.raises(HardwareError, match=r"(?s)pilot must have a result, but is `too_long`.*--again"):
            execution.submit()
        assert len(service_state.jobs) == 1
        with pytest.raises(HardwareError, match="too_long"):
            execution.submit()
        execution.submit(again=True)
        assert execution.collect() is not None
        assert len(service_state.jobs) == 1 + len(execution.ledger.chunks())


def test_a_bill_that_is_open_is_waited_for(planned, workload, service_state, monkeypatch):
    monkeypatch.setattr(pilot, "BILL_QUESTIONS", 2)
    service_state.billed = False
    with opened(planned(), workload, []) as execution:
        with pytest.raises(HardwareError, match="bill of the pilot must be known"):
            execution.submit()
        service_state.billed = True
        execution.submit()
        assert len(service_state.jobs) == len(execution.ledger.chunks())


def in_child(folder, workload, number):
    child = os.fork()
    if child == 0:
        try:
            KillAt(number).install()
            with opened(folder, workload, []) as execution:
                execution.submit()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("stride", [19, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_while_the_pilot_decides(stride, planned, workload, service_state):
    """Killed at every so many steps of a submit: the pilot is paid once, and so is everything else."""
    number = 2
    while True:
        service_state.jobs.clear()
        folder = planned(f"kill-{number}")
        killed = in_child(folder, workload, number)
        with opened(folder, workload, []) as execution:
            assert execution.run() is not None
        assert list(service_state.executions().values()) == [1] * 4
        if not killed:
            break
        number += stride
    assert number > 30


def test_the_command_takes_pilot_and_cap(planned, workload, service_state, monkeypatch):
    from qhybrid.cli.main import app

    monkeypatch.setattr(runs, "load_workload", lambda *_: workload)
    monkeypatch.setattr(runs, "check_data", lambda *_: None)
    service_state.takes = times(3)
    folder = planned()
    found = CliRunner().invoke(app, ["hardware", "submit", str(folder)])
    assert found.exit_code != 0
    assert "3 times as much" in str(found.exception) + found.output
    found = CliRunner().invoke(
        app, ["hardware", "submit", str(folder), "--no-pilot", "--max-qpu-seconds", "200"]
    )
    assert found.exit_code == 0, found.output
    assert {job.limit_seconds is not None for job in list(service_state.jobs.values())[1:]} == {True}


@pytest.mark.parametrize(("predicted", "times_as_much"), [(0.0, ""), (0.05, ", 10 times as much")])
def test_deviations_where_none_was_predicted(predicted, times_as_much, monkeypatch):
    """Exact simulators predict 0: there is no factor to that, and the rule still holds."""
    monkeypatch.setattr(pilot, "measured_rate", lambda context: None)
    noted = []
    context = SimpleNamespace(settings=quick(), note=noted.append)
    with pytest.raises(
        HardwareError, match=rf"but do by 0\.5000 where {predicted:.4f} was predicted{times_as_much}\. Fix"
    ):
        pilot._decide(context, pilot.Deviations(0.5, predicted, 0.01))
    assert "0.5000 (rms)" in noted[0]
    pilot._decide(context, pilot.Deviations(predicted, predicted, 0.01))
