"""Layers with circuits inside, and their classical stand-ins."""

from qhybrid.layers.experts import ExpertBottleneck, Router, all_experts, routers
from qhybrid.layers.feature_cache import cached_features
from qhybrid.layers.grid_bottleneck import GridBottleneck
from qhybrid.layers.layered_classifier import LayeredClassifier
from qhybrid.layers.pairwise_filter import PairwiseFilter
from qhybrid.layers.quantum_layer import QuantumLayer, quantum_layers
from qhybrid.layers.quanvolution import Quanvolution
from qhybrid.layers.qufex_bottleneck import QuFeXBottleneck
from qhybrid.layers.separable_filter import SeparableFilter

__all__ = [
    "ExpertBottleneck",
    "GridBottleneck",
    "LayeredClassifier",
    "PairwiseFilter",
    "QuFeXBottleneck",
    "QuantumLayer",
    "Quanvolution",
    "Router",
    "SeparableFilter",
    "all_experts",
    "cached_features",
    "quantum_layers",
    "routers",
]
