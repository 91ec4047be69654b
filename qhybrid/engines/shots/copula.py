"""Counts of strings whose joint outcomes are too many for a table: exactly binomial, with exact covariances.

The latent law is normal (Gaussian copula): each string has a standard normal variable, whose quantile is
turned into a count. So every count is binomial whatever the correlations of the normals are, and these are
chosen pair by pair such that the counts have the covariance of the measurement, N (<P Q> - <P><Q>) / 4.

- Few shots are drawn one by one and added up. A pair of thresholds a, b has the covariance
  1 / (2 pi) int_0^asin(r) exp(-(a^2 + b^2 - 2 a b sin t) / (2 cos^2 t)) dt (Sheppard's formula; Drezner and
  Wesolowsky 1990), which is solved for r.
- Many shots are drawn as one count. By Mehler's formula the covariance is sum_k a_k b_k r^k, with the Hermite
  coefficients a_k = sum_m phi(t_m) He_{k-1}(t_m) / sqrt(k!) of the quantile function with steps at t_m.

A matrix of such correlations may have negative eigenvalues. Then there is no normal law with these pairs: the
one without the negative part is returned, with the error that it makes; the counts stay exactly binomial.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betainc, ndtr, ndtri

from qhybrid.engines.gates.pauli_transfer import Array

Indices = NDArray[np.signedinteger[Any]]
SINGLE_SHOTS = 64
"""Shots up to which they are drawn one by one."""
ORDERS = 12
"""Hermite coefficients that are kept."""
LARGEST_VARIANCE = 900.0
"""Variance of a count above which its quantile function is straight to 1e-4."""
SMALLEST_VARIANCE = 1e-4
GRID = 400
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(16)
NEWTON_STEPS = 6
BISECTIONS = 40
CONVERGED = 1e-6
"""Error of the covariance of two counts, relative to the largest one, at which Newton's method ends."""
AT_BOUND = 1e-6
"""Distance from the largest possible covariance within which it counts as that: values may be float32."""
TINY = 1e-300


def pair_factors(up: Array, covariance: Array, shots: int) -> tuple[Array, Array]:
    """Return matrices whose product with independent normals has the latent correlations.

    Args:
        up: Probability of +1 of every string, shape (B, T).
        covariance: Covariance of the indicators of +1 in one shot of every pair, in the order of
            `np.triu_indices`, shape (B, T (T - 1) / 2).
        shots: Number of shots.

    Returns:
        The matrices, shape (B, T, T), with rows of length 1, and the largest error of a correlation in each
        sample, shape (B,): above 0 where a matrix with these correlations would have negative eigenvalues.
    """
    size = up.shape[1]
    first, second = np.triu_indices(size, 1)
    if shots <= SINGLE_SHOTS:
        found = _by_thresholds(up[:, first], up[:, second], covariance)
    else:
        found = _by_orders(hermite_coefficients(up, shots), first, second, shots * covariance)
    least, most = _bounds(up[:, first], up[:, second])
    found = np.where(most - least <= 2 * AT_BOUND, 0.0, found)  # one of the two is as good as fixed
    correlation = np.broadcast_to(np.eye(size), (len(up), size, size)).copy()
    correlation[:, first, second] = correlation[:, second, first] = found
    factors = _factors(correlation)
    return factors, np.abs(factors @ factors.swapaxes(1, 2) - correlation).max(axis=(1, 2), initial=0)


def draw_counts(up: Array, factors: Array, normals: Array, shots: int) -> Array:
    """Return the counts of +1.

    Args:
        up: Probability of +1 of every string, shape (B, T).
        factors: Result of `pair_factors`, shape (B, T, T).
        normals: Independent standard normals, shape (B, blocks, T), see `num_blocks`.
        shots: Number of shots.

    Returns:
        Shape (B, T).
    """
    latent = normals @ factors.swapaxes(1, 2)
    if shots <= SINGLE_SHOTS:
        return np.asarray((latent > ndtri(1 - up)[:, None]).sum(axis=1), dtype=float)
    return binomial_quantile(latent[:, 0], shots, up)


def num_blocks(shots: int) -> int:
    """Return how many rows of normals a sample takes."""
    return shots if shots <= SINGLE_SHOTS else 1


