"""What was not sent yet goes to today's best qubits; what was paid keeps its layout and its value."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ibm_service_server import IbmServiceServer
from ibm_service_state import Fault, ServiceState
from outcome_checks import TOKEN
from plan_cases import class_workload, map_workload, quick

from qhybrid.cli.console import console
from qhybrid.cli.hardware_tables import print_remapped
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.preparation import bound_circuit
from qhybrid.hardware.circuits.prepared import Pub, mark_of_pubs
from qhybrid.hardware.circuits.readout_calibration import READOUT_KEY
from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.jobs import predicting, remapping
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.jobs.remapping import remap
from qhybrid.hardware.ledger import LEDGER_FILE
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.services.interface import Backend
from qhybrid.hardware.settings import Mitigation
from qhybrid.layers import quantum_layers
from qhybrid.noise import NoiseProfile


@pytest.fixture(scope="module")
def workload():
    return map_workload(4)


@pytest.fixture(scope="module")
def plan(workload, tmp_path_factory):
    """Four jobs on four of the five qubits of a line."""
    limits = {"executions": 2 * 400, "jobs_per_minute": 1e6}
    patience = {"poll_s": 0.01, "poll_max_s": 0.02, "resend_after_s": 0.1}
    settings = quick(backend="ibm_manila", mode="job", limits=limits, patience=patience)
    with (
        IbmServiceServer(ServiceState(devices={"ibm_manila": "fake_manila"})) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running.environment(TOKEN).items():
            patch.setenv(name, value)
        return make_plan(workload, settings, tmp_path_factory.mktemp("remap"))


@pytest.fixture
def folder(plan, server, tmp_path):
    return shutil.copytree(plan, tmp_path / "copy")


def places_of(execution, layout):
    return [copy.physical for one in execution.context.layouts[layout].values() for copy in one.copies]


def end_of(execution):
    """Return a used qubit at an end of the device's line: the circuit fits without it."""
    (used,) = places_of(execution, 0)
    return 4 if 4 in used else 0


def worsen(service_state, qubit, read_out=0.4):
    """From now on the device reports that one qubit is read wrongly, and that its couplings err."""

    def edit(properties):
        for gate in properties["gates"]:
            if len(gate["qubits"]) == 2 and qubit in gate["qubits"]:
                for one in gate["parameters"]:
                    if one["name"] == "gate_error":
                        one["value"] = 0.3
        for one in properties["qubits"][qubit]:
            if one["name"] in ("readout_error", "prob_meas0_prep1", "prob_meas1_prep0"):
                one["value"] = read_out

    service_state.edits["properties"] = edit


def send_one(execution, service_state):
    """Send and collect one of the four jobs, then be refused."""
    service_state.faults = [Fault("submit", "400", skip=1)]
    with pytest.raises(HardwareError, match="refused a job"):
        execution.submit(pilot=False)
    execution.collect()


def test_the_rest_is_mapped_anew_and_what_is_paid_stays(folder, workload, service_state):
    with open_plan(folder, lambda *_: workload) as execution:
        send_one(execution, service_state)
        paid = execution.ledger.results()
        before = execution.content["qpu_seconds"]
        bad = end_of(execution)
        worsen(service_state, bad)
        found = remap(execution)
        assert (found.layout, found.chunks) == (1, (1, 2, 3))
        assert bad not in places_of(execution, 1)[0]
        planned, unmapped, now = found.deviations
        assert unmapped > 1.5 * now
        exact = execution.content["predicted"]["same_class_as_exact"]
        assert found.predicted["same_class_as_exact"] == pytest.approx(exact, abs=0.3)
        assert set(found.predicted["device"]) == set(execution.content["predicted"]["device"])
        assert execution.ledger.results() == paid
        with console.capture() as captured:
            print_remapped(found)
        assert "layout 1 of 3 job(s)" in captured.get()
        assert f"{unmapped:.4f} with today's calibration" in captured.get()
    with open_plan(folder, lambda *_: workload) as execution:  # another process goes on
        assert [chunk.layout for chunk in execution.ledger.chunks()] == [0, 1, 1, 1]
        (facts,) = execution.content["layouts"]
        assert facts["chunks"] == [1, 2, 3]
        (circuit,) = facts["circuits"].values()
        assert circuit["places"] == [list(one) for one in places_of(execution, 1)]
        assert facts["predicted"] == found.predicted
        assert facts["deviation_rms"] == {"planned": planned, "today_unmapped": unmapped, "today": now}
        seconds = sum(chunk.seconds for chunk in execution.ledger.chunks())
        assert execution.content["qpu_seconds"] == pytest.approx(seconds, abs=0.02)
        assert execution.content["qpu_seconds"] - before == pytest.approx(
            facts["qpu_seconds"]["after"] - facts["qpu_seconds"]["before"], abs=0.02
        )
        outcome = write_outcome(execution, execution.run(pilot=False))
        assert outcome["samples"] == 4
        assert outcome["predicted_after_remapping"] == found.predicted
        assert service_state.executions() == dict.fromkeys(service_state.jobs, 1)
        assert len(service_state.jobs) == 4
        # The service is ideal: both layouts give the layer's values within the errors of the shots.
        assert outcome["observable_deviation_rms"] < 0.2
        with pytest.raises(HardwareError, match="nothing is left"):
            remap(execution)


