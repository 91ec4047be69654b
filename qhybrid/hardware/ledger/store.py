"""The ledger: its parts, and the changes that concern work and jobs at once."""

from __future__ import annotations

import math
import time

from qhybrid.hardware.ledger.database import VERSION
from qhybrid.hardware.ledger.parts import JobPart, WorkPart, digest
from qhybrid.hardware.ledger.records import CANCELLED, DONE, OPEN, PREPARED, SENDING, SENT, Job

LEDGER_FILE = "ledger.sqlite"


class Ledger(WorkPart, JobPart):
    """One plan's part of a ledger file; see `Database` for its arguments."""

    version = VERSION

    def begin(self) -> None:
        """Enter the plan; nothing happens if it is there already."""
        self._write("INSERT OR IGNORE INTO plans VALUES (?, ?)", self.plan, time.time())

    def created(self) -> float:
        """Return the time at which the plan was entered; copies of a ledger have the same."""
        found = self._read("SELECT created FROM plans WHERE plan = ?", self.plan)
        return float(found[0][0]) if found else 0.0

    def begin_again(self) -> None:
        """Enter that the ledger was made again: whatever the service has is not known yet."""
        self._write("INSERT OR REPLACE INTO rebuilds VALUES (?, NULL)", self.plan)

    def rebuilt(self) -> tuple[bool, float | None]:
        """Return whether it was made again since the last certainty, and the time of its first listing."""
        found = self._read("SELECT listed FROM rebuilds WHERE plan = ?", self.plan)
        return bool(found), found[0][0] if found else None

    def note_rebuilt(self, listed: float | None) -> None:
        """Enter the time of the first listing after it was made again; None: all is certain."""
        if listed is None:
            self._write("DELETE FROM rebuilds WHERE plan = ?", self.plan)
        else:
            self._write("UPDATE rebuilds SET listed = ? WHERE plan = ?", listed, self.plan)

    def raise_cap(self, seconds: float) -> None:
        """Enter a cap that takes the place of the plan's if it is higher."""
        self._write("INSERT OR REPLACE INTO caps VALUES (?, ?)", self.plan, seconds)

    def raised_cap(self) -> float | None:
        """Return the cap that was given after planning; None if there is none."""
        found = self._read("SELECT seconds FROM caps WHERE plan = ?", self.plan) if self._has("caps") else []
        # One of earlier versions may be infinite, which bounds nothing.
        return float(found[0][0]) if found and math.isfinite(found[0][0]) else None

    def force_chunk(self, number: int, state: str) -> None:
        """Change a chunk's state, whatever it was."""
        self._write("UPDATE chunks SET state = ? WHERE plan = ? AND number = ?", state, self.plan, number)

    def result_id(self, chunk: int) -> str | None:
        """Return the service's id of the job that a result came from."""
        found = self._read("SELECT id FROM results WHERE plan = ? AND chunk = ?", self.plan, chunk)
        return str(found[0][0]) if found else None

    def end_job(self, job: Job, state: str, message: str, chunk_state: str) -> None:
        """Enter that a job ended without a result, and what that means for its chunk."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET state = ?, message = ? WHERE tag = ?", (state, message, job.tag)
            )
            connection.execute(
                "UPDATE chunks SET state = ? WHERE plan = ? AND number = ? AND state != ?",
                (chunk_state, self.plan, job.chunk, DONE),
            )

    def revive_job(self, job: Job) -> None:
        """Enter that a job which was given up is there: its chunk waits again, unless it has a result."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET state = ?, usage = NULL, message = '' WHERE tag = ?", (SENT, job.tag)
            )
            connection.execute(
                "UPDATE chunks SET state = ? WHERE plan = ? AND number = ? AND state != ?",
                (OPEN, self.plan, job.chunk, DONE),
            )

    def store_result(self, job: Job, job_id: str, raw: str) -> None:
        """Enter the result of a chunk as the service sent it; a second result of a chunk is an error."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?)", (self.plan, job.chunk, job_id, time.time(), raw)
            )
            connection.execute(
                "INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", (self.plan, job.chunk, digest(raw))
            )
            connection.execute("UPDATE jobs SET state = ?, id = ? WHERE tag = ?", (DONE, job_id, job.tag))
            connection.execute(
                "UPDATE chunks SET state = ? WHERE plan = ? AND number = ?", (DONE, self.plan, job.chunk)
            )

    def drop_result(self, chunk: int) -> None:
        """Let a result be fetched again from the job that it came from."""
        with self._transaction() as connection:
            where = (self.plan, chunk)
            connection.execute("DELETE FROM results WHERE plan = ? AND chunk = ?", where)
            connection.execute("DELETE FROM digests WHERE plan = ? AND chunk = ?", where)
            connection.execute("UPDATE chunks SET state = ? WHERE plan = ? AND number = ?", (OPEN, *where))
            connection.execute(
                "UPDATE jobs SET state = ? WHERE plan = ? AND chunk = ? AND state = ? AND id IS NOT NULL",
                (SENT, *where, DONE),
            )

    def spent_seconds(self) -> float:
        """Return QPU seconds that were billed, or are expected to be, duplicates included."""
        sessions = sum(one.usage or 0.0 for one in self.sessions() if one.mode == "session")
        return max(sessions, self._spent_by_jobs())

    def _spent_by_jobs(self) -> float:
        return self._seconds({chunk.number: chunk.seconds for chunk in self.chunks()}, reserved=False)

    def billed_seconds(self) -> float:
        """Return QPU seconds that were billed, duplicates included."""
        bills = [job.usage for job in self.jobs()] + [one.usage for one in self.duplicates()]
        sessions = [one.usage for one in self.sessions() if one.mode == "session"]
        return max(sum(bill for bill in part if bill is not None) for part in (bills, sessions))

    def open_bills(self) -> int:
        """Return how many jobs, duplicates and sessions may be billed and have no bill yet."""
        jobs = [job.usage for job in self.jobs() if job.id is not None or job.state == SENDING]
        bills = [*jobs, *(one.usage for one in self.duplicates())]
        bills += [one.usage for one in self.sessions() if one.mode == "session"]
        return bills.count(None) + len(self.unlisted())

    def committed_seconds(self, whole: bool = False) -> float:
        """Return QPU seconds that were billed, or may be at most: jobs in flight count with their limits.

        So do jobs that were sent again because no listing showed them: they may still appear.

        Args:
            whole: Whether jobs that have ended count with their limits too, where these are larger.
        """
        limits = {chunk.number: float(chunk.limit) for chunk in self.chunks()}
        jobs = self._seconds(limits, reserved=True, whole=whole) + self.unlisted_seconds()
        sessions = [one for one in self.sessions() if one.mode == "session"]
        return max(jobs, sum(one.usage if one.usage is not None else one.max_time or 0.0 for one in sessions))

    def _seconds(self, of_chunks: dict[int, float], reserved: bool, whole: bool = False) -> float:
        total = 0.0
        expected: dict[str, float] = {}
        limits = self.limits() if reserved else {}
        for job in self.jobs():
            known = job.reserved if reserved and job.reserved is not None else of_chunks[job.chunk]
            expected[job.tag] = known
            known = limits.get(job.id or "", known)
            if job.usage is not None:
                total += max(job.usage, known) if whole else job.usage
            elif job.state != PREPARED:
                total += known
        for one in self.duplicates():
            if one.usage is not None:
                total += one.usage
            elif reserved or one.outcome != CANCELLED:
                # One that waited may have begun just then: cancellation is not exact.
                total += limits.get(one.id, expected[one.tag])
        return total
