"""Sending the jobs of a round, each once."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from qhybrid.errors import (
    HardwareError,
    ServiceError,
    SubmissionRefusedError,
    SubmissionUnsureError,
    TooManyPendingError,
)
from qhybrid.hardware.jobs.before import check_before_sending, check_budget
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.hardware.jobs.reconciling import (
    be_certain_after_rebuilding,
    close_left_open,
    nothing_left,
    reconcile,
    settle,
    wait_for_certainty,
)
from qhybrid.hardware.ledger import Chunk, Job
from qhybrid.hardware.ledger.records import (
    CANCELLED,
    FAILED,
    OPEN,
    PREPARED,
    SENDING,
    SENT,
    TOO_LONG,
    OpenedSession,
)
from qhybrid.hardware.services.interface import Package

SHORTEST_SESSION = 600
"""Seconds that a session without a cap lasts at least, twice the estimate where that is more."""


def send_open_chunks(context: JobContext, again: bool = False) -> int:
    """Send a job for every chunk that waits for one.

    Args:
        context: The plan.
        again: Also for chunks that were cancelled, stopped at their time limit, or failed too often.

    Returns:
        Number of jobs that were sent.

    Raises:
        HardwareError: If the cap or the account's time does not suffice.
        ServiceError: If the service refuses a job, or does not answer; what was sent is in the ledger.
    """
    ledger = context.ledger
    if nothing_left(context):
        return 0
    close_left_open(context)
    reconcile(context)
    be_certain_after_rebuilding(context)
    for job in ledger.jobs(SENDING):
        wait_for_certainty(context, job)
    if again:
        for chunk in ledger.chunks():
            if chunk.state in (CANCELLED, FAILED, TOO_LONG):
                ledger.set_chunk(chunk.number, OPEN)
    waiting = {job.chunk: job for job in ledger.jobs(PREPARED)}
    busy = {job.chunk for job in ledger.jobs(SENT)}
    todo = [chunk for chunk in ledger.chunks() if chunk.state == OPEN and chunk.number not in busy]
    if not todo:
        return 0
    context.check_cap()
    check_budget(context)
    limit = context.time_limit(todo)
    if limit is None and context.settings.mode == "session":
        # Nobody pays for eight hours because a session was left open.
        limit = max(SHORTEST_SESSION, 2 * sum(chunk.limit for chunk in todo))
    context.asked(lambda: context.service.open(limit))
    check_before_sending(context)
    opened = context.service.begin()
    if opened is not None:
        ledger.note_session(OpenedSession(*opened))
    sent_at: list[float] = []
    total = len(todo)
    try:
        while todo:
            chunk = todo.pop(0)
            job = waiting.get(chunk.number) or ledger.prepare_job(chunk.number)
            _keep_pace(context, sent_at)
            if _send_once(context, job):
                sent_at.append(context.clock.elapsed())
                context.say(f"job {total - len(todo)} of {total} sent (chunk {chunk.number})")
            else:
                # Another process sends the same chunks: two that take different ways hardly meet.
                random.SystemRandom().shuffle(todo)
    finally:
        _close(context)
    # A submission that the client repeated by itself shows only in a listing.
    reconcile(context)
    return len(sent_at)


def is_anything_to_send(context: JobContext, again: bool = False) -> bool:
    """Return whether a chunk waits for a job, or would with `again`, as far as the ledger knows."""
    busy = {job.chunk for job in context.ledger.jobs(SENT)}
    states = (OPEN, CANCELLED, FAILED, TOO_LONG) if again else (OPEN,)
    return any(one.state in states and one.number not in busy for one in context.ledger.chunks())


def _send_once(context: JobContext, job: Job) -> bool:
    """Send a job unless the service has it: a copy of the plan's folder may send at the same time.

    On one machine copies take turns. Of two machines that send a job at the same moment the younger job is
    stopped by whoever sees both first.

    Returns:
        Whether it was sent, and is the one that is kept.
    """
    with _turn(context):
        if settle(context, job, _listed(context, job)):
            return False
        _send(context, job)
    sent = next(one for one in context.ledger.jobs() if one.tag == job.tag)
    with suppress(ServiceError):  # it is sent; later listings tell as well
        settle(context, sent, _listed(context, job))
    kept = next(one for one in context.ledger.jobs() if one.tag == job.tag)
    return kept.id == sent.id


def _listed(context: JobContext, job: Job) -> list[str]:
    return [one.id for one in context.asked(lambda: context.service.find(job.tag))]


@contextmanager
def _turn(context: JobContext) -> Iterator[None]:
    """Wait until no other process of this user sends jobs of the same plan, from whichever folder."""
    lock = None
    if context.service.paid:
        owner = hashlib.sha256(f"{Path.home()} {context.ledger.tag}".encode()).hexdigest()[:16]
        lock = FileLock(Path(tempfile.gettempdir()) / f"qhybrid-{owner}.lock")
    try:
        if lock is not None:
            # Whoever does not answer for so long is stuck; the rule of the oldest job holds without it.
            lock.acquire(timeout=context.settings.patience.send_timeout_s)
    except (Timeout, OSError):
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _close(context: JobContext) -> None:
    """Close the batch or session: jobs in it run. The next command closes one that stays open."""
    try:
        context.service.close()
        for one in context.ledger.sessions():
            if not one.closed:
                context.ledger.note_session(replace(one, closed=True))
    except ServiceError as error:
        context.say(str(error))


def _send(context: JobContext, job: Job) -> None:
    """Send a job whose tag is on disk, until the service has it once or refuses it."""
    chunk = next(one for one in context.ledger.chunks() if one.number == job.chunk)
    package = context.package(job, chunk)
    started = context.clock.elapsed()
    for attempt in range(context.settings.patience.retries + 1):
        context.ledger.update_job(
            job.tag, state=SENDING, empty_since=None, reserved=package.max_execution_seconds
        )
        try:
            job_id = _submit_when_allowed(context, package, started)
        except SubmissionRefusedError as error:
            context.ledger.update_job(job.tag, state=PREPARED)
            if error.retry_after is None or attempt == context.settings.patience.retries:
                raise
            context.note(f"chunk {job.chunk}: {error} Trying again in {error.retry_after:g} s.")
            context.clock.sleep(error.retry_after)
        except SubmissionUnsureError as error:
            context.note(f"chunk {job.chunk}: {error} The service's listings will tell.")
            sent = next(one for one in context.ledger.jobs() if one.tag == job.tag)
            if wait_for_certainty(context, sent):
                return
            package = context.package(job, chunk)
            _check_limit(package, chunk)
        else:
            context.ledger.update_job(job.tag, state=SENT, id=job_id)
            return
    raise SubmissionUnsureError(
        f"The service must accept chunk {job.chunk}, but {context.settings.patience.retries + 1} "
        "attempts got "
        "no answer and no listing holds it. Fix: submit again later; nothing was lost, and nothing runs "
        "twice."
    )


def _submit_when_allowed(context: JobContext, package: Package, started: float) -> str:
    """Send a job; where the account may have no more of them waiting, as soon as one has ended."""
    patience, clock = context.settings.patience, context.clock
    pause = patience.poll_s
    while True:
        try:
            return context.service.submit(package)
        except TooManyPendingError as error:
            if patience.deadline_s is not None and clock.elapsed() - started > patience.deadline_s:
                raise
            context.say(f"waiting until a job has ended: {error}")
            clock.sleep(pause)
            pause = min(2 * pause, patience.poll_max_s)
            context.asked(lambda: context.service.find(package.tags[-1]))


def _check_limit(package: Package, chunk: Chunk) -> None:
    """Check that the cap leaves a job its time though an earlier one with its tag may still appear."""
    limit = package.max_execution_seconds
    if limit is not None and limit < chunk.limit:
        raise HardwareError(
            f"Setting `max_qpu_seconds` must leave {chunk.limit} s for chunk {chunk.number}, but leaves "
            f"{limit} s: a job of it that was sent is not listed and may still appear, so its time stays "
            "reserved. Fix: collect, and submit again when the bills of other jobs are there; nothing else "
            "was lost."
        )


def _keep_pace(context: JobContext, sent_at: list[float]) -> None:
    """Wait so that no more jobs than allowed are sent in a minute."""
    allowed = max(1, int(context.settings.limits.jobs_per_minute))
    now = context.clock.elapsed()
    if context.service.paid and len(sent_at) >= allowed and now - sent_at[-allowed] < 60:
        context.clock.sleep(60 - (now - sent_at[-allowed]))
