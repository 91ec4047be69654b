"""The method `mps` of the exact engine: values, gradients, error bounds and predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.base import ordinary_tensors
from qhybrid.engines.exact.constants import seconds_of
from qhybrid.engines.exact.explain import Explanation
from qhybrid.engines.exact.mps.execute import (
    DEFAULT_TOLERANCE,
    ChainExecutor,
    bond_text,
    part_samples,
    sample_bytes,
)
from qhybrid.engines.exact.mps.plan import ChainPlan, check_bond, plan_chain
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

DEFAULT_BOND = 64


class ChainMethod:
    """Matrix product states of many circuits.

    Args:
        noise: Error rates; those of read-outs alone are possible.
        bond: Largest bond; None for 64.
        tolerance: Largest error bound of an expectation value that is accepted; None for 1e-6.

    Attributes:
        error_bound: For the last call an upper bound of the error that truncation made, shape (B, n_obs),
            float64 on the CPU; None before. Rounding is not included.
    """

    def __init__(self, noise: NoiseProfile | None, bond: int | None, tolerance: float | None) -> None:
        self.bond = check_bond(DEFAULT_BOND if bond is None else bond)
        self.tolerance = _check_tolerance(DEFAULT_TOLERANCE if tolerance is None else tolerance)
        self.error_bound: torch.Tensor | None = None
        self._noise = noise
        self._plans: dict[str, ChainPlan] = {}
        self._executors: dict[tuple[str, torch.dtype, torch.device], ChainExecutor] = {}

    def __getstate__(self) -> dict[str, object]:
        """Return what travels to other processes; executors are made anew there."""
        return {**self.__dict__, "_executors": {}}

    def plan(self, spec: CircuitSpec) -> ChainPlan:
        """Return the plan of a circuit; see `plan_chain`."""
        if spec.fingerprint not in self._plans:
            with _kept_tensors():
                self._plans[spec.fingerprint] = plan_chain(spec, self._noise, self.bond)
        return self._plans[spec.fingerprint]

    def values(self, spec: CircuitSpec, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B).

        Raises:
            EngineError: If the error bound exceeds the tolerance.
        """
        key = (spec.fingerprint, rows.dtype, rows.device)
        if key not in self._executors:
            with _kept_tensors():
                like = torch.empty(0, dtype=rows.dtype, device=rows.device)
                self._executors[key] = ChainExecutor(self.plan(spec), spec, like, self.tolerance)
        values, self.error_bound = self._executors[key](rows, weights)
        return values

    def explain(self, spec: CircuitSpec, batch: int, itemsize: int, limit_bytes: int) -> Explanation:
        """Return what a batch takes; see `ExactEngine.explain`."""
        plan = self.plan(spec)
        cost, samples = plan.cost, max(batch, 1)
        itemsize = itemsize if plan.exact else 8
        memory = int(sample_bytes(plan, itemsize) * min(samples, part_samples(plan, itemsize)))
        parts = math.ceil(samples / part_samples(plan, itemsize))
        # Half the bytes take half the time; groups of strings are computed again for the gradient.
        work = samples * itemsize / 8 * (4 / 3 if plan.readout.num_groups > 1 else 1)
        counts = (
            ("mps.operator", float(parts * cost.operators)),
            ("mps.multiply_add", work * cost.flops),
            ("mps.entry", work * cost.entries),
            *cost.angles[0],
            *((name, samples * itemsize / 4 * number) for name, number in cost.angles[1]),
        )
        seconds = seconds_of(counts)
        if plan.exact:
            reason = f"exact: no bond exceeds {plan.rank_bound}, of {self.bond} that are allowed"
        else:
            reason = (
                f"not exact: bonds may need up to {bond_text(plan.rank_bound)} and are truncated to "
                f"{self.bond}; time and memory are for bonds that large; each call computes its error bound "
                f"and is refused above tolerance={self.tolerance:g}"
            )
        method = "mps" if memory <= limit_bytes else "refused"
        if method == "refused":
            reason = f"one sample does not fit the memory with bonds of {cost.widest}"
        return Explanation(
            method,
            batch,
            4 * cost.flops,
            4 * cost.widest**2,
            memory,
            limit_bytes,
            seconds,
            reason,
            (("mps", seconds, memory),),
            counts,
        )


@contextmanager
def _kept_tensors() -> Iterator[None]:
    """Make tensors that later calls may use, also where the first one is inside a torch.func transform."""
    with ordinary_tensors(), torch._C._DisableFuncTorch():
        yield


def _check_tolerance(tolerance: object) -> float:
    try:
        # YAML takes 1e-4 for text.
        value = math.nan if isinstance(tolerance, bool) else float(tolerance)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        raise EngineError(f"Option `tolerance` must be a finite number above 0, but is {tolerance!r}.")
    return value
