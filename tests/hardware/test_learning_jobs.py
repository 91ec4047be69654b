"""The job that learns noise is paid like any other: once, within the cap, and its result belongs to it."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from ibm_service_bill import bill_of
from ibm_service_learning import layers_of
from ibm_service_server import IbmServiceServer
from ibm_service_state import Fault, ServiceState
from outcome_checks import TOKEN
from plan_cases import FAST, class_workload, map_workload, quick
from test_kill_points import KillAt
from test_random_kills import PATIENCE, Copy, work_on
from test_remapping import end_of, places_of, worsen
from test_two_copies import submit_both

from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.remapping import remap
from qhybrid.hardware.ledger import LEDGER_FILE
from qhybrid.hardware.ledger.mending import REQUESTS_FILE
from qhybrid.hardware.model.kept_files import FILES
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.settings import LEVELS, Learning
from qhybrid.layers import quantum_layers
from qhybrid.report.hardware_cost import cost_remarks, read_ledger
from qhybrid.report.hardware_sources import read_plans

FEW = Learning(randomizations=1, shots=4, depths=(0, 2))
QUICK = LEVELS["pea"].model_copy(update={"learning": FEW, "randomizations": 5})
WORKLOAD = map_workload(2)
"""Its two samples go out in a job each."""


def settings(**changes):
    limits = {"executions": 2 * 2 * 100, "jobs_per_minute": 1e6}
    patience = {"poll_s": 0.01, "poll_max_s": 0.02, "resend_after_s": 0.1}
    content = {"backend": "ibm_manila", "mode": "job", "shots": 100, "mitigation": QUICK}
    return quick(**{**content, "limits": limits, "patience": patience, **changes})


def plan_apart(given, folder):
    """Make a plan by a service of its own, for tests that each have a copy of it."""
    with (
        IbmServiceServer(ServiceState(devices={"ibm_manila": "fake_manila"})) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running.environment(TOKEN).items():
            patch.setenv(name, value)
        return make_plan(WORKLOAD, given, folder)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The plan of most tests, made once."""
    return plan_apart(settings(), tmp_path_factory.mktemp("planned"))


@pytest.fixture
def new_plan(server, tmp_path, planned):
    def new(**changes):
        if not changes:
            return shutil.copytree(planned, tmp_path / "plans" / planned.name)
        return make_plan(WORKLOAD, settings(**changes), tmp_path / "plans")

    return new


def opened(folder, **options):
    return open_plan(folder, lambda *_: WORKLOAD, **options)


@contextmanager
def learned(new_plan, state, seconds, cap):
    """Open a plan under a cap whose learning was billed so many seconds; circuits take 2.1 s each."""
    state.takes = lambda job: seconds if job.program == "noise-learner" else 2.1
    with opened(new_plan(max_qpu_seconds=cap)) as execution:
        execution.submit()
        execution.collect()
        yield execution


def learn_and_move(execution, state):
    """Learn the noise, then leave a qubit that got worse."""
    execution.submit()
    execution.collect()
    worsen(state, end_of(execution))
    remap(execution)


def kinds(state):
    """Return how often jobs of each kind ran, and check that none ran twice."""
    assert all(times <= 1 for times in state.executions().values())
    ran = [job.program for job in state.jobs.values() if job.executions]
    return {name: ran.count(name) for name in set(ran)}


ONCE = {"noise-learner": 1, "executor": 2}


def worsen_readout(content):
    """Double all read-out errors a device reports: layouts stay where they are, with other errors."""
    for one in (one for qubit in content["qubits"] for one in qubit):
        if one["name"] in ("readout_error", "prob_meas0_prep1", "prob_meas1_prep0"):
            one["value"] = min(0.4, 2 * one["value"])


def run(folder):
    with opened(folder) as execution:
        assert execution.run() is not None
        return execution.status()


EVERY_STEP = pytest.param(False, 1, marks=pytest.mark.slow)


