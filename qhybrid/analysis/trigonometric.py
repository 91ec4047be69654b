"""Sums of products of sines and cosines of several variables: arithmetic, values, and text.

A monomial is a product of at most one cos(m v) or sin(m v) for each variable v, so equal functions have equal
forms: powers and products of one variable are turned into multiples of its angle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Factor = tuple[int, str, int]
"""Variable, "c" or "s" for cosine or sine, multiple m >= 1 of the variable."""
Monomial = tuple[Factor, ...]
Series = dict[Monomial, float]
"""Factors of the monomials, each sorted by variable."""

Wave = tuple[str, int] | None
"""Kind and multiple of a wave of one variable; None for the number 1."""

DROPPED = 1e-13
"""Factor below which a monomial is rounding."""
SHOWN = 5e-4
"""Relative size below which a number does not show in a text of three digits."""


def times_wave(series: Series, variable: int, multiple: int, offset: float, sine: bool) -> Series:
    """Return a series times cos or sin of (multiple * variable + offset); any whole multiple but 0."""
    size, sign = abs(multiple), 1.0 if multiple > 0 else -1.0
    cosine, half = math.cos(offset), math.sin(offset)
    on_cosine, on_sine = (half, sign * cosine) if sine else (cosine, -sign * half)
    result: Series = {}
    for monomial, factor in series.items():
        own = next((one for one in monomial if one[0] == variable), None)
        rest = tuple(one for one in monomial if one[0] != variable)
        for kind, weight in (("c", on_cosine), ("s", on_sine)):
            for found, part in _product(own, kind, size):
                key = rest if found is None else tuple(sorted((*rest, (variable, *found))))
                result[key] = result.get(key, 0.0) + factor * weight * part
    return pruned(result)


def _product(own: Factor | None, kind: str, size: int) -> list[tuple[Wave, float]]:
    """Return the waves and factors that a wave of a variable becomes when multiplied with another."""
    if own is None:
        return [((kind, size), 1.0)]
    _, first, m = own
    sum_, difference = m + size, m - size
    if first == "c" and kind == "c":
        waves = [("c", sum_, 0.5), ("c", difference, 0.5)]
    elif first == "s" and kind == "c":
        waves = [("s", sum_, 0.5), ("s", difference, 0.5)]
    elif first == "c" and kind == "s":
        waves = [("s", sum_, 0.5), ("s", difference, -0.5)]
    else:
        waves = [("c", difference, 0.5), ("c", sum_, -0.5)]
    result: list[tuple[Wave, float]] = []
    for wave, multiple, part in waves:
        if multiple == 0:
            if wave == "c":
                result.append((None, part))
            continue
        result.append(((wave, abs(multiple)), -part if wave == "s" and multiple < 0 else part))
    return result


def added(first: Series, second: Series, factor: float = 1.0) -> Series:
    """Return first + factor * second."""
    result = dict(first)
    for monomial, value in second.items():
        result[monomial] = result.get(monomial, 0.0) + factor * value
    return pruned(result)


def pruned(series: Series) -> Series:
    """Return a series without what is only rounding."""
    return {monomial: value for monomial, value in series.items() if abs(value) > DROPPED}


def series_values(series: Series, variables: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the values of a series, shape (B,), for values of its variables of shape (V, B)."""
    total = np.zeros(variables.shape[1])
    for monomial, value in series.items():
        product = np.full_like(total, value)
        for variable, kind, multiple in monomial:
            product *= (np.cos if kind == "c" else np.sin)(multiple * variables[variable])
        total += product
    return total


@dataclass(frozen=True)
class _Text:
    """A number times a text; an empty text is the number alone."""

    factor: float
    body: str
    is_sum: bool = False

    def inside(self) -> str:
        """Return the text as a part of a product."""
        return f"({self.body})" if self.is_sum else self.body


def series_text(series: Series, wave: Callable[[int, int, float], str]) -> str:
    """Return a series as text, numbers rounded to three digits; common factors are taken out.

    Args:
        series: The series.
        wave: Returns the text of m * v + offset for a variable, a multiple and an offset.
    """
    found = _text(series, wave)
    if not found.body:
        return number_text(found.factor)
    if abs(found.factor - 1) < SHOWN:
        return found.body
    if abs(found.factor + 1) < SHOWN:
        return f"-{found.inside()}"
    return f"{number_text(found.factor)} {found.inside()}"


def number_text(value: float) -> str:
    """Return a number with three digits; multiples of pi by simple fractions as such."""
    for below in (1, 2, 3, 4):
        above = round(value / math.pi * below)
        if above and abs(value - above * math.pi / below) < 1e-9 * abs(value):
            size = "pi" if abs(above) == 1 else f"{abs(above)} pi"
            return ("-" if above < 0 else "") + size + (f"/{below}" if below > 1 else "")
    return f"{value:.3g}"


