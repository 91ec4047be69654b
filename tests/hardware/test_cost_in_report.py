"""The page on cost: what was planned beside what was billed and obtained, from a plan's files alone."""

from __future__ import annotations

import json
import shutil

import pytest
from other_vendor import SECONDS_A_SHOT, GarnetRules, GarnetService, Vendor, open_garnet
from plan_cases import map_workload, quick

from qhybrid.errors import DataError, HardwareError
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.jobs.status import ledger_status
from qhybrid.hardware.ledger import Chunk, Job, Ledger
from qhybrid.hardware.ledger.mending import ELSEWHERE
from qhybrid.hardware.ledger.records import Duplicate
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.service_kinds import SERVICES, register_service
from qhybrid.report.hardware_cost import DASH, Ledgered, cost_remarks, cost_table, jobs_table, read_ledger
from qhybrid.report.hardware_part import hardware_part
from qhybrid.report.hardware_sources import read_plans
from qhybrid.report.hardware_tables import CALIBRATIONS, title_of

SHOTS = 500


@pytest.fixture
def finished(tmp_path):
    """A run folder with a plan that has ended; its two points went out in jobs of their own."""
    workload, room = map_workload(2), Vendor()
    with SERVICES.restored():
        register_service(
            "garnet",
            lambda settings, folder: GarnetService(room),
            open_garnet,
            devices=("garnet_*",),
            rules=GarnetRules(),
        )
        settings = quick(backend="garnet_5", shots=SHOTS, limits={"executions": 2 * SHOTS})
        folder = make_plan(workload, settings, tmp_path / "hardware")
        with open_plan(folder, lambda *_: workload) as execution:
            write_outcome(execution, execution.run())
        yield tmp_path, folder


def test_cost_and_results_side_by_side(finished):
    run, folder = finished
    (plan,) = read_plans(run)
    ledger = read_ledger(plan)
    rows = {row[0]: row[1:] for row in cost_table(plan, ledger).rows}
    seconds = 2 * 2 * SHOTS * SECONDS_A_SHOT
    assert rows["QPU seconds"] == (f"{seconds:.1f}", f"{seconds:.1f}")
    assert rows["of these for jobs without a result"] == ("0", "0.0")
    assert rows["jobs"] == ("2", "2")
    assert rows["chunks with a result"] == ("2", "2")
    assert rows["microseconds an execution, jobs' overhead included"] == ("1000", "1000")
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    assert rows["deviation of observables (rms)"][1] == f"{metrics['observable_deviation_rms']:.4f}"
    jobs = jobs_table(plan, ledger)
    assert [row[3:] for row in jobs.rows] == [("done", "1.00", "1.00", "1.00")] * 2
    headings = [name for name, _ in hardware_part("run", run).devices[0].tables]
    assert headings[0] == "What it cost and what came back"
    assert "Jobs" in headings


def test_every_plan_has_a_title_of_its_own(finished):
    """With minutes where these tell them apart, else with seconds, else by folder."""
    run, folder = finished
    content = json.loads((folder / "plan.json").read_text())
    times = ("2026-11-29T22:05:10", "2026-11-29T22:05:47", "2026-11-29T22:09:00", "2026-11-29T22:09:00")
    for place, time in enumerate(times):
        other = shutil.copytree(folder, folder.with_name(f"copy-{place}"))
        (other / "plan.json").write_text(json.dumps({**content, "created": f"{time}+00:00"}))
    shutil.rmtree(folder)
    plans = sorted(read_plans(run), key=lambda one: one.folder.name)
    assert [title_of(one, plans).removeprefix("garnet_5, ") for one in plans] == [
        "2026-11-29 22:05:10", "2026-11-29 22:05:47", "copy-2", "copy-3",
    ]  # fmt: skip
    assert title_of(plans[0], plans[:1]) == "garnet_5"
    assert title_of(plans[0], [plans[0], plans[2]]) == "garnet_5, 2026-11-29 22:05"


