"""Waiting for jobs and entering their results; a failed job costs its own chunk only."""

from __future__ import annotations

from collections.abc import Callable

from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.circuits import PreparedCircuit
from qhybrid.hardware.context import JobContext
from qhybrid.hardware.decoding import decode_chunk
from qhybrid.hardware.ledger import Chunk, Job
from qhybrid.hardware.ledger.records import CANCELLED, DONE, FAILED, OPEN, SENDING, SENT, TOO_LONG
from qhybrid.hardware.reconciling import reconcile, update_duplicates, wait_for_certainty
from qhybrid.hardware.service import FINAL

Progress = Callable[[int, int], None]


def collect_jobs(context: JobContext, wait: bool = True, progress: Progress | None = None) -> None:
    """Enter the results of all jobs that were sent.

    Args:
        context: The plan.
        wait: Until all have ended; else only of those that have ended by now.
        progress: Called with (chunks with a result, chunks).

    Raises:
        ServiceError: If the service does not answer; everything that came before is in the ledger.
        HardwareError: If the deadline of the settings passes.
    """
    patience, clock = context.settings.patience, context.clock
    started, pause = clock.now(), patience.poll_s
    while True:
        reconcile(context)
        jobs = context.ledger.jobs(SENT)
        ended = [job for job in jobs if _look(context, job)]
        if progress is not None:
            states = [chunk.state for chunk in context.ledger.chunks()]
            progress(states.count(DONE), len(states))
        left = len(jobs) - len(ended)
        if not left or not wait:
            break
        if patience.deadline_s is not None and clock.now() - started > patience.deadline_s:
            raise HardwareError(
                f"All jobs must end within `deadline_s` = {patience.deadline_s:g} s, but {left} have "
                "not. Fix: collect again later; they go on without us."
            )
        pause = patience.poll_s if ended else min(2 * pause, patience.poll_max_s)
        clock.sleep(pause)
    reconcile(context)
    _enter_costs(context)


def _look(context: JobContext, job: Job) -> bool:
    """Look after one job; return whether it has ended."""
    if job.id is None:
        raise HardwareError(f"Job {job.tag} must have an id, but has none. Fix: report this with the ledger.")
    view = context.asked(lambda: context.service.view(str(job.id)))
    if view.status not in FINAL:
        return False
    if view.status == DONE:
        _fetch(context, job, job.id)
        return True
    spare = _finished_duplicate(context, job)
    if spare is not None:
        context.note(
            f"chunk {job.chunk}: job {job.id} has no result ({view.status}), its duplicate {spare} has"
        )
        _fetch(context, job, spare)
        return True
    context.ledger.end_job(job, view.status, view.message, _chunk_state(context, job, view.status))
    context.note(f"chunk {job.chunk}: job {job.id} ended as `{view.status}`. {view.message}".strip())
    return True


def _chunk_state(context: JobContext, job: Job, status: str) -> str:
    """Return what becomes of a chunk: only failures of the service are worth another attempt unasked."""
    if status == FAILED:
        return OPEN if job.attempt < context.settings.patience.attempts else FAILED
    return TOO_LONG if status == TOO_LONG else CANCELLED


def _fetch(context: JobContext, job: Job, job_id: str) -> None:
    """Enter a result; one that does not decode is fetched again, since transfers break off."""
    chunk = next(one for one in context.ledger.chunks() if one.number == job.chunk)

    def fetch() -> str:
        text = context.service.result_text(job_id)
        try:
            decode_chunk(text, blocks_of(context, chunk), context.settings)
        except HardwareError as error:
            raise ServiceError(f"job {job_id}: {error}") from None
        return text

    context.ledger.store_result(job, job_id, context.asked(fetch))


def blocks_of(context: JobContext, chunk: Chunk) -> list[tuple[PreparedCircuit, int]]:
    """Return circuit and number of points of every block."""
    return [(context.circuits[key], len(points)) for key, points in chunk.blocks]


def _finished_duplicate(context: JobContext, job: Job) -> str | None:
    for one in context.ledger.duplicates():
        if one.tag != job.tag or one.outcome == CANCELLED:
            continue
        if context.asked(lambda one=one: context.service.view(one.id)).status == DONE:  # type: ignore[misc]
            return one.id
    return None


def _enter_costs(context: JobContext) -> None:
    """Enter what ended jobs cost, as far as the service knows it."""
    for job in context.ledger.jobs():
        if job.id is not None and job.usage is None and job.state not in (SENDING, SENT):
            usage = context.asked(lambda job=job: context.service.usage(str(job.id)))  # type: ignore[misc]
            if usage is not None:
                context.ledger.update_job(job.tag, usage=usage)
    update_duplicates(context)


def cancel_jobs(context: JobContext) -> int:
    """Cancel everything that has not ended; results that are there already are kept.

    Returns:
        Number of jobs that were cancelled.
    """
    reconcile(context)
    for job in context.ledger.jobs(SENDING):
        wait_for_certainty(context, job)
    count = 0
    for job in context.ledger.jobs(SENT):
        if context.asked(lambda job=job: context.service.cancel(str(job.id))):  # type: ignore[misc]
            context.ledger.end_job(job, CANCELLED, "cancelled on request", CANCELLED)
            context.note(f"chunk {job.chunk}: job {job.id} was cancelled on request")
            count += 1
        else:
            _look(context, job)
    for chunk in context.ledger.chunks():
        if chunk.state == OPEN:
            context.ledger.set_chunk(chunk.number, CANCELLED)
    _enter_costs(context)
    return count
