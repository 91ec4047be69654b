"""The circuit that Aer runs: standard gates, and one parameter for every occurrence of an angle."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import Operation, Parameter, ParameterExpression
from qiskit.circuit.library import UnitaryGate

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.gates.expression import Angle, AngleReader
from qhybrid.engines.lowering import Primitive, open_instruction, with_noise
from qhybrid.engines.noise.gate_names import check_gate_names
from qhybrid.engines.noise.instructions import as_executed, delay_label
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
        The circuit of standard gates (under noise: as written), its parameters, and for each the angle as a
        function of inputs and weights.

    Raises:
        EngineError: If `noise` lists a gate of a name that is unknown.
    """
    check_gate_names(noise, spec.circuit)
    reader = AngleReader.of(spec)
    circuit = QuantumCircuit(spec.num_qubits)
    parameters: list[Parameter] = []
    angles: list[Angle] = []
    for source, instruction in enumerate(as_executed(spec.circuit, noise).data):
        qubits = [spec.circuit.find_bit(qubit).index for qubit in instruction.qubits]
        opened = list(open_instruction(instruction.operation, qubits, reader, source))
        for gate in opened if noise is None else with_noise(opened, instruction.operation, qubits, noise):
            operation = _with_numbers(gate)
            if gate.angle is not None and not gate.angle.constant:
                parameters.append(Parameter(f"t{len(parameters)}"))
                angles.append(gate.angle)
                operation = _with_angle(gate, parameters[-1])
            elif gate.matrix is not None and instruction.operation.name == "delay":
                # Aer's model knows gates by name: every duration needs one of its own.
                operation = UnitaryGate(gate.matrix, label=delay_label(instruction.operation))
            elif gate.matrix is not None and noise is not None and instruction.operation.name not in native:
                # Aer would replace the gate by several, each with noise; a labelled matrix stays one gate.
                operation = UnitaryGate(gate.matrix, label=instruction.operation.name)
            circuit.append(operation, gate.qubits)
    return circuit, parameters, angles


def _with_numbers(gate: Primitive) -> Any:
    """Return a gate without label whose expressions without parameters left are plain numbers."""
    if gate.angle is not None:
        return _with_angle(gate, gate.angle.offset) if gate.angle.constant else gate.operation
    operation: Any = gate.operation
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