def _text(series: Series, wave: Callable[[int, int, float], str]) -> _Text:
    variables = sorted({variable for monomial in series for variable, _, _ in monomial})
    if not variables:
        return _Text(series.get((), 0.0), "")
    divided = {variable: _divided(series, variable) for variable in variables}
    for variable in variables:
        alone = _proportional(list(divided[variable].values()))
        if alone is None:
            continue
        own = _one_variable(variable, dict(zip(divided[variable], alone)), wave)
        rest = _text(next(iter(divided[variable].values())), wave)
        return _joined(own, rest)
    # No common factor: the variable that leaves the fewest terms is written first.
    groups = {variable: _groups(divided[variable]) for variable in variables}
    variable = min(variables, key=lambda one: (len(groups[one]), one))
    return _sum(
        [_joined(_one_variable(variable, own, wave), _text(rest, wave)) for own, rest in groups[variable]]
    )


def _groups(parts: Mapping[Wave, Series]) -> list[tuple[dict[Wave, float], Series]]:
    """Return a sum over the waves of one variable; cosine and sine of one angle join where they can."""
    terms: list[tuple[dict[Wave, float], Series]] = []
    for multiple in sorted({0 if key is None else key[1] for key in parts}):
        keys = [key for key in parts if (0 if key is None else key[1]) == multiple]
        shares = _proportional([parts[key] for key in keys])
        if shares:
            terms.append((dict(zip(keys, shares)), parts[keys[0]]))
        else:
            terms += [({key: 1.0}, parts[key]) for key in keys]
    return terms


def _divided(series: Series, variable: int) -> dict[Wave, Series]:
    """Return what each wave of a variable is multiplied with."""
    result: dict[Wave, Series] = {}
    for monomial, value in series.items():
        own = next(((kind, m) for one, kind, m in monomial if one == variable), None)
        rest = tuple(one for one in monomial if one[0] != variable)
        result.setdefault(own, {})[rest] = value
    return result


def _proportional(several: Sequence[Series]) -> list[float] | None:
    """Return the factors by which some series are multiples of the first one; None if they are not."""
    first = several[0]
    largest = max(first, key=lambda monomial: abs(first[monomial]))
    shares = []
    for one in several:
        share = one.get(largest, 0.0) / first[largest]
        size = max(abs(value) for value in one.values())
        keys = set(first) | set(one)
        if any(abs(one.get(key, 0.0) - share * first.get(key, 0.0)) > 1e-9 * size for key in keys):
            return None
        shares.append(share)
    return shares


def _one_variable(
    variable: int, shares: Mapping[Wave, float], wave: Callable[[int, int, float], str]
) -> _Text:
    """Return a function of one variable: a number plus waves R cos(m v + phase)."""
    terms = [_Text(shares[None], "")] if None in shares else []
    for multiple in sorted({key[1] for key in shares if key is not None}):
        cosine, sine = (shares.get((kind, multiple), 0.0) for kind in "cs")
        size, phase = math.hypot(cosine, sine), math.atan2(-sine, cosine)
        if abs(phase) > math.pi / 2 + SHOWN:  # -cos(v + small) rather than cos(v + nearly pi)
            size, phase = -size, phase - math.copysign(math.pi, phase)
        if abs(abs(phase) - math.pi / 2) < SHOWN:
            size = -size if phase > 0 else size
            terms.append(_Text(size, f"sin({wave(variable, multiple, 0.0)})"))
        else:
            phase = 0.0 if abs(phase) < SHOWN else phase
            terms.append(_Text(size, f"cos({wave(variable, multiple, phase)})"))
    return _sum(terms)


def _joined(first: _Text, second: _Text) -> _Text:
    """Return a product."""
    if not second.body:
        return _Text(first.factor * second.factor, first.body, first.is_sum)
    if not first.body:
        return _Text(first.factor * second.factor, second.body, second.is_sum)
    return _Text(first.factor * second.factor, f"{first.inside()} {second.inside()}")


def _sum(terms: Sequence[_Text]) -> _Text:
    """Return a sum; its terms keep their own factors."""
    if len(terms) == 1:
        return terms[0]
    text = ""
    for term in terms:
        sign = ("-" if term.factor < 0 else "") if not text else (" - " if term.factor < 0 else " + ")
        size = abs(term.factor)
        if not term.body:
            text += f"{sign}{number_text(size)}"
        elif abs(size - 1) < SHOWN:
            text += f"{sign}{term.inside()}"
        else:
            text += f"{sign}{number_text(size)} {term.inside()}"
    return _Text(1.0, text, is_sum=True)
