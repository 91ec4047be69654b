"""The ledger's part on what was sent: jobs, their duplicates, and what happened to them."""

from __future__ import annotations

import time
from typing import Any

from qhybrid.errors import HardwareError
from qhybrid.hardware.ledger.database import Database
from qhybrid.hardware.ledger.records import DONE, PREPARED, UNFINISHED, Duplicate, Job

JOB_COLUMNS = "tag, chunk, attempt, state, id, empty_since, reserved, usage, message"


class JobPart(Database):
    """Jobs, duplicates and events."""

    @property
    def tag(self) -> str:
        """The tag that all jobs of the plan carry beside their own."""
        return f"qhybrid-{self.plan}"

    def jobs(self, *states: str) -> list[Job]:
        """Return all jobs, or those in some states, in the order in which they were prepared."""
        rows = self._read(f"SELECT {JOB_COLUMNS} FROM jobs WHERE plan = ? ORDER BY rowid", self.plan)
        return [job for job in (Job(*row) for row in rows) if not states or job.state in states]

    def prepare_job(self, chunk: int) -> Job:
        """Write a new job's tag to disk, before anything is sent.

        Raises:
            HardwareError: If the chunk has a job that has not ended.
        """
        with self._transaction() as connection:
            mine = [job for job in self.jobs() if job.chunk == chunk]
            if any(job.state in UNFINISHED or job.state == DONE for job in mine):
                raise HardwareError(
                    f"Chunk {chunk} of plan {self.plan} must have no job, but has a job already: {mine[-1]}. "
                    "Fix: collect before sending again."
                )
            attempt = len(mine) + 1
            tag = f"{self.tag}-c{chunk}-a{attempt}"
            connection.execute(
                f"INSERT INTO jobs (plan, {JOB_COLUMNS}) VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL, NULL, '')",
                (self.plan, tag, chunk, attempt, PREPARED),
            )
        return Job(tag, chunk, attempt, PREPARED)

    def update_job(self, tag: str, **changes: Any) -> None:
        """Change columns of a job."""
        columns = ", ".join(f"{name} = ?" for name in changes)
        self._write(f"UPDATE jobs SET {columns} WHERE tag = ?", *changes.values(), tag)

    def note_duplicate(self, found: Duplicate) -> None:
        """Enter or update a duplicate."""
        self._write(
            "INSERT OR REPLACE INTO duplicates VALUES (?, ?, ?, ?, ?)",
            found.id,
            self.plan,
            found.tag,
            found.outcome,
            found.usage,
        )

    def duplicates(self) -> list[Duplicate]:
        """Return all duplicates."""
        rows = self._read("SELECT id, tag, outcome, usage FROM duplicates WHERE plan = ?", self.plan)
        return [Duplicate(*row) for row in rows]

    def note(self, text: str) -> None:
        """Enter what happened, for people."""
        self._write("INSERT INTO events VALUES (?, ?, ?)", self.plan, time.time(), text)

    def events(self) -> list[tuple[float, str]]:
        """Return what happened, with Unix times."""
        return self._read("SELECT time, text FROM events WHERE plan = ? ORDER BY rowid", self.plan)
