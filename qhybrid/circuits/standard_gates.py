"""Gates of Qiskit's standard library, known by their class: a name alone may be anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from qiskit.circuit import Gate
from qiskit.circuit.library import get_standard_gate_name_mapping


@cache
def standard_gates() -> Mapping[str, Any]:
    """Return an example of every standard gate, by name; `measure`, `reset` and `delay` are no gates."""
    return {name: gate for name, gate in get_standard_gate_name_mapping().items() if isinstance(gate, Gate)}


@cache
def _classes() -> frozenset[type]:
    return frozenset(gate.base_class for gate in standard_gates().values())


def is_standard_gate(operation: Any) -> bool:
    """Return whether an operation is a gate of Qiskit's own classes, controlled by 0 or 1."""
    return getattr(operation, "base_class", None) in _classes()


def is_of_standard_class(operation: Any) -> bool:
    """Return whether an operation's class is a standard gate's, or derived from one."""
    return isinstance(operation, tuple(_classes()))
