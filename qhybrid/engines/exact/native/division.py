"""How a call of the compiled library is divided: threads, samples in lanes or one by one, kept states."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qhybrid.engines.exact.native.rotations import Rotations

LANE_BYTES = 32
"""Bytes of a vector."""
SAVED_BYTES = 2**28
"""Final states are kept for the backward pass up to this size; larger ones are computed again."""
THREADED_WORK = 1e7
"""Amplitudes times operations from which a call has several threads; below it takes few milliseconds."""
SINGLE_QUBITS = 7
"""Qubits from which a few left-over samples are taken one by one, amplitudes in the lanes."""
ALL_SINGLE_QUBITS = 13
"""Qubits from which all samples are: the states of a vector of samples would not fit the cache."""
SCRATCH_STATES = 2.5
"""State, gradient, and a table of real numbers."""


def threads_for(work: float) -> int:
    """Return the number of threads for a call of so many amplitudes times operations."""
    return torch.get_num_threads() if work >= THREADED_WORK else 1


def singles_up_to(num_qubits: int, itemsize: int) -> int:
    """Return how many left-over samples are taken one by one; a whole vector of them means that all are."""
    lanes = LANE_BYTES // itemsize
    if num_qubits >= ALL_SINGLE_QUBITS:
        return lanes
    return lanes // 2 if num_qubits >= SINGLE_QUBITS else 0


def state_entries(num_qubits: int, batch: int, itemsize: int) -> int:
    """Return the real numbers that all final states take; the last samples' vector is filled up."""
    lanes = 1 if num_qubits >= ALL_SINGLE_QUBITS else LANE_BYTES // itemsize
    return (-(-batch // lanes) * lanes) << (num_qubits + 1)


@dataclass(frozen=True)
class Division:
    """How a call is divided, as the library reads it: an entry for every statevector.

    Attributes:
        threads: Threads.
        singles: Left-over samples up to which they are taken one by one.
        places: Where final states are kept in their memory, -1 for those that are not.
        nowhere: The same for a call that keeps none.
        entries: Real numbers of that memory.
    """

    threads: ctypes.Array[ctypes.c_int]
    singles: ctypes.Array[ctypes.c_int]
    places: ctypes.Array[ctypes.c_int64]
    nowhere: ctypes.Array[ctypes.c_int64]
    entries: int


def division_of(runs: Sequence[Rotations], batch: int, itemsize: int) -> Division:
    """Return how a call with that many samples is divided."""
    count, places, entries = len(runs), [], 0
    for run in runs:
        own = state_entries(run.num_qubits, batch, itemsize)
        is_kept = own * itemsize <= SAVED_BYTES
        places.append(entries if is_kept else -1)
        entries += own if is_kept else 0
    return Division(
        (ctypes.c_int * count)(*(threads_for(run.work * batch) for run in runs)),
        (ctypes.c_int * count)(*(singles_up_to(run.num_qubits, itemsize) for run in runs)),
        (ctypes.c_int64 * count)(*places),
        (ctypes.c_int64 * count)(*[-1] * count),
        entries,
    )


def compiled_memory(num_qubits: int, batch: int, itemsize: int) -> int:
    """Return the bytes that value and gradient take."""
    lanes = 1 if num_qubits >= ALL_SINGLE_QUBITS else LANE_BYTES // itemsize
    workers = min(torch.get_num_threads(), -(-batch // lanes))
    scratch = int(SCRATCH_STATES * workers * lanes * (2 * itemsize << num_qubits))
    saved = state_entries(num_qubits, batch, itemsize) * itemsize
    return scratch + (saved if saved <= SAVED_BYTES else 0)
