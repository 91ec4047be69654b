"""Comparing the ledger with what the service has: unrecorded jobs are taken over, duplicates cancelled.

A job's tag was on disk before the job was sent, so whatever the service has of ours can be told by its tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.hardware.jobs.learning import enter_unknown_learning
from qhybrid.hardware.ledger import Duplicate, Job
from qhybrid.hardware.ledger.mending import GONE
from qhybrid.hardware.ledger.records import DENIED, DONE, PREPARED, SENDING, SENT, STOPPED, UNFINISHED
from qhybrid.hardware.services.interface import CANCELLED, FINAL, QUEUED, RUNNING, JobGoneError

PREFERENCE = {DONE: 0, RUNNING: 1, QUEUED: 1}
"""Of several jobs with one tag one that has its result is kept, else the oldest that has not ended.

All copies of a plan decide by this rule, so that none stops the job which another one keeps.
"""


def reconcile(context: JobContext) -> dict[str, list[str]]:
    """Compare all jobs of the plan with one listing.

    Returns:
        The service's jobs of the plan by tag, those included that this ledger knows nothing of: somebody
        may have sent them from a copy of the plan's folder.

    Raises:
        ServiceError: If the service does not answer.
    """
    listed = context.listed(context.ledger.tag)
    by_tag: dict[str, list[str]] = {}
    for one in listed:
        for tag in one.tags:
            by_tag.setdefault(tag, []).append(one.id)
    enter_unknown_learning(context, listed)
    _enter_unknown(context, by_tag)
    for job in context.ledger.jobs():
        settle(context, job, by_tag.get(job.tag, []))
    return by_tag


def _enter_unknown(context: JobContext, tags: Iterable[str]) -> None:
    """Enter jobs of the plan's chunks that this ledger knows nothing of.

    A copy of the plan's folder has sent them, or the ledger was lost.
    """
    known = {job.tag for job in context.ledger.jobs()}
    chunks = {chunk.number for chunk in context.ledger.chunks()}
    for tag in sorted(set(tags) - known):
        found = re.fullmatch(re.escape(context.ledger.tag) + r"-c(\d+)-a(\d+)", tag)
        if found and int(found[1]) in chunks:
            context.ledger.enter_job(tag, int(found[1]), int(found[2]))


def close_left_open(context: JobContext) -> None:
    """Close sessions and batches that a process which ended early has left open; what they cost is asked."""
    for one in context.ledger.sessions():
        if one.closed:
            continue
        try:
            context.service.close_session(one.id)
        except ServiceError as error:  # it ends by itself, and results do not wait for that
            context.say(f"{one.mode} {one.id} could not be closed: {error}")
            continue
        context.ledger.note_session(replace(one, closed=True))
        context.note(f"{one.mode} {one.id} was left open and is closed; its jobs go on")


def be_certain_after_rebuilding(context: JobContext) -> None:
    """Wait until a ledger that was made again has all jobs of the plan: listings may show them late."""
    patience, clock = context.settings.patience, context.clock
    rebuilt, since = context.ledger.rebuilt()
    began: float | None = None
    while rebuilt:
        reconcile(context)
        if began is None:
            # What an earlier process has waited is not counted: clocks are put right between two.
            began = clock.elapsed()
            if since is None:
                context.ledger.note_rebuilt(clock.now())
        left = patience.resend_after_s - (clock.elapsed() - began)
        if not context.service.paid or left <= 0:
            close_left_open(context)
            context.ledger.note_rebuilt(None)
            return
        context.say(f"the ledger is new: listings are compared for {left:.0f} s before anything is sent")
        clock.sleep(left)


def nothing_left(context: JobContext) -> bool:
    """Return whether all chunks that are known have their results, and all bills are there.

    One more listing tells of duplicates that came late; without the service the ledger is enough.
    """
    ledger = context.ledger
    bills = [job.usage for job in ledger.jobs() if job.id is not None]
    bills += [one.usage for one in ledger.duplicates()]
    bills += [one.usage for one in ledger.sessions() if one.mode == "session"]
    if None in bills or ledger.jobs(PREPARED, SENDING, SENT) or any(c.state != DONE for c in ledger.chunks()):
        return False
    try:
        listed = context.noted(context.service.find(ledger.tag))
    except HardwareError as error:
        context.say(f"results are in the ledger, the service is not needed: {error}")
        return True
    known = {job.id for job in ledger.jobs()} | {one.id for one in ledger.duplicates()}
    return all(one.id in known for one in listed)


def settle(context: JobContext, job: Job, ids: Sequence[str]) -> bool:
    """Keep one of the jobs that the service has for a tag; all others are duplicates.

    Args:
        context: The plan.
        job: What the ledger knows.
        ids: Jobs of the service with that tag, oldest first.

    Returns:
        Whether the service has the job.
    """
    if not ids:
        return False
    if job.id in ids and job.state == CANCELLED and job.message.startswith(GONE):
        context.ledger.revive_job(job)
        context.note(f"chunk {job.chunk}: the service has its job {job.id} after all")
        return True
    duplicates = {one.id: one.outcome for one in context.ledger.duplicates()}
    is_listed = job.id is None or job.id in ids
    if not is_listed and job.state in UNFINISHED:
        return True  # which of them is the oldest shows when our own is listed, too
    new = [one for one in ids if one != job.id and one not in duplicates]
    # One of a job that is being sent has its reservation there; all others were given up as not accepted.
    appeared = len(new) - (job.state == SENDING and job.id is None)
    kept = job.id
    if job.state in UNFINISHED and (new or kept is None):
        kept = _preferred(context, ids)
        if kept != job.id:
            context.shared = context.shared or job.state != SENDING
            context.ledger.adopt_job(job.tag, kept)
            context.note(f"chunk {job.chunk}: the service has its job {kept} already; it is adopted")
            new = [one for one in ids if one != kept and one not in duplicates]
    denied = [one for one in ids if one != kept and duplicates.get(one) == DENIED]
    for other in [*new, *denied]:
        _cancel_duplicate(context, job, other, other in denied)
    for _ in range(appeared):
        context.ledger.drop_unlisted(job.tag)
    return True


def is_superseded(context: JobContext, job: Job) -> bool:
    """Return whether another job with the tag of one that has no result goes on, or has one; it is kept."""
    listed = context.listed(job.tag)
    settle(context, job, [one.id for one in listed])
    return all(one.id != job.id for one in context.ledger.jobs() if one.tag == job.tag)


def wait_for_certainty(context: JobContext, job: Job) -> bool:
    """Wait until a job that may have been sent is listed, or two listings far enough apart lack it.

    Returns:
        Whether the service has it; if not, it may be sent (again).
    """
    patience, clock = context.settings.patience, context.clock
    began: float | None = None
    started = clock.now()
    while True:
        listed = context.listed(job.tag)
        if settle(context, job, [one.id for one in listed]):
            return True
        first = began is None
        if began is None:
            # What an earlier process has waited is not counted: clocks are put right between two.
            began = clock.elapsed()
            context.ledger.update_job(job.tag, empty_since=started)
        waited = clock.elapsed() - began
        if waited >= patience.resend_after_s and not first:
            context.ledger.update_job(job.tag, state=PREPARED)
            if job.reserved is not None:
                context.ledger.note_unlisted(job.tag, job.reserved, clock.now())
            context.missed[job.tag] = started
            context.note(
                f"chunk {job.chunk}: two listings show that its job was not accepted; it is sent again"
            )
            return False
        clock.sleep(max(0.0, min(patience.poll_s, patience.resend_after_s - waited)))


def _preferred(context: JobContext, ids: Sequence[str]) -> str:
    """Return the job that is kept; see `PREFERENCE`."""
    if len(ids) == 1:
        return ids[0]
    states = {one: _state(context, one) for one in ids}
    return min(ids, key=lambda one: (PREFERENCE.get(states[one], 2), ids.index(one)))


def _state(context: JobContext, job_id: str) -> str:
    """Return the status of a listed job; `denied` if the service says that there is none."""
    try:
        return context.asked(lambda: context.service.view(job_id)).status
    except JobGoneError:
        return DENIED


def _cancel_duplicate(context: JobContext, job: Job, other: str, was_denied: bool) -> None:
    """Stop a job if it can be stopped, and enter it with what became of it.

    Args:
        context: The plan.
        job: What the ledger knows of its tag.
        other: Its id.
        was_denied: Whether the service has denied it at every earlier look, though it is listed.
    """
    if was_denied:
        try:
            context.service.view(other)
        except ServiceError:
            return
    state = _state(context, other)
    try:
        cancelled = state not in (*FINAL, DENIED) and context.asked(lambda: context.service.cancel(other))
    except JobGoneError:
        cancelled, state = False, DENIED
    if state == DENIED:
        outcome, told = DENIED, "is listed and denied by the service; it may run and be billed"
    elif cancelled and state == QUEUED:
        outcome, told = CANCELLED, "was cancelled while it waited; its bill tells whether that was in time"
    elif cancelled:
        outcome, told = STOPPED, "was cancelled while it ran, which may have cost time"
    else:
        outcome = _state(context, other)
        told = f"could not be cancelled any more ({outcome}); it may be billed"
    context.ledger.note_duplicate(Duplicate(other, job.tag, outcome))
    context.note(f"chunk {job.chunk}: the service has a second job {other} of it, which {told}")
