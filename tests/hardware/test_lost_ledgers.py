"""Ledgers that are lost or damaged are made again from the plan and the service; nothing is paid twice."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
import torch
from plan_cases import class_workload, map_workload, quick

from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.jobs.status import ledger_status
from qhybrid.hardware.ledger import LEDGER_FILE
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.layers import quantum_layers

PATIENCE = {"poll_s": 0.02, "poll_max_s": 0.05, "resend_after_s": 0.5}


def empty(path):
    path.write_bytes(b"")


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path):
    path.write_bytes(b"not a database" * 1000)


def drop_a_table(path):
    change(path, "DROP TABLE jobs")


DAMAGES = {
    "emptied": empty,
    "halved": halve,
    "deleted": lambda path: path.unlink(),
    "overwritten": scribble,
    "a table is gone": drop_a_table,
}


def change(path, *statements):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, statement
    connection.close()


def four_jobs(tmp_path, **changes):
    workload = map_workload()
    limits = {"executions": 400, "jobs_per_minute": 1e6}
    settings = {"backend": "ibm_manila", "shots": 200, "mode": "job", "limits": limits, "patience": PATIENCE}
    folder = make_plan(workload, quick(**{**settings, **changes}), tmp_path)
    return workload, folder


CASES = [(damage, "sent") for damage in DAMAGES]
CASES += [(damage, stage) for damage in ("halved", "deleted") for stage in ("collected", "half sent")]


@pytest.mark.parametrize(("damage", "stage"), CASES)
def test_a_ledger_is_made_again(damage, stage, server, service_state, tmp_path):
    workload, folder = four_jobs(tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
        if stage == "collected":
            expected = execution.collect()
    if stage == "half sent":
        for job in list(service_state.jobs)[2:]:
            del service_state.jobs[job]
    DAMAGES[damage](folder / LEDGER_FILE)
    said = []
    with open_plan(folder, lambda *_: workload, say=said.append) as execution:
        outputs = execution.run() if stage == "half sent" else execution.collect()
        found = write_outcome(execution, outputs)
    assert stage != "collected" or torch.equal(outputs, expected)
    assert found["observable_deviation_rms"] < 2 / 200**0.5
    assert found["status"]["qpu_seconds_billed"] == 4 * 2.0
    assert list(service_state.executions().values()) == [1] * 4
    assert any("made again" in text for text in said)
    assert len(list(folder.glob("ledger-damaged-*.sqlite"))) == (damage != "deleted")


@pytest.mark.parametrize("damage", ["halved", "deleted"])
def test_rounds_that_depend_on_results_are_made_again_too(damage, server, service_state, tmp_path):
    workload = class_workload(2)
    names = tuple(quantum_layers(workload.model))
    settings = quick(backend="ibm_manila", layers=names, shots=200, mode="job", patience=PATIENCE)
    folder = make_plan(workload, settings, tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        expected = execution.run()
    count = len(service_state.jobs)
    DAMAGES[damage](folder / LEDGER_FILE)
    with open_plan(folder, lambda *_: workload) as execution:
        assert torch.equal(execution.run(), expected)
        assert execution.status()["rounds"] == {"entered": 2, "planned": 2}
    assert len(service_state.jobs) == count


def test_plans_of_earlier_versions_are_made_again_from_the_model(server, service_state, tmp_path):
    workload, folder = four_jobs(tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        expected = execution.run()
    (folder / "requests.sqlite").unlink()
    (folder / LEDGER_FILE).unlink()
    with open_plan(folder, lambda *_: workload) as execution:
        assert torch.equal(execution.collect(), expected)
    assert len(service_state.jobs) == 4


def test_failed_attempts_are_found_again(server, service_state, tmp_path):
    workload, folder = four_jobs(tmp_path)
    service_state.outcomes = ["completed", "failed", "completed", "completed", "failed"]
    with open_plan(folder, lambda *_: workload) as execution:
        expected = execution.run()
    assert len(service_state.jobs) == 6
    (folder / LEDGER_FILE).unlink()
    with open_plan(folder, lambda *_: workload) as execution:
        assert torch.equal(execution.run(), expected)
        assert {job.attempt for job in execution.ledger.jobs()} == {1, 2, 3}
        assert execution.ledger.billed_seconds() == 6 * 2.0
    assert len(service_state.jobs) == 6


def test_jobs_that_are_listed_late_are_waited_for(server, service_state, tmp_path):
    """The ledger is lost right after a submission that listings do not show yet."""
    workload, folder = four_jobs(tmp_path)
    service_state.listing_seconds = 0.3
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
    (folder / LEDGER_FILE).unlink()
    with open_plan(folder, lambda *_: workload) as execution:
        execution.run()
    assert len(service_state.jobs) == 4


@pytest.mark.parametrize("backend", ["ibm_manila", "fake_manila"])
@pytest.mark.parametrize("kind", ["cut", "a digit", "another text"])
def test_damaged_results_are_fetched_again(kind, backend, server, service_state, tmp_path):
    workload, folder = four_jobs(tmp_path, backend=backend)
    with open_plan(folder, lambda *_: workload) as execution:
        expected = execution.run()
        raw = execution.ledger.results()[2]
    place = max(index for index, letter in enumerate(raw) if letter in "123")
    changed = f"{raw[:place]}7{raw[place + 1 :]}"
    other = {"cut": raw[: len(raw) // 2], "a digit": changed, "another text": "{}"}
    change(folder / LEDGER_FILE, f"UPDATE results SET raw = '{other[kind]}' WHERE chunk = 2")
    for action in ("collect", "run"):
        with open_plan(folder, lambda *_: workload) as execution:
            assert torch.equal(getattr(execution, action)(), expected)
            assert execution.ledger.results()[2] == raw
            assert len(execution.ledger.jobs()) == 4


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET state = 'snet' WHERE chunk = 1",
        "UPDATE chunks SET state = 'doen' WHERE number = 1",
        "UPDATE chunks SET state = 'open' WHERE number = 1",
        "DELETE FROM results WHERE chunk = 1",
        "DELETE FROM jobs WHERE chunk = 1",
        "UPDATE jobs SET state = 'prepared' WHERE chunk = 1",
    ],
)
@pytest.mark.parametrize("stage", ["sent", "collected"])
def test_rows_that_contradict_each_other_are_put_right(statement, stage, server, service_state, tmp_path):
    workload, folder = four_jobs(tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
        if stage == "collected":
            execution.collect()
    if stage == "sent" and statement.startswith("DELETE FROM results"):
        statement = "UPDATE chunks SET state = 'done' WHERE number = 1"
    change(folder / LEDGER_FILE, statement)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
        assert execution.collect() is not None
        assert execution.status()["jobs"] == {"done": 4}
    assert list(service_state.executions().values()) == [1] * 4


def test_a_ledger_of_a_later_version_is_no_damage(tmp_path):
    workload = map_workload(1)
    folder = make_plan(workload, quick(), tmp_path)
    change(folder / LEDGER_FILE, "PRAGMA user_version = 99")
    with pytest.raises(HardwareError, match="of version 99"), open_plan(folder, lambda *_: workload):
        pass
    assert not list(folder.glob("ledger-damaged*"))


def test_looking_at_a_lost_ledger_says_what_makes_it_again(tmp_path):
    folder = make_plan(map_workload(1), quick(), tmp_path)
    (folder / LEDGER_FILE).unlink()
    with pytest.raises(HardwareError, match="hardware collect"):
        ledger_status(folder)


LOST_ROWS = [
    "DELETE FROM chunks WHERE number = 3",
    "DELETE FROM points",
    "UPDATE chunks SET blocks = '[[' WHERE number = 1",
    "UPDATE jobs SET chunk = chunk + 77",
    "UPDATE requests SET angles = zeroblob(length(angles))",
]


@pytest.mark.parametrize("statement", LOST_ROWS)
def test_rows_that_are_lost_or_changed_are_damage_too(statement, server, service_state, tmp_path):
    """A database that is whole, with the rows of the plan no more: as a ledger that is damaged."""
    workload, folder = four_jobs(tmp_path, max_qpu_seconds=40.0)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.raise_cap(50.0)
        expected = execution.run(pilot=False)
    change(folder / LEDGER_FILE, "PRAGMA foreign_keys = OFF", statement)
    with contextlib.suppress(HardwareError):  # looking does not fail otherwise
        ledger_status(folder)
    with open_plan(folder, lambda *_: workload) as execution:
        assert torch.equal(execution.collect(), expected)
        assert execution.context.cap == 50.0
        assert execution.ledger.billed_seconds() == 4 * 2.0
    assert len(service_state.jobs) == 4
    assert len(list(folder.glob("ledger-damaged-*.sqlite"))) == 1


def test_a_round_that_is_not_beside_the_ledger_is_no_damage(server, service_state, tmp_path):
    """A process was killed between entering a round and writing what was asked beside the ledger."""
    workload = class_workload(2)
    names = tuple(quantum_layers(workload.model))
    settings = quick(backend="ibm_manila", layers=names, shots=200, mode="job", patience=PATIENCE)
    folder = make_plan(workload, settings, tmp_path)
    before = (folder / "requests.sqlite").read_bytes()
    with open_plan(folder, lambda *_: workload) as execution:
        expected = execution.run()
    (folder / "requests.sqlite").write_bytes(before)
    with open_plan(folder, lambda *_: workload) as execution:
        assert torch.equal(execution.collect(), expected)
    assert not list(folder.glob("ledger-damaged*"))


def test_a_job_is_found_by_its_tag_where_its_id_is_wrong(server, service_state, tmp_path):
    workload, folder = four_jobs(tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
    change(folder / LEDGER_FILE, "UPDATE jobs SET id = 'x' || id WHERE chunk = 1")
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.collect() is not None
        assert not execution.ledger.duplicates()
    assert len(service_state.jobs) == 4
