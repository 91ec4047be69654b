"""Remapping: what a plan has not sent yet is mapped to the device as it is today; what was paid stays.

The new layout is on disk before the ledger says which chunks have it, in one transaction with their prices.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from qhybrid.errors import ConfigError, HardwareError
from qhybrid.hardware.circuits.checks import check_circuit, check_executable
from qhybrid.hardware.circuits.preparation import place_noise, prepare_circuit
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.circuits.readout_calibration import READOUT_KEY, calibration_circuit
from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.hardware.jobs.execution import PlanExecution
from qhybrid.hardware.jobs.learning import learns_for, missing_learning, told_noise
from qhybrid.hardware.jobs.predicting import Expected, expected_from_here
from qhybrid.hardware.jobs.reconciling import reconcile, wait_for_certainty
from qhybrid.hardware.ledger import Chunk
from qhybrid.hardware.ledger.mending import save_requests
from qhybrid.hardware.ledger.records import DONE, SENDING, SENT, Array
from qhybrid.hardware.model.kept_files import FILES, hashes_of
from qhybrid.hardware.plan.layouts import LAYOUTS, Circuits, save_layout
from qhybrid.hardware.plan.learning import noise_work_of
from qhybrid.hardware.plan.plan_files import write_plan
from qhybrid.hardware.plan.prediction import exact_answer, expected_answer
from qhybrid.hardware.plan.pricing import circuit_facts
from qhybrid.hardware.plan.rounds import job_seconds
from qhybrid.hardware.service_kinds import rules_of
from qhybrid.hardware.services.backends import Backend, open_backend
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.noise import NoiseProfile

POINTS = 32
"""Parameter sets of a circuit that deviations are predicted from."""

UNKNOWN_POINTS = 4
"""Parameter sets that stand for those of a circuit of which none is known yet."""


@dataclass(frozen=True)
class Remapped:
    """What a remapping has changed.

    Attributes:
        layout: Number of the new layout; None if the device is as it was.
        chunks: The chunks that have it.
        places: Name of a circuit, physical qubits of its copies before and after.
        seconds: Estimated QPU seconds of these chunks before and after.
        predicted: What the plan is expected to give from here on, as plan.json predicts it; empty if nothing
            was changed.
        deviations: Predicted root mean squares of the deviations of observables from their exact values: on
            the old layout with the calibration that it was chosen by, with today's (None where qubits are out
            of order), and on the new one.
    """

    layout: int | None
    chunks: tuple[int, ...] = ()
    places: tuple[tuple[str, tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]], ...] = ()
    seconds: tuple[float, float] = (0.0, 0.0)
    deviations: tuple[float, float | None, float] = (0.0, None, 0.0)
    predicted: dict[str, Any] = field(default_factory=dict)


def remap(execution: PlanExecution) -> Remapped:
    """Map everything that has no result and no job to the device as it is today.

    Args:
        execution: The open plan.

    Raises:
        HardwareError: If nothing is left to be sent, or the circuits do not fit any more.
        ServiceError: If the service does not answer.
    """
    context = execution.context
    waiting = _waiting(execution)
    later = len(execution.content["rounds"]) > len({chunk.round for chunk in context.ledger.chunks()})
    if not waiting and not later:
        raise HardwareError(
            "A remapping needs jobs that are not sent yet, but all jobs of the plan have been sent: nothing "
            "is left to be mapped anew. Fix: `qhybrid hardware collect PLAN`, or a new plan."
        )
    old = context.circuits
    keys = list(old) if later else list(dict.fromkeys(key for one in waiting for key, _ in one.blocks))
    backend = open_backend(context.settings)
    found: Circuits = {}
    for key in keys:
        if key == READOUT_KEY:
            continue  # it measures the qubits of all others
        context.say(f"mapping circuit `{old[key].name}` to {context.settings.backend} as it is today")
        found[key] = _mapped(execution, key, backend)
        check_circuit(
            execution.bound[key],
            found[key],
            _angles(execution, key, waiting),
            backend.device,
            rules_of(context.settings),
        )
    if all(_is_same(old[key], one) for key, one in found.items()):
        return Remapped(None)
    number = max(context.layouts) + 1
    circuits = _with_calibration({**old, **found}, backend, context.settings)
    work = noise_work_of(found, backend, context.settings)
    if work is not None and rules_of(context.settings).learns:
        context.learning[number] = work
    before = sum(one.seconds for one in waiting)
    dropped = _learned_already(context, waiting, number)
    waiting = [one for one in waiting if one.number not in dropped]
    learns = missing_learning(context, [number], max(one.round for one in context.ledger.chunks()))
    learns = learns if not any(one.learns for one in waiting) else ()
    seconds = {
        one.number: context.learning[number].seconds
        if one.learns
        else job_seconds(one.blocks, circuits, context.settings)
        for one in waiting
    }
    result = Remapped(
        number,
        tuple(seconds),
        tuple((old[key].name, _places(old[key]), _places(one)) for key, one in found.items()),
        (before, sum(seconds.values()) + sum(one.seconds for one in learns)),
        _deviations(execution, list(found), found, backend.noise, waiting),
    )
    context.layouts[number] = circuits
    context.say("predicting anew what the plan gives")
    expected = expected_from_here(execution, dict.fromkeys(seconds, number))
    result = replace(result, predicted=expected.metrics)
    learning = context.learning.get(number)
    save_layout(execution.folder, number, circuits, execution.bound, backend.noise, learning)
    context.ledger.set_layout(number, seconds, learns, dropped)
    _write_facts(execution, result, found, expected)
    execution.price_later_rounds()
    save_requests(context.ledger, execution.folder)
    context.note(f"{len(waiting)} chunk(s) that were not sent are mapped to layout {number}")
    _tell_kept_noise(context, number)
    return result


def _learned_already(context: JobContext, waiting: Sequence[Chunk], layout: int) -> list[int]:
    """Return the last chunks that are to learn and need not: noise of the same layers was learned before."""
    chunks, sent = context.ledger.chunks(), {job.chunk for job in context.ledger.jobs()}
    if not any(one.state == DONE and learns_for(context, one, layout) for one in chunks):
        return []
    unsent = {one.number for one in waiting if one.learns} - sent
    return [one.number for index, one in enumerate(chunks) if {c.number for c in chunks[index:]} <= unsent]


def _tell_kept_noise(context: JobContext, layout: int) -> None:
    """Tell that noise which was learned for the same layers is used on, beside today's calibration."""
    for chunk in context.ledger.chunks():
        if chunk.layout != layout and chunk.state == DONE and learns_for(context, chunk, layout):
            context.note(
                "its layers of gates are the same on the same qubits, so what was learned of their noise is "
                f"kept: {told_noise(context, chunk, layout)}"
            )
            return


