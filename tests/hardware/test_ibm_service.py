"""The unmodified client against the local service: whole plans, a second process, options, and the token."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from ibm_service_simulation import simulate_with_calibration
from ibm_service_state import Fault, ServiceState
from outcome_checks import TOKEN, finish
from plan_cases import map_workload, quick
from qiskit_ibm_runtime import QiskitRuntimeService

from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.services.ibm import IbmService, connection, list_service_devices
from qhybrid.hardware.settings import LEVELS, Mitigation

SECOND_PROCESS = """
import sys
sys.path.insert(0, {tests!r})
from plan_cases import map_workload
from qhybrid.hardware.jobs.opening import open_plan
workload = map_workload()
with open_plan(sys.argv[1], lambda *_: workload) as execution:
    outputs = execution.collect()
    print("OUTPUTS", outputs.double().sum().item())
"""


@pytest.fixture
def calibrated_state():
    return ServiceState(devices={"ibm_manila": "fake_manila"}, simulate=simulate_with_calibration)


@pytest.fixture
def service_state(calibrated_state):
    return calibrated_state


def test_plan_submit_here_and_collect_in_another_process(server, service_state, tmp_path):
    service_state.queue_seconds = 0.5
    workload = map_workload()
    folder = make_plan(workload, quick(backend="ibm_manila", shots=2000), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    assert "600 s left" in content["account"]
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.submit() == 1
    found = subprocess.run(
        [sys.executable, "-c", SECOND_PROCESS.format(tests=str(Path(__file__).parent)), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, found.stderr
    with open_plan(folder, lambda *_: workload) as execution:
        outputs = execution.collect()
        outcome = write_outcome(execution, outputs)
    assert float(found.stdout.split("OUTPUTS")[1]) == pytest.approx(outputs.double().sum().item(), abs=1e-6)
    assert list(service_state.executions().values()) == [1]
    assert outcome["status"]["qpu_seconds_spent"] == 2.0
    assert (folder / "results" / "calibration.yaml").is_file()
    # Aer with the device's own noise model, against the prediction from the calibration.
    assert outcome["observable_deviation_rms"] < 0.1
    assert [session["mode"] for session in service_state.sessions.values()] == ["batch"]


def test_prediction_agrees_with_an_independent_simulation(server, service_state, tmp_path):
    workload = map_workload(4)
    settings = {"shots": 8000, "mitigation": LEVELS["none"], "mode": "job"}
    values = {}
    for backend in ("ibm_manila", "fake_manila"):
        folder = make_plan(workload, quick(backend=backend, **settings), tmp_path / backend)
        with open_plan(folder, lambda *_: workload) as execution:
            execution.run()
            log = execution.request_log()
            values[backend] = np.concatenate([log.results[key] for key in sorted(log.results)])
    difference = values["ibm_manila"] - values["fake_manila"]
    assert np.abs(difference).max() < 5 * np.sqrt(2 / 8000)


@pytest.mark.parametrize(
    "mitigation",
    [
        Mitigation(measure_twirling=True),
        Mitigation(gate_twirling=True, measure_twirling=True, zne=(1, 3)),
        Mitigation(dynamical_decoupling=True),
    ],
)
def test_mitigation_goes_through_the_service(mitigation, server, service_state, tmp_path):
    workload = map_workload(2)
    settings = quick(backend="ibm_manila", shots=1024, mitigation=mitigation, mode="job")
    folder = make_plan(workload, settings, tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        found = write_outcome(execution, execution.run())
    assert found["observable_deviation_rms"] < 0.25


def test_sessions_are_opened_on_request(server, service_state, make_plan):
    service_state.plan = "premium"
    with (context := make_plan(mode="session").context()).ledger:
        finish(context)
    assert [session["mode"] for session in service_state.sessions.values()] == ["dedicated"]


def test_all_sessions_together_stay_within_the_cap(server, service_state, make_plan):
    """A session is billed from its first job to its end, whatever its jobs took: here all of its time."""
    service_state.plan = "premium"
    service_state.outcomes = ["failed"]
    with (context := make_plan(mode="session", max_qpu_seconds=40.0).context()).ledger:
        finish(context)
        assert len(context.ledger.results()) == 3
    lengths = [session["max_ttl"] for session in service_state.sessions.values()]
    assert len(lengths) == 2
    assert sum(lengths) <= 40


@pytest.mark.parametrize("mode", ["batch", "session"])
def test_a_renewed_token_goes_on_in_the_same_session(mode, server, service_state, make_plan):
    service_state.plan = "premium"
    service_state.faults = [Fault("submit", "401", skip=1)]
    with (context := make_plan(mode=mode).context()).ledger:
        finish(context)
        assert len(context.ledger.results()) == 3
    (session,) = service_state.sessions.values()
    assert not session["accepting_jobs"]
    assert {job.session for job in service_state.jobs.values()} == {session["id"]}


def test_a_saved_token_that_is_refused_is_not_shown(server, service_state, monkeypatch, tmp_path):
    save_account(monkeypatch, tmp_path)

    class Refusing(QiskitRuntimeService):
        def __init__(self, **_):
            raise RuntimeError(f"no account has the key {TOKEN}")

    monkeypatch.setattr(connection, "QiskitRuntimeService", Refusing)
    for action in (list_service_devices, lambda: IbmService(quick(backend="ibm_manila"))):
        with pytest.raises(HardwareError) as caught:
            action()
        text = "".join(traceback.format_exception(caught.value))
        assert "no account has the key" in text
        assert TOKEN not in text


def test_devices_of_the_account_are_listed(server):
    assert list_service_devices() == ["ibm_manila"]


@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault("submit", "400"),
        Fault("submit", "401", times=50),
        Fault("submit", "drop_after"),
        Fault("result", "truncate", times=50),
        Fault("job", "html", times=50),
    ],
)
def test_the_token_is_nowhere(fault, server, service_state, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG, logger="qhybrid")
    workload = map_workload(1)
    patience = {"poll_s": 0.02, "resend_after_s": 0.1, "retries": 1}
    folder = make_plan(workload, quick(backend="ibm_manila", patience=patience), tmp_path)
    service_state.faults = [] if fault is None else [fault]
    said: list[str] = []
    text = ""
    try:
        with open_plan(folder, lambda *_: workload, say=said.append) as execution:
            write_outcome(execution, execution.run())
    except HardwareError as error:
        text = "".join(traceback.format_exception(error))
    printed = capfd.readouterr()
    for access in {TOKEN, *service_state.tokens}:
        assert access not in text + caplog.text + printed.out + printed.err + "".join(said)
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or access.encode() not in file.read_bytes(), file


def save_account(monkeypatch, tmp_path):
    """Move the account from the environment to a file."""
    from qiskit_ibm_runtime.accounts import management

    variables = {
        name: os.environ[name] for name in ("QISKIT_IBM_TOKEN", "QISKIT_IBM_INSTANCE", "QISKIT_IBM_URL")
    }
    for name in (*variables, "QISKIT_IBM_CHANNEL"):
        monkeypatch.delenv(name)
    file = tmp_path / "qiskit-ibm.json"
    monkeypatch.setattr(management, "_DEFAULT_ACCOUNT_CONFIG_JSON_FILE", str(file))
    account = {
        "channel": "ibm_quantum_platform",
        "token": variables["QISKIT_IBM_TOKEN"],
        "instance": variables["QISKIT_IBM_INSTANCE"],
        "url": variables["QISKIT_IBM_URL"],
    }
    file.write_text(json.dumps({"default-ibm-quantum-platform": account}))


def test_the_account_can_be_saved_instead(server, service_state, monkeypatch, tmp_path):
    save_account(monkeypatch, tmp_path)
    service = IbmService(quick(backend="ibm_manila"))
    assert service.budget().remaining_seconds == 600
    assert torch.is_grad_enabled()
