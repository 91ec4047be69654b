"""Circuits: what they are (`CircuitSpec`), the named ones, and their exports."""

from qhybrid.circuits.library import build_circuit, list_circuits, load_circuit
from qhybrid.circuits.spec import CircuitSpec

__all__ = ["CircuitSpec", "build_circuit", "list_circuits", "load_circuit"]
