"""Laws of estimates from finitely many shots, given exact expectation values.

Independent: N shots of one string with mean e give (2 k - N) / N with k binomial(N, (1 + e) / 2).
Joint: the strings of one basis are estimated from the same N shots; their estimates have the exact
covariances (<P Q> - <P><Q>) / N and are drawn from the normal law with these, cut off at -1 and 1. A string
that has its basis to itself follows the binomial law.
"""

from __future__ import annotations

import torch

LAWS = ("joint", "independent")


def draw_independent(means: torch.Tensor, shots: int, generator: torch.Generator) -> torch.Tensor:
    """Return estimates of strings that are measured apart.

    Args:
        means: Exact values, any shape.
        shots: Shots of each.
        generator: Source of randomness, on the CPU.
    """
    up = ((1 + means.double().cpu()) / 2).clamp(0, 1)
    counts = torch.binomial(torch.full_like(up, float(shots)), up, generator=generator)
    return (2 * counts / shots - 1).to(means)


def draw_joint(
    means: torch.Tensor, products: torch.Tensor, shots: int, generator: torch.Generator
) -> torch.Tensor:
    """Return estimates of the strings of one basis.

    Args:
        means: Exact values, shape (B, G).
        products: Exact values of all products of two strings, shape (B, G, G), ones on the diagonal.
        shots: Shots of the basis.
        generator: Source of randomness, on the CPU.
    """
    mean = means.double().cpu()
    covariance = products.double().cpu() - mean.unsqueeze(2) * mean.unsqueeze(1)
    values, vectors = torch.linalg.eigh(covariance)
    normal = torch.randn(mean.shape, dtype=torch.float64, generator=generator)
    noise = (vectors @ (values.clamp(min=0).sqrt() * normal).unsqueeze(2)).squeeze(2)
    drawn: torch.Tensor = (mean + noise / shots**0.5).clamp(-1, 1)
    return drawn.to(means)
