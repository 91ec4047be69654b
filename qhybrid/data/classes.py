"""Label maps: from the values in mask files to class indices, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.config import ClassConfig
from qhybrid.errors import DataError

IGNORE_INDEX = 255
"""Label of pixels that count neither in the loss nor in metrics."""

_TABLE_LIMIT = 1 << 17
"""Longest look-up table; class values further apart than this are found by bisection."""


@dataclass(frozen=True)
class ClassMap:
    """Classes in the order of their indices.

    Attributes:
        names: Name of each class.
        colors: Colour of each class as `#rrggbb`.
        values: Values in mask files that stand for each class; the first one is written by `decode`.
        ignore_values: Mask values that stand for no class.
    """

    names: tuple[str, ...]
    colors: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    ignore_values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.colors) == len(self.values):
            raise DataError(
                f"A class map must have as many names ({len(self.names)}) as colours ({len(self.colors)}) "
                f"and value lists ({len(self.values)})."
            )
        if not 1 <= len(self.names) < IGNORE_INDEX:
            raise DataError(
                f"A class map must have 1 to {IGNORE_INDEX - 1} classes, but has {len(self.names)}."
            )
        if len(set(self.names)) != len(self.names):
            raise DataError(f"Class names must differ, but are {list(self.names)}.")
        known = [value for values in self.values for value in values] + list(self.ignore_values)
        twice = sorted({value for value in known if known.count(value) > 1})
        if twice:
            raise DataError(f"Each mask value must stand for one class, but {twice} stand for more than one.")

    @classmethod
    def from_config(cls, classes: Sequence[ClassConfig], ignore_values: Sequence[int] = ()) -> ClassMap:
        """Build the map from the recipe's `data.classes` and `data.ignore_values`."""
        return cls(
            names=tuple(entry.name for entry in classes),
            colors=tuple(entry.color.lower() for entry in classes),
            values=tuple(tuple(entry.values) for entry in classes),
            ignore_values=tuple(ignore_values),
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ClassMap:
        """Rebuild a map from `to_dict`.

        Raises:
            DataError: If the mapping is not one that `to_dict` writes.
        """
        try:
            return cls(
                names=tuple(str(name) for name in content["names"]),
                colors=tuple(str(color) for color in content["colors"]),
                values=tuple(tuple(int(value) for value in values) for values in content["values"]),
                ignore_values=tuple(int(value) for value in content.get("ignore_values", ())),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"Not a class map: {error!r} in {content!r}.") from error

    def to_dict(self) -> dict[str, Any]:
        """Return the map as plain lists, for JSON and YAML."""
        return {
            "names": list(self.names),
            "colors": list(self.colors),
            "values": [list(values) for values in self.values],
            "ignore_values": list(self.ignore_values),
        }

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.names)

    def palette(self) -> NDArray[np.uint8]:
        """Return the colours as numbers, shape (K, 3): red, green, blue."""
        rows = [[int(color[start : start + 2], 16) for start in (1, 3, 5)] for color in self.colors]
        return np.array(rows, dtype=np.uint8)

    def encode(self, raw: NDArray[Any], source: str, nodata: float | None = None) -> NDArray[np.uint8]:
        """Turn mask values into class indices.

        Args:
            raw: Values of a mask file, shape (H, W); integers, or whole numbers as floats (NaN is nodata).
            source: The file, for messages.
            nodata: A further value that stands for no class, unless the map gives it a class.

        Returns:
            Class indices, shape (H, W), with `IGNORE_INDEX` where there is no class.

        Raises:
            DataError: If a value is neither a class's nor ignored.
        """
        ignored = np.zeros(raw.shape, dtype=bool)
        if raw.dtype.kind == "f":
            raw, ignored = self._whole_numbers(raw, source)
        known = {value: index for index, values in enumerate(self.values) for value in values}
        skipped = set(self.ignore_values)
        if (
            nodata is not None
            and np.isfinite(nodata)
            and float(nodata).is_integer()
            and int(nodata) not in known
        ):
            skipped.add(int(nodata))
        lookup = {**known, **dict.fromkeys(skipped, IGNORE_INDEX)}
        indices, unknown = _look_up(raw, lookup)
        unknown &= ~ignored
        if unknown.any():
            raise DataError(self._unknown_values(raw, unknown, source))
        indices[ignored] = IGNORE_INDEX
        return indices

    def decode(self, indices: NDArray[Any]) -> NDArray[Any]:
        """Turn class indices into mask values.

        Args:
            indices: Class indices or `IGNORE_INDEX`, any shape.

        Returns:
            The first value of each class; for `IGNORE_INDEX` the first of `ignore_values`, else
            `IGNORE_INDEX`. uint8 where all values fit, else int64.
        """
        written = [values[0] for values in self.values]
        nothing = self.ignore_values[0] if self.ignore_values else IGNORE_INDEX
        fits = all(0 <= value <= 255 for value in [*written, nothing])
        table = np.full(IGNORE_INDEX + 1, nothing, dtype=np.uint8 if fits else np.int64)
        table[: self.num_classes] = written
        return np.asarray(table[indices])

    def _whole_numbers(self, raw: NDArray[Any], source: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        missing = np.isnan(raw)
        filled = np.where(missing, 0, raw)
        if not np.isfinite(filled).all() or (filled != np.floor(filled)).any():
            raise DataError(
                f"{source}: mask values must be whole numbers, but some are not (type {raw.dtype}). "
                "Fix: write the mask as an integer raster of class values."
            )
        return filled.astype(np.int64), missing

    def _unknown_values(self, raw: NDArray[Any], unknown: NDArray[np.bool_], source: str) -> str:
        values = np.unique(raw[unknown])
        shown = ", ".join(str(int(value)) for value in values[:10]) + (", ..." if len(values) > 10 else "")
        classes = ", ".join(f"{name}: {list(values)}" for name, values in zip(self.names, self.values))
        return (
            f"{source}: every mask value must be in the class map, but {shown} is not "
            f"({int(unknown.sum())} pixels; the map has {classes}; ignored: {list(self.ignore_values)}). "
            "Fix: add the value to a class under `data.classes`, or to `data.ignore_values`."
        )


def _look_up(raw: NDArray[Any], lookup: Mapping[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Map integers to indices; also return where a value is not in the mapping."""
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
