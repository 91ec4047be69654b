"""What a quantum service can do, whether it is a vendor's, a fake device's, or a test's."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from qhybrid.devices import Device
from qhybrid.errors import ServiceError
from qhybrid.hardware.circuits.noise_layers import LearnedNoise, NoiseWork
from qhybrid.hardware.circuits.prepared import Pub
from qhybrid.hardware.settings import Patience
from qhybrid.noise import NoiseProfile

T = TypeVar("T")

QUEUED, RUNNING, DONE = "queued", "running", "done"
FAILED, CANCELLED, TOO_LONG = "failed", "cancelled", "too_long"
FINAL = (DONE, FAILED, CANCELLED, TOO_LONG)


LIMIT_TAG = "qhybrid-limit-{}s"
"""Tag of a job that tells its time limit: copies of a plan, and ledgers made again, count with it."""


def limit_tag(seconds: int) -> str:
    """Return the tag that tells a job's time limit."""
    return LIMIT_TAG.format(seconds)


def limit_of(tags: Sequence[str]) -> float | None:
    """Return the time limit that a job's tags tell; None if they tell none."""
    pattern = LIMIT_TAG.format(r"(\d+)")
    return next((float(found[1]) for tag in tags if (found := re.fullmatch(pattern, tag))), None)


@dataclass(frozen=True)
class Backend:
    """What is known of a backend before anything is sent.

    Attributes:
        device: Target and calibration; None for a simulator without a device.
        noise: Error rates from the calibration; None for none.
        account: Instance and what is left of its time, for people; empty for local backends.
        instance: The part of the account that pays, by the service's own name for it; None for none.
        rep_delays_us: Default, shortest and longest delay between two executions; None if not known, or if
            it cannot be chosen.
    """

    device: Device | None
    noise: NoiseProfile | None
    account: str = ""
    instance: str | None = None
    rep_delays_us: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Package:
    """What one job executes.

    Attributes:
        pubs: Measured circuits with their parameter sets.
        shots: Executions of each parameter set.
        tags: The job's tags: the plan's, its own, and one that tells its time limit if it has one.
        max_execution_seconds: Time after which the service stops it; None: the service's own.
        mark: Text that a service which `marks` gives back with the result: it ties it to the request.
        learns: The layers whose noise the job learns; it executes no circuits then.
        noise: What is known of the noise of layers, for circuits in which it is raised.
    """

    pubs: tuple[Pub, ...]
    shots: int
    tags: tuple[str, ...]
    max_execution_seconds: int | None = None
    mark: str = ""
    learns: NoiseWork | None = None
    noise: LearnedNoise | None = None


@dataclass(frozen=True)
class View:
    """What the service says about a job.

    Attributes:
        status: `queued`, `running`, `done`, `failed`, `cancelled`, or `too_long` (over its time limit).
        message: The service's explanation of a job that failed.
    """

    status: str
    message: str = ""


@dataclass(frozen=True)
class Listed:
    """A job in a listing.

    Attributes:
        id: Its id.
        tags: Its tags.
        session: The session or batch that it was sent in, if any.
    """

    id: str
    tags: tuple[str, ...]
    session: str | None = None


@dataclass(frozen=True)
class Finding:
    """One assumption about a service, and what the service did.

    Attributes:
        what: The assumption.
        expected: What is counted on.
        found: What was seen.
        agrees: Whether that is the same; None where it could not be seen.
    """

    what: str
    expected: str
    found: str
    agrees: bool | None


@dataclass(frozen=True)
class Budget:
    """Time of an account's instance.

    Attributes:
        remaining_seconds: What is left of it; None if there is no limit or it is not known.
        used_up: Whether jobs wait until there is time again.
    """

    remaining_seconds: float | None = None
    used_up: bool = False


def patiently(
    question: Callable[[], T],
    patience: Patience,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = lambda _text: None,
) -> T:
    """Ask a service; again with growing pauses if it does not answer as it should.

    Args:
        question: What is asked.
        patience: How often and with which pauses.
        sleep: Waits for some seconds.
        say: Called with a sentence before each further attempt.

    Raises:
        ServiceError: The last one.
    """
    for attempt in range(patience.retries):
        try:
            return question()
        except ServiceError as error:
            say(f"asking again: {error}")
            sleep(min(patience.poll_s * 2**attempt, patience.poll_max_s))
    return question()


class JobGoneError(ServiceError):
    """The service does not know a job."""


class AbsentResultError(ServiceError):
    """The service says that a job which is done has no result, or none any more."""


class ResultGoneError(ServiceError):
    """The service had a result that could be read once, and has deleted it."""


@dataclass(frozen=True)
class Outlook:
    """What the service says about a job that has not ended.

    Attributes:
        status: As that of a `View`.
        position: Its place in the queue, from 1; None if the service does not tell.
        seconds: QPU seconds that the service expects; None if it does not tell.
    """

    status: str
    position: int | None = None
    seconds: float | None = None


