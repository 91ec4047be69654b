"""Tables of plans on quantum hardware."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from qhybrid.errors import ConfigError, DataError
from qhybrid.hardware.plan.plan_files import circuit_names
from qhybrid.metrics import metric_label, show_metric
from qhybrid.noise import NoiseProfile
from qhybrid.noise.summary import summary
from qhybrid.report.hardware_sources import PlanSource
from qhybrid.report.parts import Table, without_constant

CALIBRATIONS = ("results/calibration.yaml", "calibration.yaml")
DASH = "–"


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.2f} %"


def summary_table(plans: list[PlanSource]) -> Table:
    """Return one row for every plan and metric."""
    heads = (
        "device", "shots", "samples", "metric", "simulator", "predicted", "obtained",
        "same class, predicted", "obtained", "QPU s, predicted", "billed",
    )  # fmt: skip
    rows = []
    for plan in plans:
        predicted, metrics = plan.plan["predicted"], plan.metrics or {}
        status = metrics.get("status", {})
        billed = status.get("qpu_seconds_billed", status.get("qpu_seconds_spent"))
        # Metrics of earlier versions do not count open bills.
        is_open = billed is not None and (
            status.get("open_bills", 0) or billed < status.get("qpu_seconds_spent", 0.0)
        )
        still_open = ", not complete" if is_open else ""
        of_plan = (
            _percent(predicted["same_class_as_exact"]),
            _percent(metrics.get("same_class_as_exact")),
            f"{plan.plan['qpu_seconds']:.1f}",
            DASH if billed is None or plan.local else f"{billed:.1f}{still_open}",
        )
        for number, metric in enumerate(predicted["exact"] or [""]):
            rows.append(
                (
                    _cell(title_of(plan, plans)) if number == 0 else "",
                    f"{plan.plan['settings']['shots']:,}",
                    str(len(plan.plan["samples"])),
                    metric_label(metric) if metric else DASH,
                    show_metric(metric, predicted["exact"].get(metric)),
                    show_metric(metric, predicted["device_and_shots"].get(metric)),
                    show_metric(metric, metrics.get("obtained", {}).get(metric)),
                    *(of_plan if number == 0 else ("",) * len(of_plan)),
                )
            )
    table = Table(heads, rows, (1, 2, 4, 5, 6, 7, 8, 9, 10))
    return without_constant(table, keep=(0, 3, 4, 5, 6, 7, 8, 9, 10))


def title_of(plan: PlanSource, plans: list[PlanSource]) -> str:
    """Return a plan's device; with its time, or else its folder, where several plans have the same one."""
    same = [one for one in plans if one.backend == plan.backend]
    if len(same) == 1:
        return plan.backend
    for length in (16, 19):  # minutes, seconds
        time = plan.plan["created"][:length]
        if [one.plan["created"][:length] for one in same].count(time) == 1:
            return f"{plan.backend}, {time.replace('T', ' ')}"
    return f"{plan.backend}, {plan.folder.name}"


def _cell(title: str) -> str:
    """Return a title whose date stays on one line."""
    device, comma, date = title.partition(", ")
    return Markup('{}{}<span class="whole">{}</span>').format(device, comma, date) if date else device


def circuits_table(plan: dict[str, Any]) -> Table:
    """Return the size of every circuit as it is mapped; `plan` is plan.json."""
    heads = ("circuit", "qubits", "bases", "copies", "two-qubit gates", "depth of these", "length")
    rows = [
        (
            name,
            str(one["qubits"]),
            " ".join(dict.fromkeys(one["bases"])),
            str(one["copies"]),
            _before(one, "two_qubit_gates", "d") + str(one["two_qubit_gates"]),
            _before(one, "two_qubit_depth", "d") + str(one["two_qubit_depth"]),
            _before(one, "microseconds", ".2f") + f"{one['microseconds']:.2f} µs",
        )
        for name, one in zip(circuit_names(plan), plan["circuits"].values(), strict=True)
    ]
    return Table(heads, rows, (1, 3, 4, 5, 6))


def _before(one: dict[str, Any], key: str, form: str) -> str:
    """Return what a circuit would have without fractional gates, where it has them."""
    plain = one.get("without_fractional")
    return "" if plain is None else f"{plain[key]:{form}} → "


def price_table(plan: dict[str, Any]) -> Table:
    """Return what every round takes; `plan` is plan.json."""
    heads = ("round", "parameter sets", "distinct", "jobs", "circuits sent", "executions", "QPU s, predicted")
    rows = [
        (
            str(number + 1),
            f"{one['rows']:,}",
            f"{one['points']:,}",
            str(one["jobs"]),
            str(one["pubs"]),
            f"{one['executions']:,}",
            f"{one['qpu_seconds']:.1f}",
        )
        for number, one in enumerate(plan["rounds"])
    ]
    filters = plan.get("fixed_filters")
    if filters:
        rows.append(
            (
                "fixed filter, on the simulator",
                f"{filters['rows']:,}",
                f"{filters['points']:,}",
                *(DASH,) * 3,
                f"0 (on the device {filters['qpu_seconds_on_device']:,.0f})",
            )
        )
    return Table(heads, rows, (1, 2, 3, 4, 5, 6))


def calibration_table(plan: PlanSource) -> Table | None:
    """Return error rates of the qubits that a plan uses; None for a simulator.

    Raises:
        DataError: If its calibration is damaged.
    """
    file = next((plan.folder / name for name in CALIBRATIONS if (plan.folder / name).is_file()), None)
    if file is None:
        return None
    places = {qubit for one in plan.plan["circuits"].values() for place in one["places"] for qubit in place}
    try:
        profile = NoiseProfile.load(file).restrict(sorted(places))
    except ConfigError as error:
        raise DataError(
            f"{file}: must be readable for the report, but is not: {error} Fix: put it back from a copy of "
            "the plan's folder (`qhybrid hardware collect PLAN` writes that of results/ again), or move the "
            "plan's folder away."
        ) from error
    rows = [
        (one.label, *(f"{value:.3g}" for value in (one.smallest, one.median, one.largest)))
        for one in summary(profile)
    ]
    of = f"{len(places)} qubits, {profile.date or 'date not known'}"
    return Table((of, "smallest", "median", "largest"), rows, (1, 2, 3))
