"""Noise profiles by name: those of the workspace, then those that come with the package."""

from __future__ import annotations

import difflib
from pathlib import Path

from qhybrid.errors import ConfigError
from qhybrid.noise.profile import NoiseProfile
from qhybrid.workspace import definition_files

FOLDER = "noise_profiles"
IDEAL = "ideal"
"""Profile without noise."""


def profile_files() -> dict[str, Path]:
    """Return the files of all named profiles."""
    return definition_files(FOLDER)


def profile_label(profile: str) -> str:
    """Return what tables and charts call a profile: its name, of a file without folder and ending."""
    return profile.rsplit("/", 1)[-1].removesuffix(".yaml")


def load_profile(profile: str | Path) -> NoiseProfile:
    """Read a profile from a file, or by its name in noise_profiles/.

    Args:
        profile: A YAML file, or a name such as `depolarizing_0.01_0.02` or `fake_torino`.

    Raises:
        ConfigError: If there is no such profile, or a key or value is wrong.
    """
    path, name = Path(profile), str(profile)
    if path.is_file():
        return NoiseProfile.load(path)
    files = profile_files()
    if name in files:
        return NoiseProfile.load(files[name])
    close = difflib.get_close_matches(path.stem, files, n=3, cutoff=0.4)
    raise ConfigError(
        f"Noise profile {name} must be a YAML file or a known name, but is neither. "
        + (
            f"Did you mean {' or '.join(close)}? "
            if close
            else f"Known names: {', '.join(files) or 'none'}. "
        )
        + "For another device: qhybrid noise from-backend NAME -o FILE."
    )
