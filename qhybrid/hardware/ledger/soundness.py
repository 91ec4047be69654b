"""Whether what a ledger was asked for is all there and fits together: rows may be lost or changed as well.

Every point is bought by one chunk, and a request's angles are those of its points. What was written beside
the ledger after its last round must be in it unchanged.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from qhybrid.errors import HardwareError
from qhybrid.hardware.ledger.store import Ledger

Rows = dict[Any, tuple[Any, ...]]


def is_sound(path: Path, plan: str, beside: Path | None = None) -> bool:
    """Return whether requests, points and chunks of a ledger fit together.

    Args:
        path: The ledger, a database with all its tables.
        plan: Name of the plan.
        beside: A ledger with what was asked for some time ago, if there is one that is sound.
    """
    try:
        with Ledger(path, plan) as ledger:
            fits = _fits_together(ledger)
            own = _work(ledger)
        if beside is None or not fits:
            return fits
        with Ledger(beside, plan) as earlier:
            return all(known.items() <= found.items() for known, found in zip(_work(earlier), own))
    except (ValueError, KeyError, TypeError, HardwareError):
        return False


def _work(ledger: Ledger) -> tuple[Rows, Rows, Rows]:
    """Return requests, points and chunks without what changes: states, layouts and prices."""
    return (
        {one.key: (one.circuit, one.angles.tobytes(), one.points, one.round) for one in ledger.requests()},
        {number: (circuit, angles.tobytes()) for number, (circuit, angles) in ledger.points().items()},
        {chunk.number: (chunk.round, chunk.blocks) for chunk in ledger.chunks()},
    )


def _fits_together(ledger: Ledger) -> bool:
    points, chunks, requests = ledger.points(), ledger.chunks(), ledger.requests()
    bought = Counter(number for chunk in chunks for _, numbers in chunk.blocks for number in numbers)
    if bought != Counter(list(points)):
        return False
    if any(
        points[number][0] != key for chunk in chunks for key, numbers in chunk.blocks for number in numbers
    ):
        return False
    if not all(0 <= chunk.seconds < math.inf for chunk in chunks):
        return False
    if {job.chunk for job in ledger.jobs()} - {chunk.number for chunk in chunks}:
        return False
    asked = set()
    for request in requests:
        if len(request.points) != len(request.angles):
            return False
        asked |= set(request.points)
        for row, number in zip(request.angles, request.points):
            circuit, angles = points[number]
            if circuit != request.circuit or not np.array_equal(row, angles):
                return False
    return asked == set(points)
