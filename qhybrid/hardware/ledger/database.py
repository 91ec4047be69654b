"""The ledger's file: every change of state is one transaction, on disk when it returns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qhybrid.errors import HardwareError
from qhybrid.hardware.ledger.schema import TABLES, VERSION

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

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise HardwareError(
                f"{what}, but: {error}. Fix: see that the disk has space, the folder is writable and the "
                "file undamaged, then give the same command again; jobs that were sent are found by their "
                "tags."
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