class JobService(ABC):
    """Takes jobs and gives results. All errors are `ServiceError`s; none of them holds the token.

    Attributes:
        paid: Whether executions cost money or an allowance.
        marks: Whether every result holds the `mark` of its package.
    """

    paid: bool
    marks: bool = False

    @abstractmethod
    def submit(self, package: Package) -> str:
        """Send a job and return its id.

        Raises:
            SubmissionRefusedError: If it was certainly not accepted.
            SubmissionUnsureError: If it may have been accepted.
        """

    @abstractmethod
    def find(self, tag: str) -> Sequence[Listed]:
        """Return the jobs that carry a tag, oldest first, in the same order for whoever asks.

        Raises:
            ServiceError: If there was no proper answer.
        """

    @abstractmethod
    def view(self, job_id: str) -> View:
        """Return the state of a job.

        Raises:
            ServiceError: If there was no proper answer.
        """

    @abstractmethod
    def result_text(self, job_id: str) -> str:
        """Return the result of a job that is done, as the service sends it.

        Raises:
            ServiceError: If there was no proper answer.
        """

    @abstractmethod
    def cancel(self, job_id: str) -> bool:
        """Cancel a job; return False if it was too late.

        Raises:
            ServiceError: If there was no proper answer.
        """

    def usage(self, job_id: str) -> float | None:
        """Return the QPU seconds that a job was billed; None if that is not known yet."""
        return 0.0

    def outlook(self, job_id: str) -> Outlook:
        """Return where a job stands.

        Raises:
            ServiceError: If there was no proper answer.
        """
        return Outlook(self.view(job_id).status)

    def waiting_jobs(self) -> int | None:
        """Return how many jobs of all users wait for the device; None if that is not known."""
        return None

    def whereabouts(self) -> str:
        """Return how jobs are found in the provider's own pages, in words; empty if there are none."""
        return ""

    def budget(self) -> Budget:
        """Return what is left of the account's time."""
        return Budget()

    def open(self, limit_seconds: int | None) -> None:  # noqa: B027 - most services have nothing to open
        """Say that jobs follow.

        Args:
            limit_seconds: QPU seconds that all of them together may take; None for no limit.
        """

    def begin(self) -> tuple[str, str, float | None] | None:
        """Open the session or batch of the jobs that follow.

        Returns:
            Its id, its mode (`session` or `batch`) and the seconds after which it ends; None for no such.

        Raises:
            SubmissionRefusedError: If the account has none of that kind.
        """
        return None

    def close(self) -> None:  # noqa: B027 - most services have nothing to close
        """Say that no more jobs will be sent."""

    def close_session(self, session_id: str) -> None:  # noqa: B027 - most services have none
        """Close a session or batch that an earlier process has opened; jobs in it go on.

        Raises:
            ServiceError: If there was no proper answer.
        """

    def session_usage(self, session_id: str) -> float | None:
        """Return the QPU seconds that a session was billed; None if that is not known yet."""
        return None

    def today(self) -> tuple[Device, str] | None:
        """Return the device as it is now, and what is to be known of its state, "" for nothing.

        Returns:
            None if there is no device whose state could have changed since the plan.
        """
        return None


class DeferredService(JobService):
    """Passes everything on to a service that is made at the first question.

    Args:
        make: Returns the service.
        paid: Whether its executions cost money or an allowance.
    """

    def __init__(self, make: Callable[[], JobService], paid: bool) -> None:
        self.paid = paid
        self._make = make
        self._made: JobService | None = None

    @property
    def _service(self) -> JobService:
        if self._made is None:
            self._made = self._make()
        return self._made

    @property
    def marks(self) -> bool:  # type: ignore[override]
        """Whether every result holds the mark of its package."""
        return self._service.marks

    def submit(self, package: Package) -> str:
        """Send a job and return its id."""
        return self._service.submit(package)

    def find(self, tag: str) -> Sequence[Listed]:
        """Return the jobs that carry a tag, oldest first."""
        return self._service.find(tag)

    def view(self, job_id: str) -> View:
        """Return the state of a job."""
        return self._service.view(job_id)

    def result_text(self, job_id: str) -> str:
        """Return the result of a job that is done, as the service sends it."""
        return self._service.result_text(job_id)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; return False if it was too late."""
        return self._service.cancel(job_id)

    def usage(self, job_id: str) -> float | None:
        """Return the QPU seconds that a job was billed; None if that is not known yet."""
        return self._service.usage(job_id)

    def outlook(self, job_id: str) -> Outlook:
        """Return where a job stands."""
        return self._service.outlook(job_id)

    def waiting_jobs(self) -> int | None:
        """Return how many jobs of all users wait for the device."""
        return self._service.waiting_jobs()

    def whereabouts(self) -> str:
        """Return how jobs are found in the provider's own pages."""
        return self._service.whereabouts()

    def budget(self) -> Budget:
        """Return what is left of the account's time."""
        return self._service.budget()

    def open(self, limit_seconds: int | None) -> None:
        """Say that jobs follow."""
        self._service.open(limit_seconds)

    def begin(self) -> tuple[str, str, float | None] | None:
        """Open the session or batch of the jobs that follow."""
        return self._service.begin()

    def close(self) -> None:
        """Say that no more jobs will be sent."""
        if self._made is not None:
            self._made.close()

    def close_session(self, session_id: str) -> None:
        """Close a session or batch that an earlier process has opened."""
        self._service.close_session(session_id)

    def session_usage(self, session_id: str) -> float | None:
        """Return the QPU seconds that a session was billed; None if that is not known yet."""
        return self._service.session_usage(session_id)

    def today(self) -> tuple[Device, str] | None:
        """Return the device as it is now, and what is to be known of its state."""
        return self._service.today()
