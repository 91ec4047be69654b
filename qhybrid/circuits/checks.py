"""Gates that no engine can execute are refused where a circuit becomes a `CircuitSpec`."""

from __future__ import annotations

from functools import cache
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import ControlFlowOp
from qiskit.circuit.library import UnitaryGate, get_standard_gate_name_mapping

from qhybrid.errors import CircuitError

AMPLITUDE_ENCODINGS = frozenset({"initialize", "state_preparation", "ParameterizedInitialize"})
WITH_MATRIX = 2
"""Qubits up to which an engine takes a constant gate's matrix and needs no definition."""


def check_gates(name: str, circuit: QuantumCircuit) -> None:
    """Check that all gates can be taken apart while their parameters are free.

    What is no gate (measurements, resets, branches) is left to the engines and to the readers of files.

    Args:
        name: The circuit's name, for messages.
        circuit: The circuit.

    Raises:
        CircuitError: For an amplitude encoding that depends on parameters or resets used qubits, and for a
            gate whose definition cannot be made.
    """
    if set(circuit.count_ops()) <= _standard_names():
        return
    for instruction in circuit.data:
        _check(name, instruction.operation)


@cache
def _standard_names() -> frozenset[str]:
    return frozenset(get_standard_gate_name_mapping()) | {"barrier"}


def _check(name: str, operation: Any) -> None:
    if operation.name in _standard_names() or isinstance(operation, (ControlFlowOp, UnitaryGate)):
        return
    symbolic = any(getattr(value, "parameters", None) for value in operation.params)
    if operation.name in AMPLITUDE_ENCODINGS and (symbolic or operation.name == "initialize"):
        raise CircuitError(_amplitudes(name, operation.name, symbolic))
    try:
        definition = getattr(operation, "definition", None)
    except Exception as error:  # anything may go wrong in gates of others
        if not symbolic and operation.num_qubits <= WITH_MATRIX and _has_matrix(operation):
            return
        free = " while its parameters are free" if symbolic else ""
        raise CircuitError(
            f"Circuit `{name}` has gate `{operation.name}`, which must have a definition{free}, but making "
            f"it fails ({type(error).__name__}: {error}). Fix: write it with rotations and standard gates."
        ) from error
    for inner in getattr(definition, "data", ()):
        _check(name, inner.operation)


def _has_matrix(operation: Any) -> bool:
    try:
        operation.to_matrix()
    except Exception:  # anything may go wrong in gates of others
        return False
    return True


def _amplitudes(name: str, gate: str, symbolic: bool) -> str:
    if symbolic:
        return (
            f"Circuit `{name}` writes parameters into amplitudes (`{gate}`), which no gate with free angles "
            "does, and which has no gradient. Fix: encode them as angles of rotations (RY, RZ), or prepare "
            "the state with the rotations of a state preparation whose angles are computed outside."
        )
    return (
        f"Circuit `{name}` has `{gate}`, which resets its qubits, after other gates on them, but circuits "
        "must be unitary. Fix: circuit.prepare_state(vector), or initialize at the start."
    )
