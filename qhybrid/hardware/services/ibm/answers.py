"""What answers of the service say, as plain values.

They are JSON of whatever shape the service sends. What is not as expected raises an ordinary error (a key or
an attribute that is not there, a value that is no number); `Connection.ask` makes one of the service of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qhybrid.hardware.services.interface import Budget


def seconds_of(value: Any) -> float:
    """Return seconds that the service tells.

    Raises:
        ValueError: If that is no number of seconds.
    """
    found = float(value)
    if not 0 <= found < math.inf:
        raise ValueError(f"{value} is no number of seconds")
    return found


def billed_of(metrics: Mapping[str, Any]) -> float | None:
    """Return the QPU seconds that a job was billed, from its metrics; None if that is not known yet."""
    usage = metrics.get("usage") or {}
    billed = usage.get("qpu_charge_time_seconds", usage.get("quantum_seconds"))
    return None if usage.get("status") == "pending" or billed is None else seconds_of(billed)


def budget_of(usage: Mapping[str, Any]) -> Budget:
    """Return what is left of an instance's time, from its usage."""
    left = usage.get("usage_remaining_seconds")
    # An instance that was overdrawn has nothing left.
    seconds = None if left is None else seconds_of(max(0.0, float(left)))
    return Budget(seconds, bool(usage.get("usage_limit_reached")))


def session_seconds_of(details: Mapping[str, Any]) -> float | None:
    """Return the QPU seconds that a session was billed, from its details; None while it is open."""
    if details.get("state") != "closed":
        return None
    elapsed = details.get("elapsed_time")
    if elapsed is None and all(
        details.get(name, "") is None for name in ("activated_at", "last_job_started")
    ):
        return 0.0  # it ended before any job ran in it
    return None if elapsed is None else seconds_of(elapsed)


def place_of(job: Mapping[str, Any]) -> tuple[int | None, float | None]:
    """Return a job's place in the queue and the QPU seconds that the service expects; None where unknown."""
    names = ("position_in_queue", "queue_position")
    position = next((job[name] for name in names if job.get(name) is not None), None)
    seconds = job.get("estimated_running_time_seconds")
    return None if position is None else int(position), None if seconds is None else seconds_of(seconds)


def rep_delays_of(configuration: Any) -> tuple[float, float, float] | None:
    """Return default, shortest and longest delay between two executions in microseconds.

    Args:
        configuration: A device's configuration.

    Returns:
        None if they are not told, or cannot be chosen.
    """
    default = getattr(configuration, "default_rep_delay", None)
    limits = getattr(configuration, "rep_delay_range", None)
    if default is None or not limits or not getattr(configuration, "dynamic_reprate_enabled", False):
        return None
    default_us, shortest, longest = (float(f"{1e6 * one:.9g}") for one in (default, *limits))
    return default_us, shortest, longest


def state_of(status: Any) -> str:
    """Return the state of a device that is not in operation; "" if it is."""
    if status.operational and status.status_msg == "active":
        return ""
    return str(status.status_msg or "not operational")
