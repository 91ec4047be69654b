"""What a plan is expected to give from here on: results that are there as they came, the rest predicted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.jobs.execution import PlanExecution
from qhybrid.hardware.ledger import Request
from qhybrid.hardware.ledger.records import Array
from qhybrid.hardware.model.recording import run_pass
from qhybrid.hardware.model.requests import RequestLog
from qhybrid.hardware.model.workload import agreement, plain, score, stacked
from qhybrid.hardware.plan.prediction import Answer, DryRun, dry_run, exact_answer, expected_answer
from qhybrid.hardware.plan.pricing import round_facts
from qhybrid.hardware.plan.rounds import JobSizes, plan_round


@dataclass(frozen=True)
class Expected:
    """What a plan is expected to give.

    Attributes:
        metrics: `device` and `device_and_shots` as a plan predicts them, and `same_class_as_exact`.
        rounds: Number of every round that is not entered yet, and its facts as plan.json has them.
    """

    metrics: dict[str, Any]
    rounds: dict[int, dict[str, Any]] = field(default_factory=dict)


def expected_from_here(execution: PlanExecution, moved: Mapping[int, int]) -> Expected:
    """Predict a plan anew: every chunk on the layout that it has, later rounds on the newest one.

    Args:
        execution: The open plan.
        moved: Layouts of chunks that are to have another one than the ledger says, by their numbers.
    """
    samples, settings = execution.workload.samples, execution.context.settings
    average, rounds = _outputs(execution, moved, None)
    drawn, _ = _outputs(execution, moved, settings.shots)
    exact = exact_run(execution)
    metrics = {
        "device": plain(score(average, samples)),
        "device_and_shots": plain(score(drawn, samples)),
        "same_class_as_exact": round(agreement(drawn, exact.outputs), 6),
    }
    return Expected(metrics, _later_facts(execution, rounds))


def exact_run(execution: PlanExecution) -> DryRun:
    """Execute a plan's model with exact values in the place of every request."""
    return dry_run(
        execution.workload,
        execution.content["layers"],
        exact_answer(execution.bound),
        lambda *_: None,
        execution.bound,
    )


def _outputs(
    execution: PlanExecution, moved: Mapping[int, int], shots: int | None
) -> tuple[Any, list[list[Request]]]:
    """Return the model's outputs, and the requests of the rounds that are not entered yet."""
    context, samples = execution.context, execution.workload.samples
    layers, log = execution.content["layers"], execution.request_log()
    simulation = Simulation()
    answers = {
        number: expected_answer(dict(circuits), context.settings, shots, simulation)
        for number, circuits in context.layouts.items()
    }
    layout_of = {
        point: moved.get(chunk.number, chunk.layout)
        for chunk in context.ledger.chunks()
        for _, own in chunk.blocks
        for point in own
    }
    missing = [one for one in log.requests.values() if one.key not in log.results]
    rounds: list[list[Request]] = []
    while True:
        _fill(log, missing, answers, layout_of, max(context.layouts))
        log.new = {}
        outputs = run_pass(
            execution.workload.model, samples.images, layers, log, token_maps=samples.token_maps
        )
        missing = list(log.new.values())
        if not missing:
            return stacked(outputs), rounds
        rounds.append(missing)


def _fill(
    log: RequestLog,
    missing: Iterable[Request],
    answers: dict[int, Answer],
    layout_of: dict[int, int],
    newest: int,
) -> None:
    """Enter expected values of requests, circuit by circuit and layout by layout."""
    rows: dict[tuple[int, str], list[tuple[Request, int]]] = {}
    for request in missing:
        log.requests[request.key] = request
        for index in range(len(request.angles)):
            layout = layout_of.get(request.points[index], newest) if request.points else newest
            rows.setdefault((layout, request.circuit), []).append((request, index))
    found: dict[tuple[Any, int], Array] = {}
    for (layout, circuit), places in rows.items():
        angles = np.stack([request.angles[index] for request, index in places])
        values = answers[layout](circuit, angles)
        found |= {(request.key, index): value for (request, index), value in zip(places, values, strict=True)}
    for request in missing:
        log.results[request.key] = np.stack([found[request.key, i] for i in range(len(request.angles))])


def _later_facts(execution: PlanExecution, rounds: list[list[Request]]) -> dict[int, dict[str, Any]]:
    """Return what rounds that are not entered yet would cost on the newest layout."""
    context = execution.context
    known, chunks = context.ledger.points(), len(context.ledger.chunks())
    first = 1 + max((chunk.round for chunk in context.ledger.chunks()), default=-1)
    sizes = JobSizes(others=execution.content.get("pilot", {}).get("job_executions"))
    facts = {}
    for number, requests in enumerate(rounds, first):
        found = plan_round(number, requests, known, chunks, context.circuits, context.settings, sizes)
        known |= {index: (circuit, angles) for index, circuit, angles in found.points}
        chunks += len(found.chunks)
        facts[number] = round_facts(found, context.circuits, context.settings)
    return facts