def binomial_quantile(latent: Array, shots: int, up: Array) -> Array:
    """Return the binomial counts at the quantiles of standard normals.

    Args:
        latent: The normals, any shape.
        shots: Number of shots.
        up: Probabilities, of that shape.
    """
    # Both tails are precise from below: the upper one is the lower one of the opposite outcome.
    flipped = latent > 0
    z, p = -np.abs(latent), np.where(flipped, 1 - up, up)
    level, spread = ndtr(z), np.sqrt(shots * p * (1 - p))
    guess = shots * p + spread * z + (1 - 2 * p) * (z * z - 1) / 6  # Cornish and Fisher, 1938
    counts = np.clip(np.floor(guess + 0.5), 0, shots)
    open_ = np.ones(counts.shape, dtype=bool)
    while open_.any():
        k, q, u = counts[open_], p[open_], level[open_]
        step = np.where(_below(k, shots, q) < u, 1.0, np.where(_below(k - 1, shots, q) >= u, -1.0, 0.0))
        counts[open_] = k + step
        open_[open_] = step != 0
    return np.asarray(np.where(flipped, shots - counts, counts), dtype=float)


def _below(counts: Array, shots: int, up: Array) -> Array:
    """Return P(count <= k); 0 below 0, 1 from the number of shots on."""
    inside = np.clip(counts, 0, shots - 1)
    found = betainc(shots - inside, inside + 1, 1 - up)
    return np.asarray(np.where(counts < 0, 0.0, np.where(counts >= shots, 1.0, found)), dtype=float)


def _by_thresholds(first: Array, second: Array, wanted: Array) -> Array:
    """Return the correlations of normals whose signs above two thresholds have the wanted covariances.

    Args:
        first: Probability of +1 of the first string of every pair, any shape.
        second: The same of the second string.
        wanted: Covariances of the indicators of +1.
    """
    least, most = _bounds(first, second)
    # Strings that decide each other do so in every shot: the bounds are met exactly.
    result = np.where(wanted >= most - AT_BOUND, 1.0, np.where(wanted <= least + AT_BOUND, -1.0, 0.0))
    inner = np.flatnonzero(result == 0)
    a, b, target = -ndtri(first.flat[inner]), -ndtri(second.flat[inner]), wanted.flat[inner]
    scale = np.exp(-(a * a + b * b) / 2) / (2 * np.pi)
    # Two terms of the tetrachoric series are a good beginning.
    ratio = target / scale
    angle = np.arcsin(np.clip(2 * ratio / (1 + np.sqrt(np.maximum(0, 1 + 2 * a * b * ratio))), -0.99, 0.99))
    low, high = np.full(a.shape, -np.pi / 2), np.full(a.shape, np.pi / 2)
    for _ in range(BISECTIONS):
        error = _covariance(a, b, angle) - target
        result.flat[inner] = np.sin(angle)
        open_ = np.abs(error) > CONVERGED * np.minimum(1.0, scale)
        if not open_.any():
            break
        inner, a, b, target, scale, angle, low, high, error = (
            values[open_] for values in (inner, a, b, target, scale, angle, low, high, error)
        )
        low, high = np.where(error < 0, angle, low), np.where(error > 0, angle, high)
        step = angle - error / np.maximum(_density(a, b, angle), TINY)
        angle = np.where((step > low) & (step < high), step, (low + high) / 2)
    return np.asarray(result, dtype=float)


def _bounds(first: Array, second: Array) -> tuple[Array, Array]:
    """Return the least and the largest covariance of two indicators (Frechet's bounds)."""
    low = np.maximum(0.0, first + second - 1) - first * second
    return low, np.minimum(first, second) - first * second


def _density(a: Array, b: Array, angle: Array) -> Array:
    cosine = np.maximum(np.cos(angle) ** 2, 1e-30)
    exponent = (a * a + b * b - 2 * a * b * np.sin(angle)) / (2 * cosine)
    return np.asarray(np.exp(-exponent) / (2 * np.pi), dtype=float)


def _covariance(a: Array, b: Array, angle: Array) -> Array:
    total = np.zeros(angle.shape)
    for node, weight in zip(NODES, NODE_WEIGHTS):
        total += weight * _density(a, b, angle * (1 + node) / 2)
    return np.asarray(total * angle / 2, dtype=float)


