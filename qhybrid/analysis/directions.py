"""How many directions a circuit's weights really have: ranks of Jacobian and Fisher information.

- Jacobian of all outputs at many random inputs by the weights: its rank is the number of independent ways in
  which the function can change. It is the largest over random settings of the weights, which is the generic
  one.
- Quantum Fisher information F_ij = 4 Re(<d_i psi|d_j psi> - <d_i psi|psi><psi|d_j psi>) of the states, its
  rank for one input and for its mean over inputs (Haug, Bharti, Kim, PRX Quantum 2, 040309, 2021).
- Effective dimension (Abbas et al., Nature Computational Science 1, 403, 2021) of n data:
  2 ln(mean over weights of sqrt(det(1 + kappa G))) / ln kappa, kappa = gamma n / (2 pi ln n), with G the
  Fisher information F(w) scaled so that its mean trace over weights is the number of weights d.
  F(w) is the mean over inputs of J^T J: that of outputs with equal Gaussian errors, whose size cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from qhybrid.analysis.estimates import FEWEST, Array, Estimate, NotComputed
from qhybrid.analysis.expressibility import STATE_WORK
from qhybrid.analysis.parameters import Settings
from qhybrid.analysis.states import StateVectors
from qhybrid.analysis.values import ExactValues
from qhybrid.errors import ConfigError

RANK_TOLERANCE = 1e-9
"""Singular values, and eigenvalues of the Fisher information, count above this share of the largest."""
CLEAR_GAP = 1e3
"""Ratio of the smallest number that counts and the largest that does not, below which a rank is unsure."""
RANK_SETTINGS, RANK_INPUTS, MOST_INPUTS = 8, 32, 512
FISHER_SETTINGS, FISHER_INPUTS = 64, 64
FISHER_ROWS = 8
"""Rows of the Jacobian for each weight that the Fisher information is taken from, where the budget allows."""
QFI_SETTINGS, QFI_INPUTS = 4, 8
QFI_WORK = STATE_WORK / 4
"""Amplitudes that derivatives of states may touch."""
GAMMA = 1.0
DATA = 1000
"""Number of data that the effective dimension is stated for, unless asked otherwise."""


@dataclass(frozen=True)
class Rank:
    """Number of independent directions.

    Attributes:
        rank: The largest that was found; that of random settings.
        columns: Number of weights.
        settings: Random settings of the weights.
        inputs: Random inputs of each.
        reached: Settings at which the rank was found.
        smallest: Smallest number that counts, as a share of the largest; None if the rank is 0.
        next: Largest one that does not count; None if all count.
        note: What makes it doubtful; empty where nothing does.
        bounded: Whether the rank is that of the inputs that were taken, and more of them may show more.
    """

    rank: int
    columns: int
    settings: int
    inputs: int
    reached: int
    smallest: float | None
    next: float | None
    note: str = ""
    bounded: bool = False


@dataclass(frozen=True)
class EffectiveDimension:
    """Effective dimension of the model that the outputs are.

    Attributes:
        value: The dimension for `data` samples, at most about the number of weights. Its error holds both the
            spread over weights and what half of the inputs would change.
        share: Value over the number of weights.
        weights: Number of weights d.
        data: Number of samples n.
        gamma: The constant gamma in (0, 1].
        inputs: Random inputs of each setting of the weights.
    """

    value: Estimate
    share: float
    weights: int
    data: int
    gamma: float
    inputs: int


def jacobian_rank(settings: Settings, values: ExactValues) -> Rank | NotComputed:
    """Return the rank of the Jacobian of all outputs at many inputs by the weights."""
    reason = _no_weights(settings, values)
    if reason:
        return NotComputed(reason)
    needed = math.ceil(4 * len(settings.weights) / len(values.kept))
    inputs = min(MOST_INPUTS, max(RANK_INPUTS, needed)) if settings.num_inputs else 1
    count, affordable = RANK_SETTINGS, values.affordable(RANK_SETTINGS * inputs, gradients=True)
    if affordable < count * inputs:  # fewer settings first: ranks need the inputs
        count = max(2, affordable // inputs)
        inputs = max(1, min(inputs, affordable // count))
    jacobians = _jacobians(settings, values, count, inputs, "rank")
    found = _rank(_singular_values(jacobians), jacobians)
    if not settings.num_inputs or found.rank == found.columns:
        return found
    return _growing(found, _rank(_singular_values(jacobians[:, :-1]), jacobians))


def _singular_values(jacobians: Array) -> list[Array]:
    """Return the singular values at each setting, for shape (settings, inputs, observables, weights)."""
    stacked = jacobians.reshape(len(jacobians), -1, jacobians.shape[-1])
    return [np.asarray(np.linalg.svd(one, compute_uv=False), dtype=float) for one in stacked]


def _growing(found: Rank, without: Rank) -> Rank:
    """Return a rank that says whether more inputs may show more directions.

    Outputs and states are analytic in their inputs: where one random input more adds no direction, none does.

    Args:
        found: The rank of all inputs that were taken.
        without: The rank without the last of them.
    """
    if found.rank <= without.rank:
        return found
    note = "; ".join(
        filter(None, (found.note, "bounded by the sample: the last input still adds directions"))
    )
    return replace(found, note=note, bounded=True)


def quantum_rank(settings: Settings, states: StateVectors, inputs: int) -> Rank | NotComputed:
    """Return the rank of the quantum Fisher information of the weights, averaged over random inputs.

    Args:
        settings: The circuit.
        states: Its states, or those of a light cone.
        inputs: Random inputs that are averaged over; 1 for the rank at a single input.
    """
    if not settings.weights:
        return NotComputed("the circuit has no weights")
    inputs = inputs if settings.num_inputs else 1
    # A derivative costs about three states.
    work = states.work * (1 + 3 * len(settings.weights))
    if inputs > 1:  # each input shows at most 2 (2^n - 1) directions
        needed = math.ceil(2 * len(settings.weights) / (2 * (2**states.num_qubits - 1) or 1))
        inputs = max(inputs, min(needed, MOST_INPUTS, int(QFI_WORK / (QFI_SETTINGS * work))))
    each = work * inputs
    if each > QFI_WORK:
        return NotComputed(
            f"needs {len(settings.weights)} derivatives of states of {states.num_qubits} qubits at {inputs} "
            f"inputs, {each:.1e} amplitude steps; at most {QFI_WORK:.0e} are taken"
        )
    count = int(min(QFI_SETTINGS if inputs > 1 else RANK_SETTINGS, max(1, QFI_WORK // each)))
    spectra, without = [], []
    for rows in _grid(settings, count, inputs, "fisher"):
        parts = torch.split(rows, max(1, states.chunk // len(settings.weights)))
        several = [quantum_fisher(settings, states, part) for part in parts]
        total, last = sum(one.sum(0) for one in several), several[-1][-1]
        spectra.append(_eigenvalues(np.asarray(total) / len(rows)))
        without.append(_eigenvalues(np.asarray(total - last) / len(rows)))
    shape = np.empty((count, inputs, len(settings.weights)))
    found = _rank(spectra, shape)
    if inputs == 1 or found.rank == found.columns:
        return found
    return _growing(found, _rank(without, shape))


def _eigenvalues(matrix: Array) -> Array:
    """Return the eigenvalues of a positive matrix, the largest first."""
    found: Array = np.linalg.eigvalsh(matrix)[::-1].clip(min=0.0)
    return found


def quantum_fisher(settings: Settings, states: StateVectors, rows: torch.Tensor) -> torch.Tensor:
    """Return the quantum Fisher information by the weights, shape (B, n_w, n_w), of rows of parameters."""
    places = list(settings.weights)
    every = rows.repeat_interleave(len(places), dim=0)
    directions = torch.zeros_like(every)
    directions[torch.arange(len(every)), torch.tensor(places * len(rows))] = 1.0
    parts = zip(torch.split(every, states.chunk), torch.split(directions, states.chunk))
    found = [torch.func.jvp(states, (some,), (along,)) for some, along in parts]
    state = torch.cat([one[0] for one in found])[:: len(places)]
    stacked = torch.cat([one[1] for one in found]).reshape(len(rows), len(places), -1)
    overlaps = torch.einsum("bia,bja->bij", stacked.conj(), stacked)
    along = torch.einsum("bia,ba->bi", stacked.conj(), state)
    return 4 * (overlaps - along[:, :, None] * along.conj()[:, None, :]).real


def effective_dimension(
    settings: Settings, values: ExactValues, data: int = DATA, gamma: float = GAMMA
) -> EffectiveDimension | NotComputed:
    """Return the effective dimension of the outputs as functions of the weights.

    Args:
        settings: The circuit.
        values: Its expectation values.
        data: Number of samples n.
        gamma: The constant gamma in (0, 1].

    Raises:
        ConfigError: If there are too few data for a dimension.
    """
    kappa_of(data, gamma)
    reason = _no_weights(settings, values)
    if reason:
        return NotComputed(reason)
    count, inputs = len(settings.weights), 1
    if settings.num_inputs:  # too few rows of the Jacobian leave directions out
        inputs = min(MOST_INPUTS, max(FISHER_INPUTS, math.ceil(FISHER_ROWS * count / len(values.kept))))
    affordable = values.enough(FISHER_SETTINGS * inputs, gradients=True)
    if isinstance(affordable, NotComputed):
        return affordable
    several = min(FISHER_SETTINGS, max(FEWEST, affordable // inputs))
    inputs = min(inputs, affordable // several)
    rows = inputs * len(values.kept)
    if settings.num_inputs and (inputs < 2 or rows < count):
        needed = max(2, math.ceil(count / len(values.kept)))
        return NotComputed(
            f"needs the gradients of at least {needed} inputs for {count} weights at {FEWEST} settings, but "
            f"{inputs} are affordable"
        )
    jacobians = _jacobians(settings, values, several, inputs, "effective dimension")
    found = dimension_of(_fisher(jacobians), data, gamma)
    if isinstance(found, NotComputed):
        return found
    if inputs > 1:
        # The estimate is too small by about 1 / inputs: by as much as half of the inputs take away.
        half = dimension_of(_fisher(jacobians[:, : inputs // 2]), data, gamma)
        if isinstance(half, Estimate):
            found = replace(found, error=math.hypot(found.error, found.value - half.value))
    return EffectiveDimension(found, found.value / count, count, data, gamma, jacobians.shape[1])


def _fisher(jacobians: Array) -> Array:
    """Return the mean of J^T J over inputs, shape (settings, weights, weights)."""
    found: Array = np.einsum("siow,siov->swv", jacobians, jacobians, optimize=True) / jacobians.shape[1]
    return found


def dimension_of(fisher: Array, data: int, gamma: float = GAMMA) -> Estimate | NotComputed:
    """Return the effective dimension of a sample of Fisher information.

    Args:
        fisher: Fisher information at random weights, shape (S, d, d).
        data: Number of samples n.
        gamma: The constant gamma in (0, 1].

    Returns:
        The dimension, with its standard error by the jackknife over the S settings.
    """
    kappa = kappa_of(data, gamma)
    traces = np.trace(fisher, axis1=1, axis2=2)
    if not traces.mean() > 1e-20:
        return NotComputed("the Fisher information is zero: no output depends on any weight")
    count, size = len(fisher), fisher.shape[1]
    spectra = np.linalg.eigvalsh(fisher).clip(min=0.0)

    def dimension(chosen: np.ndarray) -> float:
        scaled = spectra[chosen] * size / traces[chosen].mean()
        halves = 0.5 * np.log1p(kappa * scaled).sum(axis=1)
        top = halves.max()
        return float(2 * (top + math.log(np.exp(halves - top).mean())) / math.log(kappa))

    every = np.arange(count)
    error = 0.0
    if count > 1:
        without = np.array([dimension(every != left) for left in range(count) if traces[every != left].any()])
        error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    return Estimate(dimension(every >= 0), error, count)


def kappa_of(data: int, gamma: float = GAMMA) -> float:
    """Return gamma n / (2 pi ln n).

    Raises:
        ConfigError: If it is below e, so that its logarithm would decide the effective dimension.
    """
    kappa = gamma * data / (2 * math.pi * math.log(data)) if data > 1 else 0.0
    if not kappa >= math.e or not 0 < gamma <= 1:
        raise ConfigError(
            f"The effective dimension needs gamma in (0, 1] and gamma n / (2 pi ln n) of at least e, but for "
            f"{data} data and gamma {gamma:g} it is {kappa:.2f}. Fix: at least 80 data, gamma 1."
        )
    return kappa


def _no_weights(settings: Settings, values: ExactValues) -> str:
    if not settings.weights:
        return "the circuit has no weights"
    return "" if values.kept else values.refusal or "there are no observables"


def _grid(settings: Settings, count: int, inputs: int, purpose: str) -> list[torch.Tensor]:
    """Return rows of parameters, shape (inputs, P), for each of `count` settings of the weights."""
    rows = settings.draw(count * inputs, purpose).reshape(count, inputs, -1)
    weights = settings.draw(count, purpose, "weights")[:, None, settings.num_inputs :]
    rows[:, :, settings.num_inputs :] = weights
    return list(rows)


def _jacobians(settings: Settings, values: ExactValues, count: int, inputs: int, purpose: str) -> Array:
    """Return derivatives by the weights, shape (settings, inputs, observables, weights)."""
    rows = torch.cat(_grid(settings, count, inputs, purpose))
    found = values.gradients(rows)[:, :, settings.num_inputs :]
    return found.reshape(count, inputs, *found.shape[1:]).numpy()


def _rank(spectra: Sequence[Array], shape: Array) -> Rank:
    """Return the largest rank of some spectra, each sorted from the largest number down."""
    largest = max(float(one.max(initial=0.0)) for one in spectra)
    # Directions of a setting count against the largest number of all: one that is flat by chance is no rank.
    ranks = [int((one > RANK_TOLERANCE * largest).sum()) if largest > 1e-12 else 0 for one in spectra]
    best = int(np.argmax(ranks))
    rank, numbers = ranks[best], spectra[best]
    smallest = float(numbers[rank - 1] / largest) if rank else None
    after = float(numbers[rank] / largest) if rank < len(numbers) and largest else None
    note = ""
    if not rank:
        note = "zero everywhere: nothing depends on a weight"
    elif smallest is not None and after is not None and smallest < CLEAR_GAP * after:
        note = f"unsure: the numbers fall without a gap ({smallest:.1e} counts, {after:.1e} does not)"
    settings, inputs = shape.shape[:2]
    return Rank(rank, shape.shape[-1], settings, inputs, ranks.count(rank), smallest, after, note)
