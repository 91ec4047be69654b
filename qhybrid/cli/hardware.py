"""`qhybrid hardware`: inference on devices: plan, submit, collect, status, cancel, run, backends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.api.lookup import find_run
from qhybrid.api.plan_folders import PLAN_FILE, find_plan, new_plan, plan_of
from qhybrid.api.plans import execution_of
from qhybrid.cli.console import progress_bar, say, say_path, short
from qhybrid.cli.evaluate import RUN_HELP
from qhybrid.cli.hardware_options import PlanOptions, RankOptions, Settings, given_options, with_options
from qhybrid.cli.hardware_tables import (
    print_findings,
    print_jobs,
    print_next_step,
    print_outcome,
    print_plan,
    print_ranking,
    print_remapped,
    print_status,
)
from qhybrid.cli.hashing import hashing_bar
from qhybrid.errors import HardwareError

if TYPE_CHECKING:
    from qhybrid.hardware.jobs.execution import PlanExecution

app = typer.Typer(help="Run trained models on quantum hardware.", no_args_is_help=True)

Run = Annotated[str, typer.Argument(help=RUN_HELP)]
Plan = Annotated[str, typer.Argument(help="A plan's folder, or a run (folder or name) for its newest plan.")]


ChangedData = Annotated[
    bool,
    typer.Option("--changed-data", help="Go on with the plan's own samples, though the data have changed."),
]


Pilot = Annotated[
    bool | None,
    typer.Option(
        "--pilot/--no-pilot",
        help="Send a small job first and look at its bill and deviations; by default where a plan is large.",
    ),
]


@app.command()
@with_options(PlanOptions)
def plan(run: Run, options: PlanOptions) -> None:
    """Map, check and price the work; send nothing."""
    folder = new_plan(find_run(run), options.request(), say)
    print_plan(folder)
    say_path("plan", folder)


@app.command()
def submit(
    plan: Plan,
    again: Annotated[bool, typer.Option("--again", help="Also jobs that were cancelled or failed.")] = False,
    changed_data: ChangedData = False,
    pilot: Pilot = None,
    max_qpu_seconds: Annotated[
        float | None, typer.Option(min=0, help="Raise the plan's cap; it holds for later commands, too.")
    ] = None,
) -> None:
    """Send the jobs of the current round, each once."""
    with _open(plan, changed_data) as execution:
        if max_qpu_seconds is not None:
            execution.raise_cap(max_qpu_seconds)
        count = execution.submit(again, pilot)
        say(f"{_jobs(count)} sent" if count else "nothing to send")
        print_status(execution.status())
        execution.check_decisions()


@app.command()
def collect(
    plan: Plan,
    wait: Annotated[bool, typer.Option(help="Wait until all jobs have ended.")] = True,
    changed_data: ChangedData = False,
) -> None:
    """Fetch results; write predictions and metrics once all are there."""
    with _open(plan, changed_data) as execution:
        with _partly_at_least(execution):
            with progress_bar("jobs") as progress:
                outputs = execution.collect(wait, progress)
            print_status(execution.status())
            execution.check_decisions()
        _finish(execution, outputs)


@app.command()
def status(
    plan: Plan,
    live: Annotated[bool, typer.Option(help="Ask the service where jobs stand that have not ended.")] = True,
) -> None:
    """Show what the ledger knows, every job with its id, and where the service has those that wait."""
    from qhybrid.hardware.jobs.status import job_rows, ledger_status

    folder = find_plan(plan)
    print_status(ledger_status(folder))
    print_jobs(*job_rows(folder, live))


@app.command()
def remap(plan: Plan) -> None:
    """Map what was not sent yet to the device's calibration of today; what was paid stays."""
    with _open(plan) as execution:
        from qhybrid.hardware.jobs.remapping import remap as map_anew

        print_remapped(map_anew(execution))


@app.command()
def cancel(plan: Plan) -> None:
    """Cancel all jobs that have not ended; results that are there are kept."""
    with _open(plan, to_cancel=True) as execution:
        say(f"{_jobs(execution.cancel())} cancelled")
        print_status(execution.status())


