"""Execute a plan: exactly and recorded by autograd, or with truncation and an error bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.explain import PART_BYTES
from qhybrid.engines.exact.mps.adjoint import AdjointSweep, Stop
from qhybrid.engines.exact.mps.chain import Chain, Truncation
from qhybrid.engines.exact.mps.plan import ChainPlan
from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.transforms import no_autocast
from qhybrid.errors import EngineError

DEFAULT_TOLERANCE = 1e-6
SPENT_FREELY = 0.05
"""Part of the tolerance, or of the default if that is less, that may be spent on bonds below the largest."""
SAVED_FACTOR = 2.1
"""Bytes of value and gradient over the bytes of the numbers that are saved for the gradient."""


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
        self._dtype = real.dtype
        complex_dtype = torch.complex128 if real.dtype == torch.float64 else torch.complex64
        self._like = torch.empty(0, dtype=complex_dtype, device=like.device)
        self._table = AngleTable(plan.angles, spec.num_inputs, spec.num_weights, real)
        self._matrices = plan.matrices(self._like)
        self._scales = torch.as_tensor(plan.readout.scales(), dtype=torch.float64)
        # 2 sqrt(cuts weight) a truncation and unit of scale shall stay below a small part of the tolerance.
        spent = SPENT_FREELY * min(tolerance, DEFAULT_TOLERANCE)
        share = spent / (2 * max(1, plan.most_truncations) * max(1.0, plan.scale))
        self._rule = Truncation(plan.bond, share**2 / max(1, len(plan.wires)))
        self._adjoint = AdjointSweep(plan, self._matrices, self._like, self._rule)

    @no_autocast
    def __call__(self, rows: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return values, shape (n_obs, B), and their error bounds, shape (B, n_obs)."""
        angles = self._table.batched(rows.to(self._dtype), weights.to(self._dtype))
        batch = rows.shape[1]
        if self._plan.exact:
            return self._exact(angles), torch.zeros((batch, len(self._scales)), dtype=torch.float64)
        self._check_transforms(angles)
        bounds: list[torch.Tensor] = []
        values: torch.Tensor = _Truncated.apply(angles, self, bounds)  # type: ignore[no-untyped-call]
        return values.to(rows.dtype), torch.cat(bounds)

    def _exact(self, angles: torch.Tensor) -> torch.Tensor:
        """Return the values without truncation, in parts that fit the memory; recorded by autograd."""
        size = part_samples(self._plan, self._dtype.itemsize)
        if angles.shape[1] <= size:
            return self._exact_part(angles)
        recorded = torch.is_grad_enabled() and angles.requires_grad
        plain = not recorded or torch._C._are_functorch_transforms_active()
        run = self._exact_part if plain else _recomputed(self._exact_part)
        return torch.cat([run(part) for part in torch.split(angles, size, dim=1)], dim=1)

    def _exact_part(self, angles: torch.Tensor) -> torch.Tensor:
        chain = Chain(len(self._plan.wires), self._like)
        self._adjoint.evolve(chain, angles)
        return self._plan.readout(chain.sites, angles.shape[1])

    def truncated(
        self, angles: torch.Tensor, bounds: list[torch.Tensor], stops: list[Stop] | None = None
    ) -> torch.Tensor:
        """Return the values of some samples, shape (n_obs, B).

        Args:
            angles: Angles in radians, shape (K, B).
            bounds: Receives their error bounds, shape (B, n_obs).
            stops: Receives the states after each truncation.

        Raises:
            EngineError: If a bound exceeds the tolerance.
        """
        chain = Chain(len(self._plan.wires), self._like)
        self._adjoint.evolve(chain, angles, stops=stops, truncating=True)
        distance = chain.distance.expand(angles.shape[1]).cpu()
        # |<P> - exact| <= 2 (trace distance), and never more than 2.
        bounds.append(torch.outer((2 * distance).clamp(max=2.0), self._scales))
        self._check(bounds[-1])
        return self._plan.readout(chain.sites, angles.shape[1])

    def slopes(
        self, angles: torch.Tensor, grad: torch.Tensor, stops: Sequence[Sequence[Stop]]
    ) -> torch.Tensor:
        """Return the gradient of sum(grad * values) with respect to the angles, shape (K, B).

        Args:
            angles: Angles in radians, shape (K, B).
            grad: Gradient of the observables, shape (n_obs, B).
            stops: For each part of the samples the states after each truncation.

        Raises:
            EngineError: If the adjoint state lost more than the tolerance, times the sum of the observables'
                coefficients weighted by their gradient.
        """
        self._check_transforms(angles)
        try:
            parts = [
                self._adjoint.slopes(angles[:, part], grad[:, part], own)
                for part, own in zip(self.parts(angles), stops)
            ]
        except RuntimeError as error:
            # `jacobian(vectorize=True)` batches gradients in a way that cannot be asked for.
            if "atching rule" not in str(error):
                raise
            raise self._transformed() from error
        lost = torch.cat([one for _, one in parts])
        scale = (self._scales[:, None].to(grad) * grad.abs()).sum(0)
        excess = float(torch.where(lost > 0, lost / scale, lost).max())
        if not excess <= self._tolerance:
            raise EngineError(
                f"Circuit `{self._name}` must have an adjoint state with an error of at most "
                f"tolerance={self._tolerance:g} for its gradient, but truncation to bond={self._plan.bond} "
                f"gives {excess:.3g}; its values are fine. Fix: a larger `bond` "
                f"({bond_text(self._plan.rank_bound)} is surely exact), or a larger `tolerance`."
            )
        return torch.cat([found for found, _ in parts], dim=1)

    def parts(self, angles: torch.Tensor) -> list[slice]:
        """Return the samples that are carried at once."""
        size, batch = part_samples(self._plan, 8), angles.shape[1]
        return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]

    def _check(self, bounds: torch.Tensor) -> None:
        largest = float(bounds.max()) if bounds.numel() else 0.0
        if not largest <= self._tolerance:
            raise EngineError(
                f"Circuit `{self._name}` must have an error bound of at most tolerance={self._tolerance:g}, "
                f"but truncation to bond={self._plan.bond} gives {largest:.3g}. Fix: a larger `bond` "
                f"({bond_text(self._plan.rank_bound)} is surely exact), a larger `tolerance`, or fewer "
                "layers."
            )

    def _check_transforms(self, angles: torch.Tensor) -> None:
        is_dual = False
        if forward_ad._current_level >= 0:
            is_dual = forward_ad.unpack_dual(angles).tangent is not None  # type: ignore[no-untyped-call]
        if is_dual or torch._C._are_functorch_transforms_active():
            raise self._transformed()

    def _transformed(self) -> EngineError:
        return EngineError(
            "Method `mps` must not truncate inside torch.func, a vectorised Jacobian or forward-mode "
            f"differentiation, but circuit `{self._name}` may need bonds of "
            f"{bond_text(self._plan.rank_bound)}, above bond={self._plan.bond}. Fix: a larger `bond`, or "
            "gradients by torch.autograd."
        )


