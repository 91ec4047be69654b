"""Results that can be read once: they are on disk, whole, before anything looks at them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from qhybrid.errors import HardwareError, ServiceError, WorkspaceError
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.workspace import write_text

RECEIVED = "received"
ROOM = 100_000_000
"""Bytes that must be free before a result is asked for which the service then deletes."""


def received_text(context: JobContext, job_id: str) -> str:
    """Return the result of a private job: from disk if it was received before, else from the service.

    Raises:
        HardwareError: If there is no room for it; then it was not asked for.
        ResultGoneError: If it was read before, and is not on disk here.
        ServiceError: If there was no proper answer, or the file cannot be read.
    """
    file = file_of(context, job_id)
    if not file.exists():
        _make_room(file.parent)
        _keep(file, context.service.result_text(job_id))
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ServiceError(
            f"{file} must hold a result that the service has deleted, but cannot be read: {error}. Fix: make "
            "it readable."
        ) from error


def file_of(context: JobContext, job_id: str) -> Path:
    """Return the file of a private job's result, beside the ledger."""
    return context.ledger.path.parent / RECEIVED / f"{job_id}.json"


def _make_room(folder: Path) -> None:
    """Check that a result can be written, before the service is asked for it and deletes it.

    Raises:
        HardwareError: If it cannot.
    """
    problem = ""
    try:
        folder.mkdir(exist_ok=True)
        probe = write_text(folder / ".probe", "room for a result\n")
        probe.unlink()
        if (free := shutil.disk_usage(folder).free) < ROOM:
            problem = f"{free:,} bytes are free"
    except OSError as error:
        problem = str(error)
    if problem:
        raise HardwareError(
            f"{folder} must have room for a private result, {ROOM:,} bytes, but: {problem}. Fix: free some "
            "space, or make the folder writable, and collect again; the result was not asked for yet."
        )


def _keep(file: Path, text: str) -> None:
    """Write a result that exists nowhere else any more.

    Raises:
        HardwareError: If it cannot be written where it belongs; it says where it is instead.
    """
    try:
        write_text(file, text)
        _reach_disk(file.parent)
    except (OSError, WorkspaceError) as error:
        handle, name = tempfile.mkstemp(prefix="qhybrid-result-", suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as other:
            other.write(text)
        raise HardwareError(
            f"{file} must take a result that the service has deleted, but: {error}. Fix: move {name} there, "
            "which is that result, and collect again."
        ) from error


def _reach_disk(folder: Path) -> None:
    """Bring the names in a folder to disk: a power cut must not lose that of a file that is there."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
