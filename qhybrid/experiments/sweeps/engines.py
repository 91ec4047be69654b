"""The engine of a cell: what executes, under which noise, on which device, with which mitigation."""

from __future__ import annotations

import functools
from typing import Any

from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine
from qhybrid.engines.mapped import DeviceMapping, MappedEngine
from qhybrid.engines.mitigation import mitigated_engine
from qhybrid.experiments.sweeps.cells import Conditions, averages_trajectories
from qhybrid.experiments.sweeps.profiles import ALL_TO_ALL, find_device
from qhybrid.mitigations import MITIGATIONS, NONE
from qhybrid.noise import NoiseProfile
from qhybrid.seeding import derive_seed


def cell_engine(
    conditions: Conditions, noise: NoiseProfile | None, settings: dict[str, Any], weights: str
) -> Engine:
    """Return the engine of a cell.

    Args:
        conditions: The conditions.
        noise: The scaled profile; None without noise.
        settings: Trajectories, transpiler seed and extrapolation of the sweep.
        weights: Hash of the run's weights. Every run draws its own shots: alike ones would make errors over
            runs too small, as similar circuits with the same seed have nearly the same outcomes.

    Raises:
        EngineError: If the engine cannot be made.
    """

    def make(profile: NoiseProfile | None, number: int = 0) -> Engine:
        options: dict[str, Any] = {"noise": profile, "shots": conditions.shots}
        averaged = averages_trajectories(conditions, profile)
        if averaged:
            options["trajectories"] = settings["trajectories"]
        if conditions.seed is not None and (averaged or conditions.shots is not None):
            options["seed"] = derive_seed(conditions.seed, "sweep", weights, number) % 2**31
        return make_engine(conditions.engine, **options)

    def mitigated(profile: NoiseProfile | None) -> Engine:
        if profile is None or conditions.mitigation == NONE:
            return make(profile)
        section = MITIGATIONS.get(conditions.mitigation).options
        options = settings[section] if section else {}
        return mitigated_engine(conditions.mitigation, make, profile, **options)

    if conditions.mapping == ALL_TO_ALL:
        return mitigated(noise)
    return MappedEngine(mitigated, device_mapping(conditions.mapping, settings["transpile_seed"]), noise)


@functools.lru_cache(maxsize=8)
def device_mapping(device: str, seed: int) -> DeviceMapping:
    """Return the mapping to a device; circuits are routed once in a process."""
    return DeviceMapping(find_device(device), seed)


def shots_of_estimate(conditions: Conditions, settings: dict[str, Any], noisy: bool = True) -> int | None:
    """Return the shots of one basis of one estimate, all executions of its mitigation together.

    Args:
        conditions: The conditions of the cell.
        settings: Sections of the sweep, such as `zne`.
        noisy: Whether there is noise: without any, nothing is mitigated.
    """
    if conditions.shots is None:
        return None
    return conditions.shots * (MITIGATIONS.get(conditions.mitigation).times(settings) if noisy else 1)
