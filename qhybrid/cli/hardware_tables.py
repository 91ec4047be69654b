"""What `qhybrid hardware` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from qhybrid.cli.console import say, say_table, short

if TYPE_CHECKING:
    from qhybrid.hardware.jobs.remapping import Remapped
    from qhybrid.hardware.plan.ranking import Ranked
    from qhybrid.hardware.services.interface import Finding

PREDICTIONS = {
    "exact": "exact, on the simulator",
    "device": "device, average",
    "device_and_shots": "device with these shots",
}


def print_plan(folder: Path) -> None:
    """Print circuits, rounds, prices and predictions of a plan."""
    content = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    settings = content["settings"]
    from qhybrid.hardware.plan.plan_files import circuit_names
    from qhybrid.report.labels import samples_said

    samples = samples_said(len(content["samples"]), content.get("origin", {}).get("data", {}))
    say(f"{samples}, {settings['shots']} shots, {settings['backend']}")
    if content["account"]:
        say(f"account     {content['account']}")
    say(f"layers      {', '.join(content['layers'])}")
    if idle := _idle_layers(content):
        say(f"idle        {', '.join(idle)}: a router chooses other experts for all samples")
    heads = ("qubits", "bases", "copies", "two-qubit gates", "two-qubit depth", "length")
    circuits = Table(Column("circuit", no_wrap=True), *heads)
    for name, one in zip(circuit_names(content), content["circuits"].values(), strict=True):
        circuits.add_row(
            name,
            str(one["qubits"]),
            " ".join(dict.fromkeys(one["bases"])),
            str(one["copies"]),
            *_before_and_after(one),
        )
    say_table(circuits)
    parity = max(one["parity"] for one in content["circuits"].values())
    say(f"checked     what would be sent gives the layers' values without noise, within {parity:.0e}")
    _print_holes(content.get("calibration", {}))
    rounds = Table("round", "parameter sets", "distinct", "jobs", "PUBs", "executions", "kB", "QPU seconds")
    for number, one in enumerate(content["rounds"]):
        keys = ("rows", "points", "jobs", "pubs")
        numbers = (f"{one['executions']:,}", f"{one['bytes'] / 1000:.1f}", f"{one['qpu_seconds']:.1f}")
        rounds.add_row(str(number + 1), *(str(one[key]) for key in keys), *numbers)
    say_table(rounds)
    if measured := content.get("readout_calibration"):
        say(
            f"read-out    every job measures the errors of {len(measured['qubits'])} qubits with "
            f"{measured['shots']:,} shots of 0 and of 1: {measured['executions']:,} executions, counted above"
        )
    if learning := content.get("noise_learning"):
        _print_learning(learning)
    least = sum(one["limit_seconds"] for one in content["rounds"])
    say(f"QPU time    about {content['qpu_seconds']:g} s in all; --max-qpu-seconds must be at least {least}")
    if pilot := content.get("pilot"):
        say(f"pilot       a job of up to {pilot['executions']:,} executions goes first, the others wait")
    if content["fixed_filters"]:
        _print_filters(content["fixed_filters"])
    _print_predictions(content["predicted"])


def _idle_layers(content: dict[str, Any]) -> list[str]:
    """Return the layers that no sample passes through; plans of earlier versions do not say."""
    known = [one.get("layers") for one in content["circuits"].values()]
    used = {name for one in known for name in one or ()}
    return [name for name in content["layers"] if name not in used] if all(known) else []


def _print_learning(found: dict[str, Any]) -> None:
    """Print what is learned of the noise before it is raised, and what that costs."""
    if not found["layers"]:
        say("noise       no circuit has gates on two qubits: nothing is learned, and nothing raised")
        return
    depths = ", ".join(map(str, found["depths"]))
    numbers = f"{found['randomizations']} versions of {found['shots']} shots at depths {depths}"
    if found["noise"] == "learned":
        say(
            f"noise       of {found['layers']} layer(s) of gates is learned first, with {numbers}: "
            f"{found['executions']:,} executions, {found['qpu_seconds']:g} s, counted above"
        )
    else:
        say(
            f"noise       of {found['layers']} layer(s) of gates is {found['noise']}; on the real device "
            f"learning takes another {found['qpu_seconds']:g} s, with {numbers}"
        )


def _before_and_after(one: dict[str, Any]) -> list[str]:
    """Return two-qubit gates, their depth and the length of a circuit; without fractional gates at first."""
    before, unit = one.get("without_fractional"), {"microseconds": " us"}
    cells = []
    for key, form in (("two_qubit_gates", "d"), ("two_qubit_depth", "d"), ("microseconds", ".2f")):
        earlier = "" if before is None else f"{before[key]:{form}} -> "
        cells.append(f"{earlier}{one[key]:{form}}{unit.get(key, '')}")
    return cells


def _print_holes(found: dict[str, list[str]]) -> None:
    """Print what the device's calibration does not say."""
    if avoided := found.get("avoided"):
        say(f"avoided     not all is known of {', '.join(avoided)}")
    if assumed := found.get("assumed"):
        say(f"assumed     the device's medians for {', '.join(assumed)}, which its calibration does not have")
    if missing := found.get("missing"):
        say(f"not known   {', '.join(missing)}: predictions are made as if there were none, and are too good")