def _by_orders(coefficients: Array, first: Indices, second: Indices, target: Array) -> Array:
    """Return the correlations of normals whose quantile counts have the wanted covariances.

    Args:
        coefficients: Hermite coefficients of the strings, shape (K, B, T).
        first: First string of every pair, shape (P,).
        second: Second string of every pair, shape (P,).
        target: Covariances of the counts, shape (B, P).
    """
    products = [one[:, first] * one[:, second] for one in coefficients]
    found = np.clip(target / np.where(products[0] > 0, products[0], np.inf), -1, 1)
    tolerance = CONVERGED * max(1.0, float(np.abs(target).max(initial=0)))
    while len(products) > 1 and np.abs(products[-1]).max(initial=0) < tolerance:
        products.pop()
    for _ in range(NEWTON_STEPS):
        value = slope = np.zeros(found.shape)
        for product in products[::-1]:  # Horner's scheme of sum_k a_k b_k r^(k-1) and its slope
            slope = slope * found + value
            value = value * found + product
        excess = value * found - target
        if np.abs(excess).max(initial=0) < tolerance:
            break
        slope = slope * found + value
        found = np.clip(found - excess / np.where(slope > 0, slope, np.inf), -1, 1)
    return found


def hermite_coefficients(up: Array, shots: int) -> Array:
    """Return a_1 to a_K of the binomial quantile function of a standard normal, shape (K, ...).

    Args:
        up: Probabilities, any shape.
        shots: Number of shots.
    """
    variance = shots * up * (1 - up)
    grid, table = _table(shots)
    place = np.log(np.clip(variance, SMALLEST_VARIANCE, None))
    shape = np.stack([np.interp(place, grid, column) for column in table])
    # Opposite outcomes mirror the quantile function: even orders change their sign.
    signs = np.where(np.arange(1, ORDERS + 1) % 2 == 0, -1.0, 1.0).reshape(-1, *[1] * up.ndim)
    return np.asarray(np.where(up > 0.5, signs, 1.0) * shape * np.sqrt(variance), dtype=float)


@lru_cache(maxsize=32)
def _table(shots: int) -> tuple[Array, Array]:
    """Return log variances, and the coefficients over the standard deviation at each, up to p = 1/2."""
    largest = shots / 4
    variances = np.geomspace(min(SMALLEST_VARIANCE, largest / 2), largest, GRID)
    table = np.zeros((ORDERS, GRID))
    for place, variance in enumerate(variances):
        if variance > LARGEST_VARIANCE:
            table[0, place] = 1.0
            continue
        p = 2 * variance / shots / (1 + np.sqrt(max(0.0, 1 - 4 * variance / shots)))
        middle, reach = shots * p, 10 * np.sqrt(variance) + 40
        steps = np.arange(max(0, int(middle - reach)), min(shots - 1, int(middle + reach)) + 1, dtype=float)
        lower = _below(steps, shots, np.full(steps.shape, p))
        upper = betainc(steps + 1, shots - steps, np.full(steps.shape, p))
        t = np.where(lower < 0.5, ndtri(lower), -ndtri(upper))
        t = t[np.isfinite(t)]
        table[:, place] = _hermite(t) / np.sqrt(variance)
    return np.log(variances), table


def _hermite(steps: Array) -> Array:
    """Return sum_m phi(t_m) He_{k-1}(t_m) / sqrt(k!) for k = 1 to K."""
    before, current = np.zeros_like(steps), np.exp(-steps * steps / 2) / np.sqrt(2 * np.pi)
    found = []
    for order in range(1, ORDERS + 1):
        # `current` is phi He_{k-1} / sqrt((k-1)!), by the recurrence of normalised Hermite polynomials.
        found.append(current.sum() / np.sqrt(order))
        before, current = (
            current,
            (steps * current - np.sqrt(order - 1) * before) / np.sqrt(order),
        )
    return np.array(found)


def _factors(correlation: Array) -> Array:
    """Return square roots of the nearest matrices without negative eigenvalues, with rows of length 1."""
    matrices = torch.as_tensor(correlation)
    factors, info = torch.linalg.cholesky_ex(matrices)
    failed = info != 0
    if failed.any():
        values, vectors = torch.linalg.eigh(matrices[failed])
        roots = vectors * values.clamp(min=0).sqrt().unsqueeze(1)
        factors[failed] = roots / roots.norm(dim=2, keepdim=True).clamp(min=1e-12)
    result: Array = factors.numpy()
    return result
