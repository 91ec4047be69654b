"""Plans of a run: the newest, the one that options have already, and a new one."""

from __future__ import annotations

from pathlib import Path

from qhybrid.api.lookup import find_run
from qhybrid.cli.console import say
from qhybrid.cli.hardware_options import PlanOptions
from qhybrid.errors import HardwareError

PLANS = "hardware"
PLAN_FILE = "plan.json"
FINISHED = "results/metrics.json"


def find_plan(text: str) -> Path:
    """Return a plan's folder from its path, or the newest plan of a run.

    Raises:
        HardwareError: If there is none.
    """
    given = Path(text)
    if (given / PLAN_FILE).is_file():
        return given
    plans = _plans(text)
    if not plans:
        raise HardwareError(
            f"{text} must be a plan or a run that has one, but is neither. Fix: qhybrid hardware plan RUN."
        )
    return plans[-1]


def _plans(run: str) -> list[Path]:
    """Return the plans of a run, the newest last."""
    # Names with a dot in front are folders that a killed process was filling.
    files = (find_run(run) / PLANS).glob(f"[!.]*/{PLAN_FILE}")
    return [file.parent for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]


def plan_of(run: str, options: PlanOptions) -> Path:
    """Return the plan that these options have already, or make it."""
    from qhybrid.hardware.jobs.opening import locked

    plans = find_run(run) / PLANS
    plans.mkdir(exist_ok=True)
    # The same command twice at once must not make two plans, which would both be paid for.
    with locked(plans):
        known = _known_plan(run, options)
        if known is None:
            return new_plan(run, options)
    state = "has results" if (known / FINISHED).is_file() else "goes on"
    say(f"{known.name} {state}; `qhybrid hardware plan` makes a new plan")
    return known


def _known_plan(run: str, options: PlanOptions) -> Path | None:
    """Return the newest plan with these options: it is not to be paid for twice.

    Where nothing is paid, those with results do not count.
    """
    from qhybrid.hardware.plan.plan_files import read_plan
    from qhybrid.hardware.services.backends import is_paid

    for folder in reversed(_plans(run)):
        try:
            content = read_plan(folder)
        except HardwareError:
            continue  # of another version: it cannot be gone on with
        free = not is_paid(options.backend, options.service)
        again = free and (folder / FINISHED).is_file()
        if not again and options.fits(content, find_run(run)):
            return folder
    return None


def new_plan(run: str, options: PlanOptions) -> Path:
    """Make a plan and return its folder."""
    settings, workload = options.settings(), options.workload(run)

    from qhybrid.hardware.plan.planning import make_plan

    return make_plan(workload, settings, find_run(run) / PLANS, say)
