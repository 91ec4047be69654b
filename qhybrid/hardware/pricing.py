"""What a plan costs, for people and for the plan's file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from qhybrid.engines.shots.strings import measured_strings
from qhybrid.hardware.circuits import PreparedCircuit
from qhybrid.hardware.recording import Book, recording
from qhybrid.hardware.rounds import Round, chunk_bytes
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.hardware.workload import Workload


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
    return {
        "name": circuit.name,
        "qubits": spec.num_qubits,
        "parameters": circuit.num_parameters,
        "bases": letters,
        "folds": [variant.fold for variant in circuit.variants],
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
    found: Round, circuits: Mapping[str, PreparedCircuit], settings: HardwareSettings
) -> dict[str, Any]:
    """Return requests, points, jobs, executions, bytes and predicted seconds of a round."""
    blocks = [block for chunk in found.chunks for block in chunk.blocks]
    return {
        "requests": len(found.requests),
        "rows": sum(len(request.points) for request in found.requests),
        "points": len(found.points),
        "jobs": len(found.chunks),
        "pubs": sum(len(circuits[key].variants) for key, _ in blocks),
        "executions": sum(circuits[key].executions(len(points), settings.shots) for key, points in blocks),
        "bytes": sum(chunk_bytes(chunk, circuits) for chunk in found.chunks),
        "qpu_seconds": round(sum(chunk.seconds for chunk in found.chunks), 2),
    }


def filter_price(
    workload: Workload, layers: Sequence[str], settings: HardwareSettings
) -> dict[str, Any] | None:
    """Return what the fixed filters would cost on the device; None if there are none.

    They run on the simulator, which costs nothing. Copies side by side are not counted.
    """
    if not layers:
        return None
    book = Book()
    features: Any = workload.model.fixed_features
    with recording(workload.model, layers, book), torch.no_grad():
        for sample in range(len(workload.samples.images)):
            book.begin(sample)
            features(workload.samples.images[sample : sample + 1])
    rows, points, executions, distinct_executions = 0, 0, 0, 0
    for key, circuit in book.circuits.items():
        bases = len(measured_strings(circuit.spec.observables, circuit.spec.num_qubits).bases)
        angles = [row.tobytes() for one in book.new.values() if one.circuit == key for row in one.angles]
        rows, points = rows + len(angles), points + len(set(angles))
        executions += len(angles) * bases * settings.shots
        distinct_executions += len(set(angles)) * bases * settings.shots
    return {
        "layers": list(layers),
        "runs_on": "simulator",
        "rows": rows,
        "points": points,
        "executions_on_device": executions,
        "executions_of_distinct_points": distinct_executions,
        "qpu_seconds_on_device": round(distinct_executions * settings.price.rep_delay_us * 1e-6, 1),
        "qpu_seconds_on_simulator": 0.0,
    }
