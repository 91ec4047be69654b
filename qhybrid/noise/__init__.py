"""Noise profiles: error rates with units, and channels of any kind; one source for every engine."""

from qhybrid.noise.channels import (
    CHANNELS,
    AmplitudeDamping,
    BitFlip,
    CoherentRotation,
    Depolarizing,
    NoiseChannel,
    PauliChannel,
    PhaseDamping,
    Rate,
    ThermalRelaxation,
    on_each,
    register_noise_channel,
)
from qhybrid.noise.library import load_profile, profile_files
from qhybrid.noise.profile import NoiseProfile
from qhybrid.noise.sections import GateNoise, QubitNoise
from qhybrid.noise.sites import ChannelNoise

__all__ = [
    "CHANNELS",
    "AmplitudeDamping",
    "BitFlip",
    "ChannelNoise",
    "CoherentRotation",
    "Depolarizing",
    "GateNoise",
    "NoiseChannel",
    "NoiseProfile",
    "PauliChannel",
    "PhaseDamping",
    "QubitNoise",
    "Rate",
    "ThermalRelaxation",
    "load_profile",
    "on_each",
    "profile_files",
    "register_noise_channel",
]