@pytest.mark.parametrize(("private", "stride"), [EVERY_STEP, (False, 5), (True, 6)])
def test_killed_at_every_step_of_the_learning(private, stride, new_plan, service_state, tmp_path):
    folder, killed, number, lost = new_plan(private=private), True, 0, 0
    while killed:
        service_state.jobs.clear()
        number += stride
        copy = shutil.copytree(folder, tmp_path / f"kill-{number}")
        child = os.fork()
        if child == 0:
            try:
                KillAt(number).install()
                with opened(copy) as execution:
                    execution.submit()
                    execution.collect()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        with opened(copy) as execution:
            if execution.ledger.chunks()[0].state != "done":
                execution.submit()
                execution.collect()
            chunk = execution.ledger.chunks()[0]
            # A private result is lost if the process ends in the very moment of its transfer.
            lost += chunk.state != "done"
            assert chunk.state == "done" or private
        assert kinds(service_state) == {"noise-learner": 1}
        shutil.rmtree(copy)
    assert number > 12
    assert lost <= private


def test_two_copies_learn_once(new_plan, service_state, tmp_path):
    folder = new_plan()
    copy = shutil.copytree(folder, tmp_path / "copy")
    homes = [tmp_path / "home"] * 2
    homes[0].mkdir()
    said = submit_both([folder, copy], homes, WORKLOAD)
    assert sorted(said) == [["0", "False"], ["1", "False"]]
    submit_both([folder, copy], homes, WORKLOAD)
    run(folder)
    run(copy)
    assert kinds(service_state) == ONCE


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("moment", ["sent", "learned", "measured"])
def test_a_lost_ledger_learns_nothing_again(moment, both, new_plan, service_state):
    folder = new_plan()
    with opened(folder) as execution:
        execution.submit()
        if moment != "sent":
            execution.collect()
        if moment == "measured":
            execution.submit()
    for name in (LEDGER_FILE, *([REQUESTS_FILE] if both else [])):
        (folder / name).unlink()
    status = run(folder)
    assert kinds(service_state) == ONCE
    assert status["chunks"] == {"done": 3}
    assert status["qpu_seconds_billed"] == 6.0  # 2 s a job


def test_a_damaged_result_is_fetched_again(new_plan, service_state):
    folder = new_plan()
    with opened(folder) as execution:
        execution.submit()
        execution.collect()
        execution.ledger._write("UPDATE results SET raw = replace(raw, 'X', 'Y')")
    run(folder)
    assert kinds(service_state) == ONCE


def test_a_truncated_result_is_fetched_again(new_plan, service_state):
    service_state.faults = [Fault("result", "truncate", times=2)]
    run(new_plan())
    assert kinds(service_state) == ONCE


@pytest.mark.parametrize("kind", ["drop_after", "500_after", "drop_before", "late"])
def test_learning_whose_sending_broke_off_is_adopted(kind, new_plan, service_state):
    service_state.faults = [Fault("submit", kind, seconds=0.05)]
    run(new_plan())
    assert kinds(service_state) == ONCE


def test_learning_goes_out_in_a_batch(new_plan, service_state):
    run(new_plan(mode="batch"))
    assert kinds(service_state) == ONCE
    assert service_state.sessions
    assert not any(one["accepting_jobs"] for one in service_state.sessions.values())
    assert all(job.session in service_state.sessions for job in service_state.jobs.values())


def test_learning_beyond_the_limits_of_a_job_is_refused(new_plan):
    with pytest.raises(HardwareError, match=r"216 executions where `limits.executions` is 200"):
        new_plan(limits={"executions": 200})


def test_noise_far_from_the_calibration_is_told(new_plan, service_state):
    """This device has none, and the calibration says that gates err."""
    mitigation = QUICK.model_copy(update={"learning": Learning(shots=500)})
    folder = new_plan(mitigation=mitigation, limits={"jobs_per_minute": 1e6})
    run(folder)
    with opened(folder) as execution:
        (told,) = (text for _, text in execution.ledger.events() if text.startswith("noise learned"))
    assert "errors a layer, on average of 3; the calibration lets expect" in told
    assert "may be wrong" in told


def test_a_pilot_goes_after_the_learning(new_plan, service_state):
    service_state.bill = bill_of
    folder = new_plan(pilot={"above_s": 3.0, "seconds": 0.1})
    assert "pilot" in json.loads((folder / "plan.json").read_text())
    with opened(folder) as execution:
        assert execution.submit() == 1
        execution.collect()
        assert execution.submit() == len(execution.ledger.chunks()) - 1
        assert any(text.startswith("pilot: observables") for _, text in execution.ledger.events())
    learning, *others = service_state.jobs.values()
    assert (learning.program, {one.program for one in others}) == ("noise-learner", {"executor"})


