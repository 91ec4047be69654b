"""Mitigation by name, around any engine that takes a noise profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qhybrid.engines.base import Engine
from qhybrid.engines.mitigation.readout import ReadoutCorrection
from qhybrid.engines.mitigation.zero_noise import SCALES, ZeroNoiseExtrapolation
from qhybrid.mitigations import MITIGATIONS
from qhybrid.noise import NoiseProfile

MakeEngine = Callable[[NoiseProfile, int], Engine]


def mitigated_engine(mitigation: str, make: MakeEngine, profile: NoiseProfile, **options: Any) -> Engine:
    """Return an engine with error mitigation.

    Args:
        mitigation: A name of `qhybrid.mitigations.MITIGATIONS`, such as "readout" or "zne".
        make: Makes the engine of a noise profile; the number counts the executions that a method needs, so
            that each can have its own seed.
        profile: The noise.
        **options: Options of the method, such as `scales` and `extrapolation` of "zne".

    Raises:
        EngineError: If the name is unknown, or an option is out of range.
    """
    engine: Engine = MITIGATIONS.get(mitigation).engine(make, profile, **options)
    return engine


def plain(make: MakeEngine, profile: NoiseProfile) -> Engine:
    """Return the engine as it is."""
    return make(profile, 0)


def readout_corrected(make: MakeEngine, profile: NoiseProfile, number: int = 0) -> Engine:
    """Return the engine with its read-out errors undone."""
    return ReadoutCorrection(make(profile, number), profile)


def extrapolated(
    make: MakeEngine,
    profile: NoiseProfile,
    scales: Sequence[float] = SCALES,
    extrapolation: str = "richardson",
) -> Engine:
    """Return the engine with its values extrapolated to zero gate noise."""
    return ZeroNoiseExtrapolation(make, profile, scales, extrapolation)


def corrected_and_extrapolated(
    make: MakeEngine,
    profile: NoiseProfile,
    scales: Sequence[float] = SCALES,
    extrapolation: str = "richardson",
) -> Engine:
    """Return the engine with read-out errors undone at every strength, then extrapolated."""

    def corrected(noise: NoiseProfile, number: int) -> Engine:
        return readout_corrected(make, noise, number)

    return ZeroNoiseExtrapolation(corrected, profile, scales, extrapolation)
