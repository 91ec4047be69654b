"""Layers with circuits inside, and their classical stand-ins."""

from qhybrid.layers.grid_bottleneck import GridBottleneck
from qhybrid.layers.quantum_layer import QuantumLayer, quantum_layers
from qhybrid.layers.separable_filter import SeparableFilter

__all__ = ["GridBottleneck", "QuantumLayer", "SeparableFilter", "quantum_layers"]
