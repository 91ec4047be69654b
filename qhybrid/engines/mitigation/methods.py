"""Mitigation by name, around any engine that takes a noise profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qhybrid.engines.base import Engine
from qhybrid.engines.mitigation.readout import ReadoutCorrection
from qhybrid.engines.mitigation.zero_noise import SCALES, ZeroNoiseExtrapolation
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

MITIGATIONS = ("none", "readout", "zne", "readout_zne")


def mitigated_engine(
    mitigation: str,
    make: Callable[[NoiseProfile, int], Engine],
    profile: NoiseProfile,
    scales: Sequence[float] = SCALES,
    extrapolation: str = "richardson",
) -> Engine:
    """Return an engine with error mitigation.

    Args:
        mitigation: "none", "readout" (correction from the profile), "zne" (zero-noise extrapolation), or
            "readout_zne" (correction at every strength, then extrapolation).
        make: Makes the engine of a noise profile; the number counts the strengths of an extrapolation, so
            that each can have its own seed.
        profile: The noise.
        scales: Strengths of the extrapolation.
        extrapolation: "richardson" or "linear".

    Raises:
        EngineError: If the name is unknown, or a strength is out of range.
    """
    if mitigation not in MITIGATIONS:
        raise EngineError(f"The mitigation must be one of {', '.join(MITIGATIONS)}, but is {mitigation!r}.")
    corrected = "readout" in mitigation

    def made(noise: NoiseProfile, number: int) -> Engine:
        engine = make(noise, number)
        return ReadoutCorrection(engine, noise) if corrected else engine

    if "zne" in mitigation:
        return ZeroNoiseExtrapolation(made, profile, scales, extrapolation)
    return made(profile, 0)
