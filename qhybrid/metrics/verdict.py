"""Verdicts on differences: equivalent, different, or not decidable, with what the design could have found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

EQUIVALENT, DIFFERENT, NOT_DECIDABLE = "equivalent", "different", "not decidable"
LEVEL = 0.05
"""Two-sided level of the test for a difference, and of each of the two one-sided tests for equivalence."""
POWER = 0.8
"""Power at which the smallest difference is stated that a design could have found."""
FEWEST_EQUAL = 5
"""Pairs from which on differences that are all equal are believed not to scatter at all."""
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Verdict:
    """What paired differences say.

    Attributes:
        kind: `equivalent`, `different` or `not decidable`.
        count: Number of differences n.
        mean: Their mean d.
        std: Their sample standard deviation s; NaN of a single one.
        low: Lower end of the 95 % confidence interval of the mean; NaN of a single one.
        high: Upper end.
        p_different: Two-sided p of the paired t-test; corrected by Holm where several were judged together.
        p_equivalent: p of the two one-sided tests against the margin (TOST); corrected likewise; NaN without
            a margin.
        margin: Differences up to it do not matter; None if none was stated.
        detectable: Smallest true difference that the design finds with 80 % power at the two-sided level
            5 %; NaN of a single difference, and of a few that are all equal.
        among: Comparisons that Holm's method had not decided when it came to this one; 1 where the level was
            5 %, and where it would have decided nothing else.
        detectable_among: The same as `detectable` at the level 5 % / `among`; it stands where a difference
            above `detectable` is not decidable, because it is one of several.
    """

    kind: str
    count: int
    mean: float
    std: float
    low: float
    high: float
    p_different: float
    p_equivalent: float
    margin: float | None
    detectable: float
    among: int = 1
    detectable_among: float | None = None

    @property
    def finds(self) -> float:
        """The smallest difference that is found, whatever else was judged together with this one."""
        return self.detectable if self.detectable_among is None else self.detectable_among

    def text(self, scale: float = 1.0, digits: int = 3, unit: str = "") -> str:
        """Return the verdict in one of the three wordings.

        Args:
            scale: What numbers are multiplied with, as 100 for per cent.
            digits: Digits behind the point; more where nothing else of a number would be left than zeros.
            unit: What follows a number, as in " points".
        """

        def shown(value: float, sign: str = "") -> str:
            size = abs(scale * value)
            least = max(digits, -math.floor(math.log10(size))) if 0 < size < 0.5 * 10**-digits else digits
            return f"{scale * value:{sign}.{least}f}{unit}"

        if self.kind == EQUIVALENT:
            assert self.margin is not None
            return f"equivalent within {shown(self.margin)}"
        if self.kind == DIFFERENT:
            return f"different by {shown(self.mean, '+')}"
        if math.isnan(self.detectable):
            if self.count > 1:
                return f"not decidable: {self.count} pairs that are equal do not say how much they scatter"
            return "not decidable: a single pair finds no difference"
        among = f"among {self.among} comparisons " if self.detectable_among is not None else ""
        return f"not decidable: {among}this design finds differences above {shown(self.finds)} only"


def judge(
    differences: Sequence[float],
    margin: float | None = None,
    overlap: float = 0.0,
    largest: float | None = None,
) -> Verdict:
    """Judge paired differences (other - reference).

    Equivalent, where both one-sided t-tests against +-margin reject at 5 % (D. Schuirmann, Journal of
    Pharmacokinetics and Biopharmaceutics 15, 1987), also where the difference is not zero: it is too small to
    matter. Else different, where the two-sided paired t-test rejects at 5 %. Else not decidable. Fewer than
    `FEWEST_EQUAL` differences that are all equal are not decidable: accuracies of few images often agree by
    chance, and a scatter of zero would prove anything.

    Where no single answer differs, a t-test would say that none ever does. A share q of answers that differ
    goes unseen in n of them with probability (1 - q)^n, so with the size of a single difference the exact
    test of equivalence has p = (1 - margin / largest)^n, the interval ends at largest (1 - 0.05^(1/n)), and
    a share is found with 80 % power from largest (1 - 0.2^(1/n)) on.

    Where few answers differ the t-test knows their scatter too badly: of 600 answers it would call a
    difference of the margin itself equivalent in 19 of 100 samples. With their size p is at least that of so
    few, see `_few_differ`.

    Args:
        differences: One of each pair, n of them, n > 0.
        margin: Differences up to it do not matter; without one nothing is equivalent.
        overlap: What the variance of the mean is larger by, (1/n + overlap) s^2: test to training images
            where training sets of folds overlap (C. Nadeau and Y. Bengio, Machine Learning 52, 2003).
        largest: Size of a single difference where they are those of single answers, as 1 of right or wrong;
            None of metrics that are sums over many.

    Raises:
        ValueError: If there are no differences, one is not finite, or the margin is not positive.
    """
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"differences must be finite numbers, at least one, but are {list(differences)}")
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"margin must be above 0, but is {margin}")
    values = np.where(np.abs(values) <= _ROUNDING, 0.0, values)  # equal numbers, added in another order
    count, mean = len(values), float(values.mean())
    if count < 2:
        nan = math.nan
        return Verdict(NOT_DECIDABLE, count, mean, nan, nan, nan, nan, nan, margin, nan)
    if largest is not None and not values.any():
        return _no_answer_differs(count, margin, largest)
    std = float(values.std(ddof=1))
    if count < FEWEST_EQUAL and std <= _ROUNDING * max(1.0, abs(mean)):
        nan, equivalent = math.nan, math.nan if margin is None else 1.0
        return Verdict(NOT_DECIDABLE, count, mean, 0.0, nan, nan, 1.0, equivalent, margin, nan)
    error = std * math.sqrt(1 / count + overlap)
    half = float(stats.t.ppf(1 - LEVEL / 2, count - 1)) * error
    different = 2 * _above(abs(mean), error, count - 1)
    equivalent = math.nan if margin is None else _above(margin - abs(mean), error, count - 1)
    if margin is not None and largest is not None:
        equivalent = max(equivalent, _few_differ(values, margin, largest))
    found = Verdict(
        NOT_DECIDABLE,
        count,
        mean,
        std,
        mean - half,
        mean + half,
        min(1.0, different),
        equivalent,
        margin,
        detectable_difference(std, count, overlap),
    )
    return replace(found, kind=_kind(found))


def judge_all(
    differences: Mapping[str, Sequence[float]],
    margin: float | None = None,
    overlap: float | Mapping[str, float] = 0.0,
    largest: Mapping[str, float | None] | None = None,
) -> dict[str, Verdict]:
    """Judge several comparisons with one reference; p of both tests are corrected by Holm over them.

    Args:
        differences: Paired differences of each comparison, by name.
        margin: As in `judge`.
        overlap: As in `judge`; one number, or one for each comparison.
        largest: As in `judge`, for each comparison.
    """
    sizes = largest or {}
    shares = overlap if isinstance(overlap, Mapping) else dict.fromkeys(differences, overlap)
    found = {
        name: judge(values, margin, shares[name], sizes.get(name)) for name, values in differences.items()
    }
    names = list(found)
    different = holm([found[name].p_different for name in names])
    equivalent = holm([found[name].p_equivalent for name in names])
    corrected = {
        name: replace(found[name], p_different=one, p_equivalent=other)
        for name, one, other in zip(names, different, equivalent, strict=True)
    }
    decided = {name: replace(one, kind=_kind(one)) for name, one in corrected.items()}
    open_ones = sum(one.p_different >= LEVEL for one in decided.values())
    return {name: _among(one, open_ones, shares[name]) for name, one in decided.items()}


def _among(found: Verdict, comparisons: int, overlap: float) -> Verdict:
    """Return a verdict that says what is found among so many, where it alone would be different by more."""
    if found.kind != NOT_DECIDABLE or not abs(found.mean) > found.detectable:
        return found
    least = detectable_difference(found.std, found.count, overlap, LEVEL / comparisons)
    return replace(found, among=comparisons, detectable_among=least)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (S. Holm, Scand. J. Statistics 6, 1979); NaN is left out."""
    given = np.asarray(p_values, dtype=float)
    order = [index for index in np.argsort(given, kind="stable") if not math.isnan(given[index])]
    corrected, largest = given.copy(), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * given[index]))
        corrected[index] = largest
    return [float(value) for value in corrected]


