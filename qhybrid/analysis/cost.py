"""What exact values cost on a classical computer, as the exact engine's planner predicts it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.engine import ExactEngine

BATCH = 64


@dataclass(frozen=True)
class ClassicalCost:
    """Cost of exact values of all observables, in float32 on one core.

    Attributes:
        method: "network", "statevector" or "refused".
        width: Contraction width: log2 of the real numbers in the widest intermediate, a sample.
        multiply_adds: Multiply-adds of the values of one sample; None where nothing was planned to its end.
        seconds_one: Predicted time of value and gradient of a single sample; None likewise.
        seconds_batched: The same by sample in batches of `BATCH`.
        memory_bytes: Memory of such a batch with gradient.
        limit_bytes: Memory that may be used.
        reason: Why this method, or what refuses it.
        sentence: What that means.
        weighed: Every method that was weighed: name, seconds a sample in such batches, memory in bytes.
    """

    method: str
    width: float | None
    multiply_adds: float | None
    seconds_one: float | None
    seconds_batched: float | None
    memory_bytes: int
    limit_bytes: int
    reason: str
    sentence: str
    weighed: tuple[tuple[str, float, int], ...]


def classical_cost(spec: CircuitSpec) -> ClassicalCost:
    """Return the predicted cost of a circuit's exact values; see `ExactEngine.explain`."""
    engine = ExactEngine()
    one, many = engine.explain(spec, 1), engine.explain(spec, BATCH)
    finite = math.isfinite(one.seconds) and math.isfinite(many.seconds)
    width = math.log2(one.widest) if one.widest else None
    if one.method == "refused":
        sentence = (
            f"no exact method that is known here fits this machine: {one.reason} "
            f"({one.memory_bytes / 2**30:,.1f} GiB needed, {one.limit_bytes / 2**30:,.1f} GiB usable)"
        )
    else:
        sentence = (
            f"a classical computer gives the exact value in {seconds_text(one.seconds)} "
            f"({seconds_text(many.seconds / BATCH)} a sample in batches of {BATCH}; value and gradient of "
            "all observables on one core, predicted)"
        )
    return ClassicalCost(
        one.method,
        width,
        one.flops if finite else None,
        one.seconds if finite else None,
        many.seconds / BATCH if finite else None,
        many.memory_bytes,
        many.limit_bytes,
        one.reason,
        sentence,
        tuple((name, seconds / BATCH, memory) for name, seconds, memory in many.alternatives),
    )


def seconds_text(seconds: float) -> str:
    """Return a time in words, from microseconds to years."""
    for unit, size in (("years", 31557600.0), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {unit}"
    for unit, size in (("seconds", 1.0), ("milliseconds", 1e-3), ("microseconds", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return "less than a microsecond"
