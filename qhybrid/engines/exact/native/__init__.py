"""Compiled batched adjoint statevectors: rotations by Pauli strings, executed by a small C++ library."""
