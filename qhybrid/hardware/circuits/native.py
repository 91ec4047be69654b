"""A device's own one-qubit gates: for whole rotations, for read-outs in a basis, and for preparing a 1."""

from __future__ import annotations

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit.equivalence_library import SessionEquivalenceLibrary
from qiskit.circuit.library import RGate, RZGate, SXGate, UGate, XGate
from qiskit.transpiler import PassManager
from qiskit.transpiler.exceptions import TranspilerError
from qiskit.transpiler.passes import BasisTranslator, Optimize1qGatesDecomposition

from qhybrid.engines.noise.readout import ROTATIONS
from qhybrid.errors import HardwareError

VIRTUAL_Z = {"X": (RZGate(np.pi / 2), SXGate()), "Y": (SXGate(),), "Z": ()}
"""Gates that turn a Pauli letter into Z where rotations about Z cost nothing."""


class NativeGates:
    """Writes one-qubit gates as a device executes them.

    Args:
        names: Names of all gates of the device; None for a simulator, which executes all gates.
    """

    def __init__(self, names: tuple[str, ...] | None) -> None:
        self._names = names
        self._frames = names is not None and {"rz", "sx"} <= set(names)

    def open_rotations(self, circuit: QuantumCircuit) -> QuantumCircuit:
        """Return a circuit whose U gates a transpiler translates shortest, symbolic angles included.

        A device whose rotations are about axes in the plane alone needs two for a U. Up to a phase

            U(t, p, l) = R(pi, (p - l + pi) / 2) R(t - pi, pi / 2 - l)

        with R(t, a) = exp(-i t/2 (cos a X + sin a Y)); a transpiler that goes through rotations about Z takes
        seven.
        """
        if self._names is None or "r" not in self._names or {"u", "rz", "u3"} & set(self._names):
            return circuit
        result = circuit.copy_empty_like()
        for one in circuit.data:
            if not isinstance(one.operation, UGate) or one.operation.name != "u":
                result.append(one)
                continue
            theta, phi, lam = one.operation.params
            result.append(RGate(theta - np.pi, np.pi / 2 - lam), one.qubits)
            result.append(RGate(np.pi, (phi - lam + np.pi) / 2), one.qubits)
        return result

    def read_out(self, circuit: QuantumCircuit, letters: dict[int, str]) -> QuantumCircuit:
        """Return a mapped circuit with the rotations that turn Pauli letters into Z.

        Args:
            circuit: The circuit; it is changed.
            letters: X, Y or Z of every qubit that is read.

        Raises:
            HardwareError: If the device's gates do not suffice.
        """
        for qubit, letter in sorted(letters.items()):
            for gate in (VIRTUAL_Z if self._frames else ROTATIONS)[letter]:
                circuit.append(gate, [qubit])
        # The rotation of a read-out is absorbed by the constant gates before it.
        return self.written(circuit)

    def ones(self, num_qubits: int) -> QuantumCircuit:
        """Return a circuit that prepares 1 on every qubit, in the device's gates."""
        circuit = QuantumCircuit(num_qubits)
        for qubit in range(num_qubits):
            circuit.append(XGate(), [qubit])
        if self._names is None or "x" in self._names:
            return circuit
        return self.written(circuit)

    def written(self, circuit: QuantumCircuit) -> QuantumCircuit:
        """Return a circuit with its constant one-qubit gates in the device's own, as few as possible.

        Raises:
            HardwareError: If the device's gates do not suffice.
        """
        if self._names is None:
            return circuit
        if self._frames:
            single = [name for name in ("rz", "sx", "x", "rx") if name != "rx" or "rx" in self._names]
            return PassManager([Optimize1qGatesDecomposition(basis=single)]).run(circuit)
        try:
            return PassManager(
                [
                    BasisTranslator(SessionEquivalenceLibrary, [*self._names, "barrier"]),
                    Optimize1qGatesDecomposition(basis=list(self._names)),
                ]
            ).run(circuit)
        except TranspilerError as error:
            raise HardwareError(
                f"The device's gates ({', '.join(self._names)}) must suffice to read in all bases, but "
                f"{error.message}. Fix: choose another device."
            ) from error
