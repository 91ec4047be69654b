"""What an operation does, as a circuit: its definition or its matrix, whichever its own class says.

A class of a user may inherit a definition and give a matrix, or the other way round; what it says itself
counts. Where it says both, they must agree. Qiskit's own operations are what their definition says: of an
evolution (`PauliEvolutionGate`) that is the product formula, with a bound time as with a free one, though its
matrix is the exact exponential.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Gate, Instruction, ParameterExpression
from qiskit.circuit.library import UnitaryGate
from qiskit.quantum_info import Operator

from qhybrid.circuits.standard_gates import is_standard_gate
from qhybrid.errors import CircuitError

_QISKIT = ("qiskit.", "qiskit_aer.", "qiskit_machine_learning.")
_CARRIERS = (
    "qiskit.circuit.gate",
    "qiskit.circuit.instruction",
    "qiskit.circuit.controlledgate",
    "qiskit.qasm2",
)
"""Modules of Qiskit whose classes carry gates of users."""

COMPARED = 6
"""Qubits up to which a definition and a matrix are compared."""
TOLERANCE = 1e-7
_MATRIX = ("__array__", "to_matrix")
_DEFINITION = ("_define", "definition")


def is_own(operation: Any) -> bool:
    """Return whether a gate is a user's: not of a class of Qiskit's that has a meaning of its own."""
    # Instances that Qiskit shares have classes without a module.
    module = getattr(operation, "base_class", type(operation)).__module__
    return not module.startswith(_QISKIT) or module.startswith(_CARRIERS)


def meaning(operation: Any) -> QuantumCircuit:
    """Return what an operation does as a circuit on its qubits; parameters stay free.

    Args:
        operation: A gate, an instruction, or anything with a matrix, such as a Clifford.

    Raises:
        CircuitError: If it has neither a definition nor a matrix that can be used, or both and they differ.
    """
    if is_standard_gate(operation) or isinstance(operation, UnitaryGate):
        return _alone(operation)
    try:
        if not isinstance(operation, Instruction):
            has_circuit = hasattr(operation, "to_circuit")
            return operation.to_circuit() if has_circuit else _alone(UnitaryGate(Operator(operation)))
        if says_by_matrix(operation):
            return _alone(UnitaryGate(Operator(np.asarray(operation.to_matrix()))))
        return operation.definition
    except CircuitError:
        raise
    except Exception as error:  # anything may go wrong in gates of others
        raise CircuitError(
            f"Gate `{operation.name}` must have a definition or a matrix, but has neither that can be used "
            f"({type(error).__name__}: {error}). Fix: give it a definition."
        ) from error


def says_by_matrix(operation: Any) -> bool:
    """Return whether a matrix says what an operation does, rather than its definition.

    Args:
        operation: A gate or an instruction; an error in making its definition is raised as it is.

    Raises:
        CircuitError: If the gate's class gives both, and they differ.
    """
    if operation.definition is None:
        return True
    by_matrix, by_definition = _level(operation, _MATRIX), _level(operation, _DEFINITION)
    if not is_own(operation) or not _has_matrix(operation):
        return False
    if by_definition == _default(operation, _DEFINITION):  # the definition was given to this instance
        by_definition = by_matrix
    if by_matrix == by_definition:
        _check_agreement(operation)
    return by_matrix < by_definition


def inherits_a_matrix(operation: Any) -> bool:
    """Return whether a gate has a definition of its own, and a matrix from a class above."""
    return _has_matrix(operation) and _level(operation, _MATRIX) > _level(operation, _DEFINITION)


def _alone(operation: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(operation.num_qubits)
    circuit.append(operation, circuit.qubits)
    return circuit


def _has_matrix(operation: Any) -> bool:
    return hasattr(operation, "__array__") or _level(operation, ("to_matrix",)) < _default(
        operation, ("to_matrix",)
    )


def _level(operation: Any, names: tuple[str, ...]) -> int:
    """Return how far up among the classes of an operation one of some methods is found first."""
    classes = type(operation).__mro__
    return next((i for i, one in enumerate(classes) if any(n in vars(one) for n in names)), len(classes))


def _default(operation: Any, names: tuple[str, ...]) -> int:
    """Return where Qiskit's own classes have the methods, which there do nothing."""
    classes = type(operation).__mro__
    plain = [i for i, one in enumerate(classes) if one in (Gate, Instruction)]
    return next((i for i in plain if any(name in vars(classes[i]) for name in names)), len(classes))


def _check_agreement(operation: Any) -> None:
    """Check that definition and matrix are the same up to a global phase, tried at random angles."""
    if operation.num_qubits > COMPARED:
        return
    circuit = _alone(operation)
    free = sorted(circuit.parameters, key=lambda one: one.name)
    angles = np.random.default_rng(0).uniform(-3, 3, len(free))
    bound = circuit.assign_parameters(dict(zip(free, angles))).data[0].operation
    if any(isinstance(value, ParameterExpression) for value in bound.params):
        bound.params = [float(value) for value in bound.params]
    try:
        first, second = Operator(bound.definition), Operator(np.asarray(bound.to_matrix()))
    except Exception:  # without a usable matrix the definition counts
        return
    if not first.equiv(second, atol=TOLERANCE):
        raise CircuitError(
            f"Gate `{operation.name}` has a definition and a matrix, which must be the same up to a global "
            "phase, but are not. Fix: leave one of them out."
        )
