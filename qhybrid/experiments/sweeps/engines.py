"""The engine of a cell: what executes, under which noise, on which device, with which mitigation."""

from __future__ import annotations

import functools
from typing import Any

from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine
from qhybrid.engines.mapped import DeviceMapping, MappedEngine
from qhybrid.engines.mitigation import mitigated_engine
from qhybrid.experiments.sweeps.cells import TRAJECTORIES, Conditions
from qhybrid.experiments.sweeps.profiles import ALL_TO_ALL, find_device
from qhybrid.noise import NoiseProfile
from qhybrid.seeding import derive_seed

METHODS = {"aer_density_matrix": "density_matrix", TRAJECTORIES: "statevector"}


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
        averaged = conditions.engine == TRAJECTORIES and conditions.shots is None and profile is not None
        if averaged:
            options["trajectories"] = settings["trajectories"]
        if conditions.seed is not None and (averaged or conditions.shots is not None):
            options["seed"] = derive_seed(conditions.seed, "sweep", weights, number) % 2**31
        if conditions.engine == "exact":
            return make_engine("exact", **options)
        return make_engine("aer", method=METHODS[conditions.engine], **options)

    def mitigated(profile: NoiseProfile | None) -> Engine:
        if profile is None or conditions.mitigation == "none":
            return make(profile)
        return mitigated_engine(conditions.mitigation, make, profile, **settings["zne"])

    if conditions.mapping == ALL_TO_ALL:
        return mitigated(noise)
    return MappedEngine(mitigated, device_mapping(conditions.mapping, settings["transpile_seed"]), noise)


@functools.lru_cache(maxsize=8)
def device_mapping(device: str, seed: int) -> DeviceMapping:
    """Return the mapping to a device; circuits are routed once in a process."""
    return DeviceMapping(find_device(device), seed)


def shots_of_estimate(conditions: Conditions, scales: int, noisy: bool = True) -> int | None:
    """Return the shots of one basis of one estimate, all strengths of an extrapolation together.

    Args:
        conditions: The conditions of the cell.
        scales: Number of strengths.
        noisy: Whether there is noise: without any, nothing is extrapolated.
    """
    if conditions.shots is None:
        return None
    return conditions.shots * (scales if noisy and "zne" in conditions.mitigation else 1)
