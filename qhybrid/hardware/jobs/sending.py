"""Sending the jobs of a round, each once."""

from __future__ import annotations

import random
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from qhybrid.errors import (
    HardwareError,
    ServiceError,
    SubmissionRefusedError,
    SubmissionUnsureError,
    TooManyPendingError,
)
from qhybrid.hardware.jobs.before import check_before_sending, check_budget
from qhybrid.hardware.jobs.collecting import end_unreadable, enter_costs
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.hardware.jobs.learning import held_back
from qhybrid.hardware.jobs.reconciling import (
    be_certain_after_rebuilding,
    close_left_open,
    nothing_left,
    reconcile,
    settle,
    wait_for_certainty,
)
from qhybrid.hardware.jobs.reserving import (
    affords,
    check_cap,
    needed_seconds,
    session_time,
    time_limit,
    told_rates,
)
from qhybrid.hardware.jobs.turns import Turn, turn
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

LOOKS = 3
"""Listings that are asked for right after sending until they show the job."""
WAITS = (1.0, 3.0)
"""Shortest and longest wait of a copy before it sends, as factors of `patience.poll_s`."""
SHORTEST_SESSION = 600
"""Seconds that a session without a cap lasts at least, twice the estimate where that is more."""


def send_open_chunks(context: JobContext, again: bool = False, only: Collection[int] | None = None) -> int:
    """Send a job for every chunk that waits for one, as far as the cap allows.

    Args:
        context: The plan.
        again: Also for chunks that were cancelled, stopped at their time limit, or failed too often.
        only: Numbers of the chunks that are looked at; all if absent.

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
        end_unreadable(context)
        _open_again(context, only)
    todo = _waiting(context, only)
    if not todo:
        return 0
    if context.cap is not None:
        enter_costs(context)  # what ended counts with its bill, no longer with its limit
    check_cap(context)
    check_budget(context)
    limit = time_limit(context, todo)
    if limit is None and context.in_sessions:
        # Nobody pays for eight hours because a session was left open.
        limit = max(SHORTEST_SESSION, 2 * sum(chunk.limit for chunk in todo))
    context.asked(lambda: context.service.open(limit))
    check_before_sending(context)
    if context.copied:
        todo = _after_others(context, only)
        if not todo:
            return 0
    opened = context.service.begin()
    session = None if opened is None else OpenedSession(*opened)
    try:
        if session is not None:
            ledger.note_session(session)
            if session.mode == "session" and session.max_time is not None and context.cap is not None:
                context.session = session_time(context, session.max_time, todo)
        sent = _send_all(context, todo)
    finally:
        context.session = None
        _close(context, session)
    # A submission that the client repeated by itself shows only in a listing.
    reconcile(context)
    return sent


def _after_others(context: JobContext, only: Collection[int] | None) -> list[Chunk]:
    """Let others go first, who may have begun in the same moment; return the chunks that then wait.

    Two that have both listed nothing would both send. Whoever works on a copy waits for a time of chance, so
    that the next listing shows what the others have sent meanwhile.
    """
    if context.service.paid:
        shortest, longest = WAITS
        pause = context.settings.patience.poll_s * random.SystemRandom().uniform(shortest, longest)
        context.say(
            f"others may send jobs of this plan: listed again in {pause:.0f} s before anything is sent"
        )
        context.clock.sleep(pause)
        reconcile(context)
    return _waiting(context, only)


def _send_all(context: JobContext, todo: list[Chunk]) -> int:
    """Send jobs for chunks while the cap has room for them; return how many were sent."""
    waiting = {job.chunk: job for job in context.ledger.jobs(PREPARED)}
    sent_at: list[float] = []
    if context.shared:
        random.SystemRandom().shuffle(todo)
    held = 0
    total = len(todo)
    while todo:
        chunk = todo.pop(0)
        if not affords(context, chunk):
            held += 1
            continue
        job = waiting.get(chunk.number) or context.ledger.prepare_job(chunk.number)
        _keep_pace(context, sent_at)
        if _send_once(context, job):
            sent_at.append(context.clock.elapsed())
            context.say(f"job {total - len(todo)} of {total} sent (chunk {chunk.number})")
        else:
            # Another process sends the same chunks: two that take different ways hardly meet.
            random.SystemRandom().shuffle(todo)
    if held:
        context.note(
            f"{held} of {total} job(s) wait: the cap of {context.cap:g} s has no room for them until those "
            f"in flight have ended and are billed. {told_rates(context)}".strip()
        )
    return len(sent_at)


def _open_again(context: JobContext, only: Collection[int] | None) -> None:
    for chunk in context.ledger.chunks():
        wanted = only is None or chunk.number in only
        if wanted and chunk.state in (CANCELLED, FAILED, TOO_LONG):
            context.ledger.set_chunk(chunk.number, OPEN)


def _waiting(context: JobContext, only: Collection[int] | None) -> list[Chunk]:
    busy = {job.chunk for job in context.ledger.jobs(SENT)} | held_back(context)
    return [
        chunk
        for chunk in context.ledger.chunks()
        if chunk.state == OPEN and chunk.number not in busy and (only is None or chunk.number in only)
    ]


def is_anything_to_send(context: JobContext, again: bool = False) -> bool:
    """Return whether a chunk waits for a job, or would with `again`, as far as the ledger knows."""
    busy = {job.chunk for job in context.ledger.jobs(SENT)}
    states = (OPEN, CANCELLED, FAILED, TOO_LONG) if again else (OPEN,)
    return any(one.state in states and one.number not in busy for one in context.ledger.chunks())


def _send_once(context: JobContext, job: Job) -> bool:
    """Send a job unless the service has it: a copy of the plan's folder may send at the same time.

    On one machine copies take turns. Of two machines that send a job at the same moment the younger job is
    stopped by whoever sees both first: before it runs if it still waits, else its bill is told.

    Returns:
        Whether it was sent, and is the one that is kept.
    """
    with turn(context) as own:

        def is_there() -> bool:
            return settle(context, job, _listed(context, job))

        if is_there() or own.appears(job.tag, is_there):
            return False
        try:
            _send(context, job, own)
        except SubmissionRefusedError:
            own.forget(job.tag)
            raise
    sent = next(one for one in context.ledger.jobs() if one.tag == job.tag)
    with suppress(ServiceError):  # it is sent; later listings tell as well
        _look_after(context, sent)
    kept = next(one for one in context.ledger.jobs() if one.tag == job.tag)
    return kept.id == sent.id


def _look_after(context: JobContext, sent: Job) -> None:
    """Look right after sending whether another job has the same tag, while the younger one may still wait.

    A listing that does not show our own job may not show an older one either, so it is asked for again.
    """
    pause = context.settings.patience.poll_s
    for look in range(LOOKS if context.service.paid else 1):
        if look:
            context.clock.sleep(pause)
        ids = _listed(context, sent)
        if sent.id in ids or (ids and sent.id is None):
            settle(context, sent, ids)
            return


def _listed(context: JobContext, job: Job) -> list[str]:
    return [one.id for one in context.listed(job.tag)]


def _close(context: JobContext, opened: OpenedSession | None) -> None:
    """Close the batch or session: jobs in it run. The next command closes one that stays open."""
    try:
        context.service.close()
        if opened is not None:
            context.ledger.note_session(replace(opened, closed=True))
    except ServiceError as error:
        context.say(str(error))


def _send(context: JobContext, job: Job, own: Turn) -> None:
    """Send a job whose tag is on disk, until the service has it once or refuses it."""
    chunk = next(one for one in context.ledger.chunks() if one.number == job.chunk)
    package = context.package(job, chunk)
    started = context.clock.elapsed()
    for attempt in range(context.settings.patience.retries + 1):
        context.ledger.update_job(
            job.tag, state=SENDING, empty_since=None, reserved=package.max_execution_seconds
        )
        own.note(job.tag)
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
                _count_in_session(context, package)
                return
            package = context.package(job, chunk)
            _check_limit(context, package, chunk)
        else:
            context.ledger.update_job(job.tag, state=SENT, id=job_id)
            _count_in_session(context, package)
            return
    raise SubmissionUnsureError(
        f"The service must accept chunk {job.chunk}, but {context.settings.patience.retries + 1} "
        "attempts got "
        "no answer and no listing holds it. Fix: submit again later; nothing was lost, and nothing runs "
        "twice."
    )


def _count_in_session(context: JobContext, package: Package) -> None:
    """Take the time of a job that was sent off what the open session has under a cap."""
    if context.session is not None:
        context.session.left -= package.max_execution_seconds or 0


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
            context.listed(package.tags[1])


def _check_limit(context: JobContext, package: Package, chunk: Chunk) -> None:
    """Check that the cap leaves a job its time though an earlier one with its tag may still appear."""
    limit, needed = package.max_execution_seconds, needed_seconds(context, chunk)
    if limit is not None and limit < min(needed, context.settings.max_execution_seconds or needed):
        raise HardwareError(
            f"Setting `max_qpu_seconds` must leave {needed} s for chunk {chunk.number}, but leaves "
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
