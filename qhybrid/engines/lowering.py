"""From any Qiskit circuit to a list of constant gates and Pauli rotations.

Composite instructions are opened until only those two kinds are left. Swaps become a relabelling of wires,
barriers and global phases disappear.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import AnnotatedOperation, Operation
from qiskit.circuit.library import PauliEvolutionGate, RYGate, RZGate
from qiskit.quantum_info import Operator

from qhybrid.circuits.modifiers import modified
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.circuits.standard_gates import is_standard_gate
from qhybrid.engines.gates.expression import Angle, AngleReader
from qhybrid.engines.gates.pauli_transfer import Array, check_unitary
from qhybrid.engines.noise.channels import gate_channel
from qhybrid.engines.noise.composites import is_not_unitary
from qhybrid.engines.noise.gate_names import check_gate_names
from qhybrid.engines.noise.instructions import as_executed, instruction_error, noise_carrier
from qhybrid.errors import CircuitError
from qhybrid.noise import NoiseProfile
from qhybrid.noise.paulis import ComplexArray
from qhybrid.noise.sections import GateError

ROTATIONS = {
    "rx": "X",
    "ry": "Y",
    "rz": "Z",
    "p": "Z",
    "u1": "Z",
    "rxx": "XX",
    "ryy": "YY",
    "rzz": "ZZ",
    "rzx": "ZX",
}
"""Gates that are exp(-i t P / 2) up to a global phase, with P's first letter on the first qubit."""

EULER = frozenset({"u", "u3"})
"""Gates that are RZ(phi) RY(theta) RZ(lambda) up to a global phase; `u` has no definition of its own."""

SKIPPED = frozenset({"barrier", "delay"})
NOTHING = frozenset({"id", "global_phase"})
SWAP: ComplexArray = np.eye(4, dtype=complex)[[0, 2, 1, 3]]
LARGEST_MATRIX = 2
"""Qubits up to which a constant gate is taken as one matrix rather than opened."""


@dataclass(frozen=True)
class Primitive:
    """One gate.

    Attributes:
        qubits: Wires it acts on, first qubit first.
        pauli: For a rotation exp(-i angle P / 2): P's letters, first letter on the first qubit; else "".
        angle: The rotation's angle; None for a constant gate.
        matrix: A constant gate's unitary in Qiskit's bit order; None for a rotation.
        channel: Transfer matrix of the noise after the gate, first qubit most significant, or None.
        error: The error rates that the channel comes from, or None.
        operation: The Qiskit gate that it stands for.
        source: Index of the instruction of the circuit that it comes from.
    """

    qubits: tuple[int, ...]
    pauli: str = ""
    angle: Angle | None = None
    matrix: ComplexArray | None = None
    channel: Array | None = None
    error: GateError | None = None
    operation: Operation | None = None
    source: int = 0


@dataclass(frozen=True)
class Lowered:
    """A circuit as primitives.

    Attributes:
        num_qubits: Number of wires.
        primitives: Gates in time order.
        wire_of: For each qubit of the circuit the wire that holds it at the end, shape (num_qubits,).
    """

    num_qubits: int
    primitives: tuple[Primitive, ...]
    wire_of: tuple[int, ...]

    @property
    def noisy(self) -> bool:
        """Whether any gate has noise."""
        return any(primitive.channel is not None for primitive in self.primitives)


LARGEST_MEMORY = 8
"""Opened circuits that are remembered: checks, plans and bases of shots of one circuit ask for the same."""
_KNOWN: OrderedDict[tuple[str, int], tuple[NoiseProfile | None, Lowered]] = OrderedDict()


def lower(spec: CircuitSpec, noise: NoiseProfile | None = None) -> Lowered:
    """Open all instructions of a circuit; what was opened last is remembered.

    Args:
        spec: The circuit.
        noise: Error rates of its gates; then composite gates are taken apart into the profile's basis.

    Raises:
        CircuitError: If the circuit measures, resets, branches, or holds a gate that has neither a matrix nor
            a definition.
        EngineError: If `noise` lists a gate of a name that is unknown, or is of a device that does not have
            all gates of the circuit.
    """
    # The entry holds the profile, so that no other one gets its number.
    key = (spec.gates_fingerprint, id(noise))
    known = _KNOWN.get(key)
    if known is not None:
        return known[1]
    check_gate_names(noise, spec.circuit)
    found = lower_circuit(as_executed(spec.circuit, noise), AngleReader.of(spec), noise)
    _KNOWN[key] = noise, found
    with suppress(KeyError):  # Another thread was faster.
        while len(_KNOWN) > LARGEST_MEMORY:
            _KNOWN.popitem(last=False)
    return found


