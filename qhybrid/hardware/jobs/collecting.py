"""Waiting for jobs and recording their results; a failed job costs its own chunk only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.circuits.decoding import decode_chunk, decode_noise
from qhybrid.hardware.circuits.readout_calibration import UselessResultError
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.hardware.jobs.learning import learns_what_is_wanted, told_noise, work_of
from qhybrid.hardware.jobs.received import received_text
from qhybrid.hardware.jobs.reconciling import (
    close_left_open,
    is_superseded,
    nothing_left,
    reconcile,
    settle,
    wait_for_certainty,
)
from qhybrid.hardware.jobs.results import blocks_of
from qhybrid.hardware.ledger import Chunk, Job
from qhybrid.hardware.ledger.mending import ELSEWHERE, GONE
from qhybrid.hardware.ledger.records import CANCELLED, DONE, FAILED, OPEN, SENDING, SENT, TOO_LONG
from qhybrid.hardware.services.interface import FINAL, AbsentResultError, JobGoneError, ResultGoneError

Progress = Callable[[int, int], None]
MOST_FAILURES = 3
"""Bills in a row that cannot be had, after which the service is taken to be away."""


def collect_jobs(context: JobContext, wait: bool = True, progress: Progress | None = None) -> None:
    """Record the results of all jobs that were sent.

    Args:
        context: The plan.
        wait: Until all have ended; else only of those that have ended by now.
        progress: Called with (chunks with a result, chunks).

    Raises:
        ServiceError: If the service does not answer, or a result cannot be read; all others are in the
            ledger.
        HardwareError: If the deadline of the settings passes.
    """
    if nothing_left(context):
        return
    try:
        _collect(context, wait, progress)
    except HardwareError as error:
        chunks = context.ledger.chunks()
        if not chunks or any(chunk.state != DONE for chunk in chunks):
            raise
        # Results do not wait for bills, nor for listings.
        context.say(f"all results are in the ledger, bills may not be: {error}")


def _collect(context: JobContext, wait: bool, progress: Progress | None) -> None:
    close_left_open(context)
    patience, clock = context.settings.patience, context.clock
    started, pause = clock.elapsed(), patience.poll_s
    unreadable: dict[str, UnreadableResultError] = {}
    while True:
        reconcile(context)
        jobs = [job for job in context.ledger.jobs(SENT) if job.tag not in unreadable]
        ended = [job for job in jobs if _look_or_note(context, job, unreadable)]
        if progress is not None:
            states = [chunk.state for chunk in context.ledger.chunks()]
            progress(states.count(DONE), len(states))
        left = len(jobs) - len(ended)
        if not left or not wait:
            break
        if patience.deadline_s is not None and clock.elapsed() - started > patience.deadline_s:
            raise HardwareError(
                f"All jobs must end within `deadline_s` = {patience.deadline_s:g} s, but {left} have "
                "not. Fix: collect again later; they go on without us."
            )
        pause = patience.poll_s if ended else min(2 * pause, patience.poll_max_s)
        clock.sleep(pause)
    reconcile(context)
    close_left_open(context)
    enter_costs(context)
    for error in unreadable.values():
        raise error


class UnreadableResultError(ServiceError):
    """A result cannot be fetched or decoded; other results do not wait for it.

    Attributes:
        received: Whether it came, and is not what it should be; or the service says that there is none.
    """

    def __init__(self, message: str, received: bool = False) -> None:
        super().__init__(message)
        self.received = received


class NoResultError(ServiceError):
    """What came is not the result of the chunk, or not all of it."""


def end_unreadable(context: JobContext) -> None:
    """End jobs whose results came and cannot be used, or are not there, however often they were fetched.

    Their chunks can then be sent once more; nothing does so but `submit --again`.
    """
    unreadable: dict[str, UnreadableResultError] = {}
    for job in context.ledger.jobs(SENT):
        _look_or_note(context, job, unreadable)
    for job in context.ledger.jobs(SENT):
        error = unreadable.get(job.tag)
        if error is not None and error.received:
            context.ledger.end_job(job, FAILED, str(error), FAILED)
            context.note(f"chunk {job.chunk}: the result of job {job.id} cannot be used and is given up")


def _look_or_note(context: JobContext, job: Job, unreadable: dict[str, UnreadableResultError]) -> bool:
    """Update one job; return whether it needs no further polling."""
    try:
        return _look(context, job)
    except UnreadableResultError as error:
        unreadable[job.tag] = error
        return True


def _look(context: JobContext, job: Job) -> bool:
    """Update one job from the service; return whether it has ended."""
    if job.id is None:
        raise HardwareError(f"Job {job.tag} must have an id, but has none. Fix: report this with the ledger.")
    try:
        view = context.asked(lambda: context.service.view(str(job.id)))
    except JobGoneError:
        if _has_another(context, job):
            return False
        _give_up(context, job)
        return True
    if view.status not in FINAL:
        return False
    if view.status == DONE:
        _fetch(context, job, job.id)
        return True
    if is_superseded(context, job):
        return False
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


def _has_another(context: JobContext, job: Job) -> bool:
    """Return whether the service has a job with the tag of one that it does not know; that one is taken."""
    ids = [one.id for one in context.listed(job.tag)]
    return bool(ids) and job.id not in ids and settle(context, replace(job, id=None), ids)


def _give_up(context: JobContext, job: Job) -> None:
    """Record that the service no longer knows a job; its cost is unknown, so its limit counts.

    Raises:
        UnreadableResultError: If a listing still has it.
    """
    if any(one.id == job.id for one in context.listed(job.tag)):
        raise UnreadableResultError(
            f"The service must answer for job {job.id}, but says that there is none, though it lists it. "
            "Fix: collect again later; nothing is sent again by itself.",
            False,
        )
    chunk = next(one for one in context.ledger.chunks() if one.number == job.chunk)
    given = context.ledger.limits().get(str(job.id), job.reserved)
    seconds = float(chunk.limit if given is None else given)
    message = f"{GONE} {job.id} (any more); {seconds:g} s are counted for it."
    if context.service.paid and job.usage is None:
        context.ledger.update_job(job.tag, usage=seconds)
    context.ledger.end_job(job, CANCELLED, message, CANCELLED)
    context.note(f"chunk {job.chunk}: {message}")


def _chunk_state(context: JobContext, job: Job, status: str) -> str:
    """Return what becomes of a chunk: only failures of the service are retried automatically."""
    if status == FAILED:
        return OPEN if job.attempt < context.settings.patience.attempts else FAILED
    return TOO_LONG if status == TOO_LONG else CANCELLED


def _fetch(context: JobContext, job: Job, job_id: str) -> None:
    """Record a result; one that cannot be decoded is fetched again, since transfers can be cut short."""
    chunk = next(one for one in context.ledger.chunks() if one.number == job.chunk)
    if chunk.state == DONE:
        own = context.ledger.result_id(job.chunk) == job_id
        context.ledger.end_job(job, DONE, "" if own else ELSEWHERE, DONE)
        return

    def fetch() -> str:
        text = context.service.result_text(job_id)
        _check(context, chunk, job_id, text)
        return text

    try:
        if context.settings.private:
            text = context.asked(lambda: received_text(context, job_id))
            _check(context, chunk, job_id, text)
        else:
            text = context.asked(fetch)
    except ResultGoneError as error:
        context.ledger.end_job(job, CANCELLED, str(error), CANCELLED)
        context.note(f"chunk {job.chunk}: {error}")
        return
    except UselessResultError as error:
        # It is not sent again by itself: whatever is wrong with the device would be paid for again.
        context.ledger.end_job(job, FAILED, str(error), FAILED)
        context.note(f"chunk {job.chunk}: {error}")
        return
    except ServiceError as error:
        told = isinstance(error, NoResultError | AbsentResultError)
        raise UnreadableResultError(str(error), told) from None
    context.ledger.store_result(job, job_id, text)
    if chunk.learns:
        context.note(told_noise(context, next(c for c in context.ledger.chunks() if c.number == job.chunk)))


def _check(context: JobContext, chunk: Chunk, job_id: str, text: str) -> None:
    """Check that a text is the whole result of a chunk.

    Raises:
        NoResultError: If it is not.
        UselessResultError: If it is, and says nothing.
    """
    once_more = "If that does not help, `submit --again` has it executed, and paid for, once more."
    if chunk.learns and not learns_what_is_wanted(context, chunk, job_id):
        raise NoResultError(
            f"Job {job_id} of chunk {chunk.number} learns the noise of other layers. Fix: collect again; it "
            f"is not used, and nothing is sent again by itself. {once_more}"
        )
    try:
        if not chunk.learns:
            context.check_mark(chunk, text)
    except ServiceError as error:
        raise NoResultError(f"job {job_id}: {error} {once_more}") from None
    chunk = next(one for one in context.ledger.chunks() if one.number == chunk.number)
    try:
        if chunk.learns:
            decode_noise(text, work_of(context, chunk), context.settings)
        else:
            decode_chunk(text, blocks_of(context, chunk), context.settings)
    except UselessResultError:
        raise
    except HardwareError as error:
        raise NoResultError(f"job {job_id}: {error} {once_more}") from None


def _finished_duplicate(context: JobContext, job: Job) -> str | None:
    for one in context.ledger.duplicates():
        if one.tag != job.tag or one.outcome == CANCELLED:
            continue
        if context.asked(lambda one=one: context.service.view(one.id)).status == DONE:  # type: ignore[misc]
            return one.id
    return None


def enter_costs(context: JobContext) -> None:
    """Record what ended jobs cost, as far as the service knows it; results do not wait for that."""
    ledger, service, ask = context.ledger, context.service, _Bills(context)
    for job in ledger.jobs():
        if job.id is not None and job.usage is None and job.state not in (SENDING, SENT):
            usage = ask(service.usage, job.id)
            if usage is not None:
                ledger.update_job(job.tag, usage=usage)
    for one in ledger.duplicates():
        if one.usage is None and (usage := ask(service.usage, one.id)) is not None:
            ledger.note_duplicate(replace(one, usage=usage))
    for session in ledger.sessions():
        if session.mode == "session" and session.usage is None:
            usage = ask(service.session_usage, session.id)
            if usage is not None:
                ledger.note_session(replace(session, usage=usage))
    if ask.error is not None:
        context.say(f"costs are not complete, collect again later: {ask.error}")


class _Bills:
    """Asks for bills; one that cannot be had holds up no other, and the first of these alone is waited for.

    Attributes:
        error: The first one; None if all questions were answered.
    """

    def __init__(self, context: JobContext) -> None:
        self._context, self._failed = context, 0
        self.error: ServiceError | None = None

    def __call__(self, question: Callable[[str], float | None], name: str) -> float | None:
        if self._failed >= MOST_FAILURES:
            return None
        try:
            waits = self.error is None
            found = self._context.asked(lambda: question(name)) if waits else question(name)
        except ServiceError as error:
            self.error = self.error or error
            self._failed += not isinstance(error, JobGoneError)
            return None
        self._failed = 0
        return found


def cancel_jobs(context: JobContext) -> int:
    """Cancel everything that has not ended; results that are there already are kept.

    Returns:
        Number of jobs that were cancelled.
    """
    reconcile(context)
    close_left_open(context)
    for job in context.ledger.jobs(SENDING):
        wait_for_certainty(context, job)
    count, too_late = 0, []
    unreadable: dict[str, UnreadableResultError] = {}
    for job in context.ledger.jobs(SENT):
        try:
            stopped = context.asked(lambda job=job: context.service.cancel(str(job.id)))  # type: ignore[misc]
        except JobGoneError:
            try:
                _give_up(context, job)
            except UnreadableResultError as denied:
                unreadable[job.tag] = denied
            continue
        if stopped:
            context.ledger.end_job(job, CANCELLED, "cancelled on request", CANCELLED)
            context.note(f"chunk {job.chunk}: job {job.id} was cancelled on request")
            count += 1
        else:
            too_late.append(job)
    for job in too_late if context.readable else ():
        _look_or_note(context, job, unreadable)
    kept = {job.chunk for job in context.ledger.jobs(SENT)}
    for chunk in context.ledger.chunks():
        if chunk.state == OPEN and chunk.number not in kept:
            context.ledger.set_chunk(chunk.number, CANCELLED)
    enter_costs(context)
    for error in unreadable.values():
        raise error
    return count
