"""Reading and writing the ledger: every change of state is one transaction, on disk when it returns."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from qhybrid.errors import HardwareError
from qhybrid.hardware.ledger.records import (
    DONE,
    OPEN,
    PREPARED,
    SENDING,
    SENT,
    UNFINISHED,
    Array,
    Chunk,
    Duplicate,
    Job,
    Request,
)
from qhybrid.hardware.ledger.schema import TABLES, VERSION

LEDGER_FILE = "ledger.sqlite"
JOB_COLUMNS = "tag, chunk, attempt, state, id, empty_since, usage, message"


class Ledger:
    """One plan's part of a ledger file.

    Args:
        path: The SQLite file; it is made if it does not exist.
        plan: Name of the plan.

    Raises:
        HardwareError: If the file is no ledger, or of another version.
    """

    def __init__(self, path: str | Path, plan: str) -> None:
        self.path, self.plan = Path(path), plan
        try:
            self._connection = sqlite3.connect(path, timeout=30.0)
            self._connection.execute("PRAGMA journal_mode = WAL")
            # A tag must have reached the disk before its job is sent, power cuts included.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            found = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, VERSION):
                raise HardwareError(
                    f"{path} must be a ledger of version {VERSION}, but is of version {found}. Fix: use the "
                    "version of qhybrid that made the plan."
                )
            with self._connection:
                for statement in TABLES.split(";"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.Error as error:
            raise HardwareError(f"{path} cannot be used as a ledger: {error}.") from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def begin(self) -> None:
        """Enter the plan; nothing happens if it is there already."""
        self._write("INSERT OR IGNORE INTO plans VALUES (?, ?)", self.plan, time.time())

    # Requests and points.

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
        with self._connection:
            self._connection.executemany(
                "INSERT INTO points VALUES (?, ?, ?, ?)",
                [(self.plan, number, circuit, _bytes(angles)) for number, circuit, angles in points],
            )
            self._connection.executemany(
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
            self._connection.executemany(
                "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
                [(self.plan, c.number, c.round, json.dumps(c.blocks), c.seconds, c.state) for c in chunks],
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

    # Chunks and jobs.

    def chunks(self) -> list[Chunk]:
        """Return all chunks by number."""
        rows = self._read(
            "SELECT number, round, blocks, seconds, state FROM chunks WHERE plan = ? ORDER BY number",
            self.plan,
        )
        return [
            Chunk(number, round_, tuple((c, tuple(p)) for c, p in json.loads(blocks)), seconds, state)
            for number, round_, blocks, seconds, state in rows
        ]

    def set_chunk(self, number: int, state: str) -> None:
        """Change a chunk's state; a chunk that is done stays so."""
        self._write(
            "UPDATE chunks SET state = ? WHERE plan = ? AND number = ? AND state != ?",
            state,
            self.plan,
            number,
            DONE,
        )

    def jobs(self, *states: str) -> list[Job]:
        """Return all jobs, or those in some states, in the order in which they were prepared."""
        rows = self._read(f"SELECT {JOB_COLUMNS} FROM jobs WHERE plan = ? ORDER BY rowid", self.plan)
        return [job for job in (Job(*row) for row in rows) if not states or job.state in states]

    def prepare_job(self, chunk: int) -> Job:
        """Write a new job's tag to disk, before anything is sent.

        Raises:
            HardwareError: If the chunk has a job that has not ended.
        """
        with self._connection:
            mine = [job for job in self.jobs() if job.chunk == chunk]
            if any(job.state in UNFINISHED or job.state == DONE for job in mine):
                raise HardwareError(f"Chunk {chunk} of plan {self.plan} has a job already: {mine[-1]}.")
            attempt = len(mine) + 1
            tag = f"{self.tag}-c{chunk}-a{attempt}"
            self._connection.execute(
                f"INSERT INTO jobs (plan, {JOB_COLUMNS}) VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL, '')",
                (self.plan, tag, chunk, attempt, PREPARED),
            )
        return Job(tag, chunk, attempt, PREPARED)

    @property
    def tag(self) -> str:
        """The tag that all jobs of the plan carry beside their own."""
        return f"qhybrid-{self.plan}"

    def update_job(self, tag: str, **changes: Any) -> None:
        """Change columns of a job."""
        columns = ", ".join(f"{name} = ?" for name in changes)
        self._write(f"UPDATE jobs SET {columns} WHERE tag = ?", *changes.values(), tag)

    def end_job(self, job: Job, state: str, message: str, chunk_state: str) -> None:
        """Enter that a job ended without a result, and what that means for its chunk."""
        with self._connection:
            self._connection.execute(
                "UPDATE jobs SET state = ?, message = ? WHERE tag = ?", (state, message, job.tag)
            )
            self._connection.execute(
                "UPDATE chunks SET state = ? WHERE plan = ? AND number = ? AND state != ?",
                (chunk_state, self.plan, job.chunk, DONE),
            )

    def store_result(self, job: Job, job_id: str, raw: str) -> None:
        """Enter the result of a chunk as the service sent it; a second result of a chunk is an error."""
        with self._connection:
            self._connection.execute(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?)", (self.plan, job.chunk, job_id, time.time(), raw)
            )
            self._connection.execute(
                "UPDATE jobs SET state = ?, id = ? WHERE tag = ?", (DONE, job_id, job.tag)
            )
            self._connection.execute(
                "UPDATE chunks SET state = ? WHERE plan = ? AND number = ?", (DONE, self.plan, job.chunk)
            )

    def results(self) -> dict[int, str]:
        """Return the raw result of every chunk that has one."""
        return dict(self._read("SELECT chunk, raw FROM results WHERE plan = ?", self.plan))

    def spent_seconds(self) -> float:
        """Return QPU seconds that were billed, or are expected to be, duplicates included."""
        seconds = {chunk.number: chunk.seconds for chunk in self.chunks()}
        total = 0.0
        for job in self.jobs():
            if job.usage is not None:
                total += job.usage
            elif job.state in (SENDING, SENT, DONE):
                total += seconds[job.chunk]
        return total + sum(one.usage or 0.0 for one in self.duplicates())

    # Duplicates and events.

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

    def _write(self, statement: str, *values: Any) -> None:
        with self._connection:
            self._connection.execute(statement, values)

    def _read(self, statement: str, *values: Any) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()


def _bytes(values: Array) -> bytes:
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


__all__ = ["LEDGER_FILE", "OPEN", "Ledger"]
