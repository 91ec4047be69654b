"""The ledger's part on what is to be executed: requests, points, chunks and their results."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from qhybrid.hardware.ledger.database import Database
from qhybrid.hardware.ledger.records import DONE, Array, Chunk, Request


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

    def results(self) -> dict[int, str]:
        """Return the raw result of every chunk that has one."""
        return dict(self._read("SELECT chunk, raw FROM results WHERE plan = ?", self.plan))


def _bytes(values: Array) -> bytes:
    return np.ascontiguousarray(values, dtype="<f8").tobytes()