def _mapped(execution: PlanExecution, key: str, backend: Backend) -> PreparedCircuit:
    """Return a circuit on the device as it is now, with as many copies as there are good places for."""
    settings, bound = execution.context.settings, execution.bound[key]
    try:
        return prepare_circuit(key, bound, backend.device, backend.noise, settings)
    except HardwareError:
        if settings.copies in ("auto", 1):
            raise
        execution.context.say(f"there is no room for {settings.copies} copies of `{bound.name}` any more")
        fewer = settings.model_copy(update={"copies": "auto"})
        return prepare_circuit(key, bound, backend.device, backend.noise, fewer)


def _with_calibration(circuits: Circuits, backend: Backend, settings: HardwareSettings) -> Circuits:
    """Return circuits with what measures read-out errors in every job on the qubits that they have now."""
    if READOUT_KEY not in circuits:
        return circuits
    others = [one for key, one in circuits.items() if key != READOUT_KEY]
    _, measuring = calibration_circuit(others, backend.device, backend.noise, settings)
    check_executable(measuring, backend.device, rules_of(settings))
    return {**circuits, READOUT_KEY: measuring}


def _waiting(execution: PlanExecution) -> list[Chunk]:
    """Return the chunks without result and job, after a look at what the service has."""
    context = execution.context
    if context.service.paid:
        reconcile(context)
        for job in context.ledger.jobs(SENDING):
            wait_for_certainty(context, job)
    busy = {job.chunk for job in context.ledger.jobs(SENDING, SENT)}
    if any(one.learns and one.number in busy for one in context.ledger.chunks()):
        raise HardwareError(
            "A job that learns the noise of the present qubits has been sent, and what it learns would be "
            "lost on others. Fix: `qhybrid hardware collect PLAN`, or `cancel`, first; nothing was changed."
        )
    return [one for one in context.ledger.chunks() if one.state != DONE and one.number not in busy]