def test_what_is_learned_counts_under_the_cap(new_plan, service_state):
    needed = json.loads((new_plan() / "plan.json").read_text())["rounds"][0]["limit_seconds"]
    with pytest.raises(HardwareError, match="must cover the plan"):
        new_plan(max_qpu_seconds=needed - 1)
    folder = new_plan(max_qpu_seconds=needed)
    run(folder)
    jobs = list(service_state.jobs.values())
    assert len(jobs) == 3
    for index, job in enumerate(jobs):
        assert sum(one.seconds for one in jobs[:index]) + job.limit_seconds <= needed
    assert all(f"qhybrid-limit-{job.limit_seconds}s" in job.tags for job in jobs)


def test_learning_that_is_stopped_at_its_limit_waits_for_a_decision(new_plan, service_state):
    folder = new_plan(max_qpu_seconds=60)
    service_state.outcomes = ["too_long"]
    with opened(folder) as execution:
        assert execution.submit() == 1
        execution.collect()
        with pytest.raises(HardwareError, match="chunk 0 is `too_long`"):
            execution.check_decisions()
        assert execution.submit() == 0  # neither is it learned again by itself, nor measured without
        assert execution.submit(again=True) == 1
    run(folder)
    assert kinds(service_state) == {"noise-learner": 2, "executor": 2}


def test_bills_of_learning_say_nothing_of_other_jobs_that_are_billed(new_plan, service_state):
    """It takes three times the estimate; the others as long as they were expected to."""
    service_state.takes = lambda job: 6.0 if job.program == "noise-learner" else 2.1
    folder = new_plan(max_qpu_seconds=18)
    run(folder)
    learning, first, second = service_state.jobs.values()
    assert learning.limit_seconds >= 6
    assert first.seconds == second.seconds == 2.1


@pytest.mark.parametrize("pilot", [False, True])
def test_bills_of_learning_do_not_price_circuits(pilot, new_plan, service_state):
    """The cap leaves these what they were estimated at, and they take that: nothing is refused for a rate."""
    with learned(new_plan, service_state, 6.0, 12) as execution:
        assert execution.context.expected_seconds() == pytest.approx(
            sum(one.seconds for one in execution.ledger.chunks()[1:])
        )
        assert execution.submit(pilot=pilot) == 2
        assert execution.run() is not None
        assert execution.status()["qpu_seconds_billed"] == 10.2


def test_a_cap_that_learning_has_overdrawn_is_used_as_far_as_it_goes(new_plan, service_state):
    with learned(new_plan, service_state, 4.0, 9) as execution:
        assert execution.submit(pilot=False) == 1
        assert execution.ledger.events()[-1][1].count("Measured") == 1
        execution.collect()
        with pytest.raises(HardwareError, match=r"that learn noise, .* 2 of 3 job\(s\) have been sent"):
            execution.submit(pilot=False)
        execution.raise_cap(10)
        assert execution.run() is not None


def test_the_rate_of_the_learning_is_told_as_such(new_plan, service_state):
    """Its time limit is half of the cap at most, which was not enough."""
    with learned(new_plan, service_state, 6.0, 9) as execution:
        with pytest.raises(HardwareError, match=r"for 1 job\(s\) that learn noise, estimated at 2.06 s"):
            execution.check_decisions()
        with pytest.raises(HardwareError, match=r"for 1 job\(s\) that learn noise, estimated at 2.06 s"):
            execution.submit(again=True)
        execution.raise_cap(25)
        assert execution.submit(again=True) == 1
        assert execution.run() is not None


def test_a_remapping_learns_anew_for_the_new_qubits(new_plan, service_state):
    folder = new_plan()
    with opened(folder) as execution:
        execution.submit()
        with pytest.raises(HardwareError, match=r"learns the noise .* has been sent"):
            remap(execution)
        execution.collect()
        worsen(service_state, end_of(execution))
        before = execution.content["qpu_seconds"]
        found = remap(execution)
        assert found.layout == 1
        assert [(one.number, one.layout) for one in execution.ledger.chunks()] == [
            (0, 0),
            (1, 1),
            (2, 1),
            (3, 1),
        ]
        assert execution.content["qpu_seconds"] > before + 2
    run(folder)
    assert kinds(service_state) == {"noise-learner": 2, "executor": 2}
    learned = [layers_of(job.params) for job in service_state.jobs.values() if job.program == "noise-learner"]
    assert learned[0] != learned[1]