def test_sent_circuits_are_those_of_their_layouts(folder, workload, service_state):
    """Marks of jobs in the service, which are made of places and points, against the ledger's layouts."""
    with open_plan(folder, lambda *_: workload) as execution:
        send_one(execution, service_state)
        worsen(service_state, end_of(execution))
        remap(execution)
        execution.submit(pilot=False)
        context = execution.context
        for chunk, job in zip(execution.ledger.chunks(), service_state.jobs.values(), strict=True):
            layouts = []
            for layout in (0, 1):
                pubs = context._pubs(replace(chunk, layout=layout))
                if mark_of_pubs(pubs, context.settings.shots) in json.dumps(job.params):
                    layouts.append(layout)
            assert layouts == [chunk.layout]


def test_a_device_that_is_as_it_was_changes_nothing(folder, workload, service_state):
    with open_plan(folder, lambda *_: workload) as execution:
        found = remap(execution)
        assert found.layout is None
        with console.capture() as captured:
            print_remapped(found)
        assert "as it was" in captured.get()
        assert not (folder / "layouts").exists()
        assert "layouts" not in json.loads((folder / "plan.json").read_text())


def test_a_dead_qubit_is_left(folder, workload, service_state):
    """What submit refuses, a remapping puts right."""
    with open_plan(folder, lambda *_: workload) as execution:
        worsen(service_state, end_of(execution), read_out=1.0)
        with pytest.raises(HardwareError, match="hardware remap PLAN"):
            execution.submit(pilot=False)
        assert remap(execution).chunks == (0, 1, 2, 3)
        assert execution.run(pilot=False) is not None


def test_a_job_sent_before_that_appears_after(folder, workload, service_state):
    """Its mark says which layout it has, whatever the ledger says."""
    with open_plan(folder, lambda *_: workload) as execution:
        service_state.faults = [Fault("submit", "late", seconds=1.0), Fault("submit", "400")]
        with pytest.raises(HardwareError, match="refused a job"):
            execution.submit(pilot=False)
        worsen(service_state, end_of(execution))
        assert 0 in remap(execution).chunks
        service_state.faults.clear()
        time.sleep(1.0)
        assert execution.run(pilot=False) is not None
        assert [chunk.layout for chunk in execution.ledger.chunks()] == [0, 1, 1, 1]
        assert len(service_state.jobs) == 4


def test_a_lost_ledger_has_the_layouts_again(folder, workload, service_state):
    with open_plan(folder, lambda *_: workload) as execution:
        send_one(execution, service_state)
        worsen(service_state, end_of(execution))
        remap(execution)
    (folder / LEDGER_FILE).unlink()
    with open_plan(folder, lambda *_: workload) as execution:
        assert [chunk.layout for chunk in execution.ledger.chunks()] == [0, 1, 1, 1]
        assert execution.run(pilot=False) is not None
        assert len(service_state.jobs) == 4


def test_simulations_tell_layouts_of_one_circuit_apart(small_prepared, samples):
    """One key, other error rates: the values of the first must not be given for the second."""
    copy = small_prepared.copies[0]
    ideal = replace(small_prepared, copies=(replace(copy, noise=None),))
    points = samples[0][:1]
    simulation = Simulation()
    noisy, exact = (simulation.means(Pub(one, 0, points), None) for one in (small_prepared, ideal))
    assert np.abs(noisy[0] - exact[0]).max() > 1e-3
    assert np.array_equal(Simulation().means(Pub(ideal, 0, points), None)[0], exact[0])


