"""Say so when planning takes long: nobody should wait in front of a silent program."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LOG = logging.getLogger(__name__)
SILENT_SECONDS = 1.0
"""Time after which a step that still runs is announced."""
ANNOUNCED: set[str] = set()
"""Circuits that were announced: noise and shots each have plans of their own, and one line is enough."""


@contextmanager
def announced(name: str) -> Iterator[None]:
    """Log a warning while planning a circuit still goes on after some seconds, once a process and circuit.

    Garbage collection pauses: planning makes many objects and no cycles, and of a deep circuit's time the
    collector's passes over them would be the larger part.

    Args:
        name: The circuit's name.
    """
    timer = threading.Timer(SILENT_SECONDS, _announce, (name,))
    timer.daemon = True
    timer.start()
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        timer.cancel()
        if collecting:
            gc.enable()


def _announce(name: str) -> None:
    if name not in ANNOUNCED:
        ANNOUNCED.add(name)
        LOG.warning(
            "Planning circuit `%s` takes longer than %g s; what is found is kept on disk for the next time.",
            name,
            SILENT_SECONDS,
        )
