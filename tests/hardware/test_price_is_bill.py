"""What a plan counts is what the service executes: twirling, delays between executions, weights of gates."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibm_service_bill import JOB_SECONDS, bill_of
from ibm_service_simulation import executions_of
from plan_cases import map_workload, quick

from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.preparation import bound_circuit, prepare_circuit
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.plan.planning import draft_plan, make_plan
from qhybrid.hardware.services.ibm.rules import RULES
from qhybrid.hardware.settings import LEVELS, Mitigation


@pytest.mark.parametrize(
    ("level", "shots"), [("cheap", 65), ("standard", 65), ("standard", 100), ("strong", 400)]
)
def test_executions_are_those_of_the_plan(level, shots, server, service_state, tmp_path):
    workload = map_workload(2)
    settings = quick(backend="ibm_manila", shots=shots, mode="job", mitigation=LEVELS[level])
    folder = make_plan(workload, settings, tmp_path)
    (one,) = json.loads((folder / "plan.json").read_text())["rounds"]
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.submit() == 1
        (job,) = service_state.jobs.values()
        folds = 2 if level == "strong" else 1
        assert executions_of(job.params) == one["executions"] == 2 * 2 * folds * shots
        assert execution.collect() is not None


SHORT_DELAYS = [
    (Mitigation(zne=(1, 3, 9)), 1),
    (Mitigation(readout_shots=9_000), 3),
    (LEVELS["strong"].model_copy(update={"zne": (1, 5)}), 2),
]


@pytest.mark.parametrize(("mitigation", "copies"), SHORT_DELAYS)
def test_an_execution_takes_as_long_as_planned_where_the_delay_is_short(
    mitigation, copies, server, service_state, tmp_path
):
    """The length of circuits decides then: folded ones are longer, and twirled gates than plain ones."""
    service_state.devices = {"ibm_torino": "fake_torino"}
    service_state.used_up = True
    workload = map_workload(4)
    settings = {"backend": "ibm_torino", "shots": 9_999, "mode": "job", "rep_delay_us": 5.0}
    folder = make_plan(workload, quick(**settings, copies=copies, mitigation=mitigation), tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        (chunk,) = execution.ledger.chunks()
        execution.context.service.submit(execution.context.package(execution.ledger.prepare_job(0), chunk))
    (job,) = service_state.jobs.values()
    executions, seconds = bill_of(job.params, "fake_torino")
    assert executions == json.loads((folder / "plan.json").read_text())["rounds"][0]["executions"]
    assert chunk.seconds - JOB_SECONDS == pytest.approx(seconds - JOB_SECONDS, rel=0.01)


@given(st.integers(1, 20_000))
def test_twirling_adds_next_to_nothing(shots):
    versions, each = Mitigation(gate_twirling=True).division(shots)
    assert shots <= versions * each <= shots + 1 + shots // 100
    assert versions >= min(16, shots)
    assert Mitigation().division(shots) is None


@pytest.mark.parametrize("shots", [65, 100, 400, 1024])
def test_usual_numbers_of_shots_are_kept(shots):
    versions, each = Mitigation(measure_twirling=True).division(shots)
    assert versions * each == shots


def test_the_number_of_random_versions_is_a_key():
    assert Mitigation(gate_twirling=True, randomizations=10).division(95) == (10, 10)
    assert "randomizations" not in Mitigation(gate_twirling=True).model_dump()
    assert quick(mitigation=Mitigation(gate_twirling=True, randomizations=10), shots=95).executed_shots == 100


def test_the_delay_between_executions_is_the_devices_own(server, service_state, tmp_path):
    workload = map_workload(1)
    settings = quick(backend="ibm_manila", shots=4000, mode="job")
    usual = draft_plan(workload, settings).content
    assert "device_rep_delay_us" not in usual["settings"]
    service_state.edits["configuration"] = lambda content: content.update(default_rep_delay=100.0)
    own = draft_plan(workload, settings).content
    assert own["settings"]["device_rep_delay_us"] == 100.0
    executions = usual["rounds"][0]["executions"]
    assert usual["qpu_seconds"] - own["qpu_seconds"] == pytest.approx(executions * 150e-6, abs=0.02)
    priced = draft_plan(workload, quick(**{**settings.model_dump(), "price": {"rep_delay_us": 30.0}})).content
    assert priced["qpu_seconds"] == pytest.approx(usual["qpu_seconds"] - executions * 220e-6, abs=0.02)


def test_the_delay_can_be_chosen_within_the_devices_range(server, service_state, tmp_path):
    workload = map_workload(1)
    settings = quick(backend="ibm_manila", shots=100, mode="job", rep_delay_us=50.0)
    folder = make_plan(workload, settings, tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    one = content["rounds"][0]
    (circuit,) = content["circuits"].values()
    each = 50e-6 + circuit["microseconds"] * 1e-6
    assert one["qpu_seconds"] == pytest.approx(2 + one["executions"] * each, abs=0.01)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
    (job,) = service_state.jobs.values()
    assert job.params["options"]["rep_delay"] == pytest.approx(50e-6)
    with pytest.raises(HardwareError, match=r"`rep_delay_us` must be .* is 0 to 500"):
        draft_plan(workload, settings.model_copy(update={"rep_delay_us": 501.0}))
    service_state.edits["configuration"] = lambda content: content.update(dynamic_reprate_enabled=False)
    with pytest.raises(HardwareError, match="cannot be chosen on this device"):
        draft_plan(workload, settings)


def test_gates_count_as_the_service_counts_them(small_layer, small_device):
    """IBM's guide "Job limits": rz 1, sx and x 2, cx 5, a measurement 10, an initialisation 50."""
    weights = {"rz": 1, "sx": 2, "x": 2, "cx": 5}
    prepared = prepare_circuit(small_layer.key, bound_circuit(small_layer), small_device, None, quick())
    total = 0
    for spec in prepared.copies[0].specs:
        loads = [
            sum(weights[one.operation.name] for one in spec.circuit.data if qubit in one.qubits)
            for qubit in spec.circuit.qubits
        ]
        total += max(loads) + 10 + 50
    assert RULES.instructions(prepared) == total
