"""What a run was made with: versions, git state, machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from qhybrid.plugins import loaded_plugins
from qhybrid.training.ranks import place
from qhybrid.version import __version__

PACKAGES = (
    "torch",
    "lightning",
    "kornia",
    "numpy",
    "rasterio",
    "qiskit",
    "qiskit-aer",
    "qiskit-machine-learning",
    "qiskit-ibm-runtime",
)


def environment(seed: int) -> dict[str, Any]:
    """Return versions, git state, machine and seed as plain values (no host or user names)."""
    plugins, processes = loaded_plugins(), place().world
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "qhybrid": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "git": git_state(),
        **({"processes": processes} if processes > 1 else {}),
        **({"plugins": plugins} if plugins else {}),
    }


def git_state() -> dict[str, Any] | None:
    """Return commit and whether tracked files differ from it; None outside a git checkout of the package."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "modified": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