def detectable_difference(std: float, count: int, overlap: float = 0.0, level: float = LEVEL) -> float:
    """Return the smallest true mean difference that a two-sided paired t-test finds with 80 % power.

    Args:
        std: Standard deviation of the differences.
        count: How many there are.
        overlap: As in `judge`.
        level: Two-sided level of the test.

    Returns:
        The difference d with P(|T| > t_{1 - level / 2}) = 0.8 for T noncentral t with n - 1 degrees of
        freedom and noncentrality d / (s sqrt(1/n + overlap)); NaN for fewer than two.
    """
    if count < 2 or math.isnan(std):
        return math.nan
    freedom = count - 1
    limit = float(stats.t.ppf(1 - level / 2, freedom))
    # Given s / sigma the statistic is normal: the mean over its law by quadrature, where scipy's noncentral t
    # has no value for few pairs.
    nodes, weights = np.polynomial.legendre.leggauss(200)
    ratios = np.sqrt(stats.chi2.ppf((nodes + 1) / 2, freedom) / freedom)

    def missing(shift: float) -> float:
        found = stats.norm.cdf(shift - limit * ratios) + stats.norm.cdf(-shift - limit * ratios)
        return float(weights @ found) / 2 - POWER

    shift = float(optimize.brentq(missing, 0.0, 4 * limit + 10))
    return shift * std * math.sqrt(1 / count + overlap)


