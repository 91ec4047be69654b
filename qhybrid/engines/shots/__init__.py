"""Finite numbers of shots: which Pauli strings share a measurement, and the laws of their estimates."""
