"""Names that nobody else may use: only Qiskit's own classes have a built-in meaning.

Qiskit's transpiler, simulators and noise models know gates by name. A gate of a user (a plain `Gate`, a class
of their own, a definition in an OpenQASM file) that is called `id`, `rx` or `barrier` would be taken for
another gate, without a word. Such a gate is given a name of its own, once, where a circuit becomes a
`CircuitSpec`; its definition or matrix says what it does. Controlled gates of users are made anew, since
Qiskit's `control()` goes by names, and modified ones (`AnnotatedOperation`) become what they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import (
    CONTROL_FLOW_OP_NAMES,
    AnnotatedOperation,
    CircuitInstruction,
    ControlFlowOp,
    ControlledGate,
    Gate,
    Instruction,
)
from qiskit.circuit.library import get_standard_gate_name_mapping

from qhybrid.circuits.meanings import inherits_a_matrix, is_own, meaning, says_by_matrix
from qhybrid.circuits.modifiers import modified
from qhybrid.circuits.standard_gates import is_of_standard_class, is_standard_gate, standard_gates
from qhybrid.errors import CircuitError

PREFIX = "own_"
"""What a user's gate with a taken name is called in front of it."""
_ELSEWHERE = frozenset(
    """
    barrier delay measure reset store initialize state_preparation ParameterizedInitialize unitary pauli
    diagonal multiplexer permutation kraus superop quantum_channel roerror annotated PauliEvolution
    hamiltonian
    mcx mcy mcz mcp mcphase mcsx mcu mcu1 mcu2 mcu3 mcr mcrx mcry mcrz mcswap mcx_gray
    snapshot save_state save_expval set_statevector mark jump cu2 qerror_loc break_loop continue_loop
    """.split()  # noqa: SIM905 - a list of names is read more easily so
)
"""Further names that Qiskit, its simulators and this package give a meaning."""
_PREFIXES = ("save_", "set_")
"""Of the instructions of simulators."""
_STANDARD = "qiskit.circuit.library.standard_gates"


@cache
def taken_names() -> frozenset[str]:
    """Return the names that mean something to Qiskit, its simulators or this package."""
    return frozenset(get_standard_gate_name_mapping()) | _ELSEWHERE | frozenset(CONTROL_FLOW_OP_NAMES)


def is_taken(name: str) -> bool:
    """Return whether a name means something to Qiskit, its simulators or this package."""
    return name in taken_names() or name.startswith(_PREFIXES)


