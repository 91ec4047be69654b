"""How much of its state space a circuit reaches, and how entangled its states are.

Expressibility (Sim, Johnson, Aspuru-Guzik, Advanced Quantum Technologies 2, 1900070, 2019): the
Kullback-Leibler divergence, in nats, of the fidelities F = |<a|b>|^2 of pairs of random states against those
of Haar-random states, whose density is (N - 1)(1 - F)^(N - 2) with N = 2^n. 0 is as random as can be.

Entangling capability: the mean of Meyer and Wallach's Q = 2 (1 - mean_k Tr rho_k^2). With the Bloch vector
r_k of qubit k that is 1 - mean_k |r_k|^2, for which light cones are enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from qhybrid.analysis.estimates import Array, Estimate, NotComputed, mean_of
from qhybrid.analysis.parameters import Settings
from qhybrid.analysis.states import StateVectors
from qhybrid.analysis.values import ExactValues
from qhybrid.circuits.pauli import single_qubit_observables

BINS = 75
EQUAL_WIDTH_QUBITS = 5
"""Qubits up to which bins are equally wide; with more the first of them would hold nearly all of Haar."""
STATE_WORK = 3e9
"""Amplitudes that the states of one figure may touch; fewer samples are drawn beyond."""


@dataclass(frozen=True)
class Expressibility:
    """Fidelities of pairs of random states against Haar's.

    Attributes:
        drawn: What is drawn anew for the second state of a pair: "inputs and weights", "weights", "inputs";
            "settings, which no gate depends on" where there is nothing to draw.
        qubits: Qubits of the state; fewer than the circuit's for a light cone.
        divergence: KL in nats.
        bias: Expectation of KL for a circuit that is exactly Haar-random: (bins - 1) / (2 M) where many pairs
            fall into every bin, less where bins are too improbable for any.
        largest: KL of a circuit whose states are all the same: the logarithm of one over Haar's last bin.
        bins: "equal width" or "equal Haar probability".
        measured: Share of the pairs in each bin, shape (BINS,).
        haar: Probability of each bin for Haar-random states, shape (BINS,).
    """

    drawn: str
    qubits: int
    divergence: Estimate
    bias: float
    largest: float
    bins: str
    measured: tuple[float, ...]
    haar: tuple[float, ...]


def expressibility_of(
    settings: Settings, states: StateVectors, qubits: int, pairs: int, weights_only: bool = False
) -> Expressibility:
    """Return the expressibility of a circuit's states.

    Args:
        settings: The circuit.
        states: Its states, or those of a light cone.
        qubits: Number of qubits, idle ones included, which `states` leave out.
        pairs: Pairs that are wanted; fewer are drawn where that would take too long.
        weights_only: Whether both states of a pair have the same inputs.
    """
    pairs = affordable_states(states, pairs, each=2)
    first = settings.draw(pairs, "fidelities", 0)
    second = settings.draw(pairs, "fidelities", 1)
    if weights_only:
        second[:, : settings.num_inputs] = first[:, : settings.num_inputs]
    fidelities = np.concatenate(
        [
            _fidelities(states(one), states(other))
            for one, other in zip(torch.split(first, states.chunk), torch.split(second, states.chunk))
        ]
    )
    kinds = {one.kind for one in settings.facts if one.used}
    kinds -= {"input"} if weights_only else set()
    drawn = " and ".join(f"{kind}s" for kind in sorted(kinds)) or "settings, which no gate depends on"
    return divergence_of(fidelities, qubits, drawn)


def divergence_of(fidelities: Array, qubits: int, drawn: str = "") -> Expressibility:
    """Return the divergence of fidelities of independent pairs from Haar's.

    Args:
        fidelities: Shape (M,).
        qubits: Qubits of the states.
        drawn: What was drawn anew for the second state of a pair.
    """
    count = len(fidelities)
    if qubits <= EQUAL_WIDTH_QUBITS:
        bins, places = "equal width", np.floor(np.clip(fidelities, 0.0, 1.0) * BINS).astype(int)
        edges = np.linspace(0.0, 1.0, BINS + 1)
        haar = -np.diff((1 - edges) ** (2**qubits - 1))
    else:
        bins, haar = "equal Haar probability", np.full(BINS, 1 / BINS)
        with np.errstate(divide="ignore"):
            above = np.log1p(-np.clip(fidelities, 0.0, 1.0)) * (2.0**qubits - 1)
        # Haar's 1 - P(F) is (1 - F)^(N - 1), uniform on [0, 1]: its logarithm for all of 2^n.
        places = np.floor(-np.expm1(above) * BINS).astype(int)
    measured = np.bincount(np.minimum(places, BINS - 1), minlength=BINS) / count
    there = measured > 0
    logs = np.zeros(BINS)
    logs[there] = np.log(measured[there]) - np.log(haar[there])
    divergence = float(measured @ logs)
    spread = max(float(measured @ logs**2) - divergence**2, 0.0) / count
    error = math.sqrt(spread + (BINS - 1) / (2 * count**2))
    return Expressibility(
        drawn,
        qubits,
        Estimate(divergence, error, count),
        bias_of(haar, count),
        float(-np.log(haar[-1])),
        bins,
        tuple(measured.tolist()),
        tuple(haar.tolist()),
    )


def bias_of(probabilities: Array, count: int) -> float:
    """Return the expectation of KL between a sample's shares and the probabilities that it was drawn from.

    sum_b E[s_b ln(s_b / p_b)], where s_b is the share of a binomial number of `count` draws in bin b. The
    approximation (bins - 1) / (2 count) is several times too large where most bins stay empty, as equally
    wide ones of five qubits do, and wrong either way where few draws fall into each.

    Args:
        probabilities: Of each bin, shape (BINS,), the sum 1.
        count: Number of draws.
    """
    total = 0.0
    for chance in probabilities.tolist():
        middle, spread = count * chance, math.sqrt(count * chance * (1 - chance))
        low = max(1, math.floor(middle - 10 * spread - 20))
        high = min(count, math.ceil(middle + 10 * spread + 20))
        hits = np.arange(low, high + 1)
        shares = hits / count
        total += float(stats.binom.pmf(hits, count, chance) @ (shares * (np.log(shares) - np.log(chance))))
    return total


def entangling_capability(settings: Settings, samples: int) -> Estimate | NotComputed:
    """Return the mean of Meyer and Wallach's Q over random settings of all parameters.

    Args:
        settings: The circuit.
        samples: Settings that are wanted; fewer are drawn where that would take too long.
    """
    count = settings.spec.num_qubits
    if count < 2:
        return NotComputed("one qubit has none to be entangled with")
    values = ExactValues(settings, single_qubit_observables("XYZ", count))
    if not values.complete:
        return NotComputed(f"{values.refusal}, for the states of its single qubits")
    drawn = values.enough(samples)
    if isinstance(drawn, NotComputed):
        return drawn
    rows = settings.draw(drawn, "entanglement")
    lengths = values.values(rows).square().sum(dim=1) / count
    return mean_of((1 - lengths).clamp(min=0.0).numpy())


def affordable_states(states: StateVectors, wanted: int, each: int = 1) -> int:
    """Return how many draws of `each` states are within the budget, at most `wanted` and at least 2."""
    return max(2, min(wanted, int(STATE_WORK / (each * max(states.work, 1)))))


def _fidelities(first: torch.Tensor, second: torch.Tensor) -> Array:
    overlaps = (first.conj() * second).sum(dim=1)
    found: Array = overlaps.abs().square().clamp(max=1.0).numpy()
    return found
