"""SHA-256 digests of files, computed of all bytes once and remembered in the user's cache folder.

A digest is remembered by the file's path, size, times (modification and change, in nanoseconds), inode and
device. File systems round times: a file may be written again within one tick of its clock, with the same size
and the same time. So a digest is only remembered if the file was older than `SETTLED` when it was read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Self

from qhybrid.errors import DataError, WorkspaceError
from qhybrid.workspace import cache_dir

MEMORY = "digests.sqlite"
SETTLED = 3_000_000_000
"""Nanoseconds without a change before a file is read: more than the coarsest clock of a file system (2 s)."""
_CHUNK = 2**20
_ATTEMPTS = 3
_SHOWN_FROM = 2**24
"""Bytes to read from which progress is shown: less is done at once."""
Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes to read)."""
_progress: ContextVar[Progress | None] = ContextVar("hashing progress", default=None)
_Mark = tuple[int, int, int, int, int]


@contextmanager
def hashing_progress(progress: Progress) -> Iterator[None]:
    """Tell how far the reading of files is, wherever it happens while the block runs.

    Args:
        progress: Called with (bytes read, bytes to read) when there is much to read.
    """
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


def file_digests(files: Iterable[Path]) -> dict[Path, str]:
    """Return the SHA-256 of all bytes of files; files that did not change since are not read again.

    Args:
        files: Paths of files.

    Raises:
        DataError: If a file is missing, cannot be read, or changes while it is read.
    """
    wanted = list(dict.fromkeys(files))
    found: dict[Path, str] = {}
    with _Memory() as memory:
        marks = {file: _mark(file) for file in wanted}
        for file, mark in marks.items():
            known = memory.recall(file, mark)
            if known is not None:
                found[file] = known
        missing = [file for file in wanted if file not in found]
        total, done = sum(marks[file][0] for file in missing), 0
        show = _progress.get() if total >= _SHOWN_FROM else None
        for file in missing:
            found[file] = _digest(file, memory, _step(show, done, total))
            done += marks[file][0]
    return {file: found[file] for file in wanted}


def _step(show: Progress | None, before: int, total: int) -> Callable[[int], None]:
    return lambda count: show(min(before + count, total), total) if show is not None else None


def _digest(file: Path, memory: _Memory, step: Callable[[int], None]) -> str:
    for _ in range(_ATTEMPTS):
        started, before = time.time_ns(), _mark(file)
        digest, count = hashlib.sha256(), 0
        try:
            with file.open("rb") as handle:
                while chunk := handle.read(_CHUNK):
                    digest.update(chunk)
                    count += len(chunk)
                    step(count)
        except OSError as error:
            raise _unreadable(file, error) from error
        if _mark(file) == before:
            if started - max(before[1:3]) > SETTLED:
                memory.keep(file, before, digest.hexdigest())
            return digest.hexdigest()
    raise DataError(
        f"{file}: data must stay as they are while they are used, but this file changes while it is read. "
        "Fix: wait until it is written."
    )


def _mark(file: Path) -> _Mark:
    """Return size, time of modification and of change in nanoseconds, inode and device of a file."""
    try:
        found = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from error
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def _unreadable(file: Path, error: OSError) -> DataError:
    return DataError(f"{file}: must be a readable file, but is not ({error.strerror}). Fix: check the path.")


class _Memory:
    """Remembered digests in one SQLite file, which many processes may use at once.

    What cannot be remembered is computed again: a cache folder that cannot be written is no error.
    """

    def __init__(self) -> None:
        self._database: sqlite3.Connection | None = None
        self._new: list[tuple[str | int, ...]] = []

    def __enter__(self) -> Self:
        with contextlib.suppress(WorkspaceError, OSError, sqlite3.OperationalError):
            file = cache_dir() / MEMORY
            try:
                self._open(file)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # busy, or not writable
                    raise
                self._close()
                file.unlink(missing_ok=True)  # damaged: begin anew
                self._open(file)
        return self

    def _open(self, file: Path) -> None:
        self._database = sqlite3.connect(file, timeout=20, isolation_level=None)
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, size INTEGER, modified INTEGER, "
            "changed INTEGER, inode TEXT, device TEXT, digest TEXT)"
        )

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        self._close()

    def recall(self, file: Path, mark: _Mark) -> str | None:
        """Return the digest of a file; None if it is not known in this state."""
        if self._database is None:
            return None
        try:
            row = self._database.execute(
                "SELECT size, modified, changed, inode, device, digest FROM digests WHERE path = ?",
                (_key(file),),
            ).fetchone()
        except sqlite3.Error:
            return None
        same = row is not None and row[:5] == (*mark[:3], str(mark[3]), str(mark[4]))
        return str(row[5]) if same else None

    def keep(self, file: Path, mark: _Mark, digest: str) -> None:
        """Remember the digest of a file; what was read stays known if the rest is interrupted."""
        self._new.append((_key(file), *mark[:3], str(mark[3]), str(mark[4]), digest))
        if len(self._new) >= 1000 or mark[0] > _SHOWN_FROM:
            self._write()

    def _write(self) -> None:
        new, self._new = self._new, []
        if self._database is None or not new:
            return
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?, ?)", new)
            self._database.execute("COMMIT")


def _key(file: Path) -> str:
    # Links stay as they are: whatever they point to has its own inode.
    return os.fsencode(file.absolute()).decode("utf-8", "backslashreplace")
