"""A circuit as a plain list of gates and Pauli sums, for simulators other than ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from qhybrid.circuits import CircuitSpec

GATES = ("h", "x", "cx", "cz", "rx", "ry", "rz", "p", "crx", "cry", "crz", "rzz")
"""Gates that every peer is told how to run."""

Term = tuple[float, tuple[tuple[str, int], ...]]
"""A coefficient and the letters of one Pauli string: ("Z", qubit), ..."""


@dataclass(frozen=True)
class Gate:
    """One gate.

    Attributes:
        name: One of `GATES`.
        qubits: Its qubits, control first.
        radians: Of a rotation: its angle for (inputs, weights) with the parameter on the last axis, in the
            caller's array type; else None.
        batched: Whether the angle depends on the inputs.
    """

    name: str
    qubits: tuple[int, ...]
    radians: Callable[[Any, Any], Any] | None = None
    batched: bool = False


def gates_of(spec: CircuitSpec) -> list[Gate]:
    """Return the gates of a flat circuit.

    Raises:
        ValueError: For a gate that the peers are not told how to run.
    """
    places = {p.name: ("input", index) for index, p in enumerate(spec.input_params)}
    places |= {p.name: ("weight", index) for index, p in enumerate(spec.weight_params)}
    found = []
    for instruction in spec.circuit.data:
        name = instruction.operation.name
        qubits = tuple(spec.circuit.find_bit(qubit).index for qubit in instruction.qubits)
        if name == "barrier":
            continue
        if name not in GATES:
            raise ValueError(f"No peer is told how to run `{name}`.")
        parameters = instruction.operation.params
        radians, batched = _angle(parameters[0], places) if parameters else (None, False)
        found.append(Gate(name, qubits, radians, batched))
    return found


def _angle(value: Any, places: dict[str, tuple[str, int]]) -> tuple[Callable[[Any, Any], Any], bool]:
    if not getattr(value, "parameters", None):
        number = float(value)
        return (lambda inputs, weights: number), False
    expression = sympy.sympify(value.sympify())
    names = sorted(symbol.name for symbol in expression.free_symbols)
    dummies = [sympy.Dummy() for _ in names]
    exchanged = {s: dummies[names.index(s.name)] for s in expression.free_symbols}
    function = sympy.lambdify(dummies, expression.xreplace(exchanged), modules="math")
    where = [places[name] for name in names]

    def radians(inputs: Any, weights: Any) -> Any:
        return function(*(inputs[..., i] if kind == "input" else weights[i] for kind, i in where))

    return radians, any(kind == "input" for kind, _ in where)


def observables_of(spec: CircuitSpec) -> list[list[Term]]:
    """Return the Pauli terms of every observable."""
    return [
        [
            (float(np.real(factor)), tuple(zip(letters, qubits)))
            for letters, qubits, factor in observable.to_sparse_list()
        ]
        for observable in spec.observables
    ]


def letters_of(spec: CircuitSpec) -> list[tuple[str, int]]:
    """Return (letter, qubit) of every observable, each one Pauli letter on one qubit."""
    return [letters[0] for ((_, letters),) in observables_of(spec)]


def index_of_bits(num_qubits: int, qubits: Sequence[int], *, first_is_high: bool) -> np.ndarray:
    """Return (-1)^(sum of the qubits' bits) for every basis state, shape (2^n,)."""
    index = np.arange(2**num_qubits, dtype=np.int64)
    mask = sum(1 << (num_qubits - 1 - qubit if first_is_high else qubit) for qubit in qubits)
    return 1.0 - 2.0 * (np.bitwise_count(index & mask) % 2)


def check_parity(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], tolerance: float) -> float:
    """Return the largest difference of values and gradients, over the largest of each or 1.

    Raises:
        ValueError: If it is above the tolerance: then a comparison of times would mean nothing.
    """
    difference = max(
        float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in zip(ours, theirs) if a.size
    )
    if not difference <= tolerance:
        raise ValueError(f"Both sides must agree within {tolerance:g}, but differ by {difference:.2e}.")
    return difference
