"""A hash of all that decides the values of a circuit: gates and what they hold, parameters, observables."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import AnnotatedOperation, Delay, Parameter
from qiskit.circuit.library import UnitaryGate, get_standard_gate_name_mapping
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Operator, SparsePauliOp

Places = Mapping[Parameter, str]
_NONE_HERE = (QiskitError, TypeError, ValueError, AttributeError, NotImplementedError)


def circuit_fingerprint(
    circuit: QuantumCircuit,
    inputs: Sequence[Parameter],
    weights: Sequence[Parameter],
    observables: Sequence[SparsePauliOp],
) -> str:
    """Return the hash of `circuit_fingerprints` that holds all."""
    return circuit_fingerprints(circuit, inputs, weights, observables)[0]


def circuit_fingerprints(
    circuit: QuantumCircuit,
    inputs: Sequence[Parameter],
    weights: Sequence[Parameter],
    observables: Sequence[SparsePauliOp],
) -> tuple[str, str]:
    """Return the hash of all, and the one of all but the observables.

    Names of the circuit and of its parameters do not enter.

    Gates of Qiskit's standard library are known by name and parameters. Of any other, the definition enters
    too: two wrapped circuits may have the same name.

    Args:
        circuit: The circuit.
        inputs: Its data parameters, in order.
        weights: Its trainable parameters, in order.
        observables: What is read.
    """
    digest = hashlib.sha256()
    places = {p: f"x{i}" for i, p in enumerate(inputs)}
    places |= {p: f"w{i}" for i, p in enumerate(weights)}
    digest.update(f"{circuit.num_qubits},{len(inputs)},{len(weights)};".encode())
    for line in _lines(circuit, places):
        digest.update(line.encode())
    gates = digest.hexdigest()
    for observable in observables:
        digest.update(repr(observable.to_sparse_list()).encode())
    return digest.hexdigest(), gates


def _lines(circuit: QuantumCircuit, places: Places) -> list[str]:
    """Return a line for each instruction, and within braces those of its definition."""
    qubit_of = {qubit: index for index, qubit in enumerate(circuit.qubits)}
    lines = []
    for instruction in circuit.data:
        operation = instruction.operation
        qubits = [qubit_of[qubit] for qubit in instruction.qubits]
        params = [_canonical(value, places) for value in getattr(operation, "params", [])]
        lines.append(f"{_name(operation)}{qubits}{params};")
        if not _is_known_by_name(operation):
            lines += ["{", *_content(operation, places), "}"]
    return lines


def _name(operation: Any) -> str:
    """Return an operation's name; the numbers that Qiskit gives to nameless circuits do not enter."""
    return re.sub(r"circuit-\d+(-\d+)?", "circuit", operation.name)


def _is_known_by_name(operation: Any) -> bool:
    """Return whether name and parameters say all: barriers and gates of the standard library."""
    if operation.name in ("barrier", "delay"):
        return bool(operation.name == "barrier")
    known = _standard_classes().get(operation.name)
    return known is not None and getattr(operation, "base_class", None) is known


@cache
def _standard_classes() -> dict[str, type]:
    return {name: gate.base_class for name, gate in get_standard_gate_name_mapping().items()}


def _content(operation: Any, places: Places) -> list[str]:
    """Return what name and parameters do not say: a unit, a label, a definition, a matrix, or the class."""
    if isinstance(operation, Delay):
        return [str(operation.unit)]
    if isinstance(operation, UnitaryGate):  # its noise goes by the label
        return [str(operation.label)]
    if isinstance(operation, AnnotatedOperation):
        base = operation.base_op
        params = [_canonical(value, places) for value in getattr(base, "params", [])]
        inner = [] if _is_known_by_name(base) else _content(base, places)
        return [repr(operation.modifiers), f"{_name(base)}{params};", *inner]
    return _definition(operation, places) or _matrix(operation, places)


def _definition(operation: Any, places: Places) -> list[str]:
    try:
        definition = getattr(operation, "definition", None)
    except _NONE_HERE:
        return []
    return [] if definition is None else _lines(definition, places)


def _matrix(operation: Any, places: Places) -> list[str]:
    """Return an operation's matrix; of one that has none, such as a measurement, the class."""
    try:
        return [_canonical(np.asarray(Operator(operation).data), places)]
    except _NONE_HERE:
        return [f"{type(operation).__module__}.{type(operation).__qualname__}"]


def _canonical(value: object, places: Places) -> str:
    """Write a gate's parameter; circuit parameters are named by their place, not by their names."""
    if isinstance(value, np.ndarray):  # repr leaves out the middle of large ones
        array = np.ascontiguousarray(value)
        return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
    parameters = getattr(value, "parameters", None)
    if not parameters:
        return repr(value)
    if isinstance(value, Parameter):
        return _place(value, places)
    # All at once: renaming one after the other would clash where a name is also another's position.
    return str(value.subs({p: Parameter(_place(p, places)) for p in parameters}))  # type: ignore[attr-defined]


def _place(parameter: Parameter, places: Places) -> str:
    return places.get(parameter, f"?{parameter.name}")
