"""What a plan costs, for people and for the plan's file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from qhybrid.hardware.circuits.noise_layers import NoiseWork
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.circuits.readout_calibration import calibration_work
from qhybrid.hardware.model.recording import recording
from qhybrid.hardware.model.requests import LayerCircuit, RequestLog
from qhybrid.hardware.model.workload import Workload
from qhybrid.hardware.plan.rounds import Round, chunk_bytes, plan_round
from qhybrid.hardware.settings import HardwareSettings


def circuit_facts(circuit: PreparedCircuit) -> dict[str, Any]:
    """Return size, place and length of a prepared circuit."""
    spec = circuit.copies[0].specs[0]
    two_qubit = [
        instruction
        for instruction in spec.circuit.data
        if len(instruction.qubits) == 2 and instruction.operation.name != "barrier"
    ]
    letters = [
        "".join(sorted({"IXYZ"[p] for t in v.group for _, p in circuit.strings.strings[t]}))
        for v in circuit.variants
    ]
    raised = [variant.noise for variant in circuit.variants]
    return {
        "name": circuit.name,
        "qubits": spec.num_qubits,
        "parameters": circuit.num_parameters,
        "bases": letters,
        "folds": [variant.fold for variant in circuit.variants],
        **({"noise_factors": raised} if max(raised) > 1 else {}),
        "copies": len(circuit.copies),
        "places": [list(copy.physical) for copy in circuit.copies],
        "two_qubit_gates": len(two_qubit),
        "two_qubit_depth": spec.circuit.depth(
            lambda instruction: len(instruction.qubits) == 2 and instruction.operation.name != "barrier"
        ),
        "gates": dict(Counter(str(one.operation.name) for one in spec.circuit.data)),
        "microseconds": round(circuit.seconds * 1e6, 3),
    }


def round_facts(
    found: Round,
    circuits: Mapping[str, PreparedCircuit],
    settings: HardwareSettings,
    learning: NoiseWork | None = None,
) -> dict[str, Any]:
    """Return requests, points, jobs, executions, bytes and predicted seconds of a round.

    Args:
        found: The round.
        circuits: Prepared circuits by key.
        settings: Shots and mitigation.
        learning: What the round's job without points learns, if it has one.
    """
    learns = [] if learning is None else [one for one in found.chunks if one.learns]
    work = [(circuits[key], len(points)) for chunk in found.chunks for key, points in chunk.blocks]
    work += calibration_work(circuits, settings) * (len(found.chunks) - len(learns))
    return {
        "requests": len(found.requests),
        "rows": sum(len(request.points) for request in found.requests),
        "points": len(found.points),
        "jobs": len(found.chunks),
        "pubs": sum(len(circuit.variants) for circuit, _ in work),
        "executions": sum(circuit.executions(points, settings.executed_shots) for circuit, points in work)
        + sum(learning.executions for _ in learns if learning is not None),
        "bytes": sum(chunk_bytes(chunk, circuits, settings) for chunk in found.chunks),
        "qpu_seconds": round(sum(chunk.seconds for chunk in found.chunks), 2),
        "limit_seconds": sum(chunk.limit for chunk in found.chunks),
    }


def calibration_facts(
    circuits: Mapping[str, PreparedCircuit], settings: HardwareSettings
) -> dict[str, Any] | None:
    """Return what every job executes to measure its read-out errors; None if it does not."""
    work = calibration_work(circuits, settings)
    if not work:
        return None
    shots = settings.executed_shots
    return {
        "qubits": [copy.physical[0] for copy in work[0][0].copies],
        "shots": len(work) * shots,
        "executions": sum(circuit.executions(points, shots) for circuit, points in work),
    }


def filter_price(
    workload: Workload,
    layers: Sequence[str],
    settings: HardwareSettings,
    prepare: Callable[[LayerCircuit], PreparedCircuit],
) -> dict[str, Any] | None:
    """Return what the fixed filters would cost on the device; None if there are none.

    They run on the simulator, which costs nothing.

    Args:
        workload: Model and samples.
        layers: The filters' layers.
        settings: Shots, limits and prices.
        prepare: Maps a circuit to the device.
    """
    if not layers:
        return None
    log = RequestLog()
    features: Any = workload.model.fixed_features
    with recording(workload.model, layers, log), torch.no_grad():
        for sample in range(len(workload.samples.images)):
            log.begin(sample)
            features(workload.samples.images[sample : sample + 1])
    circuits = {key: prepare(circuit) for key, circuit in log.circuits.items()}
    found = plan_round(0, list(log.new.values()), {}, 0, circuits, settings)
    facts = round_facts(found, circuits, settings)
    every = sum(len(one.angles) * len(circuits[one.circuit].variants) for one in log.new.values())
    return {
        "layers": list(layers),
        "runs_on": "simulator",
        "rows": facts["rows"],
        "points": facts["points"],
        "executions_on_device": every * settings.executed_shots,
        "executions_of_distinct_points": facts["executions"],
        "qpu_seconds_on_device": facts["qpu_seconds"],
        "qpu_seconds_on_simulator": 0.0,
    }
