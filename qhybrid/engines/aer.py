"""Qiskit Aer as an engine: statevector, density matrix or matrix product states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Operation, Parameter
from qiskit_aer import AerSimulator

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.base import Engine, check_arguments, empty_result
from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.gates.expression import Angle, AngleReader
from qhybrid.engines.lowering import Primitive, open_instruction
from qhybrid.engines.parameter_shift import ParameterShift
from qhybrid.errors import EngineError

METHODS = ("statevector", "density_matrix", "matrix_product_state")
PRECISION = {None: "double", torch.float64: "double", torch.float32: "single"}


@dataclass(frozen=True)
class _Prepared:
    """A circuit with one parameter an angle, transpiled, with its read-outs."""

    circuit: QuantumCircuit
    parameters: tuple[Parameter, ...]
    angles: tuple[Angle, ...]
    table: AngleTable
    num_observables: int


class AerEngine(Engine):
    """Expectation values from Aer, gradients by parameter shift.

    Args:
        method: "statevector", "density_matrix" or "matrix_product_state".
        dtype: torch.float32 or torch.float64 arithmetic; None is float64.
    """

    kind = "aer"

    def __init__(self, method: str = "statevector", dtype: torch.dtype | None = None) -> None:
        if method not in METHODS:
            raise EngineError(f"Option `method` must be one of {', '.join(METHODS)}, but is {method!r}.")
        if dtype not in PRECISION:
            raise EngineError(f"Argument `dtype` must be float32 or float64, but is {dtype}.")
        self._method = method
        self._dtype = dtype
        self._simulator = AerSimulator(method=method, precision=PRECISION[dtype])
        self._prepared: dict[str, _Prepared] = {}

    def expectations(self, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the expectation values of all observables, shape (B, n_obs); see `Engine.expectations`."""
        check_arguments(spec, inputs, weights)
        if not len(inputs):
            return empty_result(spec, inputs, weights)
        prepared = self._prepare(spec)
        rows = inputs.to(device="cpu", dtype=torch.float64).t()
        angles = prepared.table.batched(rows, weights.to(device="cpu", dtype=torch.float64))
        wanted = [
            index
            for index, angle in enumerate(prepared.angles)
            if (angle.inputs and inputs.requires_grad) or (angle.weights and weights.requires_grad)
        ]
        shifted = torch.as_tensor(wanted, dtype=torch.long)
        values = ParameterShift.apply(angles, shifted, lambda moved: self._run(prepared, moved))
        return values.t().to(device=inputs.device, dtype=inputs.dtype)

    def describe(self) -> dict[str, Any]:
        """Return kind, method and precision; shots, seed and noise are None."""
        dtype = None if self._dtype is None else str(self._dtype).removeprefix("torch.")
        return {
            "kind": self.kind,
            "method": self._method,
            "dtype": dtype,
            "shots": None,
            "seed": None,
            "noise": None,
        }

    def _prepare(self, spec: CircuitSpec) -> _Prepared:
        if spec.fingerprint not in self._prepared:
            circuit, parameters, angles = angle_circuit(spec)
            for index, observable in enumerate(spec.observables):
                circuit.save_expectation_value(observable, range(spec.num_qubits), label=f"o{index}")
            table = AngleTable(angles, spec.num_inputs, spec.num_weights, torch.empty(0, dtype=torch.float64))
            ready = transpile(circuit, self._simulator, optimization_level=0)
            self._prepared[spec.fingerprint] = _Prepared(
                ready, tuple(parameters), tuple(angles), table, spec.num_observables
            )
        return self._prepared[spec.fingerprint]

    def _run(self, prepared: _Prepared, angles: torch.Tensor) -> torch.Tensor:
        count = angles.shape[1]
        if not count or not prepared.num_observables:
            return torch.zeros((prepared.num_observables, count), dtype=torch.float64)
        binds = [{p: row.tolist() for p, row in zip(prepared.parameters, angles)}] if len(angles) else None
        result = self._simulator.run([prepared.circuit], parameter_binds=binds).result()
        if not result.success:
            raise EngineError(f"Aer failed: {result.status}")
        columns = len(result.results)
        table = np.array(
            [
                [result.data(column)[f"o{o}"] for column in range(columns)]
                for o in range(prepared.num_observables)
            ]
        )
        return torch.as_tensor(table.real, dtype=torch.float64).expand(-1, count)


def angle_circuit(spec: CircuitSpec) -> tuple[QuantumCircuit, list[Parameter], list[Angle]]:
    """Return the circuit with one parameter of its own for every occurrence of an angle.

    Returns:
        The circuit of standard gates, its parameters, and for each the angle as a function of inputs and weights.
    """
    reader = AngleReader.of(spec)
    circuit = QuantumCircuit(spec.num_qubits)
    parameters: list[Parameter] = []
    angles: list[Angle] = []
    for source, instruction in enumerate(spec.circuit.data):
        qubits = [spec.circuit.find_bit(qubit).index for qubit in instruction.qubits]
        for gate in open_instruction(instruction.operation, qubits, reader, source):
            operation = gate.operation
            if gate.angle is not None and not gate.angle.constant:
                parameters.append(Parameter(f"t{len(parameters)}"))
                angles.append(gate.angle)
                operation = _with_angle(gate, parameters[-1])
            circuit.append(operation, gate.qubits)
    return circuit, parameters, angles


def _with_angle(gate: Primitive, angle: Parameter) -> Operation:
    rotation: Any = type(gate.operation)
    return rotation(angle)
