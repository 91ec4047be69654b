"""The exact engine: Pauli-transfer networks, planned, stacked and differentiated by torch."""
