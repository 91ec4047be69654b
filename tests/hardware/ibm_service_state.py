"""What the local copy of IBM's service knows: its jobs, how often each ran, and which faults are due."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ibm_service_simulation import simulate_ideally

Simulate = Callable[[dict[str, Any], str], str]
FINAL = ("Completed", "Failed", "Cancelled")


@dataclass
class Fault:
    """One misbehaviour of a route.

    Attributes:
        route: `submit`, `list`, `job`, `result`, `metrics`, `cancel`, `usage`, `backends`, `properties`,
            `configuration`, `status`, `token`, ...
        kind: `drop_before`, `drop_after`, `500_before`, `500_after`, `429`, `hang`, `hang_after` (carried
            out before), `hang_then_serve` (carried out at the end), `truncate`, `html`, `empty`, `list` (of
            something, whatever was asked), `400`, `401`, `403`, `404`, `503`, `late` (nothing is answered,
            and the job comes into being `seconds` later).
        times: How often; then the route behaves again.
        skip: Requests of that route that still go well before it starts.
        seconds: Length of a hang, delay of `late`, `Retry-After` of `429` (None: no such header).
    """

    route: str
    kind: str
    times: int = 1
    skip: int = 0
    seconds: float | None = None


@dataclass
class ServerJob:
    """One job.

    Attributes:
        outcome: What becomes of it: `completed`, `failed`, `cancelled`, `too_long`.
        executions: How often it ran.
        seconds: What it was billed.
        private: Whether its result is deleted when it was read.
        read: Whether it was read.
        starts_at: Moment at which it runs, on the server's clock.
        listed_at: Moment from which listings contain it.
    """

    id: str
    backend: str
    program: str
    params: dict[str, Any]
    tags: list[str]
    outcome: str
    created: float
    starts_at: float
    listed_at: float
    session: str | None = None
    limit_seconds: int | None = None
    private: bool = False
    read: bool = False
    status: str = "Queued"
    reason: str | None = None
    reason_code: int | None = None
    executions: int = 0
    seconds: float = 0.0
    result: str | None = None

    def as_json(self) -> dict[str, Any]:
        state: dict[str, Any] = {"status": self.status}
        if self.reason is not None:
            state |= {"reason": self.reason, "reason_code": self.reason_code}
        return {
            "id": self.id,
            "backend": self.backend,
            "program": {"id": self.program},
            "state": state,
            "status": self.status,
            "created": datetime.fromtimestamp(self.created, UTC).isoformat().replace("+00:00", "Z"),
            "tags": self.tags,
            "session_id": self.session,
            "cost": self.limit_seconds,
            "estimated_running_time_seconds": 2.0,
            "private": self.private,
        }


@dataclass
class ServiceState:
    """Everything that survives a restart of the server.

    Attributes:
        devices: Names of the devices and the fake backends whose calibration they report.
        simulate: Turns a program and a device's name into the text of its result.
        queue_seconds: Time between acceptance and execution.
        listing_seconds: Time between acceptance and the first listing that contains a job.
        outcomes: What becomes of the next jobs, first one first; `completed` when the list is empty.
        used_up: Whether the instance's time is used up: jobs are accepted and never run.
        takes: Seconds that a job runs, which it is billed, if its time limit does not stop it before; None
            for 2 s whatever the limit.
        billed: Whether bills are known.
        takes_its_limit: Whether every job is billed as long as it was allowed to run.
        bill: Turns what was sent and a fake backend into executions and billed seconds; None: 2 s a job.
        reason: What failed jobs say.
        pending_limit: Jobs that may wait at the same time; None for any number.
        pending_status: HTTP status of a refusal for that reason.
        plan: Name of the account's plan; `open` refuses sessions.
        edits: Functions that change what is reported of a device, by `properties` or `configuration`.
        lost_results: HTTP statuses by the ids of jobs whose results are not kept any more.
    """

    devices: dict[str, str] = field(default_factory=lambda: {"ibm_torino": "fake_torino"})
    simulate: Simulate = simulate_ideally
    queue_seconds: float = 0.0
    listing_seconds: float = 0.0
    outcomes: list[str] = field(default_factory=list)
    used_up: bool = False
    usage_limit_seconds: int = 600
    takes: Callable[[ServerJob], float] | None = None
    billed: bool = True
    takes_its_limit: bool = False
    bill: Callable[[dict[str, Any], str], tuple[int, float]] | None = None
    reason: str = "Internal error of the device"
    pending_limit: int | None = None
    pending_status: int = 400
    plan: str = "open"
    edits: dict[str, Callable[[dict[str, Any]], None]] = field(default_factory=dict)
    jobs: dict[str, ServerJob] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    lost_results: dict[str, int] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    tokens: set[str] = field(default_factory=set)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def accept(self, payload: dict[str, Any], delay: float = 0.0) -> ServerJob:
        """Take a job in; `delay` seconds pass before it exists."""
        now = time.time() + delay
        with self.lock:
            job = ServerJob(
                id=f"d{uuid.uuid4().hex[:19]}",
                backend=payload["backend"],
                program=payload["program_id"],
                params=payload["params"],
                tags=payload.get("tags", []),
                outcome=self.outcomes.pop(0) if self.outcomes else "completed",
                created=now,
                starts_at=now + self.queue_seconds,
                listed_at=now + self.listing_seconds,
                session=payload.get("session_id"),
                limit_seconds=payload.get("cost"),
                private=payload.get("private", False),
            )
            self.jobs[job.id] = job
        return job

    def advance(self) -> None:
        """Run what is due."""
        now = time.time()
        with self.lock:
            for job in self.jobs.values():
                if job.status == "Queued" and job.starts_at <= now and not self.used_up:
                    self._run(job)

    def _run(self, job: ServerJob) -> None:
        if job.outcome == "cancelled":
            job.status, job.reason = "Cancelled", "Job was cancelled by an administrator"
            return
        job.executions += 1
        job.seconds = self._seconds(job)
        if job.outcome == "failed":
            job.status, job.reason, job.reason_code = "Failed", self.reason, 9999
        elif job.outcome == "too_long" or (self.takes is not None and job.seconds < self.takes(job)):
            job.status, job.reason, job.reason_code = "Cancelled", "Job ran longer than allowed", 1305
        else:
            job.result = self.simulate(job.params, self.devices[job.backend])
            job.status = "Completed"

    def _seconds(self, job: ServerJob) -> float:
        """Return the bill of a job that runs."""
        limit = float("inf") if job.limit_seconds is None else job.limit_seconds
        if self.takes is not None:
            return float(min(self.takes(job), limit))
        if self.bill is not None:
            return self.bill(job.params, self.devices[job.backend])[1]
        return float(limit) if self.takes_its_limit else 2.0

    def fault_of(self, route: str) -> Fault | None:
        """Return the fault that hits this request, and count it."""
        with self.lock:
            self.requests[route] += 1
            for fault in self.faults:
                if fault.route != route or not fault.times:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def visible(self) -> list[ServerJob]:
        """Return the jobs that exist by now, newest first."""
        now = time.time()
        with self.lock:
            return sorted((j for j in self.jobs.values() if j.created <= now), key=lambda j: -j.created)

    def executions(self) -> dict[str, int]:
        """Return how often each job ran."""
        self.advance()
        return {job.id: job.executions for job in self.jobs.values()}
