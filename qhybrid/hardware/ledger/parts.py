"""The parts of the ledger: what is to be executed with its results, and the jobs that were sent for it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qhybrid.errors import HardwareError
from qhybrid.hardware.ledger.database import Database
from qhybrid.hardware.ledger.records import (
    DONE,
    PREPARED,
    SENT,
    UNFINISHED,
    Array,
    Chunk,
    Duplicate,
    Job,
    OpenedSession,
    Request,
)


class WorkPart(Database):
    """Requests, points, chunks and results."""

    def add_round(
        self,
        requests: Sequence[Request],
        points: Sequence[tuple[int, str, Array]],
        chunks: Sequence[Chunk],
    ) -> None:
        """Enter the requests of a round, the points that are new and the chunks that buy them: all or none.

        Args:
            requests: The requests, with their points.
            points: Number, circuit and angles of each new point.
            chunks: The chunks.
        """
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO points VALUES (?, ?, ?, ?)",
                [(self.plan, number, circuit, _bytes(angles)) for number, circuit, angles in points],
            )
            connection.executemany(
                "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        self.plan,
                        *one.key,
                        one.round,
                        one.circuit,
                        len(one.angles),
                        _bytes(one.angles),
                        np.asarray(one.points, dtype="<i8").tobytes(),
                    )
                    for one in requests
                ],
            )
            connection.executemany(
                "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
                [(self.plan, c.number, c.round, json.dumps(c.blocks), c.seconds, c.state) for c in chunks],
            )
            connection.executemany(
                "INSERT INTO layouts VALUES (?, ?, ?)",
                [(self.plan, c.number, c.layout) for c in chunks if c.layout],
            )

    def requests(self) -> list[Request]:
        """Return all requests."""
        rows = self._read(
            "SELECT sample, layer, call, circuit, angles, points, round, rows FROM requests WHERE plan = ? "
            "ORDER BY round, sample, layer, call",
            self.plan,
        )
        return [
            Request(
                sample,
                layer,
                call,
                circuit,
                np.frombuffer(angles, dtype="<f8").reshape(count, -1),
                tuple(np.frombuffer(points, dtype="<i8").tolist()),
                round_,
            )
            for sample, layer, call, circuit, angles, points, round_, count in rows
        ]

    def points(self) -> dict[int, tuple[str, Array]]:
        """Return circuit and angles of every point by its number."""
        rows = self._read("SELECT number, circuit, angles FROM points WHERE plan = ?", self.plan)
        return {number: (circuit, np.frombuffer(angles, dtype="<f8")) for number, circuit, angles in rows}

    def chunks(self) -> list[Chunk]:
        """Return all chunks by number."""
        rows = self._read(
            "SELECT number, round, blocks, seconds, state FROM chunks WHERE plan = ? ORDER BY number",
            self.plan,
        )
        layouts = self._layouts()
        return [
            Chunk(
                number,
                round_,
                tuple((c, tuple(p)) for c, p in json.loads(blocks)),
                seconds,
                state,
                layouts.get(number, 0),
            )
            for number, round_, blocks, seconds, state in rows
        ]

    def _layouts(self) -> dict[int, int]:
        if not self._has("layouts"):
            return {}
        return dict(self._read("SELECT chunk, layout FROM layouts WHERE plan = ?", self.plan))

    def set_layout(
        self,
        layout: int,
        seconds: Mapping[int, float],
        new: Sequence[Chunk] = (),
        dropped: Sequence[int] = (),
    ) -> None:
        """Enter that chunks are mapped to a layout, with their predicted QPU seconds: all or none.

        Args:
            layout: The layout.
            seconds: What each of them is predicted to take, by their numbers.
            new: Chunks without points that are added at the same time.
            dropped: Numbers of chunks without points and jobs, the last ones, that are not needed any more.
        """
        with self._transaction() as connection:
            for chunk in dropped:
                for table, column in (("layouts", "chunk"), ("chunks", "number")):
                    connection.execute(
                        f"DELETE FROM {table} WHERE plan = ? AND {column} = ?", (self.plan, chunk)
                    )
            connection.executemany(
                "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
                [(self.plan, c.number, c.round, json.dumps(c.blocks), c.seconds, c.state) for c in new],
            )
            connection.executemany(
                "INSERT INTO layouts VALUES (?, ?, ?)", [(self.plan, c.number, c.layout) for c in new]
            )
            for chunk, price in seconds.items():
                connection.execute(
                    "INSERT OR REPLACE INTO layouts VALUES (?, ?, ?)", (self.plan, chunk, layout)
                )
                connection.execute(
                    "UPDATE chunks SET seconds = ? WHERE plan = ? AND number = ?", (price, self.plan, chunk)
                )

    def set_chunk(self, number: int, state: str) -> None:
        """Change a chunk's state; a chunk that is done stays so."""
        self._write(
            "UPDATE chunks SET state = ? WHERE plan = ? AND number = ? AND state != ?",
            state,
            self.plan,
            number,
            DONE,
        )

    def results(self, chunk: int | None = None) -> dict[int, str]:
        """Return the raw result of every chunk that has one, or of one chunk alone."""
        if chunk is not None:
            where = "plan = ? AND chunk = ?"
            return dict(self._read(f"SELECT chunk, raw FROM results WHERE {where}", self.plan, chunk))
        return dict(self._read("SELECT chunk, raw FROM results WHERE plan = ?", self.plan))

    def is_unchanged(self, chunk: int, raw: str) -> bool:
        """Return whether a raw result is what was entered; ledgers of earlier versions do not say."""
        found = self._read("SELECT sha256 FROM digests WHERE plan = ? AND chunk = ?", self.plan, chunk)
        return not found or found[0][0] == digest(raw)


