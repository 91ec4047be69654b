"""What a ledger knows of its plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qhybrid.errors import HardwareError
from qhybrid.hardware.ledger import LEDGER_FILE, Ledger
from qhybrid.hardware.ledger.records import DENIED, DONE, OPEN, SENDING, SENT
from qhybrid.hardware.plan.plan_files import check_plan_plugins, read_plan, settings_of
from qhybrid.hardware.services.backends import is_paid, make_service
from qhybrid.hardware.services.interface import JobGoneError, JobService


def ledger_status(folder: str | Path) -> dict[str, Any]:
    """Return what the ledger of a plan knows; nothing is asked of the service, and nothing is written.

    Args:
        folder: The plan's folder; another process may work on it.

    Raises:
        HardwareError: If the folder holds no usable plan.
        PluginError: If it needs a plugin that is not loaded.
    """
    content = read_plan(Path(folder))
    check_plan_plugins(content, Path(folder))
    with _looking(Path(folder), content) as ledger:
        return status_of(content, ledger)


@contextmanager
def _looking(root: Path, content: dict[str, Any]) -> Iterator[Ledger]:
    """Open a ledger for looking only.

    Raises:
        HardwareError: If it is lost or damaged.
    """
    try:
        with Ledger(root / LEDGER_FILE, content["plan"], read_only=True) as ledger:
            yield ledger
    except (KeyError, ValueError, TypeError) as error:
        raise HardwareError(
            f"{root / LEDGER_FILE} must hold the plan's jobs, but its rows do not fit together "
            f"({type(error).__name__}: {error}). Fix: `qhybrid hardware collect PLAN` makes it again; jobs "
            "that were sent are found by their tags."
        ) from error


def job_rows(folder: str | Path, ask: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Return all jobs, sessions and batches of a plan with their ids, and sentences about them.

    Args:
        folder: The plan's folder; another process may work on it.
        ask: Whether the service is asked where jobs stand that have not ended.

    Returns:
        One row a job (`id`, `tag`, `chunk`, `attempt`, `state`, `usage`, `position`, `estimate`), and what is
        to be said beside them.

    Raises:
        HardwareError: If the folder holds no usable plan.
    """
    root = Path(folder)
    content = read_plan(root)
    with _looking(root, content) as ledger:
        rows = [
            {
                **{key: getattr(job, key) for key in ("id", "tag", "chunk", "attempt", "state", "usage")},
                "position": None,
                "estimate": None,
            }
            for job in ledger.jobs()
        ]
        told = [
            f"{one.mode} {one.id} is {'closed' if one.closed else 'open'}"
            + ("" if one.usage is None else f", {one.usage:g} s billed")
            for one in ledger.sessions()
        ]
        told += [f"chunk {one.number} learns the noise of layers" for one in ledger.chunks() if one.learns]
        for one in ledger.duplicates():
            bill = "its bill is open" if one.usage is None else f"{one.usage:g} s billed"
            told.append(f"duplicate {one.id} of {one.tag}: {one.outcome}, {bill}")
        tag = ledger.tag
    if ask and any(row["state"] == SENT for row in rows):
        told += _ask(root, content, rows)
    if is_paid(content["settings"]["backend"], content["settings"].get("service")) and rows:
        told.append(f"all jobs of the plan carry the tag {tag}, and each its own")
    return rows, told


def _ask(root: Path, content: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Fill in where jobs stand; return what is to be said beside that."""
    told = []
    try:
        service = make_service(settings_of(content, root), root)
        for row in rows:
            if row["state"] == SENT:
                row |= _outlook(service, str(row["id"]))
        if where := service.whereabouts():
            told.append(f"in the provider's pages: {where}; search for a job's id or a tag")
        waiting = service.waiting_jobs()
        if waiting is not None:
            told.append(f"{waiting} job(s) of all users wait for {content['settings']['backend']}")
    except HardwareError as error:
        told.append(f"the service was asked where jobs stand, but: {error}")
    return told


def _outlook(service: JobService, job_id: str) -> dict[str, Any]:
    """Return where a job stands; one that the service denies hides no other."""
    try:
        found = service.outlook(job_id)
    except JobGoneError:
        return {"state": DENIED}
    return {"state": found.status, "position": found.position, "estimate": found.seconds}


def status_of(content: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    """Return what the ledger of a plan knows.

    `qpu_seconds_spent` counts predictions for jobs whose bill is open, `qpu_seconds_billed` bills alone;
    `open_bills` is the number of jobs and sessions that may be billed and are not yet; `max_qpu_seconds` is
    the cap, as raised. `to_send` are chunks without a job that can be sent, `waiting_for_noise` those that
    wait until the noise of their layers is learned, `in_flight` those whose job has not ended.

    Args:
        content: The plan's plan.json.
        ledger: Its ledger.
    """
    chunks, jobs = ledger.chunks(), ledger.jobs()
    of_chunks = Counter(chunk.state for chunk in chunks)
    of_jobs = Counter(job.state for job in jobs)
    busy = {job.chunk for job in jobs if job.state in (SENDING, SENT)}
    unsent = [one for one in chunks if one.state == OPEN and one.number not in busy]
    unknown = {one.layout for one in chunks if one.learns and one.state != DONE}
    held = sum(not one.learns and one.layout in unknown for one in unsent)
    settings = content["settings"]
    caps = [one for one in (settings.get("max_qpu_seconds"), ledger.raised_cap()) if one is not None]
    local = not is_paid(settings["backend"], settings.get("service"))
    return {
        "plan": content["plan"],
        "backend": content["settings"]["backend"],
        "rounds": {"entered": len({chunk.round for chunk in chunks}), "planned": len(content["rounds"])},
        "chunks": dict(of_chunks),
        "jobs": dict(of_jobs),
        "duplicates": len(ledger.duplicates()),
        "to_send": len(unsent) - held,
        **({"waiting_for_noise": held} if held else {}),
        "in_flight": len(busy),
        "qpu_seconds_spent": 0.0 if local else round(ledger.spent_seconds(), 2),
        "qpu_seconds_billed": 0.0 if local else round(ledger.billed_seconds(), 2),
        "qpu_seconds_planned": content["qpu_seconds"],
        "open_bills": 0 if local else ledger.open_bills(),
        "max_qpu_seconds": max(caps, default=None),
    }
