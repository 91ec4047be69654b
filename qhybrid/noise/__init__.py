"""Noise profiles: error rates with units, one source for every engine."""

from qhybrid.noise.profile import GateNoise, NoiseProfile, QubitNoise

__all__ = ["GateNoise", "NoiseProfile", "QubitNoise"]
