"""What the steps of submitting and collecting share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.circuits.decoding import Estimates, mark_of
from qhybrid.hardware.circuits.noise_layers import LearnedNoise, NoiseWork
from qhybrid.hardware.circuits.prepared import PreparedCircuit, Pub, mark_of_pubs
from qhybrid.hardware.circuits.readout_calibration import calibration_pubs, calibration_work
from qhybrid.hardware.jobs.learning import check_work, learned_noise, work_of
from qhybrid.hardware.jobs.reserving import SessionTime, expected_seconds, measured_rate, time_limit, unsent
from qhybrid.hardware.ledger import Chunk, Job, Ledger
from qhybrid.hardware.ledger.records import SENT, Array, OpenedSession
from qhybrid.hardware.services.interface import JobService, Listed, Package, limit_of, limit_tag, patiently
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
        planned: Prepared circuits of the plan by key.
        layouts: Prepared circuits by layout and key; absent: the plan's own as layout 0.
        settings: The plan's settings.
        later_seconds: QPU seconds that jobs of rounds which are not known yet are expected to take, each
            rounded up to whole seconds.
        earlier_seconds: QPU seconds under the same cap that are in no ledger of this plan.
        clock: Time.
        say: Called with a sentence whenever something happens.
        estimates: Decoded results of chunks, by their numbers.
        learning: What is learned of the noise, by layout; nothing where it need not be.
        noises: What was learned, by the numbers of chunks.
        first: Number of the chunk that is sent before anything is known; None if all are sent.
        marked: Whether all jobs were sent with marks: those of plans of earlier versions were not.
        shared: Whether another process was seen to send jobs of the plan, from a copy of its folder.
        unlocked: Whether copies on this machine were found to be unable to wait for each other.
        copied: Whether the folder is a copy, or was moved: others may send jobs of the plan as well.
        session: What a session that is open has for jobs under a cap.
        readable: Whether the plan's circuits are there, without which no result can be read.
        missed: Tags of jobs that listings lacked as long as they may, and when that began.
    """

    ledger: Ledger
    service: JobService
    planned: Mapping[str, PreparedCircuit]
    settings: HardwareSettings
    later_seconds: float = 0.0
    earlier_seconds: float = field(default=0.0, kw_only=True)
    clock: Clock = field(default_factory=Clock)
    say: Say = lambda _text: None
    estimates: dict[int, list[Estimates]] = field(default_factory=dict, kw_only=True)
    layouts: dict[int, Mapping[str, PreparedCircuit]] = field(default_factory=dict, kw_only=True)
    learning: dict[int, NoiseWork] = field(default_factory=dict, kw_only=True)
    noises: dict[int, LearnedNoise] = field(default_factory=dict, kw_only=True)
    first: int | None = field(default=None, kw_only=True)
    marked: bool = field(default=True, kw_only=True)
    shared: bool = field(default=False, kw_only=True)
    unlocked: bool = field(default=False, kw_only=True)
    copied: bool = field(default=False, kw_only=True)
    session: SessionTime | None = field(default=None, kw_only=True)
    readable: bool = field(default=True, kw_only=True)
    missed: dict[str, float] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        """Take the plan's own circuits as layout 0."""
        self.layouts.setdefault(0, self.planned)

    @property
    def circuits(self) -> Mapping[str, PreparedCircuit]:
        """Circuits of the newest layout: that of what is planned from now on."""
        return self.layouts[max(self.layouts)]

    def circuits_of(self, chunk: Chunk) -> Mapping[str, PreparedCircuit]:
        """Return the circuits of a chunk by key.

        Raises:
            HardwareError: If the plan's folder lacks its layout.
        """
        if chunk.layout not in self.layouts:
            raise HardwareError(
                f"Chunk {chunk.number} has layout {chunk.layout}, but the plan's folder has "
                f"{', '.join(map(str, self.layouts))} only. Fix: copy the folder again, layouts/ included."
            )
        return self.layouts[chunk.layout]

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
        limits = [self.settings.max_execution_seconds, time_limit(self, [chunk])]
        limit = min((one for one in limits if one is not None), default=None)
        shots = self.settings.shots
        tags = (self.ledger.tag, job.tag, *([] if limit is None else [limit_tag(limit)]))
        if chunk.learns:
            check_work(self, chunk)
            work = work_of(self, chunk)
            tags += (work.mark(self.settings.mitigation.learning),)
            return Package((), shots, tags, limit, learns=work)
        pubs = self._pubs(chunk)
        noise = learned_noise(self, chunk.layout)
        return Package(pubs, shots, tags, limit, mark_of_pubs(pubs, shots), noise=noise)

    def listed(self, tag: str) -> Sequence[Listed]:
        """Return the service's jobs that carry a tag, oldest first; their time limits are noted.

        Raises:
            ServiceError: If the service does not answer.
        """
        return self.noted(self.asked(lambda: self.service.find(tag)))

    def noted(self, found: Sequence[Listed]) -> Sequence[Listed]:
        """Note time limits of listed jobs, and the sessions that they were sent in; return the jobs."""
        limits = {one.id: seconds for one in found if (seconds := limit_of(one.tags)) is not None}
        if limits:
            self.ledger.note_limits(limits)
        self._note_sessions({one.session for one in found if one.session is not None})
        return found

    def _note_sessions(self, listed: set[str]) -> None:
        """Enter sessions that the ledger does not know, and batches if it was made again: then they are ours.

        A copy of the plan's folder has opened the others: it closes them, and they are billed to all.
        """
        lost, mode = self.ledger.rebuilt()[0], self.settings.mode
        if mode == "job" or (mode == "batch" and not lost):
            return
        for name in sorted(listed - {one.id for one in self.ledger.sessions()}):
            self.ledger.note_session(OpenedSession(name, mode, None, closed=not lost))

    def check_mark(self, chunk: Chunk, raw: str) -> None:
        """Check that a result is that of a chunk, and not of another job with a result of the same shape.

        Raises:
            ServiceError: If it is not.
        """
        found = mark_of(raw)
        if found is None and not (self.marked and self.service.marks):
            return
        for layout in (chunk.layout, *sorted(self.layouts, reverse=True)):
            own = replace(chunk, layout=layout)
            if found == mark_of_pubs(self._pubs(own), self.settings.shots):
                if layout != chunk.layout:  # sent before the rest was mapped anew, and it appears only now
                    self.ledger.set_layout(layout, {chunk.number: chunk.seconds})
                return
        what = "says of no request that it belongs to it" if found is None else "belongs to another request"
        raise ServiceError(
            f"The result of chunk {chunk.number} {what}. Fix: collect again; it is not used, and "
            "nothing is sent again by itself."
        )

    def _pubs(self, chunk: Chunk) -> tuple[Pub, ...]:
        points, circuits = self.ledger.points(), self.circuits_of(chunk)
        own = [
            Pub(circuits[key], variant, _stacked(points, numbers))
            for key, numbers in chunk.blocks
            for variant in range(len(circuits[key].variants))
        ]
        return (*own, *calibration_pubs(circuits, self.settings))

    @property
    def cap(self) -> float | None:
        """QPU seconds that may be spent; None for any number. A cap can be raised after planning."""
        caps = (self.settings.max_qpu_seconds, self.ledger.raised_cap())
        known = [cap for cap in caps if cap is not None]
        return max(known) if known and self.service.paid else None

    @property
    def in_sessions(self) -> bool:
        """Whether jobs go out in sessions, which are billed as a whole."""
        return self.settings.mode == "session"

    def executions(self, chunk: Chunk) -> int:
        """Return how often the device runs for a chunk."""
        if chunk.learns:
            return work_of(self, chunk).executions
        shots, circuits = self.settings.executed_shots, self.circuits_of(chunk)
        own = [(circuits[key], len(points)) for key, points in chunk.blocks]
        work = [*own, *calibration_work(circuits, self.settings)]
        return sum(circuit.executions(points, shots) for circuit, points in work)

    def in_flight_seconds(self) -> float:
        """Return the expected QPU seconds of jobs that were sent and have not ended, as far as is known."""
        busy = {job.chunk for job in self.ledger.jobs(SENT)}
        return expected_seconds(self, [one for one in self.ledger.chunks() if one.number in busy])

    def expected_seconds(self) -> float:
        """Return the expected QPU seconds of jobs that are still to be sent, later rounds included."""
        rate = measured_rate(self)
        later = self.later_seconds * (1.0 if rate is None else max(1.0, rate.factor))
        return expected_seconds(self, unsent(self)) + later


def _stacked(points: Mapping[int, tuple[str, Array]], numbers: tuple[int, ...]) -> Array:
    return np.stack([points[number][1] for number in numbers])