def test_a_remapping_before_anything_is_learned_learns_once(new_plan, service_state):
    folder = new_plan()
    with opened(folder) as execution:
        worsen(service_state, end_of(execution))
        remap(execution)
        assert [(one.number, one.layout) for one in execution.ledger.chunks()] == [(0, 1), (1, 1), (2, 1)]
    run(folder)
    assert kinds(service_state) == ONCE


def test_learning_of_the_old_qubits_that_appears_late_is_told_by_its_tag(new_plan, service_state):
    """Nobody puts the errors of some qubits into circuits on others; both are paid, once each."""
    folder = new_plan()
    with opened(folder) as execution:
        chunk = execution.ledger.chunks()[0]
        old = execution.context.package(execution.ledger.prepare_job(0), chunk)
        worsen(service_state, end_of(execution))
        remap(execution)
        execution.context.service.submit(old)
        execution.collect()
        first = execution.ledger.chunks()[0]
        assert (first.number, first.layout, first.state) == (0, 0, "done")
    run(folder)
    assert kinds(service_state) == {"noise-learner": 2, "executor": 2}
    with opened(folder) as execution:
        assert [(one.learns, one.layout) for one in execution.ledger.chunks()] == [
            (True, 0),
            (False, 1),
            (False, 1),
            (True, 1),
        ]


def test_a_listing_that_lacks_the_job_is_no_reason_to_pay_again(new_plan, service_state):
    """What a job learns is told by its tags: without them nothing is known of it, and nothing is given up."""
    folder = new_plan()
    with opened(folder) as execution:
        execution.submit()
        (job,) = service_state.jobs.values()
        job.listed_at = time.time() + 1e4
        with pytest.raises(HardwareError, match="must be listed with what it learns"):
            execution.collect()
        assert execution.submit(again=True) == 0
        job.listed_at = 0.0
    run(folder)
    assert kinds(service_state) == ONCE


def test_the_noise_of_other_layers_is_not_used(new_plan, service_state):
    """A job with the right tag that learned something else, and a result of the wrong size."""
    folder = new_plan()
    with opened(folder) as execution:
        execution.submit()
        (job,) = service_state.jobs.values()
        mark = job.tags.pop()
        assert mark.startswith("qhybrid-request-")
        with pytest.raises(HardwareError, match="learns the noise of other layers"):
            execution.collect()
        job.tags.append(mark)
        whole = json.loads(job.result)
        job.result = json.dumps({**whole, "data": whole["data"][:-1]})
        with pytest.raises(HardwareError, match="layers came back, but 3 were asked for"):
            execution.collect()
        job.result = json.dumps(whole)
    run(folder)
    assert kinds(service_state) == ONCE


class PlanCopy(Copy):
    """A copy of a plan's folder, and the process that runs it."""

    def start(self):
        self.since = time.monotonic()
        self.process = os.fork()
        if self.process == 0:
            code = 1
            try:
                logging.disable(logging.CRITICAL)
                with opened(self.plan.path) as execution:
                    execution.run()
                    code = 0
            except HardwareError:
                code = 2  # retries ran out: whoever starts it again goes on
            finally:
                os._exit(code)


def kill_runs(number, seed, folder, state, tmp_path, usual=3.0):
    chance, kills, plans = random.Random(seed), 0, 0
    while kills < number:
        plans += 1
        state.jobs.clear()
        state.faults.clear()
        state.queue_seconds = chance.choice([0.0, 0.2])
        folders = [shutil.copytree(folder, tmp_path / f"{seed}-{plans}-{one}") for one in "ab"]
        copies = [PlanCopy(SimpleNamespace(path=one)) for one in folders]
        kills += work_on(copies, state, chance, number - kills, usual)
        state.faults.clear()
        for one in folders:
            run(one)
        ran = [job.tags[1] for job in state.jobs.values() if job.executions]
        assert len(ran) == len(set(ran)) == 3, f"plan {plans} of seed {seed}: {sorted(ran)}"
        assert kinds(state) == ONCE
    return plans


