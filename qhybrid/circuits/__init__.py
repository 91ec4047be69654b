"""Circuits: what they are (`CircuitSpec`), builders by name, files in circuits/, and their exports."""

from qhybrid.circuits.definitions import build_circuit, load_circuit
from qhybrid.circuits.export import save_circuit
from qhybrid.circuits.library import CIRCUITS, list_circuits, register_circuit
from qhybrid.circuits.spec import CircuitSpec

__all__ = [
    "CIRCUITS",
    "CircuitSpec",
    "build_circuit",
    "list_circuits",
    "load_circuit",
    "register_circuit",
    "save_circuit",
]
