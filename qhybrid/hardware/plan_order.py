"""Which plan of a run is the newest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path


def oldest_first(files: Iterable[Path]) -> list[Path]:
    """Return files plan.json by the time that they say, the oldest first.

    The time of a file is that of its copy, once a run has been copied: it decides between plans of one second
    alone, and where a file does not say.
    """
    return sorted(files, key=_made)


def _made(file: Path) -> tuple[float, int]:
    changed = file.stat().st_mtime_ns
    try:
        created = json.loads(file.read_text(encoding="utf-8"))["created"]
        return datetime.fromisoformat(created).timestamp(), changed
    except (OSError, ValueError, KeyError, TypeError):
        return float(changed // 10**9), changed
