"""Which trained runs a sweep evaluates: their identity, and what is checked of them beforehand."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qhybrid.config import Recipe
from qhybrid.config.sweeps import SweepGrid
from qhybrid.errors import ConfigError
from qhybrid.evaluation.subject.subject import Subject, weights_hash
from qhybrid.experiments.sweeps.cells import Conditions, SweepRun, grid_conditions
from qhybrid.experiments.sweeps.engines import device_mapping
from qhybrid.experiments.sweeps.profiles import ALL_TO_ALL, SweepProfiles, check_profile_fits
from qhybrid.layers import QuantumLayer
from qhybrid.models import has_code_of_others


def describe_run(subject: Subject, name: str, which: str, settings: dict[str, Any]) -> SweepRun:
    """Return what the sweep needs to know of a loaded run.

    Args:
        subject: The run and its test set.
        name: What tables call it.
        which: The weights that were loaded.
        settings: Recipe keys that tell it from other runs of the same name.
    """
    weights = weights_hash(subject.folder, which)
    recipe = subject.recipe
    found = subject.identify()
    data = {"dataset": recipe.data.dataset, **subject.data_identity(found)}
    if found.hash is None:
        data["unknown"] = uuid.uuid4().hex  # what cannot be told is never the same: nothing is found again
    model = _plain_model(subject)
    identity = {"weights": weights, "model": model, "data": data}
    if has_code_of_others(model):
        # It may change, and its name stays.
        identity["circuits"] = {key: layer.spec.fingerprint for key, layer in subject.layers.items()}
    facts = {
        "weights": weights,
        "epoch": subject.epoch,
        "which": which,
        "seed": recipe.seed,
        "model": str(recipe.model["name"]),
        "dataset": recipe.data.dataset,
        "task": subject.task,
        "settings": settings,
        "engine": recipe.engine.model_dump(mode="json"),
        "layers": {key: _layer_facts(layer) for key, layer in subject.layers.items()},
        "parameters": sum(p.numel() for p in subject.model.parameters()),
        "data_hash": found.hash,
    }
    return SweepRun(name, str(subject.folder), identity, facts)


def _plain_model(subject: Subject) -> Any:
    return json.loads(json.dumps(subject.model.config))


def _layer_facts(layer: QuantumLayer) -> dict[str, Any]:
    spec = layer.spec
    return {
        "circuit": spec.name,
        "qubits": spec.num_qubits,
        "inputs": spec.num_inputs,
        "weights": spec.num_weights,
        "observables": spec.num_observables,
        "depth": int(spec.circuit.depth()),
        "gates": {str(name): int(count) for name, count in spec.circuit.count_ops().items()},
    }


def run_names(recipes: Sequence[tuple[Path, Recipe]]) -> list[str]:
    """Return a name for each run: the recipe's, with the folder's where recipes of one name differ.

    Runs that differ in their seed alone share a name, and are averaged over.
    """
    hashes: dict[str, set[str]] = {}
    for _, recipe in recipes:
        hashes.setdefault(recipe.name, set()).add(_without_seed(recipe))
    return [
        recipe.name if len(hashes[recipe.name]) == 1 else f"{recipe.name} ({folder.name})"
        for folder, recipe in recipes
    ]


def _without_seed(recipe: Recipe) -> str:
    content = recipe.model_dump(mode="json", exclude={"seed": True, "training": {"progress", "loggers"}})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()  # whatever their order


def check_run(
    subject: Subject, grids: Sequence[SweepGrid], profiles: SweepProfiles, transpile_seed: int
) -> None:
    """Check that the conditions of a sweep make sense for a run, before anything is computed.

    Raises:
        ConfigError: If the run has no quantum layers, or none of a name, or a profile does not fit a circuit.
        CircuitError: If a circuit does not fit a device.
    """
    layers = subject.layers
    if not layers:
        raise ConfigError(
            f"{subject.folder}: a sweep needs a model with quantum layers, but "
            f"`{subject.recipe.model['name']}` has none, so neither noise nor shots change it. Fix: leave "
            "this run out."
        )
    seen = set()
    for grid in grids:
        for conditions in grid_conditions(grid, profiles):
            key = (conditions.layers, conditions.profile, conditions.scale, conditions.mapping)
            if key not in seen:
                seen.add(key)
                _check_conditions(subject, conditions, profiles, transpile_seed)


def _check_conditions(
    subject: Subject, conditions: Conditions, profiles: SweepProfiles, transpile_seed: int
) -> None:
    layers = subject.layers
    chosen = list(layers) if conditions.layers == "all" else list(conditions.layers)
    unknown = [name for name in chosen if name not in layers]
    if unknown:
        raise ConfigError(
            f"{subject.folder}: no quantum layer is named {', '.join(unknown)}. Quantum layers: "
            f"{', '.join(layers)}."
        )
    mapped = conditions.mapping != ALL_TO_ALL
    mapping = device_mapping(conditions.mapping, transpile_seed) if mapped else None
    noise = profiles.scaled(conditions.profile, conditions.scale)
    for name in chosen:
        check_profile_fits(noise, layers[name].spec, mapping)
