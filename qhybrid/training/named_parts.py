"""What a recipe names and does not hold, and what decides a training nevertheless.

Trainings that are compared (repeats, the trials of a search) must have the same: a circuit that was changed
between two of them makes them incomparable, though their recipes are equal.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

from qhybrid.config import Recipe
from qhybrid.errors import CheckpointError, ConfigError
from qhybrid.guidance import guidance_hash
from qhybrid.models import circuits_hash, encoder_hash
from qhybrid.training.kept_noise import noise_hash
from qhybrid.training.run_folder import start_weights


def named_parts(recipe: Recipe) -> dict[str, str]:
    """Return the hash of each part that a recipe names: noise, circuits, encoder, ViT, weights to start from.

    What a recipe does not name is left out.

    Raises:
        ConfigError: If there is no such noise profile or encoder.
    """
    found: dict[str, str | None] = {
        "engine.noise": noise_hash(recipe) or None,
        "circuits of model": circuits_hash(recipe.model),
        "model.encoder": encoder_hash(recipe.model),
        "model.guidance": guidance_hash(recipe.model),
    }
    if recipe.training.start is not None:
        with contextlib.suppress(CheckpointError, OSError):  # training says so
            content = start_weights(recipe.training.start).read_bytes()
            found["training.start"] = hashlib.sha256(content).hexdigest()
    return {name: one for name, one in found.items() if one is not None}


def check_same_parts(file: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Check that what recipes name has not changed between trainings that are compared.

    Args:
        file: Where it was written down.
        before: What was there.
        now: What is there.

    Raises:
        ConfigError: If something has changed.
    """
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        raise ConfigError(
            f"{file}: what the recipe names must be what it was for the runs that are there, but these files "
            f"have changed: {', '.join(changed)}. Fix: put them back as they were, or give another --output."
        )
