"""Searched contraction paths on disk, by circuit structure: JSON, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from qhybrid.errors import WorkspaceError
from qhybrid.workspace import cache_dir, write_text

VERSION = 4
"""Counted up when lowering, fusion or the numbering of a network's tensors changes."""
Paths = Mapping[tuple[int, ...], tuple[tuple[int, int], ...]]


def plan_file(fingerprint: str) -> Path:
    """Return the file of a circuit's paths."""
    return cache_dir() / "plans" / f"{fingerprint}.v{VERSION}.json"


def load_paths(fingerprint: str) -> Paths:
    """Return a circuit's paths by read-out support; none if there is no readable file."""
    try:
        content = json.loads(plan_file(fingerprint).read_text(encoding="utf-8"))
        return {
            tuple(int(wire) for wire in support.split(",")): tuple((int(a), int(b)) for a, b in path)
            for support, path in content["paths"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def save_paths(fingerprint: str, paths: Paths) -> None:
    """Keep a circuit's paths; a cache that cannot be written is no error."""
    content = {"paths": {",".join(map(str, support)): list(path) for support, path in paths.items()}}
    try:
        write_text(plan_file(fingerprint), json.dumps(content))
    except (WorkspaceError, OSError):
        return
