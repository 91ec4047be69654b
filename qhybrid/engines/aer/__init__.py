"""Qiskit Aer as an engine."""

from qhybrid.engines.aer.engine import AerEngine

__all__ = ["AerEngine"]