def _no_answer_differs(count: int, margin: float | None, largest: float) -> Verdict:
    """Return the verdict on single answers of which none differs."""
    unseen = largest * (1 - LEVEL ** (1 / count))
    equivalent = math.nan if margin is None else max(0.0, 1 - margin / largest) ** count
    detectable = largest * (1 - (1 - POWER) ** (1 / count))
    found = Verdict(NOT_DECIDABLE, count, 0.0, 0.0, -unseen, unseen, 1.0, equivalent, margin, detectable)
    return replace(found, kind=_kind(found))


def _few_differ(values: NDArray[np.float64], margin: float, largest: float) -> float:
    """Return p of answers against a difference of the margin, by the law of small numbers.

    With the numbers a >= b of answers that differ one way and the other, and a true difference of the margin
    m, a - b of n answers is at most what was seen with

        p = P(A - B <= a - b),  A ~ Poisson(n m + b), B ~ Poisson(b),

    exactly P(A <= a), A ~ Binomial(n, m), where none differs the other way. Where none differs at all this is
    (1 - m)^n.

    Args:
        values: Differences of single answers, n of them; those of means over draws count by their size.
        margin: Differences up to it do not matter.
        largest: Size of a single difference.
    """
    count, share = len(values), margin / largest
    if share >= 1:
        return 0.0
    up, down = (float(part.sum()) / largest for part in (values.clip(min=0.0), -values.clip(max=0.0)))
    rest, seen = min(up, down), math.floor(abs(up - down) + _ROUNDING)
    if rest <= _ROUNDING:
        return float(stats.binom.cdf(seen, count, share))
    return float(stats.skellam.cdf(seen, count * share + rest, rest))


def _above(distance: float, error: float, freedom: int) -> float:
    """Return the one-sided p of a distance from zero with a standard error."""
    if error == 0:  # all differences are the same number
        return 0.0 if distance > 0 else (0.5 if distance == 0 else 1.0)
    return float(stats.t.sf(distance / error, freedom))


def _kind(found: Verdict) -> str:
    if found.p_equivalent < LEVEL:
        return EQUIVALENT
    return DIFFERENT if found.p_different < LEVEL else NOT_DECIDABLE
