"""What a plan cost and what came back: seconds planned and billed, jobs, results and their prediction."""

from __future__ import annotations

from typing import Any

from qhybrid.errors import HardwareError
from qhybrid.hardware.ledger import LEDGER_FILE, Chunk, Job, Ledger
from qhybrid.hardware.ledger.mending import ELSEWHERE
from qhybrid.hardware.ledger.records import DONE, Duplicate, OpenedSession
from qhybrid.metrics import metric_label, show_metric
from qhybrid.report.hardware_sources import PlanSource
from qhybrid.report.labels import counted
from qhybrid.report.parts import Table

DASH = "–"
MOST_JOBS = 40
"""Rows of the table of jobs."""


class Ledgered:
    """What the ledger of a plan says of its jobs.

    Args:
        plan: The plan.

    Raises:
        HardwareError: If the ledger is not there, or damaged.
    """

    def __init__(self, plan: PlanSource) -> None:
        with Ledger(plan.folder / LEDGER_FILE, plan.plan["plan"], read_only=True) as ledger:
            self.chunks: list[Chunk] = ledger.chunks()
            self.jobs: list[Job] = [one for one in ledger.jobs() if one.id is not None]
            self.duplicates: list[Duplicate] = ledger.duplicates()
            self.sessions: list[OpenedSession] = ledger.sessions()
            self.billed = ledger.billed_seconds()
            self.open_bills = ledger.open_bills()

    def wasted(self) -> float:
        """Return billed seconds of jobs that have no result: stopped or failed ones, and second ones."""
        kept = {chunk.number for chunk in self.chunks if chunk.state == DONE}
        of_jobs = [
            one.usage or 0.0
            for one in self.jobs
            if one.state != DONE or one.chunk not in kept or one.message == ELSEWHERE
        ]
        return sum(of_jobs) + sum(one.usage or 0.0 for one in self.duplicates)


NO_LEDGER = (
    "The plan's ledger is lost or damaged, so its bills and jobs are not known here: `qhybrid hardware "
    "collect` makes it again."
)


def read_ledger(plan: PlanSource) -> Ledgered | None:
    """Return what a plan's ledger says; None where it cannot be read: the next command makes it again."""
    if not (plan.folder / LEDGER_FILE).is_file():
        return None
    try:
        return Ledgered(plan)
    except (HardwareError, KeyError, ValueError, TypeError):  # also one whose rows do not fit together
        return None


def cost_table(plan: PlanSource, ledger: Ledgered) -> Table:
    """Return what was planned beside what was obtained: cost first, then results.

    Args:
        plan: The plan.
        ledger: What its ledger says.
    """
    rounds, local = plan.plan["rounds"], plan.local
    executions = sum(one["executions"] for one in rounds)
    rows = [
        (
            "QPU seconds",
            f"{plan.plan['qpu_seconds']:.1f}",
            DASH if local else f"{ledger.billed:.1f}{_still_open(ledger)}",
        ),
        ("of these for jobs without a result", "0", DASH if local else f"{ledger.wasted():.1f}"),
        ("jobs", str(sum(one["jobs"] for one in rounds)), str(len(ledger.jobs) + len(ledger.duplicates))),
        ("microseconds an execution, jobs' overhead included", *_each(plan, ledger, executions)),
        ("executions", f"{executions:,}", DASH),
        ("chunks with a result", str(len(ledger.chunks)), str(_done(ledger))),
    ]
    return Table(("", "planned", "obtained"), [*rows, *_results(plan)], (1, 2))


def _still_open(ledger: Ledgered) -> str:
    return ", not complete" if ledger.open_bills else ""


def _done(ledger: Ledgered) -> int:
    return sum(chunk.state == DONE for chunk in ledger.chunks)


def _each(plan: PlanSource, ledger: Ledgered, executions: int) -> tuple[str, str]:
    """Return microseconds an execution as planned and as billed, over whole plans alone."""
    if not executions:
        return DASH, DASH
    planned = f"{1e6 * plan.plan['qpu_seconds'] / executions:.0f}"
    complete = _done(ledger) == len(ledger.chunks) and not _still_open(ledger)
    if plan.local or not complete or len(plan.plan["rounds"]) != len({one.round for one in ledger.chunks}):
        return planned, DASH
    return planned, f"{1e6 * (ledger.billed - ledger.wasted()) / executions:.0f}"


