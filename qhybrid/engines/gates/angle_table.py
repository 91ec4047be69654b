"""Evaluate many gate angles at once, differentiably."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from qhybrid.engines.gates.expression import Angle
from qhybrid.engines.gates.expression_groups import ExpressionGroups
from qhybrid.engines.gates.pauli_transfer import Array


class AngleTable:
    """The angles t_k = offset_k + sum_i a_ki x_i + sum_j b_kj w_j, and any that are not affine.

    Args:
        angles: The angles.
        num_inputs: Length of an input row.
        num_weights: Length of the weight vector.
        like: Tensor whose dtype and device the constants get.
    """

    def __init__(
        self, angles: Sequence[Angle], num_inputs: int, num_weights: int, like: torch.Tensor
    ) -> None:
        self._size = len(angles)
        trees = [(row, angle.tree) for row, angle in enumerate(angles) if angle.tree is not None]
        self._trees = ExpressionGroups(trees, num_weights, like) if trees else None
        inputs, weights = np.zeros((len(angles), num_inputs)), np.zeros((len(angles), num_weights))
        offsets = np.array([angle.offset for angle in angles])
        for row, angle in enumerate(angles):
            for index, factor in angle.inputs:
                inputs[row, index] = factor
            for index, factor in angle.weights:
                weights[row, index] = factor
        plain = not trees and not offsets.any()
        self._pick_inputs = _selection(inputs, like) if plain and not weights.any() else None
        self._pick_weights = _selection(weights, like) if plain and not inputs.any() else None
        self._inputs = _matrix(inputs, like)
        self._weights = _matrix(weights, like)
        self._offsets = torch.as_tensor(offsets, dtype=like.dtype, device=like.device)

    def batched(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the angles of every sample in radians, shape (K, B), for input rows of shape (n_in, B)."""
        if self._pick_inputs is not None:
            return inputs.index_select(0, self._pick_inputs)
        result = self._from_weights(weights).unsqueeze(1).expand(self._size, inputs.shape[1])
        if self._inputs is not None:
            result = result + self._inputs @ inputs
        if self._trees is None:
            return result
        return result.index_copy(0, self._trees.rows, self._trees.batched(inputs, weights))

    def free(self, weights: torch.Tensor) -> torch.Tensor:
        """Return angles that depend on weights alone in radians, shape (K,)."""
        result = self._from_weights(weights)
        if self._trees is None:
            return result
        return result.index_copy(0, self._trees.rows, self._trees.free(weights))

    def _from_weights(self, weights: torch.Tensor) -> torch.Tensor:
        if self._pick_weights is not None:
            return weights.index_select(0, self._pick_weights)
        if self._weights is None:
            return self._offsets
        return self._offsets + self._weights @ weights


def _matrix(factors: Array, like: torch.Tensor) -> torch.Tensor | None:
    return torch.as_tensor(factors, dtype=like.dtype, device=like.device) if factors.any() else None


def _selection(factors: Array, like: torch.Tensor) -> torch.Tensor | None:
    """Return the parameter's index of every row if every row is just one parameter."""
    if (
        not factors.size
        or not ((factors != 0).sum(axis=1) == 1).all()
        or not (factors.max(axis=1) == 1).all()
    ):
        return None
    return torch.as_tensor(factors.argmax(axis=1), device=like.device)
