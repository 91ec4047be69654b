"""Gradients of truncated matrix product states, with a bound of their error, by an adjoint state.

Between two truncations a circuit is a segment V. With the state phi at its start and the adjoint state lambda
at its end, which is the observables' sum O applied to the final state and taken back through all later gates,
the gradient of <O> is that of 2 Re <lambda| V |phi>. phi and lambda are constants there and V is exact, so
nothing is differentiated through a decomposition: derivatives that raise a Schmidt rank are kept.

With ||O|| <= S, a trace distance e of the states and a norm d of what lambda lost, the derivative with
respect to a gate's angle t, for which |dV/dt| <= 1/2, errs by at most d + 2 sqrt(2) S e.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qhybrid.engines.exact.mps.blocks import (
    GateMatrices,
    Local,
    block_factors,
    block_matrix,
)
from qhybrid.engines.exact.mps.chain import Chain, Truncation
from qhybrid.engines.exact.mps.plan import ChainPlan
from qhybrid.engines.exact.mps.readout import DONE, READY, SiteString, Suffix, channel, operator_groups


@dataclass(frozen=True)
class Stop:
    """The state's site tensors after a truncation, before the operation at `place`."""

    place: int
    sites: tuple[torch.Tensor, ...]


class AdjointSweep:
    """Runs a plan's operations forwards and backwards.

    Args:
        plan: The plan.
        matrices: Its gates' matrices.
        like: Complex tensor that shows dtype and device.
        rule: How bonds are truncated.
    """

    def __init__(self, plan: ChainPlan, matrices: GateMatrices, like: torch.Tensor, rule: Truncation) -> None:
        self._plan = plan
        self._matrices = matrices
        self._table = torch.as_tensor(plan.readout.matrices).to(like)
        self._like = like
        self._rule = rule
        self._groups = [] if plan.exact else operator_groups(plan.readout.strings)

    def evolve(
        self,
        chain: Chain,
        angles: torch.Tensor,
        start: int = 0,
        stop: int | None = None,
        stops: list[Stop] | None = None,
        truncating: bool = False,
    ) -> None:
        """Apply operations `start` to `stop` - 1 (None: all) to a state.

        Args:
            chain: The state.
            angles: Angles in radians, shape (K, B).
            start: First operation.
            stop: Operation after the last one.
            stops: Receives the states after each truncation.
            truncating: Whether bonds are truncated.
        """
        matrices = self._matrices(angles)
        for place, operation in enumerate(self._plan.operations[start:stop], start):
            if isinstance(operation, Local):
                chain.apply_local(operation.site, _product(operation, matrices))
                continue
            if truncating and chain.must_shrink(operation, self._rule.bond):
                chain.truncate(self._rule)
                if stops is not None:
                    stops.append(Stop(place, tuple(chain.sites)))
            unitary = block_matrix(operation.members, matrices)
            chain.apply_block(operation, block_factors(operation, unitary))

    def slopes(
        self, angles: torch.Tensor, grad: torch.Tensor, stops: Sequence[Stop]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradient of sum(grad * values) with respect to the angles.

        Args:
            angles: Angles in radians, shape (K, B).
            grad: Gradient of the observables, shape (n_obs, B).
            stops: The states after each truncation of the forward run.

        Returns:
            The gradient, shape (K, B), and the norm of what the adjoint state lost, shape (B,).
        """
        zero = Chain(len(self._plan.wires), self._like)
        starts = [Stop(0, tuple(zero.sites)), *stops]
        total = torch.zeros_like(angles)
        end, above = len(self._plan.operations), None
        for number, stop in reversed(list(enumerate(starts))):
            with torch.enable_grad():
                leaf = angles.detach().requires_grad_()
                chain = Chain.of(stop.sites)
                self.evolve(chain, leaf, stop.place, end)
                if above is None:
                    value = (self._plan.readout(chain.sites, angles.shape[1]) * grad).sum()
                else:
                    value = 2 * _overlap(above.sites, chain.sites).expand(angles.shape[1]).sum()
                if value.requires_grad:
                    (found,) = torch.autograd.grad(value, [leaf])
                    total += found
            if number:
                if above is None:
                    above = self._observed([site.detach() for site in chain.sites], grad)
                self._take_back(above, angles, stop.place, end)
                end = stop.place
        lost = angles.new_zeros(1) if above is None else above.distance
        return total, lost.expand(angles.shape[1])

    def _take_back(self, chain: Chain, angles: torch.Tensor, start: int, stop: int) -> None:
        """Apply the inverse of operations `stop` - 1 to `start` to the adjoint state, truncating it."""
        matrices = self._matrices(angles)
        for operation in reversed(self._plan.operations[start:stop]):
            if isinstance(operation, Local):
                chain.apply_local(operation.site, _product(operation, matrices).mH)
                continue
            if chain.must_shrink(operation, self._rule.bond):
                chain.truncate(self._rule, normalise=False)
            left, right = block_factors(operation, block_matrix(operation.members, matrices))
            chain.apply_block(operation, (left.mH, right.mH))

    def _observed(self, sites: Sequence[torch.Tensor], grad: torch.Tensor) -> Chain:
        """Return sum_o grad_o O_o applied to the state, identities left out."""
        total: Chain | None = None
        for group in self._groups:
            coefficients = torch.stack([string.coefficient * grad[string.observable] for string in group])
            part = Chain.of(_applied(group, coefficients, self._table, sites))
            if total is not None:
                distance = total.distance
                part = Chain.of(_added(total.sites, part.sites))
                part.distance = distance
            part.truncate(self._rule, normalise=False)
            total = part
        return total or Chain.of([0 * site for site in sites])


def _product(operation: Local, matrices: dict[int, torch.Tensor]) -> torch.Tensor:
    result = matrices[operation.gates[0]]
    for gate in operation.gates[1:]:
        result = matrices[gate] @ result
    return result


def _overlap(bra: Sequence[torch.Tensor], ket: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return Re <bra|ket>, shape (B or 1,)."""
    found = ket[0].new_ones((1, 1, 1))
    for one, other in zip(bra, ket):
        half = found @ other.flatten(2)
        found = one.flatten(1, 2).mH @ half.reshape(-1, 2 * one.shape[1], other.shape[3])
    return found.real[:, 0, 0]


def _applied(
    strings: Sequence[SiteString],
    coefficients: torch.Tensor,
    table: torch.Tensor,
    sites: Sequence[torch.Tensor],
) -> list[torch.Tensor]:
    """Return the site tensors of sum_t c_t P_t |state>, for coefficients of shape (T, B).

    A matrix product operator: at each cut its bond counts what is left of the strings that cross the cut,
    beside "nothing applied yet" and "all applied". A string's coefficient comes with its first letter.
    """
    batch, result = coefficients.shape[1], []
    channels: list[Suffix] = [READY]
    for site, tensor in enumerate(sites):
        last = site == len(sites) - 1
        after = list(dict.fromkeys(channel(string, site + 1) for string in strings))
        after = [DONE] if last else after
        _, left, _, right = tensor.shape
        grown = tensor.new_zeros((batch, len(channels), left, 2, len(after), right))
        passed: set[tuple[int, int]] = set()
        for number, string in enumerate(strings):
            before, following = channel(string, site), channel(string, site + 1)
            place = channels.index(before), after.index(following) if following in after else -1
            letter = dict(string.letters).get(site)
            first = string.letters[0][0] == site
            if place[1] < 0 or (not first and place in passed):
                continue
            moved = tensor if letter is None else table[letter] @ tensor
            if first:
                moved = coefficients[number].to(moved.dtype)[:, None, None, None] * moved
            else:
                passed.add(place)
            grown[:, place[0], :, :, place[1]] += moved
        result.append(grown.flatten(4).flatten(1, 2))
        channels = after
    return result


def _added(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the site tensors of the sum of two vectors."""
    result = []
    for site, (a, b) in enumerate(zip(one, other)):
        first, last = site == 0, site == len(one) - 1
        rows = a.shape[1] if first else a.shape[1] + b.shape[1]
        columns = a.shape[3] if last else a.shape[3] + b.shape[3]
        joined = a.new_zeros((max(a.shape[0], b.shape[0]), rows, 2, columns))
        joined[:, : a.shape[1], :, : a.shape[3]] += a
        joined[:, rows - b.shape[1] :, :, columns - b.shape[3] :] += b
        result.append(joined)
    return result
