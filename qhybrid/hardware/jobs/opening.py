"""Opening a plan: its files, its ledger and its service, for one process at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from qhybrid import workspace
from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.context import Clock, JobContext, Say
from qhybrid.hardware.jobs.execution import PlanExecution
from qhybrid.hardware.ledger import LEDGER_FILE, Ledger
from qhybrid.hardware.ledger.mending import mend_ledger
from qhybrid.hardware.model.workload import Workload
from qhybrid.hardware.plan.layouts import load_layouts
from qhybrid.hardware.plan.plan_files import check_plan_plugins, home_of, read_plan, settings_of
from qhybrid.hardware.services.backends import is_paid, make_service
from qhybrid.hardware.services.interface import DeferredService, JobService

LOCK_FILE = "lock"


@contextmanager
def open_plan(
    folder: str | Path,
    load: Callable[[dict[str, Any], Path], Workload],
    service: JobService | None = None,
    clock: Clock | None = None,
    say: Say = lambda _text: None,
    before_sending: Callable[[dict[str, Any], Path], None] | None = None,
    to_cancel: bool = False,
) -> Iterator[PlanExecution]:
    """Open a plan; only one process at a time may work on it.

    Args:
        folder: The plan's folder.
        load: Returns model and samples from plan.json and the folder; called when they are needed.
        service: What executes; that of the plan's backend if absent.
        clock: Time.
        say: Called with a sentence whenever something happens.
        before_sending: Called with plan.json and the folder before anything is sent; it may refuse.
        to_cancel: Whether jobs are only to be stopped: damaged circuits do not prevent that.

    Raises:
        HardwareError: If the folder holds no usable plan, cannot be written, or another process works on it.
        PluginError: If it needs a plugin that is not loaded.
    """
    root = Path(folder)
    content = read_plan(root)
    check_plan_plugins(content, root)
    settings = settings_of(content, root)
    paid = is_paid(settings.backend, settings.service)
    with locked(root):
        readable = True
        try:
            bound, layouts, learning = load_layouts(root, settings, content, say)
        except HardwareError as error:
            if not to_cancel:
                raise
            say(f"jobs can be stopped, but results are not read: {error}")
            bound, layouts, learning, readable = {}, {0: {}}, {}, False
        mend_ledger(root, content["plan"], say)
        with Ledger(root / LEDGER_FILE, content["plan"]) as ledger:
            context = JobContext(
                ledger,
                service or DeferredService(lambda: make_service(settings, root), paid),
                layouts[0],
                settings,
                0.0,
                clock or Clock(),
                say,
                layouts=dict(layouts),
                learning=learning,
                marked=bool(content.get("marked", False)),
                # Plans of earlier versions do not say where they were made.
                copied=content.get("home", home_of(root)) != home_of(root),
                readable=readable,
            )
            check = None if before_sending is None else partial(before_sending, content, root)
            execution = PlanExecution(root, content, lambda: load(content, root), bound, context, check)
            execution.price_later_rounds()
            yield execution


def locked(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes out of a plan's folder; see `qhybrid.workspace.locked`."""
    return workspace.locked(folder, LOCK_FILE, HardwareError)
