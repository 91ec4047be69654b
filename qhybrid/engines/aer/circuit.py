"""The circuit that Aer runs: standard gates, and one parameter for every occurrence of an angle."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import Operation, Parameter, ParameterExpression
from qiskit.circuit.library import UnitaryGate

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.circuits.standard_gates import is_standard_gate
from qhybrid.engines.gates.expression import Angle, AngleReader
from qhybrid.engines.lowering import Primitive, open_instruction, with_noise
from qhybrid.engines.noise.gate_names import check_gate_names
from qhybrid.engines.noise.instructions import PART_LABEL, as_executed
from qhybrid.noise import NoiseProfile


def angle_circuit(
    spec: CircuitSpec, noise: NoiseProfile | None, native: Container[str]
) -> tuple[QuantumCircuit, list[Parameter], list[Angle]]:
    """Return the circuit with one parameter of its own for every occurrence of an angle.

    Args:
        spec: The circuit.
        noise: Error rates that will follow its gates, or None.
        native: Names of the gates that the simulator runs as they are.

    Returns:
        The circuit of standard gates, its parameters, and for each the angle as a function of inputs and
        weights. Under noise each gate's noise goes by its name, or by a label.

    Raises:
        EngineError: If `noise` lists a gate of a name that is unknown.
    """
    check_gate_names(noise, spec.circuit)
    reader = AngleReader.of(spec)
    circuit = QuantumCircuit(spec.num_qubits)
    parameters: list[Parameter] = []
    angles: list[Angle] = []
    executed = as_executed(spec.circuit, noise)
    for source, instruction in enumerate(executed.data):
        whole = instruction.operation
        qubits = [executed.find_bit(qubit).index for qubit in instruction.qubits]
        gates = list(open_instruction(whole, qubits, reader, source))
        if noise is not None:
            gates = with_noise(gates, whole, qubits, noise)
        for gate in gates:
            operation: Any
            if gate.angle is not None and not gate.angle.constant:
                parameters.append(Parameter(f"t{len(parameters)}"))
                angles.append(gate.angle)
                operation = _with_angle(gate, parameters[-1])
            else:
                operation = _with_numbers(gate)
            if noise is not None:
                operation = _known_to_noise(operation, gate, whole, native)
            circuit.append(operation, gate.qubits)
    return circuit, parameters, angles


def _known_to_noise(operation: Any, gate: Primitive, whole: Any, native: Container[str]) -> Operation:
    """Return a primitive as an operation whose noise Aer's model finds by name or label.

    Args:
        operation: The primitive's operation.
        gate: The primitive.
        whole: The instruction's operation.
        native: Names of the gates that the simulator runs as they are.
    """
    name: str = whole.name
    if gate.operation is not whole and gate.error is None:
        if gate.matrix is not None:
            return UnitaryGate(gate.matrix, label=PART_LABEL)
        part = operation.to_mutable()
        part.label = PART_LABEL
        return part
    if gate.operation is whole and gate.matrix is not None and not _runs_as_it_is(whole, native):
        # Aer would replace the gate by several, each with noise, or run one (`pauli`) without noise; a
        # labelled matrix stays one gate.
        return UnitaryGate(gate.matrix, label=name)
    return operation


def _runs_as_it_is(operation: Any, native: Container[str]) -> bool:
    if isinstance(operation, UnitaryGate):
        return True
    return is_standard_gate(operation) and operation.name in native


def _with_numbers(gate: Primitive) -> Any:
    """Return a gate without label whose expressions without parameters left are plain numbers."""
    if gate.angle is not None:
        return _with_angle(gate, gate.angle.offset) if gate.angle.constant else gate.operation
    operation: Any = gate.operation
    if gate.matrix is not None and not is_standard_gate(operation) and not isinstance(operation, UnitaryGate):
        return UnitaryGate(gate.matrix)  # Aer goes by names
    symbolic = any(isinstance(value, ParameterExpression) for value in operation.params)
    labelled = getattr(operation, "label", None) is not None and operation.name != "unitary"
    if not symbolic and not labelled:
        return operation
    copy = operation.to_mutable()
    if symbolic:
        copy.params = [float(value) for value in operation.params]
    if labelled:
        copy.label = None  # Aer would look for the noise of the label
    return copy


def _with_angle(gate: Primitive, angle: Parameter | float) -> Operation:
    rotation: Any = type(gate.operation)
    return rotation(angle)
