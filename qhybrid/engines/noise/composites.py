"""Composite gates under noise: taken apart into a basis first, so that noise follows what a device would run.

Gates of Qiskit's standard library on one or two qubits, and matrices of that size, stay as they are written,
and so do gates that the profile lists by their own name.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import AnnotatedOperation, ControlFlowOp
from qiskit.circuit.library import UnitaryGate
from qiskit.exceptions import QiskitError
from qiskit.transpiler import PassManager, generate_preset_pass_manager

from qhybrid.circuits.meanings import meaning
from qhybrid.circuits.modifiers import modified
from qhybrid.circuits.standard_gates import is_standard_gate, standard_gates
from qhybrid.engines.noise.gate_names import noise_name
from qhybrid.errors import CircuitError, EngineError
from qhybrid.noise import NoiseProfile

NOT_UNITARY = frozenset(
    """
    measure reset initialize kraus superop quantum_channel store break_loop continue_loop
    """.split()  # noqa: SIM905 - a list of names is read more easily so
)
LARGEST_GATE = 2
"""Qubits up to which noise follows a gate."""


def taken_apart(circuit: QuantumCircuit, profile: NoiseProfile) -> QuantumCircuit:
    """Return the circuit in gates that noise can follow; what is taken apart is said in a warning.

    Args:
        circuit: The circuit; parameters stay symbolic.
        profile: Says the basis.

    Raises:
        CircuitError: If a gate cannot be written in the basis.
        EngineError: If the profile is of a device, which must have all gates of the circuit, or lists noise
            of a gate on more than two qubits.
    """
    if all(_stays(instruction.operation, profile) for instruction in circuit.data):
        return circuit
    result = circuit.copy_empty_like()
    opened: dict[str, None] = {}
    for instruction in circuit.data:
        operation = instruction.operation
        if _stays(operation, profile):
            result.append(instruction)
            continue
        qubits = tuple(circuit.find_bit(qubit).index for qubit in instruction.qubits)
        _check_openable(operation, qubits, profile)
        opened.setdefault(operation.name)
        found = _in_basis(operation, profile)
        for inner in found.data:
            result.append(inner.operation, [qubits[found.find_bit(bit).index] for bit in inner.qubits])
    warnings.warn(
        f"Noise profile `{profile.name}`: {', '.join(opened)} taken apart into {', '.join(profile.basis)}, "
        "whose gates the noise follows. Fix for another basis: the profile's key `basis`.",
        stacklevel=1,  # the same place for all callers: Python shows a line once
    )
    return result


def is_not_unitary(operation: Any) -> bool:
    """Return whether an operation measures, resets or branches."""
    return operation.name in NOT_UNITARY or isinstance(operation, ControlFlowOp)


def _stays(operation: Any, profile: NoiseProfile) -> bool:
    if operation.name in ("barrier", "delay") or is_not_unitary(operation):
        return True
    if operation.num_qubits > LARGEST_GATE:
        return False
    if is_standard_gate(operation) or isinstance(operation, UnitaryGate):
        return True
    return _has_own_noise(operation, profile)


def _has_own_noise(operation: Any, profile: NoiseProfile) -> bool:
    """Return whether the profile lists a gate that is none of Qiskit's by its name."""
    return operation.name in profile.gate_names and operation.name not in standard_gates()


def _check_openable(operation: Any, qubits: tuple[int, ...], profile: NoiseProfile) -> None:
    if profile.listed_only:
        raise profile.not_listed(f"gate `{operation.name}`", qubits)
    name = noise_name(operation)
    if name in profile.gate_names and operation.num_qubits > LARGEST_GATE:
        raise EngineError(
            f"Noise follows gates on one or two qubits, but noise profile `{profile.name}` lists gate "
            f"`{name}`, which acts on {operation.num_qubits}. Fix: list the gates of its basis "
            f"({', '.join(profile.basis)}) instead."
        )


def _in_basis(operation: Any, profile: NoiseProfile) -> QuantumCircuit:
    """Return a gate in gates of the basis, on qubits numbered as in the gate."""
    flat = QuantumCircuit(operation.num_qubits)
    _open(operation, list(range(operation.num_qubits)), flat, profile)
    try:
        return _passes(profile.basis).run(flat)
    except QiskitError as error:
        raise CircuitError(
            f"Gate `{operation.name}` must be taken apart into {', '.join(profile.basis)} (`basis` of noise "
            f"profile `{profile.name}`), but cannot: {error}. Fix: a basis that can write any gate, such "
            "as rz, sx, cx."
        ) from error


def _open(operation: Any, qubits: list[int], circuit: QuantumCircuit, profile: NoiseProfile) -> None:
    """Append a gate as standard gates and matrices; Qiskit would take a gate for another of the same name."""
    if operation.name in ("barrier", "delay"):
        circuit.append(operation, qubits)
        return
    if is_not_unitary(operation):
        raise CircuitError(f"Circuits must be unitary, but a composite gate holds `{operation.name}`.")
    matrix = isinstance(operation, UnitaryGate)
    name = operation.label if matrix else operation.name
    if name in profile.gate_names if matrix else _has_own_noise(operation, profile):
        raise EngineError(
            f"Noise profile `{profile.name}` lists gate `{name}`, but the circuit has it inside a "
            "composite gate, which is taken apart. Fix: circuit.decompose() before it is used, or leave the "
            "gate out of the profile."
        )
    if is_standard_gate(operation) or matrix:
        circuit.append(operation, qubits)
        return
    if isinstance(operation, AnnotatedOperation):  # inside of a definition of Qiskit's
        _open(modified(operation.base_op, operation.modifiers), qubits, circuit, profile)
        return
    definition = meaning(operation)
    if operation.num_qubits > LARGEST_GATE and getattr(operation, "definition", None) is None:
        raise CircuitError(
            f"Noise follows gates on one or two qubits, but `{operation.name}` acts on "
            f"{operation.num_qubits} and has a matrix and no definition that says its gates. Fix: give it a "
            "definition, or use UnitaryGate(matrix), which Qiskit can take apart."
        )
    for inner in definition.data:
        _open(
            inner.operation,
            [qubits[definition.find_bit(bit).index] for bit in inner.qubits],
            circuit,
            profile,
        )


@lru_cache(maxsize=16)
def _passes(basis: tuple[str, ...]) -> PassManager:
    # Level 0: what a gate becomes does not depend on its neighbours.
    return generate_preset_pass_manager(optimization_level=0, basis_gates=list(basis), seed_transpiler=0)