def test_a_ledger_that_cannot_be_read_leaves_the_page_out(finished):
    run, folder = finished
    (folder / "ledger.sqlite").write_bytes(b"no database at all, but long enough to be read as one" * 40)
    (plan,) = read_plans(run)
    assert read_ledger(plan) is None
    part = hardware_part("run", run).devices[0]
    assert "Jobs" not in [name for name, _ in part.tables]
    assert any("ledger is lost or damaged, so its bills" in one for one in part.remarks)
    (folder / "ledger.sqlite").unlink()
    assert read_ledger(plan) is None


def test_seconds_without_a_result_are_those_of_failed_and_second_jobs():
    ledger = object.__new__(Ledgered)
    ledger.chunks = [Chunk(0, 0, (), 1.0, "done"), Chunk(1, 0, (), 1.0, "failed")]
    ledger.jobs = [
        Job("a", 0, 1, "failed", "1", usage=2.0),
        Job("b", 0, 2, "done", "2", usage=3.0),
        Job("c", 1, 1, "too_long", "3", usage=4.0),
    ]
    ledger.duplicates = [Duplicate("4", "b", "done", 5.0)]
    assert ledger.wasted() == 2.0 + 4.0 + 5.0
    ledger.jobs.append(Job("d", 0, 3, "done", "5", usage=6.0, message=ELSEWHERE))
    assert ledger.wasted() == 2.0 + 4.0 + 5.0 + 6.0


def test_bills_that_are_open_are_told(finished):
    """Also that of a second job, which is in no row of its own."""
    run, folder = finished
    (plan,) = read_plans(run)
    with Ledger(folder / "ledger.sqlite", plan.plan["plan"]) as ledger:
        ledger.note_duplicate(Duplicate("second", ledger.jobs()[0].tag, "stopped"))
    rows = {row[0]: row[1:] for row in cost_table(plan, read_ledger(plan)).rows}
    assert rows["QPU seconds"][1].endswith(", not complete")
    assert rows["microseconds an execution, jobs' overhead included"][1] == DASH
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    assert metrics["status"]["open_bills"] == 0
    metrics["status"]["open_bills"] = 1
    (folder / "results" / "metrics.json").write_text(json.dumps(metrics))
    assert hardware_part("run", run).summary.rows[0][-1].endswith(", not complete")


def test_remappings_are_told(finished):
    run, folder = finished
    content = json.loads((folder / "plan.json").read_text())
    circuits = {"key": {"places": [[3, 1], [7, 5]]}}
    predicted = {"device_and_shots": {"accuracy": 0.75}, "same_class_as_exact": 0.5}
    facts = {"created": "2026-11-29T10:00:00Z", "chunks": [1], "circuits": circuits, "predicted": predicted}
    (folder / "plan.json").write_text(json.dumps(content | {"layouts": [facts]}))
    (plan,) = read_plans(run)
    (told,) = [one for one in cost_remarks(plan, read_ledger(plan)) if "Mapped anew" in one]
    assert told == (
        "Mapped anew on 2026-11-29: 1 chunk not sent by then, on qubits 1 3 5 7; predicted then: accuracy "
        "75.00 %, same class as exact 50.00 %."
    )


@pytest.mark.parametrize(
    ("file", "key"),
    [("plan.json", "rounds"), ("plan.json", "predicted"), ("results/metrics.json", "obtained")],
)
def test_files_that_are_damaged_are_named(file, key, finished):
    run, folder = finished
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | {key: [1]}))
    with pytest.raises(DataError, match="must hold a plan and its results, but are damaged"):
        hardware_part("run", run)
    if key == "rounds":
        (folder / file).write_text(json.dumps(content | {key: None}))
        with pytest.raises(HardwareError, match="must say of the plan's `rounds`"):
            ledger_status(folder)


@pytest.mark.parametrize("text", ["", "qubits: {0: {", "[1]"])
def test_a_calibration_that_is_damaged_is_named(text, finished):
    run, folder = finished
    for name in CALIBRATIONS:
        (folder / name).write_text(text)
    with pytest.raises(DataError, match=r"(?s)calibration.yaml: must be readable .* Fix: put it back"):
        hardware_part("run", run)


def test_results_without_any_label_have_a_page_too(finished):
    run, folder = finished
    content = json.loads((folder / "results" / "metrics.json").read_text())
    content["obtained"]["accuracy"] = None
    (folder / "results" / "metrics.json").write_text(json.dumps(content))
    assert not hardware_part("run", run).figures
