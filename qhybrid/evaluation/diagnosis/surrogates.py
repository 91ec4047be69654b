"""Classical surrogates of a circuit: kernel ridge regressions from its angles to its outputs.

The kernel says what functions there are; the ridge is chosen by cross-validation in five parts, none of which
shares a scene or an image with another, so that there may be more terms than training rows. x are angles in
radians, z the same less their mean, over their standard deviation:

- linear: 1 + z.z' / n, all linear functions;
- quadratic: (1 + z.z' / n)^2, all polynomials of degree 2;
- Fourier: prod_j (1 + a cos w(x_j - x'_j)) / (1 + a), all products of 1, cos w x_j and sin w x_j of different
  angles, with the frequency w and the weight a of high orders chosen by cross-validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Kernel = Callable[[Tensor, Tensor], Tensor]

LARGEST_FIT = 512
"""Rows that a surrogate is fitted on at most."""
FREQUENCIES = (0.5, 1.0, 2.0, math.pi, 2 * math.pi)
ORDERS = (0.1, 1.0)
PARTS = 5
"""Parts of cross-validation at most."""
_RIDGES = torch.logspace(-10, 3, 27, dtype=torch.float64)
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A fitted regression.

    Attributes:
        kernel: The kernel.
        rows: Angles that it was fitted on, shape (m, n_in).
        weights: Dual coefficients, shape (m, n_obs).
        offset: Mean outputs, shape (n_obs,).
    """

    kernel: Kernel
    rows: Tensor
    weights: Tensor
    offset: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return outputs (rows, n_obs) in float64 for angles (rows, n_in)."""
        parts = torch.split(inputs.detach().double().cpu(), _ROWS)
        found = [self.kernel(part, self.rows) @ self.weights + self.offset for part in parts]
        return torch.cat(found) if found else self.offset.new_zeros(0, len(self.offset))


def fit_surrogate(kind: str, inputs: Tensor, outputs: Tensor, groups: Tensor) -> Surrogate:
    """Fit a surrogate.

    Args:
        kind: `linear`, `quadratic` or `fourier`.
        inputs: Training angles in radians, shape (m, n_in).
        outputs: What the circuit gave for them, shape (m, n_obs).
        groups: Part of each row in cross-validation, shape (m,), at least two parts.
    """
    rows, values = inputs.double(), outputs.double()
    tried = [
        (*_error_and_ridge(kernel, rows, values, groups), place, kernel)
        for place, kernel in enumerate(_kernels(kind, rows))
    ]
    _, ridge, _, kernel = min(tried, key=lambda one: one[:3])
    offset = values.mean(dim=0)
    matrix = kernel(rows, rows) + ridge * torch.eye(len(rows), dtype=torch.float64)
    return Surrogate(kernel, rows, torch.linalg.solve(matrix, values - offset), offset)


def parts_of(groups: Tensor) -> Tensor:
    """Return rows in at most five parts, whole groups each, of about equal size.

    Args:
        groups: Group of each row, such as its scene or image, shape (m,).
    """
    names, place, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    loads, part = torch.zeros(PARTS), torch.zeros(len(names), dtype=torch.int64)
    for index in sizes.argsort(descending=True, stable=True).tolist():
        part[index] = int(loads.argmin())
        loads[part[index]] += sizes[index]
    return part[place]


def explained(outputs: Tensor, predicted: Tensor) -> float:
    """Return R^2 = 1 - sum of squared errors / sum of squared deviations from the mean, over all outputs.

    Args:
        outputs: What the circuit gave, shape (rows, n_obs).
        predicted: What a surrogate gives, of the same shape.

    Returns:
        NaN where the outputs do not vary.
    """
    truth = outputs.double()
    spread = float((truth - truth.mean(dim=0)).square().sum())
    return (
        1 - float((truth - predicted).square().sum()) / spread if spread > 1e-20 * truth.numel() else math.nan
    )


def _kernels(kind: str, rows: Tensor) -> list[Kernel]:
    if kind == "fourier":
        return [_fourier(frequency, order) for frequency in FREQUENCIES for order in ORDERS]
    mean, spread = rows.mean(dim=0), rows.std(dim=0)
    spread = torch.where(spread > 1e-12, spread, torch.ones_like(spread))
    degree = {"linear": 1, "quadratic": 2}[kind]

    def polynomial(first: Tensor, second: Tensor) -> Tensor:
        one, two = (first - mean) / spread, (second - mean) / spread
        return (1 + one @ two.T / one.shape[1]) ** degree

    return [polynomial]


def _fourier(frequency: float, order: float) -> Kernel:
    def kernel(first: Tensor, second: Tensor) -> Tensor:
        found = first.new_ones(len(first), len(second))
        waves = [(torch.cos(frequency * one), torch.sin(frequency * one)) for one in (first, second)]
        for angle in range(first.shape[1]):
            (cos_1, sin_1), (cos_2, sin_2) = ((cos[:, angle], sin[:, angle]) for cos, sin in waves)
            cosine = torch.outer(cos_1, cos_2) + torch.outer(sin_1, sin_2)
            found *= (1 + order * cosine) / (1 + order)
        return found

    return kernel


def _error_and_ridge(kernel: Kernel, rows: Tensor, values: Tensor, groups: Tensor) -> tuple[float, float]:
    """Return the smallest squared error of cross-validation over the ridges, and the ridge that has it."""
    matrix = kernel(rows, rows)
    scale = float(matrix.diagonal().mean())
    errors = torch.zeros(len(_RIDGES), dtype=torch.float64)
    for part in torch.unique(groups):
        inside = groups != part
        eigenvalues, vectors = torch.linalg.eigh(matrix[inside][:, inside])
        mean = values[inside].mean(dim=0)
        projected = vectors.T @ (values[inside] - mean)
        reach = matrix[~inside][:, inside] @ vectors
        for place, ridge in enumerate(_RIDGES * scale):
            found = reach @ (projected / (eigenvalues.clamp(min=0) + ridge)[:, None]) + mean
            errors[place] += (found - values[~inside]).square().sum()
    best = int(errors.argmin())
    return float(errors[best]), float(_RIDGES[best]) * scale