class _Truncated(torch.autograd.Function):
    """Truncated values forward; gradients by the adjoint state."""

    @staticmethod
    def forward(
        ctx: Any, angles: torch.Tensor, executor: ChainExecutor, bounds: list[torch.Tensor]
    ) -> torch.Tensor:
        ctx.executor, ctx.stops, values = executor, [], []
        for part in executor.parts(angles):
            stops: list[Stop] | None = [] if ctx.needs_input_grad[0] else None
            values.append(executor.truncated(angles[:, part], bounds, stops))
            ctx.stops.append(stops)
        ctx.save_for_backward(angles)
        return torch.cat(values, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (angles,) = ctx.saved_tensors
        with torch.no_grad():
            result = ctx.executor.slopes(angles, grad, ctx.stops)
        if torch.is_grad_enabled():
            result = _FirstOnly.apply(result, angles, grad)  # type: ignore[no-untyped-call]
        return result, None, None


class _FirstOnly(torch.autograd.Function):
    """A gradient that remembers what it depends on, and refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, result: torch.Tensor, *depends_on: torch.Tensor) -> torch.Tensor:
        return result.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> None:
        raise EngineError(
            "Method `mps` must not truncate where second derivatives are wanted, but it did. Fix: a larger "
            "`bond` (`explain` says which is exact), or method='network'."
        )


def _recomputed(run: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the same function; gradients compute its intermediates again."""

    def checkpointed(angles: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = checkpoint(run, angles, use_reentrant=False)
        return values

    return checkpointed


def bond_text(bond: int) -> str:
    """Return a bond as text; powers of two where it is very large."""
    return str(bond) if bond < 2**20 else f"2^{bond.bit_length() - 1}"


def sample_bytes(plan: ChainPlan, itemsize: int) -> float:
    """Return the memory that value and gradient of one sample take."""
    return SAVED_FACTOR * 2 * itemsize * plan.cost.saved


def part_samples(plan: ChainPlan, itemsize: int) -> int:
    """Return the samples that are carried at once, at least one."""
    return max(1, int(PART_BYTES // max(1.0, sample_bytes(plan, itemsize))))
