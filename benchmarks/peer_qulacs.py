"""qulacs as a peer: its backpropagation, sample by sample, one combined observable for the backward pass."""

from __future__ import annotations

import math

import numpy as np
import qulacs
import torch
from peer_circuits import Gate, gates_of, observables_of
from peer_families import Family
from peer_steps import Results, Step

from qhybrid.circuits import CircuitSpec

PAULI = {"X": 1, "Y": 2, "Z": 3}


class _Builder:
    """Builds the circuit and notes what every parameter is: (gate, factor), in qulacs' signs."""

    def __init__(self, num_qubits: int) -> None:
        self.circuit = qulacs.ParametricQuantumCircuit(num_qubits)
        self.factors: list[tuple[int, float]] = []

    def rotation(self, letters: str, qubits: tuple[int, ...], gate: int, factor: float = 1.0) -> None:
        """Add exp(-i f t P / 2); qulacs turns the other way."""
        paulis = [PAULI[letter] for letter in letters]
        if len(qubits) == 1:
            getattr(self.circuit, f"add_parametric_R{letters}_gate")(qubits[0], 0.0)
        else:
            self.circuit.add_parametric_multi_Pauli_rotation_gate(list(qubits), paulis, 0.0)
        self.factors.append((gate, -factor))

    def add(self, gate: Gate, number: int) -> None:
        """Add a gate of the common list."""
        name, qubits = gate.name, gate.qubits
        if name in ("h", "x"):
            getattr(self.circuit, f"add_{name.upper()}_gate")(*qubits)
        elif name in ("cx", "cz"):
            getattr(self.circuit, {"cx": "add_CNOT_gate", "cz": "add_CZ_gate"}[name])(*qubits)
        elif name == "rzz":
            self.rotation("ZZ", qubits, number)
        elif name == "p":
            self.rotation("Z", qubits, number)
        elif name.startswith("cr"):
            self._controlled(name[2].upper(), qubits, number)
        else:
            self.rotation(name[1].upper(), qubits, number)

    def _controlled(self, letter: str, qubits: tuple[int, ...], number: int) -> None:
        """A controlled rotation about P is exp(-i t P / 4) exp(+i t Z P / 4): two commuting rotations."""
        control, target = qubits
        self.rotation(letter, (target,), number, 0.5)
        self.rotation("Z" + letter, (control, target), number, -0.5)


def adjoint(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return a step by qulacs' backprop."""
    gates, n = gates_of(spec), spec.num_qubits
    builder = _Builder(n)
    for number, gate in enumerate(gates):
        builder.add(gate, number)
    circuit, state = builder.circuit, qulacs.QuantumState(n)
    rotating = [number for number, gate in enumerate(gates) if gate.radians is not None]
    place = {number: index for index, number in enumerate(rotating)}
    columns = torch.as_tensor([place[number] for number, _ in builder.factors])
    factors = torch.as_tensor([factor for _, factor in builder.factors], dtype=torch.float64)
    texts = [
        [(factor, " ".join(f"{letter} {qubit}" for letter, qubit in letters)) for factor, letters in terms]
        for terms in observables_of(spec)
    ]
    single = [_operator(n, terms, 1.0) for terms in texts]
    x = inputs.double().requires_grad_()
    w = weights.double().requires_grad_()

    def step() -> Results:
        x.grad = w.grad = None
        rows = [gates[number].radians(x, w) for number in rotating]
        angles = torch.stack(
            [torch.as_tensor(row, dtype=torch.float64).expand(len(x)) for row in rows], dim=1
        )
        table = (angles[:, columns] * factors).detach()
        values, grads = np.empty((len(x), len(single))), torch.empty_like(table)
        for sample, row in enumerate(table.tolist()):
            for index, angle in enumerate(row):
                circuit.set_parameter(index, angle)
            state.set_zero_state()
            circuit.update_quantum_state(state)
            values[sample] = [operator.get_expectation_value(state).real for operator in single]
            combined = qulacs.Observable(n)
            for value, terms in zip(values[sample], texts):
                _add(combined, terms, 2.0 * value)
            grads[sample] = torch.as_tensor(circuit.backprop(combined))
        (angles[:, columns] * factors).backward(grads)
        return [values, *(np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in (x, w))]

    return step


def _operator(n: int, terms: list[tuple[float, str]], scale: float) -> qulacs.Observable:
    operator = qulacs.Observable(n)
    _add(operator, terms, scale)
    return operator


def _add(operator: qulacs.Observable, terms: list[tuple[float, str]], scale: float) -> None:
    for factor, text in terms:
        if not math.isfinite(scale):
            raise ValueError("A value of a peer is not finite.")
        operator.add_operator(scale * factor, text)
