"""The method `mps` of the exact engine: values, gradients, error bounds and predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.utils.checkpoint import checkpoint

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.base import ordinary_tensors
from qhybrid.engines.exact.explain import PART_BYTES, Explanation
from qhybrid.engines.exact.mps.blocks import Local, block_factors, block_matrix
from qhybrid.engines.exact.mps.chain import Chain, Truncation
from qhybrid.engines.exact.mps.plan import ChainPlan, check_bond, plan_chain
from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.parameter_shift import shifted_expectations
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

DEFAULT_BOND = 64
DEFAULT_TOLERANCE = 1e-6
SPENT_FREELY = 0.05
"""Part of the tolerance, or of the default if that is less, that may be spent on bonds below the largest."""
SAVED_FACTOR = 3.0
"""Bytes of value and gradient over the bytes of all numbers that are written for the value."""
SECONDS_PER_MULTIPLY_ADD = 3e-10
"""Complex, for value and gradient; like the others fitted on one core of an AMD EPYC."""
SECONDS_PER_ENTRY = 1.5e-8
SECONDS_PER_OPERATOR = 2.5e-5


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
        memory = int(_sample_bytes(plan, itemsize) * min(samples, _part(plan, itemsize)))
        parts = math.ceil(samples / _part(plan, itemsize))
        seconds = parts * cost.operators * SECONDS_PER_OPERATOR + samples * (
            cost.flops * SECONDS_PER_MULTIPLY_ADD + cost.entries * SECONDS_PER_ENTRY
        )
        if plan.exact:
            reason = f"exact: no bond exceeds {plan.rank_bound}, of {self.bond} that are allowed"
        else:
            moved = sum(not angle.constant for angle in plan.angles)
            runs = 1 + 2 * moved
            seconds *= runs / 3
            reason = (
                f"not exact: bonds may need up to {_size(plan.rank_bound)} and are truncated to {self.bond}; "
                "time and memory are for bonds that large; each call computes its error bound and is "
                f"refused above tolerance={self.tolerance:g}; a gradient takes {runs} runs by the "
                "parameter-shift rule"
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
        )


class ChainExecutor:
    """Runs one plan.

    Args:
        plan: The plan.
        spec: Its circuit.
        like: Real tensor that shows dtype and device; truncation is always computed in float64.
        tolerance: Largest error bound that is accepted.
    """

    def __init__(self, plan: ChainPlan, spec: CircuitSpec, like: torch.Tensor, tolerance: float) -> None:
        self._plan = plan
        self._name = spec.name
        self._tolerance = tolerance
        real = like if plan.exact else like.double()
        self._like = torch.empty(0, dtype=_complex_of(real.dtype), device=like.device)
        self._dtype = real.dtype
        self._table = AngleTable(plan.angles, spec.num_inputs, spec.num_weights, real)
        self._matrices = plan.matrices(self._like)
        self._scales = torch.as_tensor(plan.readout.scales(), dtype=torch.float64)
        truncations = max(1, plan.most_truncations)
        # 2 sqrt(cuts weight) a truncation and unit of scale shall stay below a small part of the tolerance.
        spent = SPENT_FREELY * min(tolerance, DEFAULT_TOLERANCE)
        share = spent / (2 * truncations * max(1.0, plan.scale))
        self._rule = Truncation(plan.bond, share**2 / max(1, len(plan.wires)))

    def __call__(self, rows: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return values, shape (n_obs, B), and their error bounds, shape (B, n_obs)."""
        angles = self._table.batched(rows.to(self._dtype), weights.to(self._dtype))
        batch = rows.shape[1]
        if self._plan.exact:
            return self._exact(angles), torch.zeros((batch, len(self._scales)), dtype=torch.float64)
        if torch._C._are_functorch_transforms_active():
            raise EngineError(
                f"Method `mps` must not truncate inside torch.func, but circuit `{self._name}` may need "
                f"bonds of {_size(self._plan.rank_bound)}, above bond={self._plan.bond}. Fix: a larger "
                "`bond`, or gradients by torch.autograd."
            )
        shifted = [
            row
            for row, angle in enumerate(self._plan.angles)
            if (angle.inputs and rows.requires_grad) or (angle.weights and weights.requires_grad)
        ]
        bounds: list[torch.Tensor] = []
        places = torch.as_tensor(shifted, dtype=torch.long)
        values = shifted_expectations(angles, places, self._run(bounds))
        return values.to(rows.dtype), bounds[0]

    def _exact(self, angles: torch.Tensor) -> torch.Tensor:
        """Return the values without truncation, in parts that fit the memory; recorded by autograd."""
        batch = angles.shape[1]
        size = _part(self._plan, self._dtype.itemsize)
        if batch <= size:
            return self._state_values(angles)[0]
        recorded = torch.is_grad_enabled() and angles.requires_grad
        plain = not recorded or torch._C._are_functorch_transforms_active()
        run = self._state_values if plain else _recomputed(self._state_values)
        return torch.cat([run(part)[0] for part in torch.split(angles, size, dim=1)], dim=1)

    def _run(self, bounds: list[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the executor of `shifted_expectations`; each of its calls appends its error bounds."""

        def run(angles: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                moved = angles.to(self._like.device)
                parts = [self._state_values(p) for p in torch.split(moved, _part(self._plan, 8), dim=1)]
            distance = torch.cat([found.expand(values.shape[1]) for values, found in parts]).cpu()
            # |<P> - exact| <= 2 (trace distance), and never more than 2.
            bounds.append(torch.outer((2 * distance).clamp(max=2.0), self._scales))
            self._check(bounds[-1])
            return torch.cat([values for values, _ in parts], dim=1).cpu()

        return run

    def _check(self, bounds: torch.Tensor) -> None:
        largest = float(bounds.max()) if bounds.numel() else 0.0
        if not largest <= self._tolerance:
            raise EngineError(
                f"Circuit `{self._name}` must have an error bound of at most tolerance={self._tolerance:g}, "
                f"but truncation to bond={self._plan.bond} gives {largest:.3g}. Fix: a larger `bond` "
                f"({_size(self._plan.rank_bound)} is surely exact), a larger `tolerance`, or fewer layers."
            )

    def _state_values(self, angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the observables, shape (n_obs, B), and the trace distance of the states, shape (B or 1,)."""
        plan = self._plan
        matrices = self._matrices(angles)
        chain = Chain(len(plan.wires), self._like)
        for operation in plan.operations:
            if isinstance(operation, Local):
                product = matrices[operation.gates[0]]
                for gate in operation.gates[1:]:
                    product = matrices[gate] @ product
                chain.apply_local(operation.site, product)
                continue
            if not plan.exact and chain.must_shrink(operation, plan.bond):
                chain.truncate(self._rule)
            chain.apply_block(operation, block_factors(operation, block_matrix(operation.members, matrices)))
        return plan.readout(chain.sites, angles.shape[1]), chain.distance


@contextmanager
def _kept_tensors() -> Iterator[None]:
    """Make tensors that later calls may use, also where the first one is inside a torch.func transform."""
    with ordinary_tensors(), torch._C._DisableFuncTorch():
        yield


def _recomputed(
    run: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Return the same function; gradients compute its intermediates again."""

    def checkpointed(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values: tuple[torch.Tensor, torch.Tensor] = checkpoint(run, angles, use_reentrant=False)
        return values

    return checkpointed


def _size(bond: int) -> str:
    return str(bond) if bond < 2**20 else f"2^{bond.bit_length() - 1}"


def _sample_bytes(plan: ChainPlan, itemsize: int) -> float:
    return SAVED_FACTOR * 2 * itemsize * plan.cost.entries


def _part(plan: ChainPlan, itemsize: int) -> int:
    """Return the samples that are carried at once, at least one."""
    return max(1, int(PART_BYTES // max(1.0, _sample_bytes(plan, itemsize))))


def _complex_of(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype == torch.float64 else torch.complex64


def _check_tolerance(tolerance: object) -> float:
    valid = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if not valid or not 0 < float(tolerance) < math.inf:  # type: ignore[arg-type]
        raise EngineError(f"Option `tolerance` must be a finite number above 0, but is {tolerance!r}.")
    return float(tolerance)  # type: ignore[arg-type]
