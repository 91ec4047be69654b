"""Merging one-qubit gates before routing, with angles that depend on the data.

A transpiler cannot merge RX(x0) RY(x1) RZ(x2) while x is symbolic, so each rotation costs pulses of its own.
Here every run of one-qubit gates becomes one U(theta, phi, lambda) whose angles are computed for each sample
before sending: two pulses, whatever the run holds. Qiskit's convention:

    U = [[cos(t/2), -exp(i l) sin(t/2)], [exp(i p) sin(t/2), exp(i (p + l)) cos(t/2)]] up to a global phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import UGate, UnitaryGate

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.gates.expression import Angle, AngleReader
from qhybrid.engines.lowering import Primitive, open_instruction
from qhybrid.errors import CircuitError

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
TINY = 1e-9
PAULI = {
    "X": np.array([[0, 1], [1, 0]], dtype=complex),
    "Y": np.array([[0, -1j], [1j, 0]], dtype=complex),
    "Z": np.array([[1, 0], [0, -1]], dtype=complex),
}


@dataclass(frozen=True, eq=False)
class _Run:
    """A run of one-qubit gates: constant matrices, and rotations (letter, row of the angle table)."""

    gates: tuple[Complex | tuple[str, int], ...]


class AngleMap:
    """Computes the parameters of a merged circuit from input angles.

    Args:
        angles: Angles that depend on the inputs.
        num_inputs: Length of an input row.
        outputs: In the order of the merged circuit's parameters: a run (three parameters) or the index of an
            angle that stays as it is (one).
    """

    def __init__(self, angles: Sequence[Angle], num_inputs: int, outputs: Sequence[_Run | int]) -> None:
        self._table = AngleTable(angles, num_inputs, 0, torch.empty(0, dtype=torch.float64))
        self._any = bool(angles)
        self._outputs = tuple(outputs)
        self.num_outputs = sum(3 if isinstance(output, _Run) else 1 for output in outputs)

    def __call__(self, points: Array) -> Array:
        """Return the parameters in radians, shape (B, P), for input rows of shape (B, n_in)."""
        rows = torch.as_tensor(np.array(points, dtype=np.float64)).t()
        none = torch.empty(0, dtype=torch.float64)
        angles = self._table.batched(rows, none).numpy() if self._any else np.empty((0, len(points)))
        columns: list[Array] = []
        for output in self._outputs:
            columns += _euler(output, angles) if isinstance(output, _Run) else [angles[output]]
        return np.stack(columns, axis=1) if columns else np.empty((len(points), 0))


def merge_runs(spec: CircuitSpec) -> tuple[CircuitSpec, AngleMap]:
    """Return a circuit without weights with its one-qubit runs merged, and what computes its parameters.

    Args:
        spec: The circuit; its weights are bound.

    Returns:
        The merged circuit, whose inputs are the map's outputs, with the same observables; and the map.
    """
    merger = _Merger(spec)
    for source, instruction in enumerate(spec.circuit.data):
        qubits = [spec.circuit.find_bit(qubit).index for qubit in instruction.qubits]
        for gate in open_instruction(instruction.operation, qubits, merger.reader, source):
            merger.add(gate)
    circuit, parameters, angle_map = merger.finish()
    return CircuitSpec(spec.name, circuit, tuple(parameters), (), spec.observables), angle_map


class _Merger:
    def __init__(self, spec: CircuitSpec) -> None:
        self.reader = AngleReader.of(spec)
        self._num_inputs = spec.num_inputs
        self._circuit = QuantumCircuit(spec.num_qubits, name=spec.name)
        self._pending: dict[int, list[Primitive]] = {qubit: [] for qubit in range(spec.num_qubits)}
        self._angles: list[Angle] = []
        self._outputs: list[_Run | int] = []
        self._parameters: list[Parameter] = []

    def add(self, gate: Primitive) -> None:
        if len(gate.qubits) == 1:
            self._pending[gate.qubits[0]].append(gate)
            return
        for qubit in gate.qubits:
            self._flush(qubit)
        operation = gate.operation
        if gate.angle is not None:
            angle: float | Parameter = gate.angle.offset
            if not gate.angle.constant:
                self._outputs.append(self._angle(gate.angle))
                angle = self._parameter()
            rotation: Any = type(operation)
            operation = rotation(angle)
        self._circuit.append(operation, gate.qubits)

    def finish(self) -> tuple[QuantumCircuit, list[Parameter], AngleMap]:
        for qubit in self._pending:
            self._flush(qubit)
        return self._circuit, self._parameters, AngleMap(self._angles, self._num_inputs, self._outputs)

    def _flush(self, qubit: int) -> None:
        gates, self._pending[qubit] = self._pending[qubit], []
        if not gates:
            return
        if all(gate.angle is None or gate.angle.constant for gate in gates):
            product = np.eye(2, dtype=complex)
            for gate in gates:
                product = _constant(gate) @ product
            self._circuit.append(UnitaryGate(product), [qubit])
            return
        kept = [
            (gate.pauli, self._angle(gate.angle))
            if gate.angle is not None and not gate.angle.constant
            else _constant(gate)
            for gate in gates
        ]
        self._outputs.append(_Run(tuple(kept)))
        self._circuit.append(UGate(*(self._parameter() for _ in range(3))), [qubit])

    def _angle(self, angle: Angle) -> int:
        self._angles.append(angle)
        return len(self._angles) - 1

    def _parameter(self) -> Parameter:
        # Width: Qiskit orders parameters by name.
        self._parameters.append(Parameter(f"a{len(self._parameters):05d}"))
        return self._parameters[-1]


def _constant(gate: Primitive) -> Complex:
    if gate.angle is not None:
        return np.asarray(_rotations(gate.pauli, np.array([gate.angle.offset]))[0])
    if gate.matrix is None:
        raise CircuitError(
            f"A gate on one qubit must be a rotation or have a matrix, but {gate} has neither."
        )
    return np.asarray(gate.matrix)


def _rotations(letter: str, angles: Array) -> Complex:
    """Return exp(-i t P / 2) for every angle, shape (B, 2, 2)."""
    half = angles[:, None, None] / 2
    return np.asarray(np.cos(half) * np.eye(2) - 1j * np.sin(half) * PAULI[letter])


def _euler(run: _Run, angles: Array) -> list[Array]:
    """Return theta, phi and lambda of a run for every sample, each of shape (B,)."""
    product = np.broadcast_to(np.eye(2, dtype=complex), (angles.shape[1], 2, 2))
    for gate in run.gates:
        product = (gate if isinstance(gate, np.ndarray) else _rotations(gate[0], angles[gate[1]])) @ product
    corner, below = product[:, 0, 0], product[:, 1, 0]
    theta = 2 * np.arctan2(np.abs(below), np.abs(corner))
    # Where sine or cosine vanishes only the sum or the difference of phi and lambda means anything.
    diagonal = np.abs(below) < TINY
    reference = np.where(np.abs(corner) < TINY, 1.0, corner)
    phi = np.angle(np.where(diagonal, 1.0, below / reference))
    lam = np.where(diagonal, np.angle(product[:, 1, 1] / reference), np.angle(-product[:, 0, 1] / reference))
    return [theta, phi, lam]
