"""Noise profiles: error rates with units, one source for every engine."""

from qhybrid.noise.library import load_profile, profile_files
from qhybrid.noise.profile import NoiseProfile
from qhybrid.noise.sections import GateNoise, QubitNoise

__all__ = ["GateNoise", "NoiseProfile", "QubitNoise", "load_profile", "profile_files"]
