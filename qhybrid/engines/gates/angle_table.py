"""Evaluate many gate angles at once, differentiably."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from qhybrid.engines.gates.expression import Angle
from qhybrid.engines.gates.expression_groups import ExpressionGroups
from qhybrid.engines.transforms import constant_product

LARGEST_MATRIX = 2**20
"""Entries of a matrix of factors up to which it is kept as such; most of a larger one would be zeros."""


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
        offsets = np.array([angle.offset for angle in angles])
        plain = not trees and not offsets.any()
        inputs = _Linear([angle.inputs for angle in angles], num_inputs, like)
        weights = _Linear([angle.weights for angle in angles], num_weights, like)
        self._pick_inputs = inputs.picked if plain and not weights else None
        self._pick_weights = weights.picked if plain and not inputs else None
        self._inputs, self._weights = inputs or None, weights or None
        self._offsets = torch.as_tensor(offsets, dtype=like.dtype, device=like.device)

    def batched(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the angles of every sample in radians, shape (K, B), for input rows of shape (n_in, B)."""
        if self._pick_inputs is not None:
            return inputs.index_select(0, self._pick_inputs)
        result = self._from_weights(weights).unsqueeze(1).expand(self._size, inputs.shape[1])
        if self._inputs is not None:
            result = result + self._inputs(inputs)
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
        return self._offsets + self._weights(weights)


class _Linear:
    """Sums of factors times parameters, one a row; false if there are no terms at all.

    Args:
        rows: For every row its (parameter, factor).
        columns: Number of parameters.
        like: Tensor whose dtype and device the constants get.

    Attributes:
        picked: The parameter of every row, if every row is just one parameter; else None.
    """

    def __init__(self, rows: Sequence[Sequence[tuple[int, float]]], columns: int, like: torch.Tensor) -> None:
        # The last factor of a parameter in a row counts, as in a matrix that is filled in.
        terms = {(row, index): factor for row, own in enumerate(rows) for index, factor in own if factor}
        self._size, self._count = len(rows), len(terms)
        self.picked: torch.Tensor | None = None
        self._matrix: torch.Tensor | None = None
        if not terms:
            return
        places = torch.as_tensor(list(terms), dtype=torch.long, device=like.device)
        factors = torch.as_tensor(list(terms.values()), dtype=like.dtype, device=like.device)
        if self._count == self._size == len({row for row, _ in terms}) and set(terms.values()) == {1.0}:
            self.picked = places[:, 1]
        self._rows, self._columns, self._factors = places[:, 0], places[:, 1], factors
        if self._size * columns <= LARGEST_MATRIX:
            self._matrix = like.new_zeros(self._size, columns).index_put(tuple(places.t()), factors)

    def __bool__(self) -> bool:
        return self._count > 0

    def __call__(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return all sums, shape (rows, ...), for parameters of shape (columns, ...)."""
        if self._matrix is not None:
            return constant_product(self._matrix, parameters)
        factors = self._factors.reshape(-1, *(1 for _ in parameters.shape[1:]))
        terms = parameters.index_select(0, self._columns) * factors
        return terms.new_zeros(self._size, *parameters.shape[1:]).index_add(0, self._rows, terms)
