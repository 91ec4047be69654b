"""The pilot: one small job of the plan goes first; its bill and its deviations decide about the others.

It is a job of the plan like any other, so nothing is paid for nothing, and after a crash the ledger tells
whether it was sent. Once another job has been sent there is nothing left to decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.decoding import observable_errors, observables_from
from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.jobs.collecting import collect_jobs, enter_costs
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.hardware.jobs.learning import held_back
from qhybrid.hardware.jobs.reserving import measured_rate
from qhybrid.hardware.jobs.results import estimates_of
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.ledger import Chunk
from qhybrid.hardware.ledger.records import CANCELLED, DONE, FAILED, OPEN, TOO_LONG
from qhybrid.hardware.plan.prediction import exact_answer, expected_answer

TIGHT = 3.0
"""A cap below this factor of the estimate is tight: wrong estimates would stop jobs."""
BILL_QUESTIONS = 10
"""How often a bill is asked for before the plan stops without it."""


@dataclass(frozen=True)
class Deviations:
    """Root mean squares of the deviations of observables from their exact values.

    Attributes:
        measured: What came back.
        predicted: What the calibration and the shots let expect.
        shots: What the shots alone would give.
    """

    measured: float
    predicted: float
    shots: float


def pilot_of(context: JobContext, wanted: bool | None, again: bool = False) -> Chunk | None:
    """Return the chunk that goes first; None if there is no pilot, or others were sent already.

    Args:
        context: The plan.
        wanted: Whether there is to be one; None as the settings say.
        again: Whether chunks that were cancelled, stopped or failed are sent again.
    """
    every, settings = context.ledger.chunks(), context.settings
    chunks = [chunk for chunk in every if not chunk.learns]
    if wanted is False or len(chunks) < 2 or any(chunk.round for chunk in chunks):
        return None
    first = min(chunks, key=lambda chunk: (chunk.seconds, chunk.number))
    states = (OPEN, CANCELLED, FAILED, TOO_LONG) if again else (OPEN,)
    if not any(chunk.state in states for chunk in chunks):
        return None
    others = {chunk.number for chunk in chunks} - {first.number}
    if first.number in held_back(context) or any(job.chunk in others for job in context.ledger.jobs()):
        return None
    if wanted:
        return first
    if not context.service.paid:
        return None
    total = sum(chunk.seconds for chunk in chunks) + context.later_seconds
    learned = sum(chunk.seconds for chunk in every if chunk.learns)
    tight = context.cap is not None and context.cap < TIGHT * (total + learned)
    return first if tight or total > settings.pilot.above_s else None


def send_pilot(context: JobContext, first: Chunk, bound: Mapping[str, CircuitSpec], again: bool) -> int:
    """Send the pilot unless it was sent, wait for it and decide whether the plan goes on.

    Args:
        context: The plan.
        first: The pilot's chunk.
        bound: Circuits as the layers have them, by key.
        again: Also if it was cancelled, stopped or failed.

    Returns:
        Number of jobs that were sent.

    Raises:
        HardwareError: If it has no result, or its bill or deviations are too far from the estimate.
    """
    context.say(
        f"a pilot goes first: chunk {first.number}, {context.executions(first):,} executions, about "
        f"{first.seconds:.3g} s; the others wait for it"
    )
    sent, context.first = 0, first.number
    try:
        while True:
            sent += send_open_chunks(context, again, (first.number,))
            collect_jobs(context)
            again = False
            state = next(one.state for one in context.ledger.chunks() if one.number == first.number)
            if state != OPEN:
                break
    finally:
        context.first = None
    if state != DONE:
        message = [job.message for job in context.ledger.jobs() if job.chunk == first.number][-1]
        enter_costs(context)
        rate = measured_rate(context)
        raise HardwareError(
            f"The pilot must have a result, but is `{state}`. {message} {'' if rate is None else rate.told} "
            f"Fix: `submit --again` sends it once more, `submit --again --no-pilot` all jobs; nothing else "
            "was sent."
        )
    _wait_for_bill(context, first)
    _decide(context, _deviations(context, first, bound))
    return sent


def _wait_for_bill(context: JobContext, first: Chunk) -> None:
    pause = context.settings.patience.poll_s
    for question in range(BILL_QUESTIONS):
        if question:
            context.clock.sleep(pause)
            pause = min(2 * pause, context.settings.patience.poll_max_s)
        enter_costs(context)
        if any(job.usage is not None for job in context.ledger.jobs(DONE) if job.chunk == first.number):
            return
    raise HardwareError(
        "The bill of the pilot must be known before the other jobs are sent, but the service does not have "
        "it yet. Fix: submit again later, or `submit --no-pilot`; its result is kept."
    )


def _decide(context: JobContext, found: Deviations) -> None:
    """Print what was measured; stop if it is too far from what the plan says."""
    rate, pilot = measured_rate(context), context.settings.pilot
    if rate is not None:
        context.note(f"pilot: {rate.told}")
    context.note(
        f"pilot: observables deviate by {found.measured:.4f} (rms) from their exact values; predicted "
        f"{found.predicted:.4f}, shots alone {found.shots:.4f}"
    )
    go_on = "`submit --no-pilot` goes on; the pilot's result is kept and nothing else was sent."
    if found.measured > pilot.deviation_factor * found.predicted:
        raise HardwareError(
            f"Observables of the pilot must deviate by at most {pilot.deviation_factor:g} times what was "
            f"predicted (`pilot.deviation_factor`), but do by {found.measured:.4f} where "
            f"{found.predicted:.4f} was predicted{_times(found)}. Fix: `qhybrid hardware remap PLAN` "
            f"maps the rest to today's calibration, or other qubits or another device for a new plan; {go_on}"
        )
    if rate is not None and context.cap is None and rate.factor > pilot.time_factor:
        raise HardwareError(
            f"Jobs must take at most {pilot.time_factor:g} times the estimate (`pilot.time_factor`), but: "
            f"{rate.told} The rest would take about {context.expected_seconds():.0f} s. Fix: {go_on} "
            "`submit --max-qpu-seconds S` sends as many jobs as a cap allows."
        )


def _times(found: Deviations) -> str:
    return f", {found.measured / found.predicted:.2g} times as much" if found.predicted else ""


def _deviations(context: JobContext, first: Chunk, bound: Mapping[str, CircuitSpec]) -> Deviations:
    """Compare the pilot's observables with their exact values, and with those of the calibration."""
    settings = context.settings
    circuits = context.circuits_of(first)
    expected = expected_answer(dict(circuits), settings, None, Simulation())
    exact = exact_answer(dict(bound))
    angles = context.ledger.points()
    parts: list[list[np.ndarray]] = [[], [], []]
    for (key, points), found in zip(first.blocks, estimates_of(context, first) or [], strict=True):
        circuit = circuits[key]
        rows = np.stack([angles[point][1] for point in points])
        true = exact(key, rows)
        deviations = (
            observables_from(circuit, found.means) - true,
            expected(key, rows) - true,
            observable_errors(circuit, found.errors),
        )
        for part, values in zip(parts, deviations, strict=True):
            part.append(values.ravel())
    measured, noise, shots = (float(np.sqrt(np.mean(np.concatenate(part) ** 2))) for part in parts)
    return Deviations(measured, float(np.hypot(noise, shots)), shots)
