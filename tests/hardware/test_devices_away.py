"""Devices that are retired, away, or described by broken answers: what was paid for is collected."""

from __future__ import annotations

import json
import shutil

import pytest
from ibm_service_state import Fault
from outcome_checks import check_complete, finish
from plan_cases import map_workload, quick

from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.jobs.collecting import cancel_jobs, collect_jobs
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.jobs.status import ledger_status
from qhybrid.hardware.ledger import LEDGER_FILE, Ledger
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.services.backends import open_backend
from qhybrid.hardware.services.ibm import IbmService, connection
from qhybrid.noise import NoiseProfile

ANSWERS = [("properties", kind) for kind in ("truncate", "html", "404", "empty")]
ANSWERS += [("configuration", kind) for kind in ("truncate", "empty")]
PATIENCE = {"poll_s": 0.01, "poll_max_s": 0.02, "resend_after_s": 0.2, "retries": 3}


def settings():
    return quick(backend="ibm_manila", shots=100, mode="job", patience=PATIENCE)


def test_a_retired_device_is_not_needed_for_what_it_did(make_plan, server, service_state, samples):
    plan = make_plan()
    with (context := plan.context()).ledger:
        send_open_chunks(context)
    service_state.devices.clear()
    with (context := plan.context()).ledger:
        collect_jobs(context)
        check_complete_without_device(context)
        assert service_state.requests["properties"] == 1


def check_complete_without_device(context):
    assert sorted(context.ledger.results()) == [0, 1, 2]
    assert context.ledger.billed_seconds() == 3 * 2.0


def test_a_retired_device_does_not_hold_up_cancellation(make_plan, server, service_state):
    service_state.queue_seconds = 60.0
    plan = make_plan()
    with (context := plan.context()).ledger:
        send_open_chunks(context)
    service_state.devices.clear()
    with (context := plan.context()).ledger:
        assert cancel_jobs(context) == 3
    assert set(service_state.executions().values()) == {0}


def test_a_whole_plan_ends_without_its_device(server, service_state, tmp_path):
    workload = map_workload(1)
    folder = make_plan(workload, settings(), tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
    service_state.executions()
    service_state.devices.clear()
    said: list[str] = []
    assert ledger_status(folder)["jobs"] == {"sent": 1}
    with open_plan(folder, lambda *_: workload, say=said.append) as execution:
        found = write_outcome(execution, execution.run())
    assert json.loads((folder / "results" / "metrics.json").read_text()) == found
    assert any("no calibration of today" in text for text in said)


def test_a_device_that_is_gone_takes_no_jobs(make_plan, server, service_state):
    plan = make_plan()
    service_state.devices = {"ibm_other": "fake_manila"}
    with (context := plan.context()).ledger:
        with pytest.raises(HardwareError, match="ibm_manila must be one of the account's devices"):
            send_open_chunks(context)
        assert [job.state for job in context.ledger.jobs()] == []
    assert not service_state.jobs


@pytest.mark.parametrize(("route", "kind"), ANSWERS)
def test_bad_answers_for_a_device_are_asked_for_again(route, kind, server, service_state, tmp_path):
    workload = map_workload(1)
    service_state.faults = [Fault(route, kind, times=2)]
    folder = make_plan(workload, settings(), tmp_path)
    good = make_plan(workload, settings(), tmp_path)
    texts = [(one / "calibration.yaml").read_text() for one in (folder, good)]
    assert texts[0] == texts[1]
    service_state.faults = [Fault(route, kind, times=2)]
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.submit() == 1
        service_state.faults = [Fault(route, kind, times=2)]
        found = write_outcome(execution, execution.collect())
    assert found["status"]["chunks"] == {"done": 1}
    assert (folder / "results" / "calibration.yaml").is_file()


@pytest.mark.parametrize(("route", "kind"), ANSWERS)
def test_bad_answers_that_stay_are_an_error_that_costs_nothing(route, kind, server, service_state, tmp_path):
    workload = map_workload(1)
    forever = [Fault(route, kind, times=10**6)]
    service_state.faults = list(forever)
    with pytest.raises(HardwareError, match="Fix: "):
        make_plan(workload, settings(), tmp_path)
    assert not list(tmp_path.iterdir())
    service_state.faults = []
    folder = make_plan(workload, settings(), tmp_path)
    service_state.faults = list(forever)
    with open_plan(folder, lambda *_: workload) as execution:
        with pytest.raises(HardwareError, match="Fix: "):
            execution.submit()
        assert not service_state.jobs
        assert not execution.ledger.jobs()
        service_state.faults = []
        execution.submit()
    service_state.faults = list(forever)
    said: list[str] = []
    with open_plan(folder, lambda *_: workload, say=said.append) as execution:
        found = write_outcome(execution, execution.collect())
    assert json.loads((folder / "results" / "metrics.json").read_text()) == found
    assert any("no calibration of today" in text for text in said)
    assert len(service_state.jobs) == 1


@pytest.mark.parametrize("route", ["properties", "status", "usage"])
def test_a_service_in_maintenance_for_a_moment(route, make_plan, server, service_state, samples):
    service_state.faults = [Fault(route, "503")]
    with (context := make_plan(limits={"jobs_per_minute": 1000.0}).context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])


