"""What the installed Aer can do."""

from __future__ import annotations


def aer_methods() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return Aer's simulation methods and the devices that it runs on, as it names them."""
    from qiskit_aer import AerSimulator

    simulator = AerSimulator()
    return tuple(simulator.available_methods()), tuple(simulator.available_devices())
