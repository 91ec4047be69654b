"""What the page shows of a run's plans on quantum hardware."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from qhybrid.errors import DataError, QHybridError
from qhybrid.hardware.settings import describe_mitigation
from qhybrid.report.confusion import ConfusionTable, confusion_table
from qhybrid.report.hardware_charts import accuracy_chart, deviation_chart
from qhybrid.report.hardware_cost import (
    NO_LEDGER,
    cost_remarks,
    cost_table,
    jobs_table,
    read_ledger,
)
from qhybrid.report.hardware_sources import PlanSource, read_plans
from qhybrid.report.hardware_tables import (
    calibration_table,
    circuits_table,
    price_table,
    summary_table,
    title_of,
)
from qhybrid.report.labels import counted, samples_said
from qhybrid.report.parts import Figure, Table

OUTPUTS = "results/outputs.safetensors"
SAMPLES = "samples.safetensors"
NOT_COUNTED = 255


@dataclass
class DevicePart:
    """One plan.

    Attributes:
        title: The device.
        facts: What was executed, in a sentence.
        tables: Circuits, price, calibration, by heading.
        figures: Deviations.
        confusions: Of the model with its layers on the device.
        remarks: Duplicates and whatever else went wrong.
    """

    title: str
    facts: str
    tables: list[tuple[str, Table]]
    figures: list[Figure] = field(default_factory=list)
    confusions: list[ConfusionTable] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass
class HardwarePart:
    """All plans of a run.

    Attributes:
        name: The run.
        summary: One row a plan.
        figures: Predicted against obtained.
        devices: The plans.
    """

    name: str
    summary: Table
    figures: list[Figure]
    devices: list[DevicePart]


def hardware_part(name: str, folder: Path) -> HardwarePart | None:
    """Return what a run did on hardware; None if it has no plans.

    Args:
        name: What the page calls the run.
        folder: The run folder.

    Raises:
        DataError: If a file of a plan is damaged.
    """
    plans = read_plans(folder)
    try:
        return _part(name, folder, plans) if plans else None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, QHybridError):
            raise
        where = plans[0].folder if len(plans) == 1 else folder / "hardware"
        raise DataError(
            f"{where}: plan.json and results/metrics.json must hold a plan and its results, but are damaged "
            f"({type(error).__name__}: {error}). Fix: collect again, or move the plan's folder away."
        ) from error


def _part(name: str, folder: Path, plans: list[PlanSource]) -> HardwarePart:
    # There is no accuracy where no pixel has a label.
    done = [one for one in plans if (one.metrics or {"obtained": {}})["obtained"].get("accuracy") is not None]
    figures = []
    if done:
        labels = [f"{title_of(one, plans)}, {one.plan['settings']['shots']:,} shots" for one in done]
        found = [plan.metrics or {} for plan in done]
        chart = accuracy_chart(list(zip(labels, found, strict=True)), f"hardware-{folder.name}")
        text = f"{name}: accuracy on the simulator, as the plan predicted it for the device, and as obtained."
        figures.append(Figure(text, chart))
    devices = [
        _device(plan, title_of(plan, plans), f"{folder.name}-{number}") for number, plan in enumerate(plans)
    ]
    return HardwarePart(name, summary_table(plans), figures, devices)


def _device(plan: PlanSource, title: str, name: str) -> DevicePart:
    tables = [("Circuits", circuits_table(plan.plan)), ("Price", price_table(plan.plan))]
    ledger = read_ledger(plan)
    if ledger is not None:
        tables.insert(0, ("What it cost and what came back", cost_table(plan, ledger)))
        if (jobs := jobs_table(plan, ledger)) is not None:
            tables.append(("Jobs", jobs))
    calibration = calibration_table(plan)
    if calibration is not None:
        tables.append(("Calibration of the qubits that were used", calibration))
    part = DevicePart(title, _facts(plan.plan), tables)
    part.remarks += [NO_LEDGER] if ledger is None else cost_remarks(plan, ledger)
    if plan.metrics is None:
        part.remarks.append("There are no results yet.")
        return part
    if plan.deviations is not None and len(plan.deviations):
        found = plan.metrics
        text = (
            "Above: mean deviation of every observable from its exact value, with two standard errors from "
            "shots. Below: root mean square of the deviations, and what shots alone would give (ticks). All "
            f"observables: {found['observable_deviation_rms']:.4f}, by shots alone "
            f"{found['observable_error_rms']:.4f}."
        )
        part.figures.append(Figure(text, deviation_chart(plan.deviations, f"deviations-{name}")))
    part.confusions = _confusions(plan, title)
    part.remarks += [
        f"The service had a second job {one['id']}: {one['outcome']}, billed "
        f"{'not known' if one['usage'] is None else format(one['usage'], 'g') + ' s'}."
        for one in plan.metrics["duplicates"]
    ]
    return part


def _facts(plan: dict[str, Any]) -> str:
    """Return what was executed, in a sentence."""
    settings, rounds = plan["settings"], plan["rounds"]
    executions, jobs = (sum(one[key] for one in rounds) for key in ("executions", "jobs"))
    samples = samples_said(len(plan["samples"]), plan.get("origin", {}).get("data", {}))
    return (
        f"Planned {plan['created'][:10]}: {samples}, "
        f"{settings['shots']:,} shots, "
        f"{executions:,} executions in {counted(jobs, 'job')} and {counted(len(rounds), 'round')}; "
        f"layers {', '.join(plan['layers'])}; "
        f"{describe_mitigation(settings['mitigation'])}."
    )


def _confusions(plan: PlanSource, title: str) -> list[ConfusionTable]:
    """Return the confusion that was obtained; nothing where the truth is not known."""
    names = plan.plan["class_names"]
    try:
        outputs, samples = load_file(plan.folder / OUTPUTS), load_file(plan.folder / SAMPLES)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{plan.folder}: outputs and samples must be readable for the report, but are not: {error}. Fix: "
            "collect the plan again, or move its folder away."
        ) from error
    if "targets" not in samples or not names:
        return []
    truth, count = samples["targets"].astype(np.int64), len(names)
    counted = truth != NOT_COUNTED
    places = truth[counted] * count + outputs["classes"][counted]
    counts = np.bincount(places, minlength=count * count).reshape(count, count)
    return [confusion_table(f"Obtained on {title}.", names, counts.tolist())]