@pytest.mark.slow
def test_random_kills_of_two_copies(new_plan, service_state, tmp_path):
    folder = new_plan(patience={**FAST, **PATIENCE, "resend_after_s": 4.0})
    assert kill_runs(3, 1, folder, service_state, tmp_path, usual=1.0) >= 1


@pytest.mark.slow
def test_many_random_kills_of_two_copies(new_plan, service_state, tmp_path):
    folder = new_plan(patience={**FAST, **PATIENCE, "resend_after_s": 6.0})
    assert kill_runs(100, 2, folder, service_state, tmp_path) >= 8


def test_two_rounds_need_one_learning(server, service_state, tmp_path):
    """The layers of all rounds are learned at once; later rounds know them."""
    service_state.bill = bill_of
    workload = class_workload(2)
    given = settings(layers=tuple(quantum_layers(workload.model)), limits={"jobs_per_minute": 1e6})
    folder = make_plan(workload, given, tmp_path / "plans")
    content = json.loads((folder / "plan.json").read_text())
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.run() is not None
        rounds = [one.round for one in execution.ledger.chunks()]
        assert [one.learns for one in execution.ledger.chunks()] == [True, *[False] * (len(rounds) - 1)]
        assert execution.ledger.billed_seconds() == pytest.approx(content["qpu_seconds"], rel=0.01)
    assert rounds[0] == 0
    assert rounds[-1] == 1
    assert kinds(service_state) == {"noise-learner": 1, "executor": len(rounds) - 1}


def test_a_remapping_between_rounds_learns_for_what_is_to_come(server, service_state, tmp_path):
    workload = class_workload(2)
    given = settings(layers=tuple(quantum_layers(workload.model)), limits={"jobs_per_minute": 1e6})
    folder = make_plan(workload, given, tmp_path / "plans")
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
        execution.collect()
        execution.submit()  # the first round goes out
        used = {qubit for place in places_of(execution, 0) for qubit in place}
        worsen(service_state, 4 if 4 in used else 0)
        found = remap(execution)
        if found.layout is None:
            pytest.skip("the circuits stay where they are")
        before = execution.content["qpu_seconds"]
        assert execution.run() is not None
        assert [one.learns for one in execution.ledger.chunks()].count(True) == 2
        assert execution.content["qpu_seconds"] == before
    assert kinds(service_state)["noise-learner"] == 2


@pytest.mark.parametrize("both", [False, True])
def test_a_ledger_that_is_lost_after_a_remapping(both, new_plan, service_state):
    folder = new_plan()
    with opened(folder) as execution:
        learn_and_move(execution, service_state)
        execution.submit()
        execution.collect()
    for name in (LEDGER_FILE, *([REQUESTS_FILE] if both else [])):
        (folder / name).unlink()
    status = run(folder)
    assert kinds(service_state) == {"noise-learner": 2, "executor": 2}
    assert status["qpu_seconds_billed"] == 8.0


def test_layers_of_another_plan_are_not_paid_for(new_plan, service_state):
    """Neither those of another version of the client: circuits could not be executed with what is learned."""
    folder = new_plan()
    file = folder / "noise_layers.json"
    content = json.loads((folder / "plan.json").read_text())
    del content[FILES][file.name]
    (folder / "plan.json").write_text(json.dumps(content))
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({**whole, "layers": whole["layers"][:-1]}))
    with opened(folder) as execution, pytest.raises(HardwareError, match="is not among those of the plan"):
        execution.run()
    assert not service_state.jobs
    file.write_text(json.dumps(whole))
    run(folder)
    assert kinds(service_state) == ONCE


def test_layers_that_only_paid_circuits_have_need_not_be_learned(server, service_state, tmp_path):
    """A remapping between rounds learns for what is to come alone, or for all if more rounds follow."""
    workload = class_workload(2)
    given = settings(layers=tuple(quantum_layers(workload.model)), limits={"jobs_per_minute": 1e6})
    folder = make_plan(workload, given, tmp_path / "plans")
    with open_plan(folder, lambda *_: workload) as execution:
        while execution.collect() is None and not execution.ledger.chunks()[-1].round:
            execution.submit()
        used = {qubit for place in places_of(execution, 0) for qubit in place}
        worsen(service_state, 4 if 4 in used else 0)
        remap(execution)
        assert execution.run() is not None


