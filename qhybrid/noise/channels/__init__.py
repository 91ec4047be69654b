"""Noise channels: one class a kind, with its rates, its Kraus operators and how it scales."""

from qhybrid.noise.channels.base import CHANNELS, NoiseChannel, Rate, on_each, register_noise_channel
from qhybrid.noise.channels.decay import AmplitudeDamping, PhaseDamping, ThermalRelaxation
from qhybrid.noise.channels.pauli import BitFlip, CoherentRotation, Depolarizing, PauliChannel

__all__ = [
    "CHANNELS",
    "AmplitudeDamping",
    "BitFlip",
    "CoherentRotation",
    "Depolarizing",
    "NoiseChannel",
    "PauliChannel",
    "PhaseDamping",
    "Rate",
    "ThermalRelaxation",
    "on_each",
    "register_noise_channel",
]
