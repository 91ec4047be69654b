"""What a circuit can do, without data: `analyze_circuit` computes all figures of one circuit."""

from qhybrid.analysis.analyze import CircuitAnalysis, analyze_circuit
from qhybrid.analysis.estimates import Estimate, NotComputed
from qhybrid.analysis.growth import grown_circuits

__all__ = ["CircuitAnalysis", "Estimate", "NotComputed", "analyze_circuit", "grown_circuits"]
