"""Noisy circuits as density matrices in the Pauli basis, executed by the compiled library."""
