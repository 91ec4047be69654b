"""Gates as mathematics: angle expressions and real Pauli-transfer tensors."""
