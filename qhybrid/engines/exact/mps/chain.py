"""A batch of matrix product states and what gates and truncation do to it.

Site i has a tensor of shape (B or 1, l, 2, r); l and r are its bonds. Blocks multiply the bonds between their
sites by their rank, which is exact. A bond larger than the space on one side of it is folded, which is exact
too and takes matrix products alone. Truncation drops the smallest Schmidt coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qhybrid.engines.exact.mps.blocks import Block

NOISE = 1e-15
"""Schmidt coefficients below this part of the norm are rounding errors."""
GROWTH = 4
"""Factor by which bonds may grow before they are looked at again, also where they are still allowed."""


@dataclass(frozen=True)
class Truncation:
    """How bonds are truncated.

    Attributes:
        bond: Largest bond afterwards.
        weight: Part of the squared norm that may be dropped at a cut to make a bond smaller than that.
    """

    bond: int
    weight: float


class Chain:
    """Matrix product states of a batch, all |0...0> at first.

    Args:
        num_sites: Number of qubits.
        like: Complex tensor that shows dtype and device.

    Attributes:
        sites: The tensors.
        distance: For every sample an upper bound of the trace distance to the exact state, shape (B or 1,).
    """

    def __init__(self, num_sites: int, like: torch.Tensor) -> None:
        zero = like.new_zeros((1, 1, 2, 1))
        zero[0, 0, 0, 0] = 1.0
        self.sites = [zero] * num_sites
        self.distance = like.real.new_zeros(1)
        self._settled = 1

    def apply_local(self, site: int, matrix: torch.Tensor) -> None:
        """Apply a one-site matrix of shape (B or 1, 2, 2)."""
        self.sites[site] = matrix.unsqueeze(1) @ self.sites[site]

    def apply_block(self, block: Block, factors: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Apply a two-site block given by its factors, see `block_factors`; fold bonds too large."""
        on_left, on_right = factors
        rank = block.rank
        tensor = self.sites[block.left]
        # (x 1 k t s) @ (x l 1 s r) -> (x l k t r)
        moved = on_left.unsqueeze(1) @ tensor.unsqueeze(2)
        self.sites[block.left] = moved.permute(0, 1, 3, 4, 2).flatten(3)
        identity = torch.eye(rank, dtype=tensor.dtype, device=tensor.device)
        for site in range(block.left + 1, block.right):
            passed = torch.einsum("xlsr,kj->xlksrj", self.sites[site], identity)
            self.sites[site] = passed.flatten(4).flatten(1, 2)
        moved = on_right.unsqueeze(1) @ self.sites[block.right].unsqueeze(2)
        self.sites[block.right] = moved.flatten(1, 2)
        self._fold(block.left, block.right)

    @classmethod
    def of(cls, sites: Sequence[torch.Tensor]) -> Chain:
        """Return the states that have these tensors."""
        result = cls(0, sites[0])
        result.sites = list(sites)
        result._settled = max(tensor.shape[3] for tensor in sites)
        return result

    def must_shrink(self, block: Block, bond: int) -> bool:
        """Return whether bonds must be truncated before a block; also if they have grown much meanwhile."""
        largest = max(tensor.shape[3] for tensor in self.sites[block.left : block.right])
        return largest > min(bond, GROWTH * self._settled)

    def _fold(self, left: int, right: int) -> None:
        """Replace bonds that are larger than twice the neighbouring one: M T = 1 (M T)."""
        site = left
        while site + 1 < len(self.sites):
            tensor, other = self.sites[site], self.sites[site + 1]
            below, above = 2 * tensor.shape[1], tensor.shape[3]
            if above > below:
                self.sites[site] = _identity(below, tensor).reshape(1, -1, 2, below)
                joined = tensor.reshape(-1, below, above) @ other.flatten(2)
                self.sites[site + 1] = joined.reshape(*joined.shape[:2], *other.shape[2:])
            elif site >= right:
                break
            site += 1
        site = right
        while site > 0:
            tensor, other = self.sites[site], self.sites[site - 1]
            below, above = 2 * tensor.shape[3], tensor.shape[1]
            if above > below:
                self.sites[site] = _identity(below, tensor).reshape(1, below, 2, -1)
                joined = other.flatten(1, 2) @ tensor.reshape(-1, above, below)
                self.sites[site - 1] = joined.reshape(-1, *other.shape[1:3], below)
            elif site <= left:
                break
            site -= 1

    def truncate(self, rule: Truncation, normalise: bool = True) -> None:
        """Make bonds smaller, normalise, and add to `distance`.

        Args:
            rule: How.
            normalise: Whether the result has norm 1; else `distance` is that of the vectors, in the 2-norm.

        From the right end on, each step projects on a subspace of the range of the step before, so that the
        parts that are dropped are orthogonal and their weights add up to W. The normalised result has the
        trace distance sqrt(W) from the normalised state before, and trace distances of several truncations
        add up, because gates between them do not change them.
        """
        count = len(self.sites)
        for site in range(count - 1):
            tensor, other = self.sites[site], self.sites[site + 1]
            basis, rest = torch.linalg.qr(tensor.flatten(1, 2))
            self.sites[site] = basis.reshape(-1, *tensor.shape[1:3], basis.shape[2])
            joined = rest @ other.flatten(2)
            self.sites[site + 1] = joined.reshape(*joined.shape[:2], *other.shape[2:])
        norm = self.sites[-1].abs().square().sum((1, 2, 3))
        dropped = torch.zeros_like(norm)
        for site in range(count - 1, 0, -1):
            tensor, other = self.sites[site], self.sites[site - 1]
            vectors, values, rows = torch.linalg.svd(tensor.flatten(2), full_matrices=False)
            kept, lost = _kept(values, norm, rule)
            dropped = dropped + lost
            self.sites[site] = rows[:, :kept].reshape(-1, kept, *tensor.shape[2:])
            self.sites[site - 1] = other @ (vectors[..., :kept] * values[:, None, :kept]).unsqueeze(1)
        self._settled = max(tensor.shape[3] for tensor in self.sites)
        if not normalise:
            self.distance = self.distance + dropped.sqrt()
            return
        remaining = self.sites[0].abs().square().sum((1, 2, 3))
        self.sites[0] = self.sites[0] / remaining.sqrt()[:, None, None, None]
        self.distance = self.distance + (dropped / norm).sqrt()


def _kept(values: torch.Tensor, norm: torch.Tensor, rule: Truncation) -> tuple[int, torch.Tensor]:
    """Return how many Schmidt coefficients stay, and the weight of the others, shape (B,)."""
    tails = values.square().flip(1).cumsum(1).flip(1)
    allowed = norm[:, None] * max(rule.weight, NOISE**2)
    needed = int((tails > allowed).sum(1).max())
    kept = max(1, min(needed, rule.bond))
    if kept == values.shape[1]:
        return kept, torch.zeros_like(norm)
    return kept, tails[:, kept]


def _identity(size: int, like: torch.Tensor) -> torch.Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)
