"""The seconds that units of work take: shipped with the package, or measured on the machine at hand.

`qhybrid calibrate` (`engines.exact.calibrate`) measures them and keeps them in the user's cache folder, for
this processor, these versions and this number of threads. Each method's cost is a sum of counts times these
constants, so that a method only adds its own to the table.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from functools import cache
from pathlib import Path

import torch

from qhybrid.errors import WorkspaceError
from qhybrid.workspace import cache_dir, write_text

SHIPPED: dict[str, float] = {
    "network.multiply_add": 1e-11,
    "network.entry": 2e-9,
    "network.copied_entry": 1.5e-9,
    "network.sample_entry": 1.2e-8,
    "network.untaped_entry": 1.5e-9,
    "network.instruction": 1.4e-5,
    "statevector.amplitude_step": 7e-9,
    "statevector.step": 1.1e-4,
    "compiled.amplitude": 7e-10,
    "compiled.far_amplitude": 1e-9,
    "compiled.operation": 6.8e-9,
    "compiled.angle": 3e-9,
    "compiled.call": 1.15e-4,
    "density.entry": 4.5e-9,
    "density.multiply_add": 4e-11,
    "density.call": 8e-4,
    "mps.multiply_add": 2e-11,
    "mps.entry": 4.7e-8,
    "mps.operator": 1.5e-5,
    "angle.entry": 2e-9,
    "angle.operator": 1.05e-5,
}
"""Seconds by unit of work, for value and gradient: fitted on one core of an AMD EPYC (Zen 5).

In float32, but those of `mps`, whose numbers are complex and in float64.
"""
SCHEME = 3
"""Counted up when a unit of work means other work: constants measured before are no longer used."""
LARGEST_CHANGE = 1e3
"""Factor to the shipped constants above which a measured one is not believed."""
Counts = tuple[tuple[str, float], ...]
"""Pairs (constant, number of its units)."""


def seconds_of(counts: Counts) -> float:
    """Return the time of so many units of work."""
    constants = constants_in_use(torch.get_num_threads())
    return sum(constants[name] * number for name, number in counts)


@cache
def constants_in_use(threads: int) -> dict[str, float]:
    """Return the constants, those measured on this machine with so many threads if there are any."""
    try:
        found = json.loads(calibration_file(threads).read_text(encoding="utf-8"))["seconds"]
        measured = {name: float(found[name]) for name in SHIPPED if name in found}
    except (WorkspaceError, OSError, ValueError, KeyError, TypeError):
        return dict(SHIPPED)
    return {**SHIPPED, **{name: value for name, value in measured.items() if is_credible(name, value)}}


def is_credible(name: str, value: float) -> bool:
    """Return whether a measured constant may be used."""
    low, high = SHIPPED[name] / LARGEST_CHANGE, SHIPPED[name] * LARGEST_CHANGE
    return math.isfinite(value) and low <= value <= high


def calibration_file(threads: int) -> Path:
    """Return where the constants of this machine, these versions and so many threads are kept."""
    parts = [SCHEME, platform.machine(), _processor(), os.cpu_count(), torch.__version__, threads]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return cache_dir() / "calibration" / f"{key}.json"


def keep_constants(threads: int, seconds: dict[str, float]) -> Path:
    """Write measured constants, and use them from now on.

    Raises:
        WorkspaceError: If the file cannot be written.
    """
    file = calibration_file(threads)
    write_text(
        file, json.dumps({"threads": threads, "torch": torch.__version__, "seconds": seconds}, indent=1)
    )
    constants_in_use.cache_clear()
    return file


def _processor() -> str:
    """Return the name of the processor's model, as far as it is known."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