def lower_circuit(circuit: QuantumCircuit, reader: AngleReader, noise: NoiseProfile | None = None) -> Lowered:
    """Open all instructions of a circuit, with parameters read by `reader`; see `lower`."""
    wires = list(range(circuit.num_qubits))
    primitives: list[Primitive] = []
    for source, instruction in enumerate(circuit.data):
        operation = instruction.operation
        qubits = [circuit.find_bit(qubit).index for qubit in instruction.qubits]
        opened = list(open_instruction(operation, qubits, reader, source))
        for gate in opened if noise is None else with_noise(opened, operation, qubits, noise):
            if gate.matrix is None and gate.angle is None:
                first, second = gate.qubits
                wires[first], wires[second] = wires[second], wires[first]
            else:
                primitives.append(replace(gate, qubits=tuple(wires[qubit] for qubit in gate.qubits)))
    return Lowered(circuit.num_qubits, tuple(primitives), tuple(wires))


def with_noise(
    opened: list[Primitive], operation: Any, qubits: Sequence[int], noise: NoiseProfile
) -> list[Primitive]:
    """Attach the noise of one instruction on one or two qubits to its primitives.

    A gate of several primitives, and a noisy pause, get an identity behind them that carries the noise.
    """
    places = tuple(qubits)
    error = instruction_error(noise, operation, places)
    if error is None:
        return opened
    channel = gate_channel(error)
    if len(opened) == 1 and opened[0].operation is operation:
        gate = opened[0]
        if gate.matrix is None and gate.angle is None:
            gate = replace(gate, matrix=SWAP)
        return [replace(gate, channel=channel, error=error)]
    carrier = noise_carrier(operation, bool(opened), error, noise)
    matrix = np.eye(2 ** len(places), dtype=complex)
    return [*opened, Primitive(places, matrix=matrix, channel=channel, error=error, operation=carrier)]


def open_instruction(
    operation: Operation, qubits: list[int], reader: AngleReader, source: int
) -> Iterator[Primitive]:
    """Yield the primitives of one instruction; swaps are yielded as they are.

    Args:
        operation: The instruction's operation.
        qubits: The qubits it acts on.
        reader: Reads its parameters.
        source: Its index in the circuit, for messages.

    Raises:
        CircuitError: If it is not unitary or cannot be opened.
    """
    name, standard = operation.name, is_standard_gate(operation)
    if name in SKIPPED or (standard and name in NOTHING):
        return
    if is_not_unitary(operation):
        raise CircuitError(
            f"Circuits must be unitary, but instruction {source} is `{name}`. Fix: take mid-circuit "
            "measurement, reset "
            "and control flow out; read-outs are given as observables (remove_final_measurements())."
        )
    if isinstance(operation, AnnotatedOperation):  # inside of a definition of Qiskit's
        yield from open_instruction(modified(operation.base_op, operation.modifiers), qubits, reader, source)
        return
    parameters = list(getattr(operation, "params", []))
    if standard and name == "swap":
        yield Primitive(tuple(qubits), operation=operation, source=source)
        return
    if standard and name in ROTATIONS:
        yield Primitive(
            tuple(qubits), ROTATIONS[name], reader.read(parameters[0]), operation=operation, source=source
        )
        return
    if standard and name in EULER:
        theta, phi, lam = parameters
        for rotation in (RZGate(lam), RYGate(theta), RZGate(phi)):
            yield from open_instruction(rotation, qubits, reader, source)
        return
    symbolic = any(getattr(value, "parameters", None) for value in parameters)
    # An evolution is what its definition says, with a bound time as with a free one; its matrix is exact.
    by_matrix = not symbolic and not isinstance(operation, PauliEvolutionGate)
    if by_matrix and operation.num_qubits <= LARGEST_MATRIX:
        matrix = _matrix(operation)
        if matrix is not None:
            yield Primitive(tuple(qubits), matrix=matrix, operation=operation, source=source)
            return
    definition = getattr(operation, "definition", None)
    if definition is not None:
        for inner in definition.data:
            places = [qubits[definition.find_bit(qubit).index] for qubit in inner.qubits]
            yield from open_instruction(inner.operation, places, reader, source)
        return
    matrix = None if symbolic else _matrix(operation)
    if matrix is None:
        raise CircuitError(
            f"Gate `{name}` (instruction {source}) must have a definition or a matrix, but has "
            "neither. Fix: give it a "
            "definition, or transpile the circuit to standard gates first."
        )
    yield Primitive(tuple(qubits), matrix=matrix, operation=operation, source=source)


def _matrix(operation: Any) -> ComplexArray | None:
    """Return the unitary of an operation that has one by itself, else None."""
    if hasattr(operation, "to_matrix"):
        try:
            matrix = np.asarray(operation.to_matrix(), dtype=complex)
        except (TypeError, ValueError, AttributeError, NotImplementedError):
            return None
        except Exception as error:
            if type(error).__name__ != "CircuitError":
                raise
            return None
        check_unitary(matrix, operation.name)
        return matrix
    if getattr(operation, "definition", None) is None:
        try:
            return np.asarray(Operator(operation).data, dtype=complex)
        except Exception as error:
            raise CircuitError(f"Gate `{operation.name}` has no usable matrix: {error}") from error
    return None
