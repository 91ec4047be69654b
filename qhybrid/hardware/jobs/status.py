"""What a ledger knows of its plan."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from qhybrid.hardware.ledger import LEDGER_FILE, Ledger
from qhybrid.hardware.ledger.records import OPEN, SENDING, SENT
from qhybrid.hardware.plan.plan_files import check_plan_plugins, read_plan
from qhybrid.hardware.services.backends import is_paid


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
    with Ledger(Path(folder) / LEDGER_FILE, content["plan"], read_only=True) as ledger:
        return status_of(content, ledger)


def status_of(content: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    """Return what the ledger of a plan knows.

    `qpu_seconds_spent` counts predictions for jobs whose bill is open, `qpu_seconds_billed` bills alone;
    `to_send` are chunks without a job, `in_flight` those whose job has not ended.

    Args:
        content: The plan's plan.json.
        ledger: Its ledger.
    """
    chunks, jobs = ledger.chunks(), ledger.jobs()
    of_chunks = Counter(chunk.state for chunk in chunks)
    of_jobs = Counter(job.state for job in jobs)
    busy = {job.chunk for job in jobs if job.state in (SENDING, SENT)}
    settings = content["settings"]
    local = not is_paid(settings["backend"], settings.get("service"))
    return {
        "plan": content["plan"],
        "backend": content["settings"]["backend"],
        "rounds": {"entered": len({chunk.round for chunk in chunks}), "planned": len(content["rounds"])},
        "chunks": dict(of_chunks),
        "jobs": dict(of_jobs),
        "duplicates": len(ledger.duplicates()),
        "to_send": sum(chunk.state == OPEN and chunk.number not in busy for chunk in chunks),
        "in_flight": len(busy),
        "qpu_seconds_spent": 0.0 if local else round(ledger.spent_seconds(), 2),
        "qpu_seconds_billed": 0.0 if local else round(ledger.billed_seconds(), 2),
        "qpu_seconds_planned": content["qpu_seconds"],
    }