@app.command("run")
@with_options(PlanOptions)
def run_(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A run to plan and execute, or a plan's folder to go on with.")],
    options: PlanOptions,
    changed_data: ChangedData = False,
    pilot: Pilot = None,
) -> None:
    """Plan, submit and collect until predictions are there; the same command goes on after a crash."""
    folder = Path(run)
    if (folder / PLAN_FILE).is_file():
        given = given_options(context, PlanOptions)
        if given:
            raise typer.BadParameter(
                f"a plan keeps the settings that it was made with, so {', '.join(given)} cannot be given; "
                "make a new plan of the run"
            )
    else:
        folder = plan_of(find_run(run), options.request(), say)
        print_plan(folder)
    with _open(str(folder), changed_data) as execution:
        with _partly_at_least(execution), progress_bar("jobs") as progress:
            outputs = execution.run(progress, pilot)
        _finish(execution, outputs)


@app.command()
@with_options(RankOptions)
def backends(
    run: Run,
    options: RankOptions,
    name: Annotated[list[str] | None, typer.Argument(help="Backends; fake ones if absent.")] = None,
    service: Annotated[
        bool, typer.Option("--service", help="Also the devices of the saved account.")
    ] = False,
) -> None:
    """Rank devices for a model by predicted accuracy and cost."""
    request = options.request(backend="fake_torino")
    settings = request.hardware_settings()

    from qhybrid.hardware.plan.ranking import DEFAULT_BACKENDS, rank_backends

    names = list(name or DEFAULT_BACKENDS)
    if service:
        from qhybrid.hardware.services.backends import list_service_devices

        names += list_service_devices()
    workload = request.workload(find_run(run))
    names = list(dict.fromkeys(names))
    print_ranking(rank_backends(workload, settings, names, lambda one: say(f"{one.backend} done")))


@app.command()
def check(
    backend: Annotated[str, typer.Argument(help="A device of your account.")],
    set_: Settings = None,
) -> None:
    """Try out what is assumed of a service, for at most 10 QPU seconds; end with code 1 where it differs."""
    from qhybrid.config import apply_overrides, validated
    from qhybrid.hardware.service_kinds import rules_of
    from qhybrid.hardware.settings import HardwareSettings

    content = apply_overrides({"backend": backend}, set_ or [], "--set")
    settings = validated(HardwareSettings, content, "hardware settings")
    found = rules_of(settings).check_service(settings, say)
    print_findings(found)
    if any(one.agrees is False for one in found):
        raise typer.Exit(1)


def _jobs(count: int) -> str:
    from qhybrid.report.labels import counted

    return counted(count, "job")


@contextmanager
def _open(plan: str, changed_data: bool = False, to_cancel: bool = False) -> Iterator[PlanExecution]:
    folder = find_plan(plan)
    with hashing_bar(), execution_of(folder, say, changed_data, to_cancel) as execution:
        try:
            yield execution
        except KeyboardInterrupt:
            if execution.status()["in_flight"] and execution.context.service.paid:
                say(
                    "jobs that were sent go on and are billed: `qhybrid hardware cancel "
                    f"{short(folder)}` stops them, `qhybrid hardware run {short(folder)}` goes on"
                )
            raise


def _finish(execution: PlanExecution, outputs: Any) -> None:
    """Write and print results, or say what comes next."""
    if outputs is None:
        print_next_step(execution.status(), execution.folder)
        if not execution.status()["in_flight"]:
            _finish_partly(execution)
        return

    from qhybrid.hardware.jobs.outcome import RESULTS, write_outcome

    print_outcome(write_outcome(execution, outputs))
    say_path("results", execution.folder / RESULTS)


@contextmanager
def _partly_at_least(execution: PlanExecution) -> Iterator[None]:
    """Write predictions of complete samples if what is done in the block ends with an error."""
    try:
        yield
    except HardwareError:
        with suppress(HardwareError):  # the first one says what is to be done
            _finish_partly(execution)
        raise


def _finish_partly(execution: PlanExecution) -> None:
    """Write predictions of complete samples where nothing more comes by itself."""
    if not execution.status()["chunks"].get("done"):
        return

    from qhybrid.hardware.jobs.outcome import PARTIAL_FILE, RESULTS, write_partial

    samples = len(execution.content["samples"])
    if count := write_partial(execution):
        file = short(execution.folder / RESULTS / PARTIAL_FILE)
        say(f"predictions of {count} of {samples} samples are in {file}")