def _results(plan: PlanSource) -> list[tuple[str, str, str]]:
    """Return accuracy and the like, as predicted for the device and as obtained."""
    predicted, found = plan.plan["predicted"], plan.metrics or {}
    rows = [
        (
            metric_label(metric),
            show_metric(metric, predicted["device_and_shots"].get(metric)),
            show_metric(metric, found.get("obtained", {}).get(metric)),
        )
        for metric in predicted["exact"]
    ]
    obtained = found.get("same_class_as_exact")
    share = DASH if obtained is None else f"{100 * obtained:.2f} %"
    rows.append(("same class as exact", f"{100 * predicted['same_class_as_exact']:.2f} %", share))
    if "observable_deviation_rms" in found:
        alone = f"{found['observable_error_rms']:.4f}, by shots alone"
        rows.append(("deviation of observables (rms)", alone, f"{found['observable_deviation_rms']:.4f}"))
    return rows


def cost_remarks(plan: PlanSource, ledger: Ledgered) -> list[str]:
    """Return sentences on what the tables of cost leave out.

    Args:
        plan: The plan.
        ledger: What its ledger says.
    """
    remarks = ["Nothing is billed for a fake device or a simulator."] if plan.local else []
    billed = sum(one.usage or 0.0 for one in ledger.sessions)
    if billed:
        remarks.append(f"Sessions were billed {billed:.1f} s, the time between their jobs included.")
    if calibration := plan.plan.get("readout_calibration"):
        remarks.append(f"In every job {calibration['executions']:,} executions measure read-out errors.")
    learning = plan.plan.get("noise_learning")
    if learning and not learning["layers"]:
        remarks.append("No circuit has gates on two qubits, so no noise was raised.")
    elif learning and learning["noise"] == "learned":
        remarks.append(_learned(learning, ledger))
    elif learning:
        remarks.append(f"The noise that was raised was {learning['noise']}.")
    remarks += [_remapped(one) for one in plan.plan.get("layouts", [])]
    left = 0 if plan.local else len(ledger.jobs) + len(ledger.duplicates) - MOST_JOBS
    if left > 0:
        remarks.append(f"{counted(left, 'further job')} not shown: `qhybrid hardware status`.")
    return remarks


def _learned(learning: dict[str, Any], ledger: Ledgered) -> str:
    """Return how many jobs learned noise, or are to, and what was planned for them."""
    chunks = [one for one in ledger.chunks if one.learns]
    jobs = [one for one in ledger.jobs if one.chunk in {chunk.number for chunk in chunks}]
    if len(jobs) < 2 and len(chunks) < 2:
        return (
            f"One job learned the noise of {counted(learning['layers'], 'layer')} of gates: "
            f"{learning['executions']:,} executions, {learning['qpu_seconds']:.1f} s planned."
        )
    anew = " (a remapping learns other qubits anew)" if len(chunks) > 1 else ""
    return (
        f"{counted(max(len(jobs), len(chunks)), 'job')} to learn the noise of layers of gates{anew}: "
        f"{sum(one.seconds for one in chunks):.1f} s planned."
    )


def _remapped(layout: dict[str, Any]) -> str:
    """Return what a remapping has changed, in a sentence."""
    places = sorted(
        {qubit for one in layout["circuits"].values() for place in one["places"] for qubit in place}
    )
    text = (
        f"Mapped anew on {layout['created'][:10]}: {counted(len(layout['chunks']), 'chunk')} not sent by "
        f"then, on qubits {' '.join(map(str, places))}"
    )
    predicted = layout.get("predicted", {})
    values = [
        f"{metric_label(metric)} {show_metric(metric, value)}"
        for metric, value in list(predicted.get("device_and_shots", {}).items())[:2]
    ]
    if predicted:
        values.append(f"same class as exact {100 * predicted['same_class_as_exact']:.2f} %")
    return f"{text}{'; predicted then: ' + ', '.join(values) if values else ''}."


def jobs_table(plan: PlanSource, ledger: Ledgered) -> Table | None:
    """Return one row for every job, its estimate beside its bill; None where there are none, or no bills.

    Args:
        plan: The plan.
        ledger: What its ledger says.
    """
    if plan.local or not ledger.jobs:
        return None
    seconds = {chunk.number: chunk.seconds for chunk in ledger.chunks}
    rows = [
        (
            str(job.id),
            str(job.chunk),
            str(job.attempt),
            job.state.replace("_", " "),
            f"{seconds[job.chunk]:.2f}",
            DASH if job.usage is None else f"{job.usage:.2f}",
            DASH if job.usage is None or not seconds[job.chunk] else f"{job.usage / seconds[job.chunk]:.2f}",
        )
        for job in ledger.jobs
    ]
    rows += [
        (one.id, DASH, DASH, f"second job: {one.outcome}", DASH, _bill(one.usage), DASH)
        for one in ledger.duplicates
    ]
    heads = ("job", "chunk", "attempt", "state", "planned, s", "billed, s", "billed / planned")
    return Table(heads, rows[:MOST_JOBS], (1, 2, 4, 5, 6))


def _bill(usage: float | None) -> str:
    return DASH if usage is None else f"{usage:.2f}"
