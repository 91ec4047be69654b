"""A circuit's parameters for analysis: how often each enters, its period, and random settings of all of them.

Inputs and weights are one row here, inputs first, so that every sample has its own setting of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.lowering import Lowered, lower
from qhybrid.errors import ConfigError
from qhybrid.seeding import numpy_generator

Range = tuple[float, float]

LARGEST_RATIO = 1000
"""Numerators and denominators of the ratio of two factors up to which they are taken for commensurate."""
RATIO_TOLERANCE = 1e-9
WITHOUT_PERIOD: Range = (-math.pi, math.pi)
"""Where a parameter is drawn that has no period and was given no range."""


@dataclass(frozen=True)
class ParameterFacts:
    """One input or weight.

    Attributes:
        name: Its name.
        kind: "input" or "weight".
        factors: Its factor in the angle of every rotation that it enters linearly.
        expressions: Number of rotations whose angle is another function of it.
        base: Largest number of which all factors are multiples; None without factors, with expressions, or
            where there is no such number.
        low: Smallest value that is drawn.
        high: Largest value that is drawn.
    """

    name: str
    kind: str
    factors: tuple[float, ...]
    expressions: int
    base: float | None
    low: float
    high: float

    @property
    def period(self) -> float | None:
        """Period of all expectation values in it, 2 pi over the base; None without one."""
        return None if self.base is None else 2 * math.pi / self.base

    @property
    def degree(self) -> int | None:
        """Highest frequency that its rotations can give, in units of the base; None without one."""
        if self.base is None:
            return None
        return round(sum(abs(factor) for factor in self.factors) / self.base)

    @property
    def used(self) -> bool:
        """Whether any gate depends on it."""
        return bool(self.factors) or self.expressions > 0


class Settings:
    """A circuit with inputs and weights in one row, and random rows.

    Args:
        spec: The circuit.
        seed: Seed of all draws.
        input_range: Where inputs are drawn; None for one period of each.
        weight_range: The same for weights.

    Attributes:
        spec: The circuit, its own inputs followed by its weights as inputs; no weights.
        lowered: Its gates.
        facts: Its parameters, in the order of a row.
        num_inputs: How many of them are inputs.
    """

    def __init__(
        self,
        spec: CircuitSpec,
        seed: int = 0,
        input_range: Range | None = None,
        weight_range: Range | None = None,
    ) -> None:
        check_range("input_range", input_range)
        check_range("weight_range", weight_range)
        self.spec = replace(spec, input_params=(*spec.input_params, *spec.weight_params), weight_params=())
        self.lowered = lower(self.spec)
        self.num_inputs = spec.num_inputs
        self._seed = seed
        names = [parameter.name for parameter in self.spec.input_params]
        kinds = ["input"] * spec.num_inputs + ["weight"] * spec.num_weights
        ranges = {"input": input_range, "weight": weight_range}
        self.facts = tuple(
            _facts(self.lowered, index, name, kind, ranges[kind])
            for index, (name, kind) in enumerate(zip(names, kinds))
        )

    @property
    def count(self) -> int:
        """Number of parameters."""
        return len(self.facts)

    @property
    def inputs(self) -> range:
        """Places of the inputs in a row."""
        return range(self.num_inputs)

    @property
    def weights(self) -> range:
        """Places of the weights in a row."""
        return range(self.num_inputs, self.count)

    def draw(self, count: int, *purpose: str | int) -> torch.Tensor:
        """Return independent rows, each parameter uniform over its range, float64, shape (count, P).

        Args:
            count: Number of rows.
            *purpose: What they are for; the same seed and purpose give the same rows.
        """
        generator = numpy_generator(self._seed, "analyze", *purpose)
        low, high = (np.array([getattr(one, end) for one in self.facts]) for end in ("low", "high"))
        rows = low + (high - low) * generator.random((count, self.count))
        return torch.from_numpy(rows)


def check_range(name: str, given: Range | None) -> None:
    """Check a range that parameters are drawn from.

    Raises:
        ConfigError: If it is not two finite numbers, the smaller first.
    """
    if given is None:
        return
    if len(given) != 2 or not all(map(math.isfinite, given)) or not given[0] < given[1]:
        raise ConfigError(
            f"Argument `{name}` must be two numbers, the smaller first, but is {given}. Fix: such as -1,1."
        )


def common_base(factors: Sequence[float]) -> float | None:
    """Return the largest number of which all factors are whole multiples; None if there is none."""
    sizes = sorted({abs(factor) for factor in factors if factor})
    if not sizes:
        return None
    ratios = [Fraction(size / sizes[0]).limit_denominator(LARGEST_RATIO) for size in sizes]
    for size, ratio in zip(sizes, ratios):
        if ratio.numerator > LARGEST_RATIO or abs(size / sizes[0] - ratio) > RATIO_TOLERANCE * ratio:
            return None
    numerator = math.gcd(*(ratio.numerator for ratio in ratios))
    return sizes[0] * numerator / math.lcm(*(ratio.denominator for ratio in ratios))


def _facts(lowered: Lowered, index: int, name: str, kind: str, given: Range | None) -> ParameterFacts:
    factors: list[float] = []
    expressions = 0
    for primitive in lowered.primitives:
        if primitive.angle is None:
            continue
        own = [factor for place, factor in primitive.angle.inputs if place == index]
        if own and primitive.angle.tree is not None:
            expressions += 1
        else:
            factors += own
    base = None if expressions else common_base(factors)
    if given is not None:
        low, high = given
    elif base is not None:
        low, high = 0.0, 2 * math.pi / base
    else:
        low, high = WITHOUT_PERIOD
    return ParameterFacts(name, kind, tuple(factors), expressions, base, low, high)
