"""A circuit of a plugin or script, whose code changes while its name stays."""

from __future__ import annotations

from collections.abc import Callable

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qhybrid.circuits import CircuitSpec


def builder_with(gate: str) -> Callable[[], CircuitSpec]:
    """Return the builder of a circuit on one qubit, with an input and a weight, which turns by that gate."""

    def build() -> CircuitSpec:
        x, w = Parameter("x"), Parameter("w")
        circuit = QuantumCircuit(1)
        circuit.ry(x, 0)
        getattr(circuit, gate)(w, 0)
        return CircuitSpec.from_circuit(circuit, [x], [w], "Z")

    return build