def digest(raw: str) -> str:
    """Return the hash by which damage to a raw result is noticed."""
    return hashlib.sha256(raw.encode()).hexdigest()


def _bytes(values: Array) -> bytes:
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


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
            attempt = max((job.attempt for job in mine), default=0) + 1
            tag = f"{self.tag}-c{chunk}-a{attempt}"
            connection.execute(
                f"INSERT INTO jobs (plan, {JOB_COLUMNS}) VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL, NULL, '')",
                (self.plan, tag, chunk, attempt, PREPARED),
            )
        return Job(tag, chunk, attempt, PREPARED)

    def enter_job(self, tag: str, chunk: int, attempt: int) -> None:
        """Enter a job that the service has and this ledger does not know; nothing if it is there already."""
        self._write(
            f"INSERT OR IGNORE INTO jobs (plan, {JOB_COLUMNS}) "
            "VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL, NULL, '')",
            self.plan,
            tag,
            chunk,
            attempt,
            PREPARED,
        )

    def update_job(self, tag: str, **changes: Any) -> None:
        """Change columns of a job."""
        columns = ", ".join(f"{name} = ?" for name in changes)
        self._write(f"UPDATE jobs SET {columns} WHERE tag = ?", *changes.values(), tag)

    def adopt_job(self, tag: str, job_id: str) -> None:
        """Enter which of the service's jobs is the one of a tag."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM duplicates WHERE id = ?", (job_id,))
            connection.execute(
                "UPDATE jobs SET state = ?, id = ?, empty_since = NULL, usage = NULL WHERE tag = ?",
                (SENT, job_id, tag),
            )

    def note_unlisted(self, tag: str, seconds: float, since: float) -> None:
        """Enter that a job may exist though no listing shows it: what it may cost stays reserved."""
        self._write("INSERT INTO unlisted VALUES (?, ?, ?, ?)", self.plan, tag, seconds, since)

    def drop_unlisted(self, tag: str) -> None:
        """Enter that a job has appeared: it has a row of its own from now on.

        Of several that have not, nobody knows which one this is: the smallest reservation is dropped.
        """
        self._write(
            "DELETE FROM unlisted WHERE rowid = (SELECT rowid FROM unlisted WHERE plan = ? AND tag = ? "
            "ORDER BY seconds LIMIT 1)",
            self.plan,
            tag,
        )

    def unlisted(self) -> list[tuple[str, float, float]]:
        """Return tag, reserved QPU seconds and time of the jobs which no listing shows."""
        if not self._has("unlisted"):
            return []
        return self._read("SELECT tag, seconds, since FROM unlisted WHERE plan = ?", self.plan)

    def unlisted_seconds(self) -> float:
        """Return the QPU seconds that are reserved for jobs which no listing shows."""
        if not self._has("unlisted"):
            return 0.0
        return float(self._read("SELECT total(seconds) FROM unlisted WHERE plan = ?", self.plan)[0][0])

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

    def note_limits(self, limits: Mapping[str, float]) -> None:
        """Enter the time limits in seconds that jobs of the service were sent with, by their ids."""
        known = self.limits()
        with self._transaction() as connection:
            for name, seconds in limits.items():
                if known.get(name) != seconds:
                    row = (name, self.plan, seconds)
                    connection.execute("INSERT OR REPLACE INTO limits VALUES (?, ?, ?)", row)

    def limits(self) -> dict[str, float]:
        """Return the time limits in seconds that jobs of the service were sent with, as far as known."""
        if not self._has("limits"):
            return {}
        return dict(self._read("SELECT id, seconds FROM limits WHERE plan = ?", self.plan))

    def note_session(self, found: OpenedSession) -> None:
        """Enter or update a session or batch."""
        self._write(
            "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?)",
            found.id,
            self.plan,
            found.mode,
            found.max_time,
            int(found.closed),
            found.usage,
        )

    def sessions(self) -> list[OpenedSession]:
        """Return all sessions and batches in the order in which they were opened."""
        if not self._has("sessions"):
            return []
        rows = self._read(
            "SELECT id, mode, max_time, closed, usage FROM sessions WHERE plan = ? ORDER BY rowid", self.plan
        )
        return [
            OpenedSession(name, mode, limit, bool(closed), usage) for name, mode, limit, closed, usage in rows
        ]

    def note(self, text: str) -> None:
        """Enter what happened, for people."""
        self._write("INSERT INTO events VALUES (?, ?, ?)", self.plan, time.time(), text)

    def events(self) -> list[tuple[float, str]]:
        """Return what happened, with Unix times."""
        return self._read("SELECT time, text FROM events WHERE plan = ? ORDER BY rowid", self.plan)
