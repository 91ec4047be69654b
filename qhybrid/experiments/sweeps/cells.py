"""The cells of a sweep: which conditions there are, and the content that addresses each one's result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from qhybrid.config.sweeps import LayerChoice, SweepGrid
from qhybrid.engine_kinds import ENGINES
from qhybrid.engines.shots.sampler import SHOTS_SCHEME
from qhybrid.experiments.sweeps.profiles import ALL_TO_ALL, SweepProfiles
from qhybrid.mitigations import MITIGATIONS
from qhybrid.noise import NoiseProfile

VERSION = 1
"""Counted up when the same conditions give other numbers."""
TRAINED = "trained"
REPLICATES = "replicates"
"""Key of a cell's headline metric without each unit of the test set; cells of earlier versions lack it."""
"""Engine of cells that run on the engine of their own recipe."""


@dataclass(frozen=True)
class Conditions:
    """What one cell is evaluated under.

    Attributes:
        engine: What executes the circuits.
        profile: Name of the noise profile.
        scale: Factor on its error rates.
        shots: Shots of each measured basis; None for infinitely many.
        seed: Seed of shots and trajectories; None where nothing is random.
        mapping: `all_to_all`, or the device that circuits are routed to.
        mitigation: Error mitigation.
        layers: Quantum layers that this applies to: `all` or their names.
    """

    engine: str
    profile: str
    scale: float = 1.0
    shots: int | None = None
    seed: int | None = None
    mapping: str = ALL_TO_ALL
    mitigation: str = "none"
    layers: LayerChoice = "all"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        content = asdict(self)
        content["layers"] = self.layers if self.layers == "all" else list(self.layers)
        return content


@dataclass(frozen=True)
class SweepRun:
    """A trained run as the sweep sees it.

    Attributes:
        name: What tables and the report call it.
        folder: The run folder.
        identity: What decides results: weights, model, data. JSON-safe.
        facts: What tables say of it: weights hash, epoch, training settings. JSON-safe.
    """

    name: str
    folder: str
    identity: dict[str, Any]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run under one set of conditions.

    Attributes:
        run: The run.
        conditions: The conditions, by the names that the sweep file uses.
        noise: The scaled profile; None without noise.
        key: Hash of all that decides the result.
    """

    run: SweepRun
    conditions: Conditions
    noise: NoiseProfile | None
    key: str

    def job(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return all that a worker needs, as plain values."""
        return {
            "key": self.key,
            "folder": self.run.folder,
            "weights": self.run.facts["weights"],
            "data_hash": self.run.facts.get("data_hash"),
            "conditions": self.conditions.to_dict(),
            "noise": None if self.noise is None else self.noise.model_dump(mode="json"),
            "settings": settings,
        }


def grid_conditions(grid: SweepGrid, profiles: SweepProfiles) -> Iterator[Conditions]:
    """Yield the conditions of a grid; deterministic ones once, not once a seed."""
    axes = product(
        grid.layers, grid.engines, grid.profiles, grid.scales, grid.mappings, grid.mitigations, grid.shots
    )
    for layers, engine, profile, scale, mapping, mitigation, shots in axes:
        count = None if shots == "infinite" else shots
        noisy = profiles.scaled(profile, scale) is not None
        random = count is not None or (ENGINES.get(engine).trajectories and noisy)
        for seed in grid.seeds if random else (None,):
            place = profiles.mapping(profile, mapping)
            yield Conditions(engine, profile, scale, count, seed, place, mitigation, layers)


def list_cells(
    runs: Sequence[SweepRun],
    grids: Sequence[SweepGrid],
    profiles: SweepProfiles,
    settings: dict[str, Any],
) -> list[Cell]:
    """Return all cells, run by run; conditions that several grids have in common once.

    Args:
        runs: The trained runs.
        grids: The grids.
        profiles: Their noise profiles.
        settings: What holds for all cells: split, samples, trajectories, extrapolation, transpiler seed.
    """
    cells: dict[tuple[str, Conditions], Cell] = {}
    for run in runs:
        for grid in grids:
            for conditions in grid_conditions(grid, profiles):
                noise = profiles.scaled(conditions.profile, conditions.scale)
                cell = Cell(run, conditions, noise, cell_key(run, conditions, noise, settings))
                cells.setdefault((run.folder, conditions), cell)
    return list(cells.values())


def averages_trajectories(conditions: Conditions, noise: NoiseProfile | None) -> bool:
    """Return whether values are averages over random trajectories."""
    if conditions.engine == TRAINED or conditions.shots is not None or noise is None:
        return False
    return ENGINES.get(conditions.engine).trajectories


def cell_key(
    run: SweepRun, conditions: Conditions, noise: NoiseProfile | None, settings: dict[str, Any]
) -> str:
    """Return the hash of what decides a cell's result; names of profiles do not enter, their content does."""
    content: dict[str, Any] = {
        "version": VERSION,
        **run.identity,
        **{key: settings[key] for key in ("split", "samples")},
        **conditions.to_dict(),
        "profile": None if noise is None else noise.fingerprint,
    }
    del content["scale"]
    if conditions.engine == TRAINED:
        content["trained"] = run.facts["engine"]
    elif conditions.seed is not None:
        content["shots_of"] = "run"  # before, all runs had the same
    engine = run.facts["engine"] if conditions.engine == TRAINED else conditions.to_dict()
    if engine.get("shots") is not None and engine.get("kind", conditions.engine) != "aer":
        content["shots_scheme"] = SHOTS_SCHEME  # the same seed draws other shots than under an older one
    if averages_trajectories(conditions, noise):
        content["trajectories"] = settings["trajectories"]
    if conditions.mapping != ALL_TO_ALL:
        content["transpile_seed"] = settings["transpile_seed"]
    method = MITIGATIONS.get(conditions.mitigation)
    if method.options:
        content[method.options] = settings[method.options]
    if method.version > 1:
        content["mitigation_version"] = method.version
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
