"""What a cap leaves for jobs. What jobs need follows the rate that was measured, once there is one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.learning import held_back
from qhybrid.hardware.ledger import Chunk
from qhybrid.hardware.ledger.mending import ELSEWHERE
from qhybrid.hardware.ledger.records import DONE, OPEN, SENDING, SENT, TOO_LONG

if TYPE_CHECKING:
    from qhybrid.hardware.jobs.context import JobContext

MARGIN = 1.2
"""Time limits are above what the measured rate says by this factor: a pilot's overhead hides a part of it."""
UNKNOWN = 2.0
"""Factor beyond a time limit that was not enough, where nothing else was measured."""


@dataclass(frozen=True)
class Rate:
    """Billed against estimated QPU seconds of jobs that have ended.

    Attributes:
        jobs: Number of jobs.
        billed: QPU seconds that they were billed.
        estimated: QPU seconds that they were estimated at.
        executions: How often the device ran for them.
        factor: What the jobs that follow are expected to take, as a factor of their estimates.
        learns: Whether these jobs learn noise.
    """

    jobs: int
    billed: float
    estimated: float
    executions: int
    factor: float
    learns: bool = False

    @property
    def told(self) -> str:
        """For people: seconds, milliseconds an execution, and the factor."""
        each = [1000 * one / max(1, self.executions) for one in (self.billed, self.estimated)]
        return (
            f"Measured: {self.billed:g} s were billed for {self.jobs} job(s)"
            f"{' that learn noise' if self.learns else ''}, estimated at "
            f"{self.estimated:.3g} s: {self.billed / self.estimated:.2g} times as much "
            f"({each[0]:.3g} ms an execution, estimated {each[1]:.3g} ms)."
        )


def measured_rate(context: JobContext, learns: bool = False) -> Rate | None:
    """Return what ended jobs were billed; None while no bill is there.

    Jobs that learn noise take another course than those that execute circuits, so each kind goes by its own
    bills. Jobs that were stopped at their time limits tell only that it was not enough; those that failed
    tell nothing.
    """
    chunks = {chunk.number: chunk for chunk in context.ledger.chunks()}
    ended = [
        one
        for one in context.ledger.jobs(DONE, TOO_LONG)
        # Where a service has no price for time there is no estimate to compare a bill with.
        if one.usage and one.message != ELSEWHERE
        if chunks[one.chunk].learns == learns and chunks[one.chunk].seconds > 0
    ]
    if not ended:
        return None
    bills = {job.tag: (float(job.usage or 0.0), chunks[job.chunk]) for job in ended}
    whole = [bills[job.tag] for job in ended if job.state == DONE]
    stopped = [used / chunk.seconds for used, chunk in (bills[j.tag] for j in ended if j.state == TOO_LONG)]
    factor = sum(used for used, _ in whole) / sum(chunk.seconds for _, chunk in whole) if whole else 0.0
    factor = max([factor, *(one if whole else UNKNOWN * one for one in stopped)])
    return Rate(
        len(bills),
        sum(used for used, _ in bills.values()),
        sum(chunk.seconds for _, chunk in bills.values()),
        sum(context.executions(chunk) for _, chunk in bills.values()),
        factor,
        learns,
    )


def told_rates(context: JobContext) -> str:
    """Return what was measured, in words: of both kinds of jobs where both have bills, "" without any."""
    found = [measured_rate(context, learns) for learns in (False, True)]
    return " ".join(rate.told for rate in found if rate is not None)


def expected_seconds(context: JobContext, chunks: Iterable[Chunk]) -> float:
    """Return the QPU seconds that jobs are expected to take by what was billed for others of their kind."""
    rates = [measured_rate(context, learns) for learns in (False, True)]
    factors = [1.0 if rate is None else max(1.0, rate.factor) for rate in rates]
    return sum(factors[chunk.learns] * chunk.seconds for chunk in chunks)


def stretch(context: JobContext, learns: bool = False) -> float:
    """Return the factor of their estimates that jobs need; 1 while nothing says that it is more."""
    rate = measured_rate(context, learns)
    return 1.0 if rate is None or rate.factor <= 1 else rate.factor * MARGIN


def needed_seconds(context: JobContext, chunk: Chunk, factor: float | None = None) -> int:
    """Return the time limit that a job needs, in whole seconds as the service takes them."""
    factor = stretch(context, chunk.learns) if factor is None or chunk.learns else factor
    return chunk.limit if factor == 1 else max(1, math.ceil(round(chunk.seconds * factor, 6)))


def unsent(context: JobContext) -> list[Chunk]:
    """Return the chunks that wait for a job."""
    busy = {job.chunk for job in context.ledger.jobs(SENDING, SENT)}
    return [one for one in context.ledger.chunks() if one.state == OPEN and one.number not in busy]


