"""Look-up tables of a label map: from numbers, colours and text to class indices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.config.label_values import LabelColor, ValueRange, parse_label_value

IGNORE_INDEX = 255
"""Label of pixels that count neither in the loss nor in metrics."""

_TABLE_LIMIT = 1 << 17
"""Longest look-up table; class values further apart than this are found by bisection."""
_PAIRS = 1 << 21
"""Colours times classes that are compared at once."""

Indices = NDArray[np.uint8]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ValueTables:
    """What stands for which class, by kind; the index of ignored values is `IGNORE_INDEX`.

    Attributes:
        numbers: Single numbers.
        ranges: Ranges, and the index of each.
        colors: Colours as packed integers, in the order of the classes.
        texts: Text of attributes, and all other values as they are written.
        codes: The number that each class is written as: its first one, or the end of its first range; None
            where it has only colours or text.
    """

    numbers: dict[int, int]
    ranges: tuple[tuple[ValueRange, int], ...]
    colors: dict[int, int]
    texts: dict[str, int]
    codes: tuple[int | None, ...]

    @classmethod
    def build(cls, values: Sequence[Sequence[int | str]], ignore_values: Sequence[int | str]) -> ValueTables:
        """Sort the values of classes and the ignored ones by kind."""
        numbers: dict[int, int] = {}
        ranges: list[tuple[ValueRange, int]] = []
        colors: dict[int, int] = {}
        texts: dict[str, int] = {}
        codes = [next(filter(lambda code: code is not None, map(_code, row)), None) for row in values]
        for index, row in [*enumerate(values), (IGNORE_INDEX, ignore_values)]:
            for value in row:
                meaning = parse_label_value(value)
                if isinstance(meaning, ValueRange):
                    ranges.append((meaning, index))
                elif isinstance(meaning, LabelColor):
                    colors[meaning.packed] = index
                elif isinstance(meaning, int):
                    numbers[meaning] = index
                texts[str(value)] = index
        return cls(numbers, tuple(ranges), colors, texts, tuple(codes))

    def of_number(self, number: float) -> int | None:
        """Return the index of one number; None if it is unknown."""
        if number in self.numbers:
            return self.numbers[int(number)]
        return next((index for values, index in self.ranges if number in values), None)

    def names_number(self, number: float) -> bool:
        """Return whether a number stands for a class, or for none, by name.

        A range with an open end does not name what lies in it, such as a nodata value of -9999 in `<0.5`.
        """
        closed = (
            values for values, _ in self.ranges if math.isfinite(values.low) and math.isfinite(values.high)
        )
        return number in self.numbers or any(number in values for values in closed)

    def encode_numbers(self, raw: NDArray[Any], skipped: int | None = None) -> tuple[Indices, Flags]:
        """Look up numbers.

        Args:
            raw: Integers or finite floats, any shape.
            skipped: A further number that stands for no class.

        Returns:
            Class indices, and where a number is unknown.
        """
        table = self.numbers if skipped is None else {**self.numbers, skipped: IGNORE_INDEX}
        whole, fractional = raw, None
        if raw.dtype.kind == "f":
            whole = np.clip(raw, -(2.0**62), 2.0**62).astype(np.int64)
            fractional = whole != raw
        indices, unknown = _look_up(whole, table)
        if fractional is not None:
            unknown |= fractional
        for values, index in self.ranges:
            if not unknown.any():
                break
            inside = unknown & values.holds(raw)
            indices[inside] = index
            unknown &= ~inside
        return indices, unknown

    def encode_colors(self, packed: NDArray[np.int64]) -> tuple[Indices, Flags]:
        """Look up exact colours; return class indices, and where a colour is unknown."""
        return _look_up(packed, self.colors)

    def nearest_colors(self, packed: NDArray[np.int64], tolerance: int) -> tuple[Indices, Flags]:
        """Look up the nearest colours (Euclidean) of those whose channels all differ by at most `tolerance`.

        Args:
            packed: Packed colours, shape (n,).
            tolerance: In steps of 0 to 255.

        Returns:
            Class indices, of equally near colours the first's; and where no colour is within the tolerance.
        """
        known = _channels(np.array(list(self.colors), dtype=np.int64))
        indices = np.array(list(self.colors.values()), dtype=np.uint8)
        found = np.full(packed.shape, IGNORE_INDEX, dtype=np.uint8)
        unknown = np.ones(packed.shape, dtype=bool)
        step = max(1, _PAIRS // max(len(known), 1))
        for start in range(0, len(packed), step):
            part = slice(start, start + step)
            apart = np.abs(_channels(packed[part])[:, None] - known[None])
            distance = np.where((apart <= tolerance).all(axis=2), (apart**2).sum(axis=2), np.iinfo(int).max)
            best = distance.argmin(axis=1)
            unknown[part] = distance[np.arange(len(best)), best] == np.iinfo(int).max
            found[part] = np.where(unknown[part], IGNORE_INDEX, indices[best])
        return found, unknown


def pack_colors(bands: NDArray[Any]) -> NDArray[np.int64]:
    """Return colours of shape (3, ...) as red * 65536 + green * 256 + blue; -1 where one is not 0 to 255."""
    wide = bands.astype(np.int64)
    outside = (wide < 0) | (wide > 255) | (wide != bands)
    packed = wide[0] << 16 | wide[1] << 8 | wide[2]
    return np.asarray(np.where(outside.any(axis=0), -1, packed))


def color_counts(packed: NDArray[np.int64], shown: int = 8) -> str:
    """Return the most frequent colours with their numbers of pixels, for messages."""
    colors, counts = np.unique(packed, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    parts = [
        f"{'a value above 255' if colors[i] < 0 else f'#{colors[i]:06x}'}: {counts[i]}" for i in order[:shown]
    ]
    more = f", and {len(order) - shown} more" if len(order) > shown else ""
    return ", ".join(parts) + more


def _code(value: int | str) -> int | None:
    meaning = parse_label_value(value)
    if isinstance(meaning, ValueRange):
        return meaning.code
    return meaning if isinstance(meaning, int) else None


def _channels(packed: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)


def _look_up(raw: NDArray[Any], lookup: Mapping[int, int]) -> tuple[Indices, Flags]:
    """Map integers to indices; also return where a value is not in the mapping."""
    if not lookup:
        return np.full(raw.shape, IGNORE_INDEX, dtype=np.uint8), np.ones(raw.shape, dtype=bool)
    keys = np.array(sorted(lookup), dtype=np.int64)
    indices = np.array([lookup[int(key)] for key in keys], dtype=np.uint8)
    low, high = int(keys[0]), int(keys[-1])
    if high - low < _TABLE_LIMIT:
        table = np.full(high - low + 1, IGNORE_INDEX, dtype=np.uint8)
        missing = np.ones(high - low + 1, dtype=bool)
        table[keys - low], missing[keys - low] = indices, False
        if raw.dtype == np.uint8:  # a table of all 256 values needs no clipping
            full, absent = np.full(256, IGNORE_INDEX, dtype=np.uint8), np.ones(256, dtype=bool)
            inside = (keys >= 0) & (keys < 256)
            full[keys[inside]], absent[keys[inside]] = indices[inside], False
            return full[raw], absent[raw]
        outside = (raw < low) | (raw > high)
        position = np.where(outside, low, raw).astype(np.int64) - low
        return table[position], missing[position] | outside
    position = np.clip(np.searchsorted(keys, raw), 0, len(keys) - 1)
    return indices[position], keys[position] != raw