def test_the_status_tells_what_waits_for_the_learning(new_plan, service_state):
    """Before that nothing can be submitted: whoever collects is not sent to and fro."""
    service_state.queue_seconds = 1e4
    folder, said = new_plan(), []
    with open_plan(folder, lambda *_: WORKLOAD, say=said.append) as execution:
        execution.submit()
        found = execution.status()
        assert [found[key] for key in ("to_send", "waiting_for_noise", "in_flight")] == [0, 2, 1]
        assert said[-1].endswith("is learned: collect, and submit again, or `run`")
        execution.cancel()
        service_state.queue_seconds = 0.0
        execution.submit()
        assert "is `cancelled`, and `submit --again` sends it once more" in said[-1]
        execution.submit(again=True)
        execution.collect()
        found = execution.status()
        assert [found["to_send"], found.get("waiting_for_noise")] == [2, None]


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_bills_of_a_plan_that_is_done_are_found_again(moved, both, new_plan, service_state):
    """A remapping learned anew on other qubits; for other errors of the same ones nothing is learned."""
    folder = new_plan()
    with opened(folder) as execution:
        execution.submit()
        execution.collect()
        if moved:
            worsen(service_state, end_of(execution))
        else:
            service_state.edits["properties"] = worsen_readout
        assert remap(execution).layout == 1
        execution.run()
    for name in (LEDGER_FILE, *([REQUESTS_FILE] if both else [])):
        (folder / name).unlink()
    assert run(folder)["qpu_seconds_billed"] == (8.0 if moved else 6.0)
    assert kinds(service_state) == {"noise-learner": 1 + moved, "executor": 2}


def test_what_was_learned_of_the_same_layers_is_kept(new_plan, service_state):
    """The errors of the qubits have moved, which makes another layout, and nothing has moved there."""
    folder = new_plan()
    with opened(folder) as execution:
        execution.submit()
        execution.collect()
        service_state.edits["properties"] = worsen_readout
        found = remap(execution)
        assert (found.layout, found.chunks) == (1, (1, 2))
        assert [(one.number, one.layout) for one in execution.ledger.chunks()] == [(0, 0), (1, 1), (2, 1)]
        told = execution.ledger.events()[-1][1]
        assert "what was learned of their noise is kept: noise learned" in told
    assert run(folder)["qpu_seconds_billed"] == 6.0
    assert kinds(service_state) == ONCE


def test_qubits_that_are_left_and_taken_again_are_not_learned_twice(new_plan, service_state):
    folder = new_plan()
    with opened(folder) as execution:
        learn_and_move(execution, service_state)
        assert [one.learns for one in execution.ledger.chunks()] == [True, False, False, True]
        before = execution.content["qpu_seconds"]
        service_state.edits["properties"] = worsen_readout
        assert remap(execution).layout == 2
        assert [(one.number, one.layout) for one in execution.ledger.chunks()] == [(0, 0), (1, 2), (2, 2)]
        assert execution.content["qpu_seconds"] == pytest.approx(before - 2.06, abs=0.02)
    assert run(folder)["qpu_seconds_billed"] == 6.0
    assert kinds(service_state) == ONCE


@pytest.mark.parametrize("moved", [False, True])
def test_the_report_counts_the_jobs_that_learned(moved, server, service_state, tmp_path):
    folder = make_plan(WORKLOAD, settings(), tmp_path / "run" / "hardware")
    with opened(folder) as execution:
        execution.submit()
        execution.collect()
        if moved:
            worsen(service_state, end_of(execution))
            remap(execution)
        execution.run()
    (plan,) = read_plans(tmp_path / "run")
    (told,) = [one for one in cost_remarks(plan, read_ledger(plan)) if "learn" in one]
    anew = (
        "2 jobs to learn the noise of layers of gates (a remapping learns other qubits anew): 4.1 s planned."
    )
    assert told == (
        anew if moved else "One job learned the noise of 3 layers of gates: 216 executions, 2.1 s planned."
    )
