"""Angles of a program, and what their gradient says about inputs and weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.gates.expression import Angle

Slopes = tuple[torch.Tensor | None, torch.Tensor | None]
"""Gradients of inputs, shape (n_in, B), and of weights, shape (n_w,); None for zero."""


class AngleMap:
    """Batched or data-free angles with their vector-Jacobian product.

    Args:
        angles: The angles; at least one.
        batched: Whether they are evaluated for every sample.
        num_inputs: Length of an input row.
        num_weights: Length of the weight vector.
        like: Tensor that shows dtype and device.
    """

    def __init__(
        self, angles: Sequence[Angle], batched: bool, num_inputs: int, num_weights: int, like: torch.Tensor
    ) -> None:
        self._table = AngleTable(angles, num_inputs, num_weights, like)
        self._batched = batched
        self._sizes = num_inputs, num_weights
        self._affine = all(angle.tree is None for angle in angles)
        self._on_inputs = _entries([angle.inputs for angle in angles], like) if batched else None
        self._on_weights = _entries([angle.weights for angle in angles], like)

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the angles in radians, shape (K, B) or (K,), for input rows of shape (n_in, B)."""
        return self._table.batched(inputs, weights) if self._batched else self._table.free(weights)

    def slopes(self, inputs: torch.Tensor, weights: torch.Tensor, above: torch.Tensor) -> Slopes:
        """Return the gradients of inputs and weights.

        Args:
            inputs: Input rows, transposed, shape (n_in, B).
            weights: Weight vector, shape (n_w,).
            above: Gradient of the angles.
        """
        if not self._affine:
            return self._general_slopes(inputs, weights, above)
        on_inputs = on_weights = None
        if self._on_inputs is not None:
            on_inputs = self._on_inputs.transposed(above, self._sizes[0])
        if self._on_weights is not None:
            total = above.sum(1) if self._batched else above
            on_weights = self._on_weights.transposed(total, self._sizes[1])
        return on_inputs, on_weights

    def _general_slopes(self, inputs: torch.Tensor, weights: torch.Tensor, above: torch.Tensor) -> Slopes:
        with torch.enable_grad():
            leaves = [inputs.detach().requires_grad_(), weights.detach().requires_grad_()]
            angles = self(*leaves)
            if not angles.requires_grad:
                return None, None
            found = torch.autograd.grad(angles, leaves, above, allow_unused=True)
        return found[0], found[1]


class _Entries:
    """A sparse matrix from parameters to angles.

    Args:
        factors: Pairs (parameter, factor) of every angle.
        like: Tensor that shows dtype and device.
    """

    def __init__(self, factors: Sequence[Sequence[tuple[int, float]]], like: torch.Tensor) -> None:
        found = [(row, *entry) for row, own in enumerate(factors) for entry in own]
        rows, columns = ([entry[axis] for entry in found] for axis in (0, 1))
        self._plain = all(factor == 1.0 for _, _, factor in found)
        self._whole = rows == list(range(len(factors)))
        # Where every angle is one parameter and every parameter one angle, the transpose just reorders.
        order = sorted(range(len(found)), key=lambda place: found[place][1])
        reordered = [found[place][1] for place in order] == list(range(len(order)))
        self._reach = len(order) if self._plain and self._whole and reordered else -1
        self._order, self._rows, self._columns = (
            torch.as_tensor(places, dtype=torch.long, device=like.device) for places in (order, rows, columns)
        )
        self._factors = torch.as_tensor(
            [factor for _, _, factor in found], dtype=like.dtype, device=like.device
        )

    def transposed(self, above: torch.Tensor, size: int) -> torch.Tensor:
        """Return its transpose, with `size` rows, times a vector or times the columns of a matrix."""
        if self._reach == size:
            return above.index_select(0, self._order)
        parts = above if self._whole else above.index_select(0, self._rows)
        if not self._plain:
            parts = parts * (self._factors if above.ndim == 1 else self._factors.unsqueeze(1))
        return above.new_zeros((size, *above.shape[1:])).index_add_(0, self._columns, parts)


def _entries(factors: Sequence[Sequence[tuple[int, float]]], like: torch.Tensor) -> _Entries | None:
    return _Entries(factors, like) if any(factors) else None
