"""A ledger that is lost or damaged is made again: what was asked from the plan, what was sent by the tags.

requests.sqlite, beside the ledger, holds what was asked, without jobs and results: it changes once a round.
Plans of earlier versions have none; the model then asks again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qhybrid.errors import HardwareError
from qhybrid.hardware.ledger.records import (
    CANCELLED,
    DONE,
    FAILED,
    OPEN,
    PREPARED,
    SENDING,
    SENT,
    TOO_LONG,
)
from qhybrid.hardware.ledger.soundness import is_sound
from qhybrid.hardware.ledger.store import LEDGER_FILE, Ledger
from qhybrid.workspace import atomic_path

REQUESTS_FILE = "requests.sqlite"
CHUNK_STATES = (OPEN, DONE, FAILED, CANCELLED, TOO_LONG)
JOB_STATES = (PREPARED, SENDING, SENT, DONE, FAILED, CANCELLED, TOO_LONG)
TABLES = {"plans", "requests", "points", "chunks", "jobs", "duplicates", "results", "events"}


def save_requests(ledger: Ledger, folder: Path) -> None:
    """Write what a ledger has been asked for beside it."""
    with (
        atomic_path(folder / REQUESTS_FILE) as temporary,
        Ledger(temporary, ledger.plan) as copy,
    ):
        _copy_work(ledger, copy)


def _copy_work(source: Ledger, target: Ledger) -> None:
    target.begin()
    points = [(number, circuit, angles) for number, (circuit, angles) in source.points().items()]
    target.add_round(source.requests(), points, [replace(chunk, state=OPEN) for chunk in source.chunks()])


def mend_ledger(folder: Path, plan: str, say: Callable[[str], None]) -> None:
    """Make the ledger of a plan usable before it is opened: a new one if it is lost or damaged.

    Args:
        folder: The plan's folder; no other process works on it.
        plan: Name of the plan.
        say: Called with a sentence if something had to be done.

    Raises:
        HardwareError: If it is of another version, or cannot be written.
    """
    path, beside = folder / LEDGER_FILE, folder / REQUESTS_FILE
    has_copy = _is_whole(beside, plan) and is_sound(beside, plan)
    if not _is_whole(path, plan) or not _is_sound(path, plan, beside if has_copy else None):
        kept = _put_aside(path)
        _make_again(folder, plan, has_copy, path.with_name(kept) if kept else None)
        say(
            f"the ledger was {'damaged' if kept else 'lost'} and is made again; jobs that were sent are "
            f"found by their tags{f', and the old file is {kept}' if kept else ''}"
        )
        return
    with Ledger(path, plan) as ledger:
        for text in _put_right(ledger):
            ledger.note(text)
            say(text)


def _is_whole(path: Path, plan: str) -> bool:
    """Return whether a file is a ledger in which the plan is entered."""
    if not path.is_file():
        return False
    connection = sqlite3.connect(path)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version and not tables:
            return False
        if version not in (0, Ledger.version):
            return True  # of another version of qhybrid: whoever opens it says so
        if not tables >= TABLES:
            return False
        checked = connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        entered = connection.execute("SELECT count(*) FROM plans WHERE plan = ?", (plan,)).fetchone()[0]
        return bool(checked and entered)
    except sqlite3.OperationalError:
        return True  # locked, or not readable: whoever opens it says so
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()


def _is_sound(path: Path, plan: str, beside: Path | None) -> bool:
    """Return whether rows of a whole ledger fit together; one of another version is not judged."""
    connection = sqlite3.connect(path)
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] not in (0, Ledger.version):
            return True
    except sqlite3.OperationalError:
        return True  # locked, or not readable: whoever opens it says so
    finally:
        connection.close()
    return is_sound(path, plan, beside)


def _put_aside(path: Path) -> str:
    """Rename a damaged ledger with its journals; return its new name, empty if there was none."""
    number = 1
    while (target := path.with_name(f"{path.stem}-damaged-{number}{path.suffix}")).exists():
        number += 1
    found = path.exists()
    try:
        for tail in ("", "-wal", "-shm"):
            if (own := Path(f"{path}{tail}")).exists():
                own.rename(f"{target}{tail}")
    except OSError as error:
        raise HardwareError(
            f"{path} is damaged and must be renamed, but: {error}. Fix: make its folder writable."
        ) from error
    return target.name if found else ""


def _make_again(folder: Path, plan: str, has_copy: bool, kept: Path | None) -> None:
    """Write a new ledger with what was asked, as far as the plan's folder holds that.

    Args:
        folder: The plan's folder.
        plan: Name of the plan.
        has_copy: Whether what was asked is beside the ledger.
        kept: The damaged ledger: what it says of caps and of bills that no job has is taken over.
    """
    with atomic_path(folder / LEDGER_FILE) as temporary, Ledger(temporary, plan) as ledger:
        if has_copy:
            with Ledger(folder / REQUESTS_FILE, plan) as source:
                _copy_work(source, ledger)
        ledger.begin()
        ledger.begin_again()
        if kept is not None:
            _take_over(kept, ledger)
        ledger.note("the ledger was lost or damaged and is made again")


def _take_over(kept: Path, ledger: Ledger) -> None:
    """Enter sessions, reservations and the cap of a damaged ledger as far as they can be read."""
    try:
        with Ledger(kept, ledger.plan, read_only=True) as damaged:
            for one in damaged.sessions():
                ledger.note_session(one)
            if (cap := damaged.raised_cap()) is not None and cap > 0:
                ledger.raise_cap(cap)
            for tag, seconds, since in damaged.unlisted():
                ledger.note_unlisted(tag, seconds, since)
    except HardwareError as error:
        ledger.note(f"sessions and the cap of the damaged ledger could not be read: {error}")


def _put_right(ledger: Ledger) -> list[str]:
    """Put right rows that contradict each other; results decide, and the service where there is none."""
    results = ledger.results()
    told = []
    for chunk in ledger.chunks():
        state = chunk.state
        if chunk.number in results:
            state = DONE
        elif state not in CHUNK_STATES or state == DONE:
            state = OPEN
        if state != chunk.state:
            ledger.force_chunk(chunk.number, state)
            told.append(f"chunk {chunk.number} was `{chunk.state}` in the ledger and is `{state}`")
    for job in ledger.jobs():
        state = job.state
        given = job.chunk in results and ledger.result_id(job.chunk) == job.id
        if given:
            state = DONE
        elif state not in JOB_STATES or state == DONE or (state == PREPARED and job.id is not None):
            # What a row does not say, the service does: by the job's id, or by its tag.
            state = SENDING if job.id is None else SENT
        if state != job.state and job.message != ELSEWHERE:
            ledger.update_job(job.tag, state=state)
            told.append(f"job {job.tag} was `{job.state}` in the ledger and is `{state}`")
    return told


GONE = "The service does not know job"
"""Beginning of the message of a job that was given up because the service denied that it exists."""
ELSEWHERE = "another attempt gave the result"
"""Message of a job that is done, and whose chunk has its result from another one."""
