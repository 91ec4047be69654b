"""Batched statevectors with an adjoint backward pass: the exact engine's way for entangled circuits."""
