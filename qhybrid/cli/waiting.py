"""How idle threads wait: a choice that torch reads when it is loaded."""

from __future__ import annotations

import os

POLICY = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
"""Idle threads sleep instead of spinning: GNU's and Intel's OpenMP libraries read these variables."""


def wait_passively() -> None:
    """Let idle threads of torch sleep, unless the user has decided otherwise.

    A thread that spins while another program has its core keeps the rest of the team waiting for whole time
    slices: then a step takes many times what it takes alone.
    """
    if not any(name in os.environ for name in POLICY):
        os.environ.update(POLICY)