def _angles(execution: PlanExecution, key: str, waiting: Sequence[Chunk]) -> Array:
    """Return some points of a circuit, those that are to be sent if there are any, shape (B, n_in).

    Of a round that waits for results none is known yet: any angles tell whether a circuit is the layer's.
    """
    points = execution.ledger.points()
    numbers = [point for one in waiting for name, own in one.blocks if name == key for point in own]
    numbers = numbers or [number for number, (name, _) in points.items() if name == key]
    if not numbers:
        random = np.random.default_rng(execution.context.settings.seed)
        return random.uniform(-np.pi, np.pi, (UNKNOWN_POINTS, execution.bound[key].num_inputs))
    return np.stack([points[number][1] for number in numbers[:POINTS]])


def _places(circuit: PreparedCircuit) -> tuple[tuple[int, ...], ...]:
    return tuple(copy.physical for copy in circuit.copies)


def _is_same(old: PreparedCircuit, new: PreparedCircuit) -> bool:
    """Return whether places and error rates are the same."""
    rates = [
        [None if copy.noise is None else copy.noise.fingerprint for copy in one.copies] for one in (old, new)
    ]
    return _places(old) == _places(new) and rates[0] == rates[1]


def _deviations(
    execution: PlanExecution,
    keys: Sequence[str],
    new: Mapping[str, PreparedCircuit],
    noise: NoiseProfile | None,
    waiting: Sequence[Chunk],
) -> tuple[float, float | None, float]:
    old = {key: execution.context.circuits[key] for key in keys}
    angles = {key: _angles(execution, key, waiting) for key in keys}
    return (
        _deviation(execution, old, angles),
        _deviation_today(execution, old, angles, noise),
        _deviation(execution, new, angles),
    )


def _deviation_today(
    execution: PlanExecution,
    circuits: Mapping[str, PreparedCircuit],
    angles: Mapping[str, Array],
    noise: NoiseProfile | None,
) -> float | None:
    """Return the deviation on the old places with today's errors; None if these are not known there."""
    mitigation = execution.context.settings.mitigation
    try:
        today = {
            key: replace(
                one,
                copies=tuple(
                    replace(copy, noise=place_noise(noise, copy.physical, mitigation)) for copy in one.copies
                ),
            )
            for key, one in circuits.items()
        }
        return _deviation(execution, today, angles)
    except (ConfigError, HardwareError):  # not known, or a read-out that says nothing
        return None


def _deviation(
    execution: PlanExecution, circuits: Mapping[str, PreparedCircuit], angles: Mapping[str, Array]
) -> float:
    """Return the root mean square over observables and points that the calibration lets expect."""
    expected = expected_answer(dict(circuits), execution.context.settings, None, Simulation())
    exact = exact_answer(execution.bound)
    parts = [(expected(key, angles[key]) - exact(key, angles[key])).ravel() for key in circuits]
    return float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))


def _write_facts(execution: PlanExecution, found: Remapped, circuits: Circuits, expected: Expected) -> None:
    """Enter a layout in plan.json: circuits, chunks, price and predictions; and the price of later rounds."""
    before, after = found.seconds
    facts: dict[str, Any] = {
        "layout": found.layout,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "chunks": list(found.chunks),
        "circuits": {key: circuit_facts(circuit) for key, circuit in circuits.items()},
        FILES: hashes_of(execution.folder / LAYOUTS / str(found.layout)),
        "qpu_seconds": {"before": round(before, 2), "after": round(after, 2)},
        "deviation_rms": dict(zip(("planned", "today_unmapped", "today"), found.deviations, strict=True)),
        "predicted": found.predicted,
    }
    content = execution.content
    rounds = list(content["rounds"])
    for number, later in expected.rounds.items():
        earlier = rounds[number : number + 1]
        before += sum(one["qpu_seconds"] for one in earlier)
        after += later["qpu_seconds"]
        rounds[number : number + 1] = [later]
    content["rounds"] = rounds
    content["layouts"] = [*content.get("layouts", []), facts]
    content["qpu_seconds"] = round(content["qpu_seconds"] + after - before, 2)
    write_plan(execution.folder, content)
