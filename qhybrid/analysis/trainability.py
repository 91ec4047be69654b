"""Variances of gradients over random settings, and how they change with the size of a circuit.

A gradient whose variance falls as 2^(-n) cannot be told from zero by any affordable number of shots, and an
optimiser that starts at random has nothing to follow (McClean et al., Nature Communications 9, 4812, 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from qhybrid.analysis.estimates import Array, Estimate, NotComputed, variance_of
from qhybrid.analysis.parameters import Settings
from qhybrid.analysis.values import ExactValues
from qhybrid.circuits.pauli import format_observable

LEVEL = 0.95
VANISHED = 1e-18
"""Variance below which a gradient is zero."""
SUM, MEAN = "sum of observables", "mean over observables"


@dataclass(frozen=True)
class AngleGradient:
    """How one parameter's gradient varies.

    Attributes:
        name: The parameter.
        kind: "input" or "weight".
        of_sum: Variance of the gradient of the sum of all observables.
        of_mean: Mean over observables of the variances of their gradients.
        of_each: Variance of the gradient of each observable, with its standard error.
    """

    name: str
    kind: str
    of_sum: Estimate
    of_mean: Estimate
    of_each: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Trainability:
    """Variances of gradients over uniformly random inputs and weights.

    Attributes:
        qubits: Qubits of the circuit.
        observables: Those that were computed.
        left_out: Number of observables that do not fit the memory.
        angles: Every parameter that a gate depends on.
        series: For "sum of observables", "mean over observables" and each observable the mean of the variance
            over the weights (over the inputs where there are no weights) that are not dead.
        samples: Random settings.
    """

    qubits: int
    observables: tuple[str, ...]
    left_out: int
    angles: tuple[AngleGradient, ...]
    series: tuple[tuple[str, Estimate], ...]
    samples: int


@dataclass(frozen=True)
class Slope:
    """How a variance changes with the number of qubits.

    Attributes:
        series: "sum of observables", "mean over observables", or an observable.
        angle: A parameter, or "mean" over those of `Trainability.series`.
        slope: Of log2 of the variance, a qubit; None without a fit.
        low: Lower end of its 95 % interval.
        high: Upper end.
        verdict: What that says, in words.
    """

    series: str
    angle: str
    slope: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Growth:
    """The same circuit at several sizes.

    Attributes:
        argument: The builder's argument that grows.
        sizes: Its values.
        qubits: Qubits at each.
        circuits: Variances at each.
        slopes: Fits of what is there at all sizes.
        left_out: Sizes that were asked for and not computed, and why.
    """

    argument: str
    sizes: tuple[int, ...]
    qubits: tuple[int, ...]
    circuits: tuple[Trainability, ...]
    slopes: tuple[Slope, ...]
    left_out: tuple[tuple[int, NotComputed], ...] = ()


def trainability_of(
    settings: Settings, values: ExactValues, dead: Sequence[str], samples: int
) -> Trainability | NotComputed:
    """Return the variances of all gradients.

    Args:
        settings: The circuit.
        values: Its expectation values.
        dead: Names of parameters that no observable depends on.
        samples: Random settings that are wanted; fewer are drawn where that would take too long.
    """
    if not any(one.used for one in settings.facts):
        return NotComputed("no gate depends on an input or a weight")
    if not values.kept:
        return NotComputed(values.refusal or "there are no observables")
    count = values.enough(samples, gradients=True)
    if isinstance(count, NotComputed):
        return count
    rows = settings.draw(count, "gradients")
    gradients = values.gradients(rows).numpy()
    names = tuple(format_observable(settings.spec.observables[place]) for place in values.kept)
    each, each_error = variance_of(gradients)
    total, total_error = variance_of(gradients.sum(axis=1))
    mean, mean_error = _mean_variance(gradients, axis=1)
    angles = tuple(
        AngleGradient(
            fact.name,
            fact.kind,
            Estimate(float(total[place]), float(total_error[place]), len(rows)),
            Estimate(float(mean[place]), float(mean_error[place]), len(rows)),
            tuple(zip(each[:, place].tolist(), each_error[:, place].tolist())),
        )
        for place, fact in enumerate(settings.facts)
        if fact.used
    )
    chosen = _compared(settings, dead)
    left_out = settings.spec.num_observables - len(values.kept)
    series = _series(gradients[:, :, chosen], names) if chosen else ()
    return Trainability(settings.spec.num_qubits, names, left_out, angles, series, len(rows))


def _compared(settings: Settings, dead: Sequence[str]) -> list[int]:
    """Return the places of the weights that are not dead; of inputs where there are none."""
    places = [i for i, one in enumerate(settings.facts) if one.used and one.name not in dead]
    weights = [place for place in places if settings.facts[place].kind == "weight"]
    return weights or places


def _series(gradients: Array, names: Sequence[str]) -> tuple[tuple[str, Estimate], ...]:
    """Return mean variances over the last axis: of the sum, of all observables, and of each of them."""
    count = len(gradients)
    found = []
    for name, part in (
        (SUM, gradients.sum(axis=1)),
        (MEAN, gradients.reshape(count, -1)),
        *zip(names, gradients.transpose(1, 0, 2)),
    ):
        value, error = _mean_variance(part, axis=1)
        found.append((name, Estimate(float(value), float(error), count)))
    return tuple(found)


def _mean_variance(gradients: Array, axis: int) -> tuple[Array, Array]:
    """Return the mean over an axis of variances over the first one, and its standard error.

    Draws are independent, what is averaged over is not: the error is that of the means of single draws.
    """
    count = len(gradients)
    squares = ((gradients - gradients.mean(axis=0)) ** 2).mean(axis=axis) * count / (count - 1)
    return squares.mean(axis=0), squares.std(axis=0, ddof=1) / math.sqrt(count)


def growth_of(
    argument: str, sizes: Sequence[int], circuits: Sequence[Trainability | NotComputed]
) -> Growth | NotComputed:
    """Fit variances at several sizes; sizes where they are not of all observables do not enter.

    Args:
        argument: The builder's argument that grows.
        sizes: Its values, growing.
        circuits: Variances at each size.
    """
    every = [(size, _comparable(one)) for size, one in zip(sizes, circuits, strict=True)]
    left_out = tuple((size, one) for size, one in every if isinstance(one, NotComputed))
    there = [(size, one) for size, one in every if not isinstance(one, NotComputed)]
    if not there:
        return NotComputed("; ".join(f"{argument} {size}: {one.reason}" for size, one in left_out))
    found = [one for _, one in there]
    qubits = [one.qubits for one in found]
    slopes = [slope_of(name, "mean", qubits, own) for name, own in _matched([one.series for one in found])]
    for name, pick in ((SUM, "of_sum"), (MEAN, "of_mean")):
        by_angle = [tuple((one.name, getattr(one, pick)) for one in circuit.angles) for circuit in found]
        slopes += [slope_of(name, angle, qubits, own) for angle, own in _matched(by_angle, exact=True)]
    return Growth(
        argument, tuple(size for size, _ in there), tuple(qubits), tuple(found), tuple(slopes), left_out
    )


def _comparable(found: Trainability | NotComputed) -> Trainability | NotComputed:
    """Return variances that may stand beside those of other sizes: of all observables, by living angles."""
    if isinstance(found, NotComputed):
        return found
    if found.left_out:
        several = len(found.observables) + found.left_out
        return NotComputed(f"{found.left_out} of {several} observables do not fit the memory")
    return found if found.series else NotComputed("no observable depends on any angle")


def _matched(
    several: Sequence[Sequence[tuple[str, Estimate]]], exact: bool = False
) -> list[tuple[str, list[Estimate]]]:
    """Return what is there at all sizes, by name; by place where numbers are equal and names are not."""
    tables = [dict(one) for one in several]
    if not exact and len({len(one) for one in several}) == 1:
        return [(names[0][0], [one for _, one in names]) for names in zip(*several)]
    return [(name, [one[name] for one in tables]) for name in tables[0] if all(name in t for t in tables)]


def slope_of(series: str, angle: str, qubits: Sequence[int], found: Sequence[Estimate]) -> Slope:
    """Fit log2 of a variance against the number of qubits by a line.

    The interval is Student's with the larger of two standard errors: that of the scatter about the line, and
    that of the variances' own sampling errors.

    Args:
        series: What the variance is of.
        angle: By what.
        qubits: Number of qubits at each size.
        found: Variance at each size.
    """
    values = np.array([one.value for one in found])
    if (values <= VANISHED).any():
        there = ", ".join(str(n) for n, value in zip(qubits, values) if value <= VANISHED)
        return Slope(series, angle, None, None, None, f"no slope: the gradient is zero at {there} qubits")
    if len(set(qubits)) < 3:
        there = ", ".join(map(str, sorted(set(qubits))))
        why = f"a slope with an interval needs three numbers of qubits, but there are {there} alone"
        return Slope(series, angle, None, None, None, f"not decidable: {why}")
    x, y = np.array(qubits, dtype=float), np.log2(values)
    errors = np.array([one.error for one in found]) / (values * math.log(2))
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    rest = y - y.mean() - slope * centred
    scatter = math.sqrt(float(rest @ rest) / (len(x) - 2) / spread)
    sampling = math.sqrt(float((centred * errors) @ (centred * errors))) / spread
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 2)) * max(scatter, sampling)
    low, high = slope - half, slope + half
    return Slope(series, angle, slope, low, high, _verdict(x, y, slope, low, high))


def _verdict(x: Array, y: Array, slope: float, low: float, high: float) -> str:
    if low > 0:
        return "grows with size"
    if high >= 0:
        return "not shown to fall exponentially: the interval of the slope holds 0"
    # A power law bends in this picture: where it fits better, the fall is not exponential.
    power = float(np.square(y - np.polyval(np.polyfit(np.log2(x), y, 1), np.log2(x))).sum())
    line = float(np.square(y - np.polyval(np.polyfit(x, y, 1), x)).sum())
    if power < line:
        exponent = float(np.polyfit(np.log2(x), y, 1)[0])
        return f"falls, but by a power law (qubits^{exponent:.1f}) rather than exponentially"
    return f"falls exponentially: by a factor of {2**-slope:.2f} a qubit"
