"""The bill of a job, from what was sent alone: none of it is asked of the code that priced it.

Executions are the shapes of the program's items times its shots. Their length is the longest path
through the circuit with the device's durations, after twirling and decoupling; the delay is the one that was
asked for, or the device's default.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from ibm_quantum_schemas.executor.version_2_0 import ParamsModel
from ibm_service_learning import is_learning, learning_bill
from ibm_service_simulation import fake_backend
from qiskit import QuantumCircuit
from qiskit.transpiler import Target
from qiskit_ibm_runtime.quantum_program.converters import quantum_program_from_2_0

JOB_SECONDS = 2.0
"""Of every job, whatever it holds."""


@lru_cache
def target_of(device: str) -> Target:
    """Return the target of a fake backend."""
    return fake_backend(device).target


def bill_of(params: dict[str, Any], device: str) -> tuple[int, float]:
    """Return executions and seconds of a job.

    Args:
        params: What the client sent.
        device: The fake backend that the device is.
    """
    delay = params["options"].get("rep_delay")
    if delay is None:
        delay = fake_backend(device).configuration().default_rep_delay
    if is_learning(params):
        executions, seconds = learning_bill(params, delay, target_of(device), length)
        return executions, JOB_SECONDS + seconds
    program, _ = quantum_program_from_2_0(ParamsModel.model_validate(params))
    executions, seconds = 0, JOB_SECONDS
    for item in program.items:
        count = math.prod(item.shape) * program.shots
        executions += count
        seconds += count * (delay + length(item.circuit, target_of(device)))
    return executions, seconds


def length(circuit: QuantumCircuit, target: Target) -> float:
    """Return the seconds that a circuit takes: the longest path through its instructions."""
    ends = dict.fromkeys([*circuit.qubits, *circuit.clbits], 0.0)
    for one in circuit.data:
        operation = one.operation
        if operation.name == "delay":
            seconds = operation.duration * (target.dt if operation.unit == "dt" else 1.0)
        elif operation.name == "barrier":
            seconds = 0.0
        else:
            seconds = target[operation.name][tuple(circuit.find_bit(q).index for q in one.qubits)].duration
        end = max(ends[wire] for wire in (*one.qubits, *one.clbits)) + seconds
        ends.update(dict.fromkeys((*one.qubits, *one.clbits), end))
    return max(ends.values())
