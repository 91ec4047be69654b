"""What a process needs that does jobs for another one: its memory, and whom its warnings are told."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_OWN = threading.local()
_TRIM_BY_DASK = "65536"


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, as it does in any other process.

    Dask starts workers with `MALLOC_TRIM_THRESHOLD_` of 64 KiB. Then all that is larger than 128 KiB is given
    back to the system at once, and every tensor costs page faults: two thirds of a map's processor time. A
    threshold that somebody else has chosen stays.
    """
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") != _TRIM_BY_DASK or not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # a C library without these settings
        library = ctypes.CDLL(None)
        # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc, as far as it goes up by itself.
        library.mallopt(-3, 32 * 2**20)
        library.mallopt(-1, 64 * 2**20)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect what this thread warns users of; other threads of the process, as of other jobs, go on."""
    shown = warnings.showwarning
    if not hasattr(shown, "collects"):

        def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            own: list[str] | None = getattr(_OWN, "warnings", None)
            if own is None or not issubclass(category, UserWarning):
                shown(message, category, *place, **more)
            else:
                own.append(str(message))

        tell.collects = True  # type: ignore[attr-defined]
        warnings.showwarning = tell
    _OWN.warnings = []
    try:
        yield _OWN.warnings
    finally:
        _OWN.warnings = None
