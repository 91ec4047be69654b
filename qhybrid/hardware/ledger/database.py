"""The ledger's file and tables: every change of state is one transaction, on disk when it returns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qhybrid.errors import HardwareError

VERSION = 2

TABLES = """
CREATE TABLE IF NOT EXISTS plans (
    plan TEXT PRIMARY KEY,
    created REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS requests (
    plan TEXT NOT NULL REFERENCES plans,
    sample INTEGER NOT NULL,
    layer TEXT NOT NULL,
    call INTEGER NOT NULL,
    round INTEGER NOT NULL,
    circuit TEXT NOT NULL,
    rows INTEGER NOT NULL,
    angles BLOB NOT NULL,
    points BLOB NOT NULL,
    PRIMARY KEY (plan, sample, layer, call)
) STRICT;
CREATE TABLE IF NOT EXISTS points (
    plan TEXT NOT NULL REFERENCES plans,
    number INTEGER NOT NULL,
    circuit TEXT NOT NULL,
    angles BLOB NOT NULL,
    PRIMARY KEY (plan, number),
    UNIQUE (plan, circuit, angles)
) STRICT;
CREATE TABLE IF NOT EXISTS chunks (
    plan TEXT NOT NULL REFERENCES plans,
    number INTEGER NOT NULL,
    round INTEGER NOT NULL,
    blocks TEXT NOT NULL,
    seconds REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'done', 'failed', 'cancelled', 'too_long')),
    PRIMARY KEY (plan, number)
) STRICT;
CREATE TABLE IF NOT EXISTS jobs (
    tag TEXT PRIMARY KEY,
    plan TEXT NOT NULL REFERENCES plans,
    chunk INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    state TEXT NOT NULL,
    id TEXT UNIQUE,
    empty_since REAL,
    reserved REAL,
    usage REAL,
    message TEXT NOT NULL DEFAULT '',
    UNIQUE (plan, chunk, attempt)
) STRICT;
CREATE TABLE IF NOT EXISTS duplicates (
    id TEXT PRIMARY KEY,
    plan TEXT NOT NULL REFERENCES plans,
    tag TEXT NOT NULL REFERENCES jobs,
    outcome TEXT NOT NULL,
    usage REAL
) STRICT;
CREATE TABLE IF NOT EXISTS results (
    plan TEXT NOT NULL REFERENCES plans,
    chunk INTEGER NOT NULL,
    id TEXT NOT NULL,
    received REAL NOT NULL,
    raw TEXT NOT NULL,
    PRIMARY KEY (plan, chunk)
) STRICT;
CREATE TABLE IF NOT EXISTS digests (
    plan TEXT NOT NULL REFERENCES plans,
    chunk INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (plan, chunk)
) STRICT;
CREATE TABLE IF NOT EXISTS rebuilds (
    plan TEXT PRIMARY KEY REFERENCES plans,
    listed REAL
) STRICT;
CREATE TABLE IF NOT EXISTS unlisted (
    plan TEXT NOT NULL REFERENCES plans,
    tag TEXT NOT NULL,
    seconds REAL NOT NULL,
    since REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    plan TEXT NOT NULL REFERENCES plans,
    mode TEXT NOT NULL,
    max_time REAL,
    closed INTEGER NOT NULL DEFAULT 0,
    usage REAL
) STRICT;
CREATE TABLE IF NOT EXISTS limits (
    id TEXT PRIMARY KEY,
    plan TEXT NOT NULL REFERENCES plans,
    seconds REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS caps (
    plan TEXT PRIMARY KEY REFERENCES plans,
    seconds REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS layouts (
    plan TEXT NOT NULL REFERENCES plans,
    chunk INTEGER NOT NULL,
    layout INTEGER NOT NULL,
    PRIMARY KEY (plan, chunk)
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    plan TEXT NOT NULL,
    time REAL NOT NULL,
    text TEXT NOT NULL
) STRICT;
"""


WAITING_SECONDS = 30.0


class Database:
    """One plan's rows of a ledger file.

    Args:
        path: The SQLite file; it is made if it does not exist.
        plan: Name of the plan.
        read_only: For looking only, in folders that cannot be written too; the file must exist.

    Raises:
        HardwareError: If the file is no ledger, or of another version, or cannot be opened.
    """

    def __init__(self, path: str | Path, plan: str, read_only: bool = False) -> None:
        self.path, self.plan = Path(path), plan
        with self._explained(f"{path} cannot be used as a ledger"):
            self._connection = _reading(self.path) if read_only else _writing(self.path)
            found = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if read_only and found == 0:
                raise sqlite3.DatabaseError("it is empty")
            if found not in (VERSION,) if read_only else found not in (0, VERSION):
                raise HardwareError(
                    f"{path} must be a ledger of version {VERSION}, but is of version {found}. Fix: use the "
                    "version of qhybrid that made the plan."
                )
            if not read_only:
                with self._connection:
                    for statement in TABLES.split(";"):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Do everything in the block, or nothing of it.

        Raises:
            HardwareError: If it cannot be written.
        """
        with self._explained(f"{self.path} must take what happened to the plan's jobs"), self._connection:
            yield self._connection

    def _write(self, statement: str, *values: Any) -> None:
        with self._transaction() as connection:
            connection.execute(statement, values)

    def _read(self, statement: str, *values: Any) -> list[Any]:
        with self._explained(f"{self.path} must be readable"):
            return self._connection.execute(statement, values).fetchall()

    def _has(self, table: str) -> bool:
        """Return whether there is a table: ledgers of earlier versions that are only read lack some."""
        return bool(self._read("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table))

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise HardwareError(
                f"{what}, but: {error}. Fix: see that the disk has space and the folder is writable, then "
                "give the same command again; `qhybrid hardware collect PLAN` makes a ledger that is lost or "
                "damaged again, and jobs that were sent are found by their tags."
            ) from error


def _writing(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=WAITING_SECONDS)
    connection.execute("PRAGMA journal_mode = WAL")
    # A tag must have reached the disk before its job is sent, power cuts included.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _reading(path: Path) -> sqlite3.Connection:
    address = path.absolute().as_uri()
    connection = sqlite3.connect(f"{address}?mode=ro", timeout=WAITING_SECONDS, uri=True)
    try:
        connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError:
        # A folder that cannot be written has no room for the files that readers share with writers.
        connection.close()
        return sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True)
    return connection