def _print_filters(found: dict[str, Any]) -> None:
    say(
        f"fixed filter {', '.join(found['layers'])} runs on the simulator (0 s); on the device it would take "
        f"about {found['qpu_seconds_on_device']:g} s: {found['executions_on_device']:,} executions, or "
        f"{found['executions_of_distinct_points']:,} with equal parameter sets once and copies side by side"
    )


def _print_predictions(
    predicted: dict[str, Any],
    obtained: dict[str, float] | None = None,
    anew: dict[str, float] | None = None,
) -> None:
    from qhybrid.metrics import metric_label, show_metric

    table = Table("")
    columns = {label: predicted[key] for key, label in PREDICTIONS.items() if key in predicted}
    if anew is not None:
        columns["after remapping"] = anew
    if obtained is not None:
        columns["obtained"] = obtained
    for label in columns:
        table.add_column(label, justify="right")
    metrics = predicted["device_and_shots"]
    for metric in metrics:
        table.add_row(
            metric_label(metric),
            *(show_metric(metric, values.get(metric)) for values in columns.values()),
        )
    if metrics:
        say_table(table)
    say(f"same class as exact: {100 * predicted['same_class_as_exact']:.2f} % predicted")


def print_status(found: dict[str, Any]) -> None:
    """Print a plan's state."""
    counts = {key: ", ".join(f"{n} {state}" for state, n in found[key].items()) for key in ("chunks", "jobs")}
    say(f"plan        {found['plan']} on {found['backend']}")
    say(f"rounds      {found['rounds']['entered']} of {found['rounds']['planned']}")
    say(f"results     {counts['chunks']}")
    say(f"jobs        {counts['jobs'] or 'none sent'}")
    say(f"duplicates  {found['duplicates']}")
    spent, billed = found["qpu_seconds_spent"], found["qpu_seconds_billed"]
    still_open = f" ({spent - billed:g} of them predicted: bills are open)" if found["open_bills"] else ""
    cap = "" if found["max_qpu_seconds"] is None else f", {found['max_qpu_seconds']:g} at most"
    say(f"QPU seconds {spent:g} spent{still_open}, {found['qpu_seconds_planned']:g} planned{cap}")


def print_jobs(rows: Sequence[dict[str, Any]], told: Sequence[str]) -> None:
    """Print every job with its id, and what is to be known beside that."""
    if rows:
        whole = [Column(name, no_wrap=True) for name in ("job", "state")]
        table = Table(whole[0], "chunk", "attempt", whole[1], "queue", "estimate", "billed")
        for row in rows:
            seconds = ["" if row[key] is None else f"{row[key]:g} s" for key in ("estimate", "usage")]
            numbers = (str(row["chunk"]), str(row["attempt"]), row["state"], str(row["position"] or ""))
            table.add_row(row["id"] or "no id yet", *numbers, *seconds)
        say_table(table)
    for text in told:
        say(text)