def with_own_names(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return a copy of a circuit in which every name tells the truth.

    Args:
        circuit: Any circuit; it is not changed.

    Returns:
        The copy. A user's gate of a taken name is called `own_NAME`, also inside definitions and under
        controls; a gate of Qiskit's that was renamed has its own name again; modified operations are plain
        gates.

    Raises:
        CircuitError: If a user's gate of a taken name has neither a definition nor a matrix, or has both and
            they disagree, or an operation cannot be modified.
    """
    result = circuit.copy()
    for index, instruction in enumerate(circuit.data):
        operation = instruction.operation
        found = _named(operation)
        if found is not operation:
            _check_bound(found, circuit)
            result.data[index] = CircuitInstruction(found, instruction.qubits, instruction.clbits)
    return result


def _check_bound(gate: Any, circuit: QuantumCircuit) -> None:
    """Check that a gate has no parameters but those of its circuit.

    Raises:
        CircuitError: If it has: Qiskit does not bind them within the base of a controlled or modified gate.
    """
    definition = getattr(gate, "definition", None)
    free = () if definition is None else definition.parameters
    left = sorted(one.name for one in free if one not in set(circuit.parameters))
    if left:
        raise CircuitError(
            f"Gate `{gate.name}` must have no other parameters than its circuit, but has {', '.join(left)}, "
            "which Qiskit leaves unbound within controlled and modified gates of users. Fix: make the "
            "CircuitSpec first and bind parameters of `spec.circuit`, or bind them in the gate's definition."
        )


def only_modified(given: QuantumCircuit, named: QuantumCircuit) -> bool:
    """Return whether `with_own_names` changed modified operations, and nothing whose name had lied."""
    modifies = any(
        isinstance(one.operation, AnnotatedOperation) for one in given.data if not one.is_standard_gate()
    )
    return modifies and not _has_own_names(named)


def _has_own_names(circuit: QuantumCircuit) -> bool:
    for one in circuit.data:
        if one.is_standard_gate() or not is_own(one.operation):
            continue
        definition = getattr(one.operation, "definition", None)
        if one.name.startswith(PREFIX) or (definition is not None and _has_own_names(definition)):
            return True
    return False


def _named(operation: Any) -> Any:
    """Return an operation with a truthful name: itself where nothing has to change."""
    if is_standard_gate(operation):
        return _with_its_name(operation)
    if isinstance(operation, AnnotatedOperation):
        return modified(_named(operation.base_op), operation.modifiers)
    if isinstance(operation, ControlFlowOp):
        return operation
    if not isinstance(operation, Instruction):
        return _plain_of(operation) if hasattr(operation, "to_matrix") else operation
    if isinstance(operation, ControlledGate):
        given = operation.base_gate
        base = _named(given)
        if base is not given:
            return _controlled(operation, base)
    if not is_own(operation):
        return _with_an_own_name(operation)
    return _users(operation)


def _users(operation: Any) -> Any:
    """Return a user's gate: as a plain one where its name is taken, or where what it holds has to change.

    Raises:
        CircuitError: If its name is taken, and it has neither a definition nor a matrix; or it has both and
            they differ.
    """
    # Qiskit's circuits take a subclass of a standard gate for that gate, whatever it is called.
    taken = is_taken(operation.name) or is_of_standard_class(operation)
    try:
        by_matrix = says_by_matrix(operation)
        if operation.definition is None and not taken:
            return operation
    except CircuitError:
        raise
    except Exception:  # anything may go wrong in gates of others; `check_gates` says what is wrong
        if not taken:
            return operation
        by_matrix = True
    try:
        definition = meaning(operation)
    except CircuitError as error:
        raise CircuitError(
            f"Gate `{operation.name}` is called like a gate of Qiskit's but is another one, so what it does "
            f"must be known. {error}"
        ) from error
    inner = with_own_names(definition)
    changed = any(one is not other for one, other in zip(_operations(inner), _operations(definition)))
    if not (taken or changed or by_matrix or inherits_a_matrix(operation)):
        return operation
    return _plain(operation, f"{PREFIX}{operation.name}" if taken else operation.name, inner)


def _plain(operation: Any, name: str, definition: QuantumCircuit) -> Any:
    kind = Gate if isinstance(operation, Gate) else Instruction
    numbers = (operation.num_qubits,) if kind is Gate else (operation.num_qubits, operation.num_clbits)
    named = kind(name, *numbers, list(operation.params))
    named.definition = definition
    return named


def _plain_of(operation: Any) -> Gate:
    """Return a gate for what has a matrix and is no instruction, such as a Clifford."""
    gate = Gate(type(operation).__name__.lower(), operation.num_qubits, [])
    gate.definition = with_own_names(meaning(operation))
    return gate


def _operations(circuit: QuantumCircuit) -> list[Any]:
    return [None if one.is_standard_gate() else one.operation for one in circuit.data]


def _with_its_name(operation: Any) -> Any:
    """Return a gate of Qiskit's under its own name: instances can be renamed, their class cannot."""
    control = {"ctrl_state": operation.ctrl_state} if hasattr(operation, "ctrl_state") else {}
    fresh = operation.base_class(*operation.params, **control)
    return operation if fresh.name == operation.name else fresh


def _with_an_own_name(operation: Any) -> Any:
    """Return another operation of Qiskit's, which may have been given the name of a standard gate."""
    renamed = operation.name in standard_gates() and _STANDARD not in type(operation).__module__
    if not renamed or not isinstance(operation, Gate):
        return operation
    return _plain(operation, f"{PREFIX}{operation.name}", with_own_names(meaning(operation)))


def _controlled(operation: Any, base: Any) -> Any:
    """Return a controlled gate whose base has another name now.

    Raises:
        CircuitError: If it is of a class whose controls are not known to be made from the base.
    """
    if operation.base_class is not ControlledGate:
        raise CircuitError(
            f"Gate `{operation.name}` ({operation.base_class.__name__}) controls `{base.name}`, which Qiskit "
            "takes for a gate of its own. Fix: give that gate another name, or use its `control()`."
        )
    fresh = base.control(operation.num_ctrl_qubits, ctrl_state=operation.ctrl_state, annotated=False)
    return _plain(operation, fresh.name, with_own_names(fresh.definition))
