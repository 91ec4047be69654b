"""What stands for a class in label files: numbers, ranges of numbers, colours, and text of vector labels."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*")
_BOUND = re.compile(rf"\s*(<=|>=|<|>)\s*({_NUMBER})\s*")


@dataclass(frozen=True)
class ValueRange:
    """All numbers from `low` to `high`; an end belongs to it unless it is open, and may be infinite."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, number: float) -> bool:
        return bool(self.holds(number))

    def holds(self, numbers: Any) -> Any:
        """Return where numbers are in the range; ends are rounded to the type of an array's numbers."""
        above = numbers > self.low if self.open_low else numbers >= self.low
        return above & (numbers < self.high if self.open_high else numbers <= self.high)

    def meets(self, other: ValueRange) -> bool:
        """Return whether two ranges have a number in common."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return low < high or (low == high and low in self and low in other)

    @property
    def code(self) -> int | None:
        """The whole number that is written for the range: its lowest one, or its highest if it has none."""
        if math.isfinite(self.low):
            number = math.floor(self.low) + 1 if self.open_low else math.ceil(self.low)
        else:
            number = math.ceil(self.high) - 1 if self.open_high else math.floor(self.high)
        return number if number in self else None


@dataclass(frozen=True)
class LabelColor:
    """A colour of 8 bits a channel.

    Attributes:
        packed: red * 65536 + green * 256 + blue.
    """

    packed: int

    @property
    def grey(self) -> int | None:
        """The value of all three channels, where they are equal."""
        red, green, blue = self.packed >> 16, self.packed >> 8 & 255, self.packed & 255
        return red if red == green == blue else None


def parse_label_value(value: int | str) -> int | ValueRange | LabelColor | str:
    """Read one entry of a class's `values`.

    Args:
        value: A number; or text: a colour as `#rrggbb`, a range of numbers as `0-127`, `>=0.5`, `<0.5`, or
            else an attribute's text in vector labels.

    Raises:
        ValueError: If it begins like a colour but is none, or the range is empty.
    """
    if isinstance(value, int):
        return value
    if value.startswith("#"):
        if not _COLOR.fullmatch(value):
            raise ValueError(f"a colour must be written as '#rrggbb', but is {value!r}")
        return LabelColor(int(value[1:], 16))
    if match := _RANGE.fullmatch(value):
        low, high = float(match[1]), float(match[2])
        if low > high:
            raise ValueError(f"a range must begin with its lower end, but is {value!r}")
        return ValueRange(low, high)
    if match := _BOUND.fullmatch(value):
        end = float(match[2])
        if match[1].startswith("<"):
            return ValueRange(-math.inf, end, open_high=match[1] == "<")
        return ValueRange(end, math.inf, open_low=match[1] == ">")
    return value


def checked_label_value(value: object) -> object:
    """Check an entry of `values` as YAML gives it; whole numbers written as text become numbers.

    Raises:
        ValueError: If it is a truth value (YAML reads `yes` and `no` so), or no legal text.
    """
    if isinstance(value, bool):
        raise ValueError("YAML reads this as true or false: put text in quotes")  # noqa: TRY004
    if isinstance(value, str):
        if re.fullmatch(r"-?\d+", value) and str(int(value)) == value:
            return int(value)
        parse_label_value(value)
    return value


def ambiguous_values(groups: Sequence[Iterable[int | str]]) -> list[int | str]:
    """Return the values that stand for more than one class.

    Args:
        groups: The values of each class, and the ignored ones as a group of their own. A range may contain
            other values of its own group; nothing else may be named twice.
    """
    entries = [(group, value) for group, values in enumerate(groups) for value in values]
    counts = Counter(parse_label_value(value) for _, value in entries)
    parsed = [(group, value, parse_label_value(value)) for group, value in entries]
    twice = {value for _, value, meaning in parsed if counts[meaning] > 1}
    wide = [entry for entry in parsed if isinstance(entry[2], ValueRange | LabelColor)]
    for group, value, meaning in wide:
        twice |= {value for other, _, second in parsed if other != group and _meet(meaning, second)}
        twice |= {second for other, second, inner in parsed if other != group and _meet(meaning, inner)}
    numbers = sorted(value for value in twice if isinstance(value, int))
    return [*numbers, *sorted(value for value in twice if isinstance(value, str))]


def _meet(first: object, second: object) -> bool:
    """Whether a range or a colour has something in common with another value: grey n is also number n."""
    numbers = [value.grey if isinstance(value, LabelColor) else value for value in (first, second)]
    if isinstance(numbers[0], ValueRange) and isinstance(numbers[1], ValueRange):
        return numbers[0].meets(numbers[1])
    for one, other in (numbers, numbers[::-1]):
        if isinstance(one, ValueRange):
            return isinstance(other, int) and other in one
    return isinstance(numbers[0], int) and numbers[0] == numbers[1]
