"""Results that can be read once: they are on disk, whole, before anything looks at them."""

from __future__ import annotations

import os
from pathlib import Path

from qhybrid.errors import ServiceError
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.workspace import write_text

RECEIVED = "received"


def received_text(context: JobContext, job_id: str) -> str:
    """Return the result of a private job: from disk if it was received before, else from the service.

    Raises:
        ResultGoneError: If it was read before, and is not on disk here.
        ServiceError: If there was no proper answer, or the file cannot be read.
    """
    file = file_of(context, job_id)
    if not file.exists():
        text = context.service.result_text(job_id)
        file.parent.mkdir(exist_ok=True)
        write_text(file, text)
        _reach_disk(file.parent)
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


def _reach_disk(folder: Path) -> None:
    """Bring the names in a folder to disk: a power cut must not lose that of a file that is there."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
