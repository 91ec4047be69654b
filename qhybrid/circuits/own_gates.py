"""Names that nobody else may use: only Qiskit's own classes have a built-in meaning.

Qiskit's transpiler, simulators and noise models know gates by name. A gate of a user (a plain `Gate`, a class
of their own, a definition in an OpenQASM file) that is called `id`, `rx` or `barrier` would be taken for
another gate, without a word. Such a gate is given a name of its own, once, where a circuit becomes a
`CircuitSpec`; its definition or matrix says what it does.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import CONTROL_FLOW_OP_NAMES, ControlFlowOp, Gate, Instruction
from qiskit.circuit.library import UnitaryGate, get_standard_gate_name_mapping
from qiskit.quantum_info import Operator

from qhybrid.circuits.standard_gates import is_standard_gate
from qhybrid.errors import CircuitError

PREFIX = "own_"
"""What a user's gate with a taken name is called in front of it."""
_ELSEWHERE = frozenset(
    """
    barrier delay measure reset store initialize state_preparation ParameterizedInitialize unitary pauli
    diagonal multiplexer permutation kraus superop quantum_channel roerror annotated PauliEvolution
    hamiltonian
    mcx mcy mcz mcp mcphase mcsx mcu mcu1 mcu2 mcu3 mcr mcrx mcry mcrz mcswap mcx_gray
    snapshot save_state save_expval set_statevector mark jump
    """.split()  # noqa: SIM905 - a list of names is read more easily so
)
"""Further names that Qiskit, its simulators and this package give a meaning."""
_QISKIT = ("qiskit.", "qiskit_aer.", "qiskit_machine_learning.")
_CARRIERS = (
    "qiskit.circuit.gate",
    "qiskit.circuit.instruction",
    "qiskit.circuit.controlledgate",
    "qiskit.qasm2",
)
"""Modules of Qiskit whose classes carry gates of users."""


@cache
def taken_names() -> frozenset[str]:
    """Return the names that mean something to Qiskit, its simulators or this package."""
    return frozenset(get_standard_gate_name_mapping()) | _ELSEWHERE | frozenset(CONTROL_FLOW_OP_NAMES)


def with_own_names(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return a copy of a circuit in which every name tells the truth.

    Args:
        circuit: Any circuit; it is not changed.

    Returns:
        The copy. A user's gate of a taken name is called `own_NAME`, also inside definitions; a gate of
        Qiskit's that was renamed has its own name again.

    Raises:
        CircuitError: If a user's gate of a taken name has neither a definition nor a matrix.
    """
    result = circuit.copy()
    for index, instruction in enumerate(circuit.data):
        if instruction.is_standard_gate():
            continue
        found = _named(instruction.operation)
        if found is not instruction.operation:
            result.data[index] = instruction.replace(operation=found)
    return result


def is_own(operation: Any) -> bool:
    """Return whether a gate is a user's: not of a class of Qiskit's that has a meaning of its own."""
    # Instances that Qiskit shares have classes without a module.
    module = getattr(operation, "base_class", type(operation)).__module__
    return not module.startswith(_QISKIT) or module.startswith(_CARRIERS)


def _named(operation: Any) -> Any:
    """Return an operation with a truthful name: itself where nothing has to change."""
    if is_standard_gate(operation):
        return _with_its_name(operation)
    if (
        isinstance(operation, ControlFlowOp)
        or not isinstance(operation, Instruction)
        or not is_own(operation)
    ):
        return operation
    taken = operation.name in taken_names()
    definition = _definition(operation, taken)
    if definition is None:
        return operation
    inner = with_own_names(definition)
    if not taken and all(one is other for one, other in zip(_operations(inner), _operations(definition))):
        return operation
    kind = Gate if isinstance(operation, Gate) else Instruction
    numbers = (operation.num_qubits,) if kind is Gate else (operation.num_qubits, operation.num_clbits)
    named = kind(f"{PREFIX}{operation.name}" if taken else operation.name, *numbers, list(operation.params))
    named.definition = inner
    return named


def _operations(circuit: QuantumCircuit) -> list[Any]:
    return [None if one.is_standard_gate() else one.operation for one in circuit.data]


def _with_its_name(operation: Any) -> Any:
    """Return a gate of Qiskit's under its own name: instances can be renamed, their class cannot."""
    control = {"ctrl_state": operation.ctrl_state} if hasattr(operation, "ctrl_state") else {}
    fresh = operation.base_class(*operation.params, **control)
    return operation if fresh.name == operation.name else fresh


def _definition(operation: Any, needed: bool) -> QuantumCircuit | None:
    """Return what a user's gate does: its definition, else its matrix as one.

    Raises:
        CircuitError: If it is needed, and there is neither.
    """
    try:
        found: QuantumCircuit | None = operation.definition
        if found is not None or not needed:
            return found
        matrix = Operator(operation)
    except Exception as error:  # anything may go wrong in gates of others
        if not needed:
            return None  # `check_gates` says what is wrong
        raise CircuitError(
            f"Gate `{operation.name}` is called like a gate of Qiskit's but is another one, so it must have "
            f"a definition or a matrix, but has neither that can be used ({type(error).__name__}: {error}). "
            "Fix: give it a definition, or use Qiskit's own gate."
        ) from error
    circuit = QuantumCircuit(operation.num_qubits)
    circuit.append(UnitaryGate(matrix), circuit.qubits)
    return circuit
