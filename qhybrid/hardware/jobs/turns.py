"""Copies of a plan on one machine take turns at sending, and know what the others have sent just now.

Listings may show a job late, and the process that sent it may have ended: what was sent is noted beside the
lock, and a job that is noted is sent again only after it should have been listed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.workspace import write_text


class Turn:
    """The right to send a job of a plan.

    Args:
        context: The plan.
        file: Where is noted what was sent; None for nowhere.
    """

    def __init__(self, context: JobContext, file: Path | None) -> None:
        self._context, self._file = context, file

    def note(self, tag: str) -> None:
        """Note that a job is sent now."""
        self._write({**self._read(), tag: self._context.clock.now()})

    def forget(self, tag: str) -> None:
        """Note that a job was certainly not accepted."""
        self._write({name: time for name, time in self._read().items() if name != tag})

    def appears(self, tag: str, is_there: Callable[[], bool]) -> bool:
        """Return whether a job that was noted appears; wait as long as listings may lack it.

        The time of a note tells only whether this process has waited since: clocks are put right.

        Args:
            tag: The job's tag.
            is_there: Looks at a listing.
        """
        sent = self._read().get(tag)
        if sent is None or sent <= self._context.missed.get(tag, -math.inf):
            return False
        clock, patience = self._context.clock, self._context.settings.patience
        began = clock.elapsed()
        while not is_there():
            left = patience.resend_after_s - (clock.elapsed() - began)
            if left <= 0:
                return False
            clock.sleep(min(patience.poll_s, left))
        return True

    def _read(self) -> dict[str, float]:
        if self._file is None:
            return {}
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return {str(tag): float(time) for tag, time in content.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # nothing was noted

    def _write(self, notes: dict[str, float]) -> None:
        if self._file is None:
            return
        with suppress(OSError):
            write_text(self._file, json.dumps(notes))


@contextmanager
def turn(context: JobContext) -> Iterator[Turn]:
    """Wait until no other process of this user sends jobs of the same plan, from whichever folder.

    Raises:
        HardwareError: If that is not so by the deadline of the settings.
    """
    if not context.service.paid:
        yield Turn(context, None)
        return
    lock = _acquired(context)
    try:
        yield Turn(context, _place(f"{context.ledger.tag} {context.ledger.created()}", ".json"))
    finally:
        if lock is not None:
            lock.release()


def _acquired(context: JobContext) -> FileLock | None:
    """Return the lock, held: it ends with the process that holds it. None where files cannot be locked.

    Whoever went on without it would send what the other is sending: listings show a job late.

    Raises:
        HardwareError: If the deadline of the settings passes.
    """
    lock = FileLock(_place(context.ledger.tag, ".lock"))
    patience, clock = context.settings.patience, context.clock
    began = clock.elapsed()
    told = False
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not told:
                context.say("waiting for another process on this machine, which sends jobs of this plan")
            told = True
        except OSError as error:
            if not context.unlocked:
                context.note(f"copies of this plan here do not take turns: no file can be locked ({error})")
            context.unlocked = True
            return None
        else:
            return lock
        if patience.deadline_s is not None and clock.elapsed() - began > patience.deadline_s:
            raise HardwareError(
                "No other process on this machine may send jobs of this plan at the same time, but one has "
                f"done so for `deadline_s` = {patience.deadline_s:g} s. Fix: submit again when it has ended, "
                "or end it if it is stuck; nothing was sent meanwhile."
            )
        clock.sleep(patience.poll_s)


def _place(name: str, suffix: str) -> Path:
    """Return a file that is the same for all processes of this user, whatever their TMPDIR and HOME are."""
    found = hashlib.sha256(f"{_user()} {name}".encode()).hexdigest()[:16]
    return common_folder() / f"{found}{suffix}"


def _user() -> str:
    return str(os.getuid() if hasattr(os, "getuid") else Path.home())


def common_folder() -> Path:
    """Return a folder that all processes of this user on this machine share, and nobody else writes to.

    Files in it stay: a lock that is removed would be held by one process and made anew by another.
    """
    shared = Path("/tmp")
    with suppress(OSError):  # where no folder can be written, the lock says so
        shared = shared if os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    own = shared / f"qhybrid-{hashlib.sha256(_user().encode()).hexdigest()[:16]}"
    with suppress(OSError):
        own.mkdir(mode=0o700, exist_ok=True)
        found = own.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == (os.getuid() if hasattr(os, "getuid") else 0):
            return own
    return shared  # somebody else has made a file of that name
