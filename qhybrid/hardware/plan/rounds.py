"""From requests to jobs: equal parameter sets once, split by the limits of one job, each with its price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.circuits.readout_calibration import calibration_work
from qhybrid.hardware.ledger import Chunk, Request
from qhybrid.hardware.service_kinds import rules_of
from qhybrid.hardware.settings import HardwareSettings

Array = NDArray[np.float64]
BYTES_PER_NUMBER = 8
BYTES_PER_GATE = 60
"""Size of a gate in the circuits that are sent, roughly."""


@dataclass(frozen=True, eq=False)
class Round:
    """What a round adds to the ledger.

    Attributes:
        requests: The requests, with the numbers of their points.
        points: Number, circuit and angles of every point that is new.
        chunks: The work of each job.
    """

    requests: tuple[Request, ...]
    points: tuple[tuple[int, str, Array], ...]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class JobSizes:
    """Executions of jobs where these are to be fewer than the limits allow.

    Attributes:
        first: Of the first job of the round; None for no own bound.
        others: Of all jobs; None for no own bound.
    """

    first: int | None = None
    others: int | None = None

    def of(self, job: int, least: int, limit: int) -> int:
        """Return the bound of a job.

        Args:
            job: Its index in the round.
            least: Executions of one parameter set: a job must hold one.
            limit: What the settings allow.
        """
        bounds = [self.others, self.first if job == 0 else None]
        return min([limit, *(max(one, least) for one in bounds if one is not None)])


def plan_round(
    number: int,
    requests: Sequence[Request],
    known: Mapping[int, tuple[str, Array]],
    first_chunk: int,
    circuits: Mapping[str, PreparedCircuit],
    settings: HardwareSettings,
    sizes: JobSizes | None = None,
) -> Round:
    """Turn new requests into points and chunks.

    Args:
        number: The round, from 0.
        requests: New requests.
        known: Points of earlier rounds: equal ones are not bought again.
        first_chunk: Number of the first new chunk.
        circuits: Prepared circuits by key.
        settings: Shots, limits and prices.
        sizes: Bounds of jobs that are lower than the limits; None for none.

    Raises:
        HardwareError: If one parameter set alone is beyond the limits of a job.
    """
    places = {(circuit, angles.tobytes()): index for index, (circuit, angles) in known.items()}
    points: list[tuple[int, str, Array]] = []
    placed = []
    for request in requests:
        rows = []
        # Plus zero: the two zeros are one number, but not the same bytes.
        for row in np.ascontiguousarray(request.angles + 0.0, dtype="<f8"):
            key = (request.circuit, row.tobytes())
            if key not in places:
                places[key] = len(places)
                points.append((places[key], request.circuit, row))
            rows.append(places[key])
        placed.append(replace(request, points=tuple(rows), round=number))
    by_circuit: dict[str, list[int]] = {}
    for index, circuit, _ in points:
        by_circuit.setdefault(circuit, []).append(index)
    chunks = _split(by_circuit, circuits, settings, sizes or JobSizes())
    return Round(
        tuple(placed),
        tuple(points),
        tuple(
            Chunk(first_chunk + index, number, blocks, job_seconds(blocks, circuits, settings))
            for index, blocks in enumerate(chunks)
        ),
    )


def pilot_sizes(
    chunks: Sequence[Chunk], circuits: Mapping[str, PreparedCircuit], settings: HardwareSettings
) -> JobSizes | None:
    """Return the sizes of jobs where a small one goes first; None where the plan is too small for that.

    The others are bounded as well, about 20 of them: what a cap allows at the measured rate is sent job by
    job.

    Args:
        chunks: The plan's jobs without a pilot.
        circuits: Prepared circuits by key.
        settings: Prices.
    """
    total = sum(chunk.seconds for chunk in chunks)
    if total <= settings.pilot.above_s or not chunks:
        return None
    slowest = settings.delay_seconds + max(circuits[key].seconds for key, _ in chunks[0].blocks)
    first = int(settings.pilot.seconds / slowest)
    return JobSizes(max(1, first), max(1, int(max(settings.pilot.above_s, total / USUAL_JOBS) / slowest)))


USUAL_JOBS = 20
"""Jobs of a large plan with a pilot, about; those of small ones take `pilot.above_s` each."""


Blocks = tuple[tuple[str, tuple[int, ...]], ...]


def job_seconds(
    blocks: Iterable[tuple[str, Sequence[int]]],
    circuits: Mapping[str, PreparedCircuit],
    settings: HardwareSettings,
) -> float:
    """Return the seconds that a job is predicted to be billed, by the law of its service."""
    work = [(circuits[key], len(points)) for key, points in blocks]
    return rules_of(settings).seconds([*work, *calibration_work(circuits, settings)], settings)


@dataclass
class _Load:
    """What a job holds so far."""

    executions: int = 0
    bytes: int = 0
    pubs: int = 0
    instructions: int = 0
    blocks: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)


def _split(
    by_circuit: Mapping[str, Sequence[int]],
    circuits: Mapping[str, PreparedCircuit],
    settings: HardwareSettings,
    sizes: JobSizes,
) -> list[Blocks]:
    """Fill jobs with points, circuit by circuit, up to the limits."""
    loads = [_new_load(circuits, settings)]
    for key, points in by_circuit.items():
        left = list(points)
        while left:
            least = circuits[key].executions(1, settings.executed_shots)
            most = sizes.of(len(loads) - 1, least, settings.limits.executions)
            fit = _fitting(loads[-1], circuits[key], len(left), settings, most)
            if fit == 0:
                if not loads[-1].blocks:
                    raise HardwareError(
                        f"One parameter set of circuit `{circuits[key].name}` must fit a job, but "
                        f"{len(circuits[key].variants)} measured circuits of {settings.shots} shots, or "
                        "their size, are beyond `limits`. Fix: fewer shots, or higher limits if the service "
                        "allows it."
                    )
                loads.append(_new_load(circuits, settings))
                continue
            taken, left = left[:fit], left[fit:]
            _add(loads[-1], key, circuits[key], taken, settings)
    return [tuple(load.blocks) for load in loads if load.blocks]


def _new_load(circuits: Mapping[str, PreparedCircuit], settings: HardwareSettings) -> _Load:
    """Return a job with nothing but what measures its read-out errors, if anything does."""
    load = _Load()
    for circuit, points in calibration_work(circuits, settings):
        load.executions += circuit.executions(points, settings.executed_shots)
        load.bytes += _circuit_bytes(circuit)
        load.pubs += len(circuit.variants)
        load.instructions += _instructions(circuit, settings)
    return load


def _fitting(
    load: _Load, circuit: PreparedCircuit, points: int, settings: HardwareSettings, executions: int
) -> int:
    limits, copies = settings.limits, len(circuit.copies)
    each = circuit.executions(1, settings.executed_shots)
    by_executions = (executions - load.executions) // each * copies
    by_bytes = (limits.bytes - load.bytes - _circuit_bytes(circuit)) // _point_bytes(circuit)
    by_instructions = (limits.instructions - load.instructions) // _instructions(circuit, settings) * copies
    if load.pubs + len(circuit.variants) > limits.pubs:
        return 0
    return max(0, min(points, by_executions, by_bytes, by_instructions))


def _add(
    load: _Load, key: str, circuit: PreparedCircuit, points: Sequence[int], settings: HardwareSettings
) -> None:
    load.blocks.append((key, tuple(points)))
    load.executions += circuit.executions(len(points), settings.executed_shots)
    load.bytes += _circuit_bytes(circuit) + len(points) * _point_bytes(circuit)
    load.pubs += len(circuit.variants)
    load.instructions += -(-len(points) // len(circuit.copies)) * _instructions(circuit, settings)


def _instructions(circuit: PreparedCircuit, settings: HardwareSettings) -> int:
    """Return what a parameter set counts towards the instructions of a job: at least one."""
    return max(1, rules_of(settings).instructions(circuit))


def _point_bytes(circuit: PreparedCircuit) -> int:
    return max(1, BYTES_PER_NUMBER * circuit.num_parameters * len(circuit.variants))


def _circuit_bytes(circuit: PreparedCircuit) -> int:
    return BYTES_PER_GATE * sum(len(spec.circuit.data) for copy in circuit.copies for spec in copy.specs)


def chunk_bytes(
    chunk: Chunk, circuits: Mapping[str, PreparedCircuit], settings: HardwareSettings | None = None
) -> int:
    """Return roughly how many bytes a job sends, with what measures its read-out errors."""
    extra = [] if settings is None else calibration_work(circuits, settings)
    return sum(_circuit_bytes(circuit) for circuit, _ in extra) + sum(
        _circuit_bytes(circuits[key]) + len(points) * _point_bytes(circuits[key])
        for key, points in chunk.blocks
    )