def ahead_seconds(context: JobContext) -> float:
    """Return the QPU seconds that jobs which are still to be sent need, each rounded up, later rounds too."""
    factor = stretch(context)
    return sum(needed_seconds(context, one, factor) for one in unsent(context)) + (
        factor * context.later_seconds
    )


def committed_seconds(context: JobContext) -> float:
    """Return the QPU seconds under the cap that were billed, or may be at most."""
    # A session is billed for the time between its jobs too, which no job's bill shows.
    return context.earlier_seconds + context.ledger.committed_seconds(context.in_sessions)


@dataclass
class SessionTime:
    """What a session that is open has for the jobs that are sent in it.

    All of it counts as spent from its beginning, so what its jobs need is not looked for beside it.

    Attributes:
        left: QPU seconds that no job of it has.
        share: Time limits of its jobs, as a factor of what they need.
    """

    left: float
    share: float


def session_time(context: JobContext, seconds: float, chunks: Sequence[Chunk]) -> SessionTime:
    """Return what a session has for jobs.

    Args:
        context: The plan.
        seconds: After which the session ends.
        chunks: What is sent in it.
    """
    needed = sum(needed_seconds(context, one) for one in chunks)
    return SessionTime(seconds, max(1.0, seconds / needed) if needed else 1.0)


def affords(context: JobContext, chunk: Chunk) -> bool:
    """Return whether the cap leaves a job what it needs; in a session that is open, whether that does."""
    cap = context.cap
    if cap is None:
        return True
    needed = needed_seconds(context, chunk)
    if context.session is not None:
        return needed <= context.session.left
    return committed_seconds(context) + needed <= cap


def check_cap(context: JobContext) -> None:
    """Check that what is sent next stays within the cap.

    Before anything was measured that is everything, later rounds included. Afterwards it is as many jobs of
    the last round as fit.

    Raises:
        HardwareError: If it does not.
    """
    cap = context.cap
    if cap is None:
        return
    spent, ahead = committed_seconds(context), ahead_seconds(context)
    if spent + ahead <= cap:
        return
    measured, waiting = told_rates(context), unsent(context)
    if measured and not context.later_seconds:
        held = held_back(context)  # what waits for others makes no room for them
        fitting = any(affords(context, chunk) for chunk in waiting if chunk.number not in held)
        if fitting or context.ledger.jobs(SENDING, SENT):
            return
    results = len(context.ledger.chunks()) - len(waiting)
    told = f"{measured} {results} of {len(waiting) + results} job(s) have been sent. " if measured else ""
    raise HardwareError(
        f"Setting `max_qpu_seconds` must cover the plan, but is {cap:g} s: {spent:.1f} s are spent "
        f"or in flight, and {ahead:.1f} s are still to be sent, later rounds included. {told}"
        f"Fix: a higher cap, `qhybrid hardware submit PLAN --max-qpu-seconds {math.ceil(spent + ahead)}`, "
        "or a plan with fewer samples or shots; if costs are open, collect again later, which also "
        "writes predictions of samples that are complete. Nothing was sent."
    )


def time_limit(context: JobContext, chunks: Sequence[Chunk]) -> int | None:
    """Return the QPU seconds that the cap leaves for chunks which are to be sent; None without a cap.

    They get their share of what is left: the bill stays within the cap even if the estimates are wrong,
    over all rounds and attempts. Once a rate was measured they get what they need by it, even if that is too
    much for all of them: `affords` tells which are sent.
    """
    cap = context.cap
    if cap is None:
        return None
    if context.session is not None:
        needed = sum(needed_seconds(context, one) for one in chunks)
        return int(min(context.session.left, needed * context.session.share) + 1e-9)
    left, factor = cap - committed_seconds(context), stretch(context)
    ahead = ahead_seconds(context)
    share = left / ahead if ahead else 1.0
    if context.in_sessions:
        # What a session may take is lost to the cap, so jobs that fail need something to be left.
        share = (1 + share) / 2
    if told_rates(context):
        share = max(1.0, share)
    limit = int(sum(needed_seconds(context, one, factor) for one in chunks) * share + 1e-9)
    if context.in_sessions:
        limit = min(limit, int(left + 1e-9))  # all of a session counts, whatever its jobs take
    finds_out = [one.number for one in chunks] == [context.first]
    if len(chunks) == 1 and chunks[0].learns:
        finds_out = measured_rate(context, True) is None
    if finds_out and not context.in_sessions:
        # Nothing is known yet: the job that finds the rate out must not be stopped by a wrong estimate.
        limit = max(limit, min(FIRST_FACTOR * chunks[0].limit, int(left / 2)))
    return limit


FIRST_FACTOR = 10
"""Time limit of a pilot under a cap, as a factor of its estimate, if that is not half of the cap."""
