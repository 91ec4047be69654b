"""Fourier spectrum of the outputs in each input (Schuld, Sweke, Meyer, Physical Review A 103, 032430, 2021).

An input that enters rotations with factors a_k gives frequencies among the sums of -a_k, 0, a_k. With a
common base g all of them are multiples of g, and 2 K + 1 equidistant points of one period, K g the sum of
the factors, give all coefficients exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from qhybrid.analysis.estimates import NotComputed
from qhybrid.analysis.parameters import ParameterFacts, Settings
from qhybrid.analysis.values import ExactValues
from qhybrid.engines.gates.angle_table import AngleTable

DRAWS = 32
LARGEST_DEGREE = 500
"""Frequencies of an input up to which its spectrum is computed."""
REACHED = 1e-10
"""Amplitude above which a frequency is there."""


@dataclass(frozen=True)
class Frequency:
    """One frequency of an input.

    Attributes:
        value: Radians by unit of the input, at least 0; the negative one has the same amplitude.
        amplitude: Root mean square over random settings of all else of the amplitude A in
            A cos(value * x + phase), of the observable where it is largest.
        error: Its standard error.
    """

    value: float
    amplitude: float
    error: float


@dataclass(frozen=True)
class InputSpectrum:
    """The spectrum of one input.

    Attributes:
        name: The input.
        possible: Largest frequency that its rotations could give.
        frequencies: Those that any output reaches, and 0 if any output has a mean.
        draws: Random settings of all other inputs and weights.
        merged: Whether frequencies are missing that the rotations could give.
        note: Why there are no fixed frequencies; empty where there are.
        missing: Those frequencies, radians by unit of the input; 0 is the constant part.
    """

    name: str
    possible: float
    frequencies: tuple[Frequency, ...]
    draws: int
    merged: bool
    note: str = ""
    missing: tuple[float, ...] = ()


def spectra_of(settings: Settings, values: ExactValues) -> tuple[InputSpectrum, ...] | NotComputed:
    """Return the spectrum of every input."""
    if not settings.num_inputs:
        return NotComputed("the circuit has no inputs")
    if not values.kept:
        return NotComputed(values.refusal or "there are no observables")
    degrees = [one.degree or 0 for one in settings.facts[: settings.num_inputs]]
    points = sum(2 * min(degree, LARGEST_DEGREE) + 1 for degree in degrees)
    draws = max(2, values.affordable(DRAWS * points) // points)
    return tuple(_spectrum(settings, values, place, draws) for place in settings.inputs)


def _spectrum(settings: Settings, values: ExactValues, place: int, draws: int) -> InputSpectrum:
    fact = settings.facts[place]
    if not fact.used:
        return InputSpectrum(fact.name, 0.0, (), 0, False, "no gate depends on it")
    if fact.base is None or fact.degree is None:
        return _without_base(settings, place, draws)
    if fact.degree > LARGEST_DEGREE:
        return InputSpectrum(
            fact.name,
            fact.degree * fact.base,
            (),
            0,
            False,
            f"not computed: needs {2 * fact.degree + 1} points of its period; up to {2 * LARGEST_DEGREE + 1} "
            "are taken",
        )
    return _with_base(settings, values, place, draws, fact, fact.base, fact.degree)


def _with_base(
    settings: Settings,
    values: ExactValues,
    place: int,
    draws: int,
    fact: ParameterFacts,
    base: float,
    degree: int,
) -> InputSpectrum:
    points = 2 * degree + 1
    rows = settings.draw(draws, "spectrum", place).repeat_interleave(points, dim=0)
    grid = torch.arange(points, dtype=rows.dtype) * (2 * math.pi / base / points)
    rows[:, place] = grid.repeat(draws)
    outputs = values.values(rows).numpy().reshape(draws, points, -1)
    waves = np.abs(np.fft.rfft(outputs, axis=1)) / points
    waves[:, 1:] *= 2  # both signs of a frequency make one cosine
    found = []
    for number in range(degree + 1):
        squares = waves[:, number] ** 2
        best = int(squares.mean(axis=0).argmax())
        mean, spread = float(squares[:, best].mean()), float(squares[:, best].std(ddof=1))
        size = math.sqrt(mean)
        if waves[:, number].max() > REACHED:
            found.append(Frequency(number * base, size, spread / math.sqrt(draws) / (2 * size)))
    there = {one.value for one in found}
    missing = tuple(
        number * base for number in sorted(_sums(fact.factors, base)) if number * base not in there
    )
    return InputSpectrum(fact.name, degree * base, tuple(found), draws, bool(missing), missing=missing)


def _sums(factors: tuple[float, ...], base: float) -> set[int]:
    """Return the sums of -a, 0, a over all factors, in units of the base, that are at least 0."""
    found = {0}
    for factor in factors:
        step = round(abs(factor) / base)
        found = {one + sign * step for one in found for sign in (-1, 0, 1)}
    return {one for one in found if one >= 0}


def _without_base(settings: Settings, place: int, draws: int) -> InputSpectrum:
    """Return how fast an input's angles turn at most in random settings, where they have no common base."""
    fact = settings.facts[place]
    rows = settings.draw(draws, "spectrum", place)
    angles = [gate.angle for gate in settings.lowered.primitives if gate.angle is not None]
    table = AngleTable(angles, settings.count, 0, rows)
    direction = torch.zeros_like(rows)
    direction[:, place] = 1.0
    nothing = rows.new_zeros(0)
    turned = torch.func.jvp(lambda own: table.batched(own.t(), nothing), (rows,), (direction,))[1]
    fastest = float(turned.abs().sum(dim=0).max())
    others = sorted(
        {
            settings.facts[other].name
            for angle in angles
            if angle.tree is not None and any(own == place for own, _ in angle.inputs)
            for other, _ in angle.inputs
            if other != place
        }
    )
    if others:
        note = f"no fixed frequencies: it enters expressions together with {', '.join(others)}"
    elif fact.expressions:
        note = "no fixed frequencies: it enters expressions that are not linear"
    else:
        note = (
            f"its factors have no common base: {', '.join(f'{one:.6g}' for one in sorted(set(fact.factors)))}"
        )
    return InputSpectrum(fact.name, fastest, (), draws, False, note)
