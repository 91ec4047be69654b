"""The noise that a run was trained under: its recipe names a profile, whose file may be edited later.

meta.json holds the hash of the profile's content, so that another one is noticed.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from qhybrid.config import Recipe
from qhybrid.errors import ConfigError
from qhybrid.noise import load_profile


def noise_hash(recipe: Recipe) -> str:
    """Return the hash of the content of the noise profile that a recipe names; empty without one.

    Raises:
        ConfigError: If there is no such profile.
    """
    noise = recipe.engine.noise
    return "" if noise is None else load_profile(noise).fingerprint


def check_same_noise(file: Path, before: str, recipe: Recipe) -> None:
    """Check that a run which goes on has the noise that it was begun with.

    Args:
        file: The run's meta.json, for the message.
        before: What it says; empty of runs of earlier versions, which are not checked.
        recipe: The recipe.

    Raises:
        ConfigError: If the profile has changed.
    """
    if before and before != noise_hash(recipe):
        raise ConfigError(
            f"{file}: noise profile {recipe.engine.noise} must be what it was when the run was begun, but it "
            "has changed. Fix: put it back, or start a new run."
        )


def warn_of_other_noise(file: Path, before: str, recipe: Recipe) -> None:
    """Warn of a run that would be executed under other noise than it was trained under.

    Args:
        file: See `check_same_noise`.
        before: See `check_same_noise`.
        recipe: The recipe.
    """
    if before and before != noise_hash(recipe):
        warnings.warn(
            f"{file}: noise profile {recipe.engine.noise} has changed since the run was trained under it. On "
            "the engine of its recipe the run has the noise of today. Fix: put the profile back; or give a "
            "name to each.",
            stacklevel=2,
        )
