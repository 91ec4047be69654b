"""What the steps of submitting and collecting share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.circuits.decoding import Estimates, mark_of
from qhybrid.hardware.circuits.prepared import PreparedCircuit, Pub, mark_of_pubs
from qhybrid.hardware.circuits.readout_calibration import calibration_pubs
from qhybrid.hardware.ledger import Chunk, Job, Ledger
from qhybrid.hardware.ledger.records import OPEN, SENDING, SENT, Array
from qhybrid.hardware.services.interface import JobService, Package, patiently
from qhybrid.hardware.settings import HardwareSettings

T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Clock:
    """Time, which tests replace.

    Attributes:
        now: Returns the time in seconds.
        sleep: Waits for some seconds.
        elapsed: Returns seconds since some moment: clocks are put right, this is not.
    """

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    elapsed: Callable[[], float] = time.monotonic


@dataclass(eq=False)
class JobContext:
    """All that sending and collecting the jobs of one plan need.

    Attributes:
        ledger: The plan's ledger.
        service: What executes.
        circuits: Prepared circuits by key.
        settings: The plan's settings.
        later_seconds: QPU seconds that jobs of rounds which are not known yet are expected to take, each
            rounded up to whole seconds.
        earlier_seconds: QPU seconds under the same cap that are in no ledger of this plan.
        clock: Time.
        say: Called with a sentence whenever something happens.
        estimates: Decoded results of chunks, by their numbers.
        marked: Whether all jobs were sent with marks: those of plans of earlier versions were not.
    """

    ledger: Ledger
    service: JobService
    circuits: Mapping[str, PreparedCircuit]
    settings: HardwareSettings
    later_seconds: float = 0.0
    earlier_seconds: float = field(default=0.0, kw_only=True)
    clock: Clock = field(default_factory=Clock)
    say: Say = lambda _text: None
    estimates: dict[int, list[Estimates]] = field(default_factory=dict, kw_only=True)
    marked: bool = field(default=True, kw_only=True)

    def note(self, text: str) -> None:
        """Print what happened and record it in the ledger."""
        self.ledger.note(text)
        self.say(text)

    def asked(self, question: Callable[[], T]) -> T:
        """Call the service; retry with growing pauses if it does not answer.

        Raises:
            ServiceError: The last one.
        """
        return patiently(question, self.settings.patience, self.clock.sleep, self.say)

    def package(self, job: Job, chunk: Chunk) -> Package:
        """Return what a job executes."""
        pubs = self._pubs(chunk)
        limits = [self.settings.max_execution_seconds, self.time_limit([chunk])]
        limit = min((one for one in limits if one is not None), default=None)
        mark = mark_of_pubs(pubs, self.settings.shots)
        return Package(pubs, self.settings.shots, (self.ledger.tag, job.tag), limit, mark)

    def check_mark(self, chunk: Chunk, raw: str) -> None:
        """Check that a result is that of a chunk, and not of another job with a result of the same shape.

        Raises:
            ServiceError: If it is not.
        """
        found = mark_of(raw)
        if found is None and not (self.marked and self.service.marks):
            return
        if found != mark_of_pubs(self._pubs(chunk), self.settings.shots):
            what = (
                "says of no request that it belongs to it" if found is None else "belongs to another request"
            )
            raise ServiceError(
                f"The result of chunk {chunk.number} {what}. Fix: collect again; it is not used, and "
                "nothing is sent again by itself."
            )

    def _pubs(self, chunk: Chunk) -> tuple[Pub, ...]:
        points = self.ledger.points()
        own = [
            Pub(self.circuits[key], variant, _stacked(points, numbers))
            for key, numbers in chunk.blocks
            for variant in range(len(self.circuits[key].variants))
        ]
        return (*own, *calibration_pubs(self.circuits, self.settings))

    def check_cap(self) -> None:
        """Check that what is sent next stays within the cap, later rounds included.

        Raises:
            HardwareError: If it does not.
        """
        cap = self.settings.max_qpu_seconds
        if cap is None or not self.service.paid:
            return
        spent, ahead = self._committed_seconds(), self.ahead_seconds()
        if spent + ahead > cap:
            raise HardwareError(
                f"Setting `max_qpu_seconds` must cover the plan, but is {cap:g} s: {spent:.1f} s are spent "
                f"or in flight, and {ahead:.1f} s are still to be sent, later rounds included. "
                "Fix: plan with fewer samples or shots, or a higher cap; if costs are open, "
                "collect again later. Nothing was sent."
            )

    def ahead_seconds(self) -> float:
        """Return the predicted QPU seconds of jobs that are still to be sent, each rounded up."""
        return sum(chunk.limit for chunk in self._unsent()) + self.later_seconds

    def expected_seconds(self) -> float:
        """Return the predicted QPU seconds of jobs that are still to be sent, later rounds included."""
        return sum(chunk.seconds for chunk in self._unsent()) + self.later_seconds

    def _unsent(self) -> list[Chunk]:
        busy = {job.chunk for job in self.ledger.jobs(SENDING, SENT)}
        return [chunk for chunk in self.ledger.chunks() if chunk.state == OPEN and chunk.number not in busy]

    def time_limit(self, chunks: Sequence[Chunk]) -> int | None:
        """Return the QPU seconds that the cap leaves for chunks which are to be sent; None without a cap.

        They get their share of what is left: the bill stays within the cap even if the estimates are wrong,
        over all rounds and attempts.
        """
        cap = self.settings.max_qpu_seconds
        if cap is None or not self.service.paid:
            return None
        share = (cap - self._committed_seconds()) / self.ahead_seconds()
        if self._in_sessions:
            # What a session may take is lost to the cap, so jobs that fail need something to be left.
            share = (1 + share) / 2
        return int(sum(chunk.limit for chunk in chunks) * share + 1e-9)

    def _committed_seconds(self) -> float:
        # A session is billed for the time between its jobs too, which no job's bill shows.
        return self.earlier_seconds + self.ledger.committed_seconds(self._in_sessions)

    @property
    def _in_sessions(self) -> bool:
        return self.settings.mode == "session"


def _stacked(points: Mapping[int, tuple[str, Array]], numbers: tuple[int, ...]) -> Array:
    return np.stack([points[number][1] for number in numbers])
