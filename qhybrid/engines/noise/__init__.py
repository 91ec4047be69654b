"""A noise profile compiled for the engines: Pauli-transfer channels, Aer errors, noisy read-outs."""
