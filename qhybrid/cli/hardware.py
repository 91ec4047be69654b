"""`qhybrid hardware`: inference on devices: plan, submit, collect, status, cancel, run, backends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from qhybrid.cli.console import console, progress_bar, say, say_path
from qhybrid.cli.evaluate import RUN_HELP, check_which
from qhybrid.cli.hardware_tables import print_outcome, print_plan, print_status
from qhybrid.cli.lookup import find_run
from qhybrid.cli.train import DATA_ROOT_HELP
from qhybrid.config import apply_overrides, validated
from qhybrid.errors import HardwareError

if TYPE_CHECKING:
    from qhybrid.hardware.settings import HardwareSettings
    from qhybrid.hardware.work import Work
    from qhybrid.hardware.workload import Workload

app = typer.Typer(help="Run trained models on quantum hardware.", no_args_is_help=True)

PLANS = "hardware"
PLAN_FILE = "plan.json"
Run = Annotated[str, typer.Argument(help=RUN_HELP)]
Plan = Annotated[str, typer.Argument(help="A plan's folder, or a run (folder or name) for its newest plan.")]
Split = Annotated[str, typer.Option("--data", help="Split of the run's data set: train, val or test.")]
Limit = Annotated[int, typer.Option(help="Number of samples, spread over the split.")]
BackendName = Annotated[
    str, typer.Option(help="fake_torino, ..., aer (no noise), or a device of the service.")
]
Shots = Annotated[int, typer.Option(help="Executions of every measured circuit and sample.")]
Layers = Annotated[list[str] | None, typer.Option("--layer", help="Quantum layer for the device.")]
Mitigate = Annotated[str, typer.Option(help="Error mitigation: none, cheap, standard or strong.")]
Cap = Annotated[float | None, typer.Option("--max-qpu-seconds", help="Refuse plans beyond this.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Other settings, as in mode=job or patience.poll_s=10.")
]
Weights = Annotated[str, typer.Option("--which", help="Weights of the `best` or of the `last` epoch.")]
DataRoot = Annotated[Path | None, typer.Option(help=DATA_ROOT_HELP)]


@app.command()
def plan(
    run: Run,
    data: Split = "test",
    limit: Limit = 64,
    backend: BackendName = "fake_torino",
    shots: Shots = 1024,
    layer: Layers = None,
    mitigation: Mitigate = "cheap",
    max_qpu_seconds: Cap = None,
    set_: Settings = None,
    which: Weights = "best",
    data_root: DataRoot = None,
) -> None:
    """Map, check and price the work; send nothing."""
    settings = _settings(backend, shots, layer, mitigation, max_qpu_seconds, set_)
    folder = _make_plan(run, data, limit, which, data_root, settings)
    print_plan(folder)
    say_path("plan", folder)


@app.command()
def submit(
    plan: Plan,
    again: Annotated[bool, typer.Option("--again", help="Also jobs that were cancelled or failed.")] = False,
) -> None:
    """Send the jobs of the current round, each once."""
    with _open(plan) as work:
        count = work.submit(again)
        say(f"{count} job(s) sent" if count else "nothing to send")
        print_status(work.status())


@app.command()
def collect(
    plan: Plan, wait: Annotated[bool, typer.Option(help="Wait until all jobs have ended.")] = True
) -> None:
    """Fetch results; write predictions and metrics once all are there."""
    with _open(plan) as work:
        with progress_bar("jobs") as progress:
            outputs = work.collect(wait, progress)
        print_status(work.status())
        work.check_decisions()
        _finish(work, outputs)


@app.command()
def status(plan: Plan) -> None:
    """Show what the ledger knows; ask nothing of the service."""
    from qhybrid.hardware.work import ledger_status

    print_status(ledger_status(find_plan(plan)))


@app.command()
def cancel(plan: Plan) -> None:
    """Cancel all jobs that have not ended; results that are there are kept."""
    with _open(plan) as work:
        say(f"{work.cancel()} job(s) cancelled")
        print_status(work.status())


@app.command("run")
def run_(
    run: Annotated[str, typer.Argument(help="A run to plan and execute, or a plan's folder to go on with.")],
    data: Split = "test",
    limit: Limit = 64,
    backend: BackendName = "fake_torino",
    shots: Shots = 1024,
    layer: Layers = None,
    mitigation: Mitigate = "cheap",
    max_qpu_seconds: Cap = None,
    set_: Settings = None,
    which: Weights = "best",
    data_root: DataRoot = None,
) -> None:
    """Plan, submit and collect until predictions are there."""
    folder = Path(run)
    if not (folder / PLAN_FILE).is_file():
        settings = _settings(backend, shots, layer, mitigation, max_qpu_seconds, set_)
        folder = _make_plan(run, data, limit, which, data_root, settings)
        print_plan(folder)
    with _open(str(folder)) as work:
        with progress_bar("jobs") as progress:
            outputs = work.run(progress)
        _finish(work, outputs)


@app.command()
def backends(
    run: Run,
    name: Annotated[list[str] | None, typer.Argument(help="Backends; fake ones if absent.")] = None,
    data: Split = "test",
    limit: Limit = 8,
    shots: Shots = 1024,
    layer: Layers = None,
    mitigation: Mitigate = "cheap",
    set_: Settings = None,
    service: Annotated[
        bool, typer.Option("--service", help="Also the devices of the saved account.")
    ] = False,
    data_root: DataRoot = None,
) -> None:
    """Rank devices for a model by predicted accuracy and cost."""
    settings = _settings("fake_torino", shots, layer, mitigation, None, set_)

    from qhybrid.hardware.ranking import DEFAULT_BACKENDS, rank_backends

    names = list(name or DEFAULT_BACKENDS)
    if service:
        from qhybrid.hardware.ibm import list_service_devices

        names += list_service_devices()
    table = Table("backend", "same class as exact", "accuracy", "two-qubit gates", "QPU seconds", "")
    workload = _workload(run, data, limit, "best", data_root)
    for one in rank_backends(workload, settings, names, lambda one: say(f"{one.backend} done")):
        accuracy = "-" if one.accuracy is None else f"{100 * one.accuracy:.2f} %"
        numbers = (
            f"{100 * one.same_class:.2f} %",
            accuracy,
            str(one.two_qubit_gates),
            f"{one.qpu_seconds:.1f}",
        )
        table.add_row(one.backend, *(("", "", "", "") if one.problem else numbers), one.problem)
    console.print(table)


def find_plan(text: str) -> Path:
    """Return a plan's folder from its path, or the newest plan of a run.

    Raises:
        HardwareError: If there is none.
    """
    given = Path(text)
    if (given / PLAN_FILE).is_file():
        return given
    plans = sorted((find_run(text) / PLANS).glob(f"*/{PLAN_FILE}"), key=lambda file: file.stat().st_mtime)
    if not plans:
        raise HardwareError(
            f"{text} must be a plan or a run that has one, but is neither. Fix: qhybrid hardware plan RUN."
        )
    return plans[-1].parent


def _settings(
    backend: str,
    shots: int,
    layers: list[str] | None,
    mitigation: str,
    cap: float | None,
    others: list[str] | None,
) -> HardwareSettings:
    from qhybrid.hardware.settings import LEVELS, HardwareSettings

    if mitigation not in LEVELS:
        raise typer.BadParameter(f"must be one of {', '.join(LEVELS)}", param_hint="--mitigation")
    content: dict[str, Any] = {
        "backend": backend,
        "shots": shots,
        "layers": layers or None,
        "max_qpu_seconds": cap,
        "mitigation": LEVELS[mitigation].model_dump(mode="json"),
    }
    return validated(HardwareSettings, apply_overrides(content, others or [], "--set"), "hardware settings")


def _workload(run: str, split: str, limit: int, which: str, data_root: Path | None) -> Workload:
    folder, weights = find_run(run), check_which(which)

    from qhybrid.hardware.runs import workload_of_run

    return workload_of_run(folder, split, limit, weights, data_root)


def _make_plan(
    run: str, split: str, limit: int, which: str, data_root: Path | None, settings: HardwareSettings
) -> Path:
    workload = _workload(run, split, limit, which, data_root)

    from qhybrid.hardware.planning import make_plan

    return make_plan(workload, settings, find_run(run) / PLANS, say)


@contextmanager
def _open(plan: str) -> Iterator[Work]:
    folder = find_plan(plan)

    from qhybrid.hardware.runs import load_workload
    from qhybrid.hardware.work import open_work

    with open_work(folder, load_workload, say=say) as work:
        yield work


def _finish(work: Work, outputs: Any) -> None:
    """Write and print results, or say what comes next."""
    if outputs is None:
        say("not all results are there: submit the next round, or collect again later")
        return

    from qhybrid.hardware.outcome import RESULTS, write_outcome

    print_outcome(write_outcome(work, outputs))
    say_path("results", work.folder / RESULTS)