def print_remapped(found: Remapped) -> None:
    """Print what a remapping has changed."""
    if found.layout is None:
        say("the device is as it was: nothing is mapped anew")
        return
    table = Table(Column("circuit", no_wrap=True), "qubits before", "qubits now")
    for name, *places in found.places:
        table.add_row(name, *("; ".join(" ".join(map(str, one)) for one in place) for place in places))
    say_table(table)
    say(f"layout {found.layout} of {len(found.chunks)} job(s) that were not sent")
    say(f"QPU time    {found.seconds[1]:.1f} s, {found.seconds[0]:.1f} s before")
    planned, today, now = found.deviations
    unmapped = "" if today is None else f", {today:.4f} with today's calibration if it stayed"
    say(f"predicted deviation of observables {now:.4f} (rms), {planned:.4f} when it was planned{unmapped}")
    if found.predicted:
        _print_predictions(found.predicted)
        say("results that are there count as they came, the rest as today's calibration lets expect")


def print_next_step(found: dict[str, Any], plan: Path) -> None:
    """Print what a plan without predictions waits for."""
    from qhybrid.report.labels import counted

    if found["to_send"]:
        is_are = "is" if found["to_send"] == 1 else "are"
        say(f"{counted(found['to_send'], 'job')} {is_are} to be sent: qhybrid hardware submit {short(plan)}")
    else:
        has_have = "has" if found["in_flight"] == 1 else "have"
        say(f"{counted(found['in_flight'], 'job')} {has_have} not ended: collect again later")
    if held := found.get("waiting_for_noise"):
        say(f"{counted(held, 'job')} more once the noise of their layers is learned and collected")


def print_ranking(found: Sequence[Ranked]) -> None:
    """Print backends in their order."""
    from qhybrid.metrics import show_metric

    heads = ("same class as exact", "accuracy", "two-qubit gates", "QPU seconds")
    table = Table(Column("backend", no_wrap=True), *heads)
    for one in found:
        if one.problem:
            continue
        accuracy = show_metric("accuracy", one.accuracy)
        numbers = (
            f"{100 * one.same_class:.2f} %",
            accuracy,
            str(one.two_qubit_gates),
            f"{one.qpu_seconds:.1f}",
        )
        table.add_row(one.backend, *numbers)
    if table.row_count:
        say_table(table)
    for one in found:
        if one.problem:
            say(f"{one.backend} is not usable: {one.problem}")
        elif one.missing:
            say(f"{one.backend} comes last: its calibration has no {', '.join(one.missing)}")


def print_findings(found: Sequence[Finding]) -> None:
    """Print what was assumed of a service and what it did; differences stand out and are counted."""
    signs = {True: "as expected", False: "DIFFERS", None: "not seen"}
    table = Table("assumption", "expected", "found", Column("", no_wrap=True))
    for one in found:
        table.add_row(one.what, one.expected, one.found, signs[one.agrees])
    say_table(table)
    differ = [one.what for one in found if one.agrees is False]
    say(f"differs     {', '.join(differ)}" if differ else "all that could be seen is as expected")


def print_outcome(found: dict[str, Any]) -> None:
    """Print predicted against obtained."""
    from qhybrid.report.labels import samples_said

    if "samples" in found:
        say(samples_said(found["samples"], found))
    anew = found.get("predicted_after_remapping", {}).get("device_and_shots")
    _print_predictions(found["predicted"], found["obtained"], anew)
    say(f"same class as exact: {100 * found['same_class_as_exact']:.2f} % obtained")
    say(
        f"observables deviate by {found['observable_deviation_rms']:.4f} (rms) from their exact values; "
        "shots alone "
        f"would give {found['observable_error_rms']:.4f}"
    )
    for one in found["duplicates"]:
        bill = "its bill is open" if one["usage"] is None else f"{one['usage']:g} s billed"
        say(f"duplicate job {one['id']}: {one['outcome']}, {bill}")
