"""How many samples' states are carried at once."""

CHUNK_AMPLITUDES = 2**17
"""Amplitudes that are carried at once on a CPU, so that a state stays in the cache."""
EVERYTHING = 2**62


def chunk_samples(num_qubits: int, device_type: str) -> int:
    """Return the number of samples whose states are carried at once."""
    return max(1, CHUNK_AMPLITUDES >> num_qubits) if device_type == "cpu" else EVERYTHING