def test_results_are_on_disk_before_anything_that_may_fail(tmp_path, monkeypatch):
    """Whatever goes wrong with comparisons and calibrations, predictions are there."""
    from qhybrid.hardware.jobs import outcome

    workload = map_workload(2)
    folder = make_plan(workload, quick(shots=100), tmp_path)

    def fails(*_):
        raise RuntimeError("something in code of others")

    with open_plan(folder, lambda *_: workload) as execution:
        outputs = execution.run()
        for name in ("exact_run", "score"):
            with monkeypatch.context() as patch:
                patch.setattr(outcome, name, fails)
                with pytest.raises(RuntimeError):
                    write_outcome(execution, outputs)
            names = {file.name for file in (folder / "results").iterdir()}
            assert {"outputs.safetensors", "predictions.csv"} <= names
        with monkeypatch.context() as patch:
            patch.setattr(outcome, "is_paid", lambda *_: True)
            patch.setattr(outcome, "open_backend", fails)
            write_outcome(execution, outputs)
        assert (folder / "results" / "metrics.json").is_file()


def test_a_question_of_a_plan_is_asked_patiently(make_plan, server, service_state):
    """The account's budget and the device are asked for before anything is sent, as often as needed."""
    service_state.faults = [Fault("usage", "html", times=2), Fault("configuration", "html", times=2)]
    with (context := make_plan(patience={"retries": 2}).context()).ledger:
        assert send_open_chunks(context) == 3
    service_state.faults = [Fault("usage", "html", times=10)]
    with (
        (context := make_plan(name="other", patience={"retries": 2}).context()).ledger,
        pytest.raises(ServiceError, match="must answer"),
    ):
        send_open_chunks(context)


def test_results_wait_neither_for_bills_nor_for_the_service(server, service_state, tmp_path):
    """All results are in the ledger, a bill is open, and then the service is away."""
    workload = map_workload(1)
    service_state.billed = False
    folder = make_plan(workload, settings(), tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
        assert execution.collect() is not None
    server.stop()
    said: list[str] = []
    with open_plan(folder, lambda *_: workload, say=said.append) as execution:
        assert write_outcome(execution, execution.collect())["samples"] == 1
    assert any("all results are in the ledger, bills may not be" in text for text in said)
    with (
        open_plan(make_unsent(folder, tmp_path), lambda *_: workload) as execution,
        pytest.raises(HardwareError, match="must be reachable"),
    ):
        execution.collect()


def make_unsent(folder, tmp_path):
    """A copy of a plan whose result is not there yet."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    with Ledger(copy / LEDGER_FILE, json.loads((copy / "plan.json").read_text())["plan"]) as ledger:
        ledger.drop_result(0)
    return copy


@pytest.mark.parametrize("route", ["metrics", "usage", "status", "session"])
def test_answers_of_another_shape_are_errors_of_the_service(route, server, service_state, tmp_path):
    """Something that is JSON and not what was asked for: no traceback, and nothing is paid twice."""
    service_state.plan = "premium"
    workload = map_workload(1)
    folder = make_plan(workload, settings().model_copy(update={"mode": "session"}), tmp_path)
    service_state.faults = [Fault(route, "list", times=10**6)]
    with open_plan(folder, lambda *_: workload) as execution:
        if route in ("usage", "status"):
            with pytest.raises(ServiceError, match="Fix: ") as caught:
                execution.submit()
            assert str(caught.value).count("Fix: ") == 1
            service_state.faults = []
        execution.submit()
        assert execution.collect() is not None
        service_state.faults = []
        execution.collect()
        assert execution.ledger.jobs()[0].usage == 2.0
    assert list(service_state.executions().values()) == [1]


def test_a_device_is_looked_at_again_in_a_long_run(server, service_state, tmp_path, monkeypatch):
    """A process that goes on for hours compares with the calibration of the hour, not of its start."""
    monkeypatch.setattr(connection, "FRESH_SECONDS", 0.0)
    service = IbmService(settings())
    before = NoiseProfile.from_backend(service.today()[0]).readout(0)

    def edit(properties):
        for one in properties["qubits"][0]:
            if one["name"] in ("readout_error", "prob_meas0_prep1", "prob_meas1_prep0"):
                one["value"] = 0.25

    service_state.edits["properties"] = edit
    assert sum(before) / 2 < 0.1
    assert NoiseProfile.from_backend(service.today()[0]).readout(0) == (0.25, 0.25)
    monkeypatch.setattr(connection, "FRESH_SECONDS", 1e6)
    service_state.edits.clear()
    assert NoiseProfile.from_backend(service.today()[0]).readout(0) == (0.25, 0.25)


def test_a_device_without_an_account_is_answered_with_its_snapshot(monkeypatch, server):
    def fails(_):
        raise HardwareError("No account. Fix: save one.")

    monkeypatch.setattr(IbmService, "check_mode", fails)
    for name in ("nighthawk", "ibm_nighthawk"):
        with pytest.raises(HardwareError, match=r"save one. \(`fake_nighthawk`, a snapshot"):
            open_backend(quick(backend=name))
    with pytest.raises(HardwareError, match=r"save one.$"):
        open_backend(quick(backend="ibm_atlantis"))
