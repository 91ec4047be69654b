"""Sampling error of a finite test set: Wilson's interval of a share, the jackknife of anything else.

An interval says how far a number could be from what more images or ground of the same kind would give. It
says nothing of other kinds of data, and nothing of training: that is the spread over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
"""Coverage of all intervals."""
FEWEST = 5
"""Fewest units that an interval is computed of: of fewer their spread is not known well enough."""
WILSON, JACKKNIFE = "Wilson", "jackknife"


@dataclass(frozen=True)
class Interval:
    """How well a finite test set determines a number.

    Attributes:
        low: Lower end at 95 %.
        high: Upper end.
        standard_error: Standard error of the number.
        method: `Wilson` or `jackknife`.
    """

    low: float
    high: float
    standard_error: float
    method: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {
            "low": self.low,
            "high": self.high,
            "standard_error": self.standard_error,
            "method": self.method,
        }


@dataclass(frozen=True)
class Units:
    """What is taken for independent in a test set.

    Attributes:
        kind: What one unit is, as in `image` or `block of 128 px`.
        count: How many hold data.
        within: What the intervals speak of, where that is less than it seems, as in `within these scenes`.
        places: Connected places of scenes; None where that is not known or does not apply.
        groups: Units were drawn at random into so many groups, each left out as a whole; None: each alone.
    """

    kind: str
    count: int
    within: str = ""
    places: int | None = None
    groups: int | None = None

    def text(self) -> str:
        """Return in words what intervals are over, as in `95 % over 205 images`."""
        many = self.kind if self.count == 1 else plural(self.kind)
        said = f"{100 * LEVEL:.0f} % over {self.count:,} {many}"
        if self.within:
            said += f", {self.within}"
        if self.places is not None and self.kind != "place":
            said += f"; {self.places} connected place{'' if self.places == 1 else 's'}"
        return said


def plural(kind: str) -> str:
    """Return a kind of unit in the plural, as in `blocks of 128 px`."""
    head, blank, rest = kind.partition(" ")
    return f"{head}s{blank}{rest}"


@dataclass(frozen=True, eq=False)
class Intervals:
    """Sampling errors of the metrics of a split.

    Attributes:
        units: What they are over.
        values: By the keys of the metrics.
        missing: Why metrics have none, by their keys.
        replicates: Each metric with one group of units left out, shape (U,), by key: two results on the same
            units are compared by them (`paired_error`).
    """

    units: Units
    values: dict[str, Interval] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    replicates: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the replicates for a JSON file."""
        units: dict[str, Any] = {"unit": self.units.kind, "units": self.units.count}
        for key, value in (
            ("within", self.units.within or None),
            ("places", self.units.places),
            ("groups", self.units.groups),
        ):
            if value is not None:
                units[key] = value
        return {
            "level": LEVEL,
            **units,
            "metrics": {key: one.to_dict() for key, one in self.values.items()},
            **({"missing": dict(self.missing)} if self.missing else {}),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Intervals:
        """Rebuild what `to_dict` returned."""
        kept = (content.get(key) for key in ("within", "places", "groups"))
        within, places, groups = kept
        units = Units(content["unit"], int(content["units"]), within or "", places, groups)
        values = {key: Interval(**one) for key, one in content["metrics"].items()}
        return cls(units, values, dict(content.get("missing", {})))


def wilson(right: int, count: int) -> Interval:
    """Return Wilson's interval of a share (E. B. Wilson, J. American Statistical Association 22, 1927).

    With p = k / n and the normal quantile z its ends are

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    Args:
        right: Successes k.
        count: Trials n, at least 1, independent of each other.

    Raises:
        ValueError: If there are no trials, or not 0 <= k <= n.
    """
    if count < 1 or not 0 <= right <= count:
        raise ValueError(
            f"successes must be from 0 to the number of trials, at least 1, not {right}, {count}"
        )
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    share = right / count
    middle = share + z**2 / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    scale = 1 + z**2 / count
    low = 0.0 if right == 0 else (middle - half) / scale
    high = 1.0 if right == count else (middle + half) / scale
    return Interval(low, high, math.sqrt(share * (1 - share) / count), WILSON)


def jackknife_error(replicates: ArrayLike) -> float:
    """Return the standard error of a number from its values with one unit left out (J. Tukey, 1958).

    Args:
        replicates: Values r_u, shape (U,), U > 1.

    Returns:
        sqrt((U - 1) / U sum_u (r_u - mean r)^2). For a mean it is s / sqrt(U).
    """
    values = np.asarray(replicates, dtype=np.float64)
    count = len(values)
    return math.sqrt((count - 1) / count * float(((values - values.mean()) ** 2).sum()))


def pseudo_values(statistic: ArrayLike) -> NDArray[np.float64]:
    """Return the jackknife's pseudo-values of a number (B. Efron and C. Stein, Annals of Statistics 9, 1981).

    With D the number of all units and D(-u) that without unit u they are D + (U - 1) (mean_v D(-v) - D(-u)).
    Their mean is D, and their standard error s / sqrt(U) is `jackknife_error`. Of a mean over units of equal
    size they are the units' own values.

    Args:
        statistic: Of all units, then without each: shape (1 + U,).

    Returns:
        Shape (U,); shape (1,) where the units cannot say how sure it is: there is one, or all that a metric
        counts is in one.
    """
    values = np.asarray(statistic, dtype=np.float64)
    whole, without = values[0], values[1:]
    if len(without) == 1 or np.isnan(without).any():
        return np.array([whole])
    return np.asarray(whole + (len(without) - 1) * (without.mean() - without))


def paired_error(first: ArrayLike, second: ArrayLike) -> float:
    """Return the standard error of the difference of two numbers measured on the same units.

    Args:
        first: Replicates of the one, shape (U,).
        second: Those of the other, with the same units left out.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise ValueError(f"replicates must be of the same units, but have shapes {one.shape}, {other.shape}")
    return jackknife_error(one - other)


def jackknife(
    value: float, replicates: ArrayLike, low: float = -math.inf, high: float = math.inf
) -> Interval:
    """Return the interval value -+ t s with the jackknife's standard error s and U - 1 degrees of freedom.

    Args:
        value: The number of all units.
        replicates: Its values with one unit left out, shape (U,).
        low: Smallest value that is possible.
        high: Largest.

    Raises:
        ValueError: If there are fewer than `FEWEST` units, or a replicate is not finite, or all are equal:
            the error is not known then, and not zero.
    """
    values = np.asarray(replicates, dtype=np.float64)
    if len(values) < FEWEST:
        raise ValueError(f"fewer than {FEWEST} units")
    if not np.isfinite(values).all():
        raise ValueError("without one of the units it is not defined")
    if np.ptp(values) <= 1e-12 * max(1.0, abs(value)):
        raise ValueError("it does not vary over the units")
    error = jackknife_error(values)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Interval(max(low, value - half), min(high, value + half), error, JACKKNIFE)
