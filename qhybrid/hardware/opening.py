"""Opening a plan: its files, its ledger and its service, for one process at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qhybrid.errors import HardwareError
from qhybrid.hardware.backends import is_local, make_service
from qhybrid.hardware.context import Clock, JobContext, Say
from qhybrid.hardware.deferred import DeferredService
from qhybrid.hardware.ledger import LEDGER_FILE, Ledger
from qhybrid.hardware.plan_files import CALIBRATION_FILE, load_circuits, read_plan, settings_of
from qhybrid.hardware.service import JobService
from qhybrid.hardware.work import Work
from qhybrid.hardware.workload import Workload
from qhybrid.noise import NoiseProfile

LOCK_FILE = "lock"


@contextmanager
def open_work(
    folder: str | Path,
    load: Callable[[dict[str, Any], Path], Workload],
    service: JobService | None = None,
    clock: Clock | None = None,
    say: Say = lambda _text: None,
) -> Iterator[Work]:
    """Open a plan; only one process at a time may work on it.

    Args:
        folder: The plan's folder.
        load: Returns model and samples from plan.json and the folder.
        service: What executes; that of the plan's backend if absent.
        clock: Time.
        say: Called with a sentence whenever something happens.

    Raises:
        HardwareError: If the folder holds no usable plan, cannot be written, or another process works on it.
    """
    root = Path(folder)
    content = read_plan(root)
    settings = settings_of(content, root)
    noise = NoiseProfile.load(root / CALIBRATION_FILE) if (root / CALIBRATION_FILE).is_file() else None
    with locked(root):
        bound, circuits = load_circuits(root, settings, noise)
        with Ledger(root / LEDGER_FILE, content["plan"]) as ledger:
            context = JobContext(
                ledger,
                service
                or DeferredService(lambda: make_service(settings, root), not is_local(settings.backend)),
                circuits,
                settings,
                0.0,
                clock or Clock(),
                say,
            )
            work = Work(root, content, load(content, root), bound, context)
            work.price_later_rounds()
            yield work


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out; the system lets go when this one ends, however it ends.

    Raises:
        HardwareError: If another process works on the folder, or it cannot be written.
    """
    try:
        handle = (folder / LOCK_FILE).open("w")
    except OSError as error:
        raise HardwareError(
            f"Folder {folder} must be writable, since results go into it, but: {error}. Fix: make it "
            "writable, or copy the plan to another folder."
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HardwareError(
                f"Only one process may work on {folder}, but another one does. Fix: wait for it, or stop it."
            ) from error
        yield
