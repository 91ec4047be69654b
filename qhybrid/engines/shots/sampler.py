"""Estimates of a circuit's observables from finitely many shots, drawn around exact values.

Independent: N shots of one string with mean e give (2 k - N) / N with k binomial(N, (1 + e) / 2).
Joint: the strings of one basis are estimated from the same N shots; their estimates have the exact
covariances (<P Q> - <P><Q>) / N and are drawn from the normal law with these, cut off at -1 and 1. A string
that has its basis to itself follows the binomial law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.shots.strings import as_observable, measured_strings, product_string

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


Exact = Callable[[CircuitSpec, torch.Tensor, torch.Tensor], torch.Tensor]


class ShotSampler:
    """Draws estimates for one circuit.

    Args:
        spec: The circuit and its observables.
        exact: Returns exact values for a circuit, inputs and weights, read-out errors included.
        shots: Shots of every basis (joint) or every string (independent).
        law: "joint" or "independent".
    """

    def __init__(self, spec: CircuitSpec, exact: Exact, shots: int, law: str) -> None:
        self._exact = exact
        self._shots = shots
        self._law = law
        self._measured = measured_strings(spec.observables, spec.num_qubits)
        strings = self._measured.strings
        self._strings = replace(spec, observables=tuple(as_observable(s, spec.num_qubits) for s in strings))
        pairs = {
            (a, b): product_string(strings[a], strings[b])
            for group in self._measured.bases
            for a, b in combinations(group, 2)
        }
        distinct = list(dict.fromkeys(pairs.values()))
        self._pair_place = {pair: distinct.index(string) for pair, string in pairs.items()}
        self._pairs = replace(spec, observables=tuple(as_observable(s, spec.num_qubits) for s in distinct))

    def __call__(
        self, inputs: torch.Tensor, weights: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Return estimates, shape (B, n_obs); their gradient is that of the exact values."""
        values = self._exact(self._strings, inputs, weights)
        with torch.no_grad():
            exact = values.detach()
            drawn = (
                self._joint(exact, inputs, weights, generator)
                if self._law == "joint"
                else draw_independent(exact, self._shots, generator)
            )
        estimates = values + (drawn - exact)
        coefficients = torch.as_tensor(self._measured.coefficients).to(estimates)
        return estimates @ coefficients.t() + torch.as_tensor(self._measured.offsets).to(estimates)

    def _joint(
        self, exact: torch.Tensor, inputs: torch.Tensor, weights: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        products = self._exact(self._pairs, inputs, weights) if self._pair_place else None
        drawn = exact.clone()
        for group in self._measured.bases:
            members = list(group)
            if len(members) == 1:  # the exact law is at hand: counts of one string are binomial
                drawn[:, members] = draw_independent(exact[:, members], self._shots, generator)
                continue
            table = torch.ones(
                (len(exact), len(members), len(members)), dtype=exact.dtype, device=exact.device
            )
            for i, j in combinations(range(len(members)), 2):
                assert products is not None
                table[:, i, j] = table[:, j, i] = products[:, self._pair_place[members[i], members[j]]]
            drawn[:, members] = draw_joint(exact[:, members], table, self._shots, generator)
        return drawn
