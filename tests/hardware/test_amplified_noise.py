"""Probabilistic error amplification: the noise is learned once, then raised by errors that are put in."""

from __future__ import annotations

import json

import pytest
from ibm_service_bill import JOB_SECONDS, bill_of
from plan_cases import map_workload, quick
from pydantic import ValidationError

from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.prepared import Variant
from qhybrid.hardware.engine import RuntimeEngine
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.settings import LEVELS, Learning, Mitigation

FEW = Learning(randomizations=2, shots=8, depths=(0, 2))
QUICK = LEVELS["pea"].model_copy(update={"learning": FEW, "randomizations": 5})


def pea(**changes):
    return quick(**{"backend": "ibm_manila", "mode": "job", "shots": 100, "mitigation": QUICK, **changes})


@pytest.fixture
def plan(server, tmp_path):
    workload = map_workload(2)

    def make(**changes):
        folder = make_plan(workload, pea(**changes), tmp_path / "plans")
        return folder, lambda *_: workload

    return make


def test_the_noise_is_learned_first_and_then_raised(plan, service_state):
    folder, load = plan()
    content = json.loads((folder / "plan.json").read_text())
    assert content["noise_learning"]["noise"] == "learned"
    with open_plan(folder, load) as execution:
        assert execution.submit() == 1  # what is measured waits
        (learning,) = service_state.jobs.values()
        assert learning.program == "noise-learner"
        assert execution.collect() is None
        assert execution.submit() == 1
        assert execution.collect() is not None
        assert execution.submit() == 0
    _, other = service_state.jobs.values()
    assert other.program == "executor"
    assert [job.executions for job in service_state.jobs.values()] == [1, 1]


@pytest.mark.parametrize("shots", [65, 100, 1024])
@pytest.mark.parametrize("delay", [None, 5.0])
def test_the_price_is_the_bill(shots, delay, plan, service_state):
    service_state.bill = bill_of
    mitigation = QUICK.model_copy(update={"randomizations": None, "learning": Learning(shots=10)})
    folder, load = plan(shots=shots, rep_delay_us=delay, mitigation=mitigation)
    (one,) = json.loads((folder / "plan.json").read_text())["rounds"]
    with open_plan(folder, load) as execution:
        execution.submit()
        execution.collect()
        service_state.queue_seconds = 1e4  # what is sent now is accepted and priced, and not simulated
        execution.submit()
        chunks = execution.ledger.chunks()
    found = [bill_of(job.params, "fake_manila") for job in service_state.jobs.values()]
    assert sum(executions for executions, _ in found) == one["executions"]
    for chunk, (_, seconds) in zip(chunks, found, strict=True):
        assert chunk.seconds - JOB_SECONDS == pytest.approx(seconds - JOB_SECONDS, rel=0.01)
    assert one["qpu_seconds"] == pytest.approx(sum(seconds for _, seconds in found), rel=0.01, abs=0.01)


KEYS = [
    ({"pea": (1.0, 1.0)}, "each once"),
    ({"pea": (1.5, 2.0)}, "1 and other factors"),
    ({"pea": (1.0, 0.5)}, "above 1"),
    ({"pea": (1.0, 2.0), "zne": (1, 3)}, "without zne"),
    ({"pea": (1.0, 2.0), "gate_twirling": False}, "gate_twirling"),
    ({"pea": (1.0, 2.0), "dynamical_decoupling": True}, "without dynamical_decoupling"),
    ({"learning": {"shots": 32}}, "must go with factors"),
    ({"pea": (1.0, 2.0), "learning": {"depths": (4,)}}, "at least two different"),
    ({"pea": (1.0, 2.0), "learning": {"depths": (4, 4, 8)}}, "at least two different"),
]


@pytest.mark.parametrize(("keys", "message"), KEYS)
def test_keys_that_cannot_go_together_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Mitigation(**{"gate_twirling": True, **keys})


def test_plans_without_it_are_written_as_before():
    assert not {"pea", "learning"} & set(LEVELS["strong"].model_dump(mode="json"))
    assert Mitigation(**LEVELS["pea"].model_dump(mode="json")) == LEVELS["pea"]
    assert Mitigation(**QUICK.model_dump(mode="json")) == QUICK
    assert "noise" not in repr(Variant((0,), 1))


def test_shots_are_divided_among_as_many_versions_as_there_are():
    """Errors that are put in are drawn once a version."""
    for shots, versions in {65: 65, 100: 100, 1024: 1024, 4096: 1024}.items():
        assert LEVELS["pea"].division(shots) == (versions, shots // versions)


def test_an_engine_does_not_learn_at_every_call(server):
    with pytest.raises(HardwareError, match="every call of an engine is a plan"):
        RuntimeEngine("ibm_manila", folder="unused", settings=pea())


def test_a_fake_device_needs_no_learning(tmp_path):
    workload = map_workload(1)
    folder = make_plan(workload, pea(backend="fake_manila"), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    assert content["noise_learning"]["noise"] == "computed from the calibration, not learned"
    assert content["noise_learning"]["qpu_seconds"] > 2
    assert content["rounds"][0]["jobs"] == 1
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.submit() == 1
        assert execution.collect() is not None