def test_read_outs_are_measured_on_the_new_qubits(workload, server, service_state, tmp_path):
    """Jobs that measure their read-out errors do so where their circuits are now; results can be used."""
    settings = quick(
        backend="ibm_manila",
        mode="job",
        limits={"executions": 2 * 400 + 2 * 400, "jobs_per_minute": 1e6},
        mitigation=Mitigation(readout_shots=400),
        patience={"poll_s": 0.01, "poll_max_s": 0.02, "resend_after_s": 0.1, "retries": 1},
    )
    folder = make_plan(workload, settings, tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        send_one(execution, service_state)
        (used,), _ = places_by_use(execution, 0)
        bad = 4 if 4 in used else 0
        worsen(service_state, bad)
        assert remap(execution).chunks == (1, 2, 3)
        (moved,), measured = places_by_use(execution, 1)
        assert bad not in moved
        assert sorted(measured) == sorted((qubit,) for qubit in moved)
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.run(pilot=False) is not None
        assert [chunk.layout for chunk in execution.ledger.chunks()] == [0, 1, 1, 1]
    assert list(service_state.executions().values()) == [1] * 4


def places_by_use(execution, layout):
    """Return the places of a layout's circuits, and those where read-out errors are measured."""
    circuits = execution.context.layouts[layout].items()
    return [
        [copy.physical for key, one in circuits if (key == READOUT_KEY) is wanted for copy in one.copies]
        for wanted in (False, True)
    ]


def test_what_is_paid_counts_as_it_came(folder, workload, service_state):
    """With three of four results there, the new prediction of their samples is what came back."""
    with open_plan(folder, lambda *_: workload) as execution:
        service_state.faults = [Fault("submit", "400", skip=3)]
        with pytest.raises(HardwareError, match="refused a job"):
            execution.submit(pilot=False)
        execution.collect()
        worsen(service_state, end_of(execution))
        remap(execution)
        outputs, rounds = predicting._outputs(execution, {}, None)
        (waiting,) = [c.blocks[0][1] for c in execution.ledger.chunks() if c.layout == 1]
        unpaid = [r.sample for r in execution.ledger.requests() if set(r.points) & set(waiting)]
        assert not rounds
        expected = execution.run(pilot=False)
    paid = [sample for sample in range(4) if sample not in unpaid]
    assert len(paid) == 3
    assert outputs[paid].equal(expected[paid])
    assert not outputs[unpaid].equal(expected[unpaid])
    assert (outputs[unpaid] - expected[unpaid]).abs().max() < 0.5


def test_later_rounds_are_priced_on_the_new_layout(server, service_state, tmp_path):
    """The filter's round is sent; the classifier's, which waits for it, is mapped anew with a new price."""
    workload = class_workload(2)
    names = tuple(quantum_layers(workload.model))
    settings = quick(backend="ibm_manila", layers=names, shots=100, mode="job", max_qpu_seconds=60.0)
    folder = make_plan(workload, settings, tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit(pilot=False)
        before = [dict(one) for one in execution.content["rounds"]]
        edit = slower_gates(50.0)
        service_state.edits["properties"] = edit
        remap(execution)
        after = execution.content["rounds"]
        assert after[0] == before[0]
        same = ("requests", "rows", "jobs", "executions")
        assert {key: after[1][key] for key in same} == {key: before[1][key] for key in same}
        assert after[1]["qpu_seconds"] > before[1]["qpu_seconds"]
        assert execution.context.later_seconds == after[1]["limit_seconds"]
        assert execution.content["qpu_seconds"] == pytest.approx(
            before[0]["qpu_seconds"] + after[1]["qpu_seconds"], abs=0.02
        )
        assert execution.run(pilot=False) is not None
        chunks = execution.ledger.chunks()
        assert chunks[-1].layout == 1
        assert chunks[-1].seconds == pytest.approx(after[1]["qpu_seconds"], abs=0.01)


def slower_gates(factor):
    def edit(properties):
        for gate in properties["gates"]:
            for one in gate["parameters"]:
                if one["name"] == "gate_length" and len(gate["qubits"]) == 2:
                    one["value"] *= factor

    return edit


@pytest.mark.parametrize(("copies", "told"), [(2, 1), (1, 0), ("auto", 0)])
def test_copies_that_have_no_room_any_more_are_fewer(copies, told, small_device, small_layer):
    """Two copies of four qubits do not go on five: those that do are taken, and that is said."""
    said = []
    context = SimpleNamespace(settings=quick(copies=copies), say=said.append)
    execution = SimpleNamespace(context=context, bound={small_layer.key: bound_circuit(small_layer)})
    backend = Backend(small_device, NoiseProfile.from_backend(small_device))
    circuit = remapping._mapped(execution, small_layer.key, backend)
    assert len(circuit.copies) == 1
    assert [f"no room for {copies} copies" in text for text in said] == [True] * told
