"""Disks that are full, folders that cannot be written, and results that must not get lost for that."""

from __future__ import annotations

import os
import resource
import sqlite3

import pytest
from outcome_checks import check_complete, finish
from plan_cases import map_workload, quick

from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.opening import locked, open_plan
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.jobs.status import ledger_status
from qhybrid.hardware.ledger import LEDGER_FILE, Chunk, Ledger
from qhybrid.hardware.plan.planning import make_plan


@pytest.fixture
def connections(monkeypatch):
    """All connections to ledger files, in the order of their opening."""
    opened, connect = [], sqlite3.connect

    def recorded(*arguments, **options):
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", recorded)
    return opened


def fill(connection):
    """Let the file grow no further, as on a full disk."""
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")


def forbid_writing(connection, forbidden=True):
    connection.execute(f"PRAGMA query_only = {int(forbidden)}")


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path, connections):
    with Ledger(tmp_path / LEDGER_FILE, "plan") as ledger:
        ledger.begin()
        ledger.add_round([], [], [Chunk(0, 0, (("circuit", (0,)),), 1.0)])
        job = ledger.prepare_job(0)
        fill(connections[-1])
        with pytest.raises(HardwareError, match=r"full\. Fix: see that the disk has space"):
            ledger.store_result(job, "id", "x" * 200_000)
        assert not ledger.results()
        assert ledger.jobs()[0].state == "prepared"
        assert ledger.chunks()[0].state == "open"


@pytest.mark.parametrize("event", ["before the tag", "after the send", "at the result"])
def test_work_goes_on_when_there_is_space_again(
    event, make_plan, server, service_state, samples, monkeypatch, connections
):
    """The disk is full before a tag is written, right after a job was accepted, or when results come."""
    plan = make_plan()
    with (context := plan.context()).ledger:
        connection, submit = connections[-1], context.service.submit

        def submit_then_full(package):
            found = submit(package)
            forbid_writing(connection)
            return found

        with monkeypatch.context() as patch:
            if event == "before the tag":
                forbid_writing(connection)
            elif event == "after the send":
                patch.setattr(context.service, "submit", submit_then_full)
            else:
                send_open_chunks(context)
                forbid_writing(connection)
            with pytest.raises(HardwareError, match="must take what happened"):
                finish(context)
        forbid_writing(connection, False)
        assert (
            len(service_state.jobs) == {"before the tag": 0, "after the send": 1, "at the result": 3}[event]
        )
    with (context := plan.context()).ledger:
        finish(context)
        check_complete(context, service_state, samples[1])
    assert len(service_state.jobs) == 3


def test_a_file_size_limit_is_an_error_with_a_remedy(tmp_path):
    """A real refusal of the system, in a forked process."""
    workload = map_workload(1)
    folder = make_plan(workload, quick(), tmp_path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            with open_plan(folder, lambda *_: workload) as execution:
                execution.run()
        except HardwareError as error:
            code = 0 if "Fix:" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with open_plan(folder, lambda *_: workload) as execution:
        execution.run()
        assert execution.status()["jobs"] == {"done": 1}


def test_looking_writes_nothing(tmp_path):
    workload = map_workload(1)
    folder = make_plan(workload, quick(), tmp_path)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert ledger_status(folder)["chunks"] == {"open": 1}
    assert {file: file.read_bytes() for file in before} == before
    with (
        Ledger(folder / LEDGER_FILE, "plan", read_only=True) as ledger,
        pytest.raises(HardwareError, match="readonly"),
    ):
        ledger.note("something")
    with pytest.raises(HardwareError, match="cannot be used as a ledger"):
        Ledger(tmp_path / "none.sqlite", "plan", read_only=True)
    assert not (tmp_path / "none.sqlite").exists()


def test_looking_works_while_somebody_writes(tmp_path):
    workload = map_workload(1)
    folder = make_plan(workload, quick(), tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
        assert ledger_status(folder)["jobs"] == {"sent": 1}


def test_folders_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(HardwareError, match="must be writable"), locked(tmp_path / "missing"):
        pass


def test_ledgers_of_other_versions_are_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / LEDGER_FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for read_only in (False, True):
        with pytest.raises(HardwareError, match="of version 99"):
            Ledger(tmp_path / LEDGER_FILE, "plan", read_only=read_only)
