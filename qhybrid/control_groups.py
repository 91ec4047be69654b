"""What a container or a job of a cluster allows this process: cores and memory of Linux control groups.

Neither the set of cores nor /proc/meminfo knows of these limits. In a pod that may use 2 of 64 cores, 64
threads wait for each other; in one of 4 GiB, a process that takes more is killed, however much the machine
has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
NO_LIMIT = 1 << 60
"""Bytes from which on a limit of version 1 means none."""


@dataclass(frozen=True)
class MemoryLimit:
    """A limit of memory.

    Attributes:
        limit: Bytes that the group may use.
        used: Bytes that it uses, without what the system would give back.
    """

    limit: int
    used: int


def allowed_cores() -> float | None:
    """Return how many cores may be busy at the same time; None without a limit."""
    found = []
    for folder in _groups("cpu"):
        with suppress(OSError, ValueError, ZeroDivisionError):
            if (folder / "cpu.max").is_file():
                quota, period = _text(folder / "cpu.max").split()
            else:
                quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
            if quota not in ("max", "-1"):
                found.append(int(quota) / int(period))
    return min(found, default=None)


def memory_limit() -> MemoryLimit | None:
    """Return the limit that leaves the least room; None without any."""
    found = []
    for folder in _groups("memory"):
        with suppress(OSError, ValueError):
            second = (folder / "memory.max").is_file()
            limit = _text(folder / ("memory.max" if second else "memory.limit_in_bytes"))
            used = int(_text(folder / ("memory.current" if second else "memory.usage_in_bytes")))
            kept = _statistics(folder).get("inactive_file" if second else "total_inactive_file", 0)
            if limit != "max" and int(limit) < NO_LIMIT:
                found.append(MemoryLimit(int(limit), max(0, used - kept)))
    return min(found, key=lambda one: one.limit - one.used, default=None)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in, from the innermost to the outermost."""
    with suppress(OSError, ValueError):
        for line in _text(OWN).splitlines():
            _, names, path = line.split(":", 2)
            if names and controller not in names.split(","):
                continue
            top = ROOT / names if names else ROOT
            # A container may not see the path by which its host calls it; its own limits are at the top.
            group = top / path.lstrip("/")
            yield group
            while group != top:
                group = group.parent
                yield group


def _statistics(folder: Path) -> dict[str, int]:
    with suppress(OSError, ValueError):
        return {key: int(value) for key, value in map(str.split, _text(folder / "memory.stat").splitlines())}
    return {}


def _text(file: Path) -> str:
    return file.read_text(encoding="ascii").strip()
