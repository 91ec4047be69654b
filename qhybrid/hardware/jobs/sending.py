"""Sending the jobs of a round, each once."""

from __future__ import annotations

from qhybrid.errors import HardwareError, ServiceError, SubmissionRefusedError, SubmissionUnsureError
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.hardware.jobs.reconciling import nothing_left, reconcile, settle, wait_for_certainty
from qhybrid.hardware.ledger import Job
from qhybrid.hardware.ledger.records import CANCELLED, FAILED, OPEN, PREPARED, SENDING, SENT, TOO_LONG


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
    listed = reconcile(context)
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
    _check_budget(context)
    context.service.open(context.time_limit(todo))
    sent_at: list[float] = []
    try:
        for number, chunk in enumerate(todo):
            job = waiting.get(chunk.number) or ledger.prepare_job(chunk.number)
            if settle(context, job, listed.get(job.tag, [])):
                continue
            _keep_pace(context, sent_at)
            _send(context, job)
            context.say(f"job {number + 1} of {len(todo)} sent (chunk {chunk.number})")
    finally:
        _close(context)
    # A submission that the client repeated by itself shows only in a listing.
    reconcile(context)
    return len(sent_at)


def _close(context: JobContext) -> None:
    """Close the batch; one that stays open costs nothing, and jobs in it run."""
    try:
        context.service.close()
    except ServiceError as error:
        context.say(str(error))


def _send(context: JobContext, job: Job) -> None:
    """Send a job whose tag is on disk, until the service has it once or refuses it."""
    chunk = next(one for one in context.ledger.chunks() if one.number == job.chunk)
    package = context.package(job, chunk)
    for attempt in range(context.settings.patience.retries + 1):
        context.ledger.update_job(
            job.tag, state=SENDING, empty_since=None, reserved=package.max_execution_seconds
        )
        try:
            job_id = context.service.submit(package)
        except SubmissionRefusedError as error:
            context.ledger.update_job(job.tag, state=PREPARED)
            if error.retry_after is None or attempt == context.settings.patience.retries:
                raise
            context.note(f"chunk {job.chunk}: {error} Trying again in {error.retry_after:g} s.")
            context.clock.sleep(error.retry_after)
        except SubmissionUnsureError as error:
            context.note(f"chunk {job.chunk}: {error} The service's listings will tell.")
            if wait_for_certainty(context, job):
                return
        else:
            context.ledger.update_job(job.tag, state=SENT, id=job_id)
            return
    raise SubmissionUnsureError(
        f"The service must accept chunk {job.chunk}, but {context.settings.patience.retries + 1} "
        "attempts got "
        "no answer and no listing holds it. Fix: submit again later; nothing was lost, and nothing runs "
        "twice."
    )


def _check_budget(context: JobContext) -> None:
    """Refuse to queue jobs that would wait for the next billing period."""
    if not context.service.paid:
        return
    budget = context.asked(context.service.budget)
    if budget.used_up:
        raise HardwareError(
            "The account's instance must have time left, but it is used up. Fix: wait for the next "
            "period, or use another instance; nothing was sent."
        )
    if budget.remaining_seconds is not None:
        context.say(
            f"the instance has {budget.remaining_seconds:g} s left; about {context.ahead_seconds():g} s are "
            "to be sent, later rounds included"
        )


def _keep_pace(context: JobContext, sent_at: list[float]) -> None:
    """Wait so that no more jobs than allowed are sent in a minute."""
    allowed = max(1, int(context.settings.limits.jobs_per_minute))
    now = context.clock.now()
    if context.service.paid and len(sent_at) >= allowed and now - sent_at[-allowed] < 60:
        context.clock.sleep(60 - (now - sent_at[-allowed]))
    sent_at.append(context.clock.now())
