"""Label maps: from what label files hold to class indices, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from qhybrid.config import ClassConfig, DataConfig, VectorConfig
from qhybrid.config.label_values import ambiguous_values
from qhybrid.data.class_values import IGNORE_INDEX, ValueTables, color_counts, pack_colors
from qhybrid.errors import ConfigError, DataError

__all__ = ["IGNORE_INDEX", "ClassMap"]


@dataclass(frozen=True)
class ClassMap:
    """Classes in the order of their indices, and how label files are read as them.

    Attributes:
        names: Name of each class.
        colors: Colour of each class in maps and pictures, as `#rrggbb`.
        values: What stands for each class in label files (see `ClassConfig.values`); the first number is
            written by `decode`.
        ignore_values: What stands for no class.
        color_tolerance: How much each channel of a coloured mask may differ from a class's colour.
        fit_masks: Whether masks are brought to the grid of their images.
        vector: How polygons become classes; None where labels are rasters.
    """

    names: tuple[str, ...]
    colors: tuple[str, ...]
    values: tuple[tuple[int | str, ...], ...]
    ignore_values: tuple[int | str, ...] = ()
    color_tolerance: int = 0
    fit_masks: bool = False
    vector: VectorConfig | None = None

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.colors) == len(self.values):
            raise DataError(
                f"A class map must have as many names ({len(self.names)}) as colours ({len(self.colors)}) "
                f"and value lists ({len(self.values)})."
            )
        if not 1 <= len(self.names) < IGNORE_INDEX:
            raise DataError(
                f"A class map must have 1 to {IGNORE_INDEX - 1} classes, but has {len(self.names)}. Fix: "
                "`values` of a class may be several ([1, 2, 7]), or a range (1-40)."
            )
        if len(set(self.names)) != len(self.names):
            raise DataError(f"Class names must differ, but are {list(self.names)}.")
        try:
            twice = ambiguous_values([*self.values, self.ignore_values])
        except ValueError as error:
            raise DataError(f"A value of a class map {error}.") from error
        if twice:
            raise DataError(f"Each mask value must stand for one class, but {twice} stand for more than one.")

    @classmethod
    def from_config(cls, classes: Sequence[ClassConfig], ignore_values: Sequence[int | str] = ()) -> ClassMap:
        """Build the map from the recipe's `data.classes` and `data.ignore_values`."""
        return cls(
            names=tuple(entry.name for entry in classes),
            colors=tuple(entry.color.lower() for entry in classes),
            values=tuple(tuple(entry.values) for entry in classes),
            ignore_values=tuple(ignore_values),
        )

    @classmethod
    def of_recipe(cls, config: DataConfig) -> ClassMap:
        """Return the map of a data set that has none of its own: what the recipe says.

        Raises:
            ConfigError: If the recipe has no `data.classes`.
            DataError: As `read_as`.
        """
        if config.classes is None:
            raise ConfigError(
                f"Key `data.classes` is missing: data set {config.dataset} has no label map of its own. Fix: "
                "say what the values of its masks mean, as in "
                'classes: [{name: water, values: [1], color: "#2f7ed8"}]; '
                "`qhybrid data check` then names the values that no class has."
            )
        return cls.from_config(config.classes, config.ignore_values).read_as(config)

    def read_as(self, config: DataConfig) -> ClassMap:
        """Return the map with the keys of a recipe that say how label files are read.

        Raises:
            DataError: If `data.vector` names a class that is not in the map.
        """
        vector = config.vector
        for name in () if vector is None else filter(None, (vector.polygons, vector.background)):
            if name not in self.names:
                raise DataError(
                    f"Key `data.vector` must name classes of the map, but {name!r} is none of "
                    f"{', '.join(self.names)}."
                )
        return replace(
            self,
            color_tolerance=config.color_tolerance or self.color_tolerance,
            fit_masks=config.fit_masks or self.fit_masks,
            vector=vector or self.vector,
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ClassMap:
        """Rebuild a map from `to_dict`.

        Raises:
            DataError: If the mapping is not one that `to_dict` writes.
        """
        try:
            vector = content.get("vector")
            return cls(
                names=tuple(str(name) for name in content["names"]),
                colors=tuple(str(color) for color in content["colors"]),
                values=tuple(tuple(map(_plain_value, values)) for values in content["values"]),
                ignore_values=tuple(map(_plain_value, content.get("ignore_values", ()))),
                color_tolerance=int(content.get("color_tolerance", 0)),
                fit_masks=bool(content.get("fit_masks", False)),
                vector=None if vector is None else VectorConfig.model_validate(vector),
            )
        except (KeyError, TypeError, AttributeError, ValidationError) as error:
            raise DataError(f"Not a class map: {error!r} in {content!r}.") from error

    def to_dict(self) -> dict[str, Any]:
        """Return the map as plain lists, for JSON and YAML; what has its default is left out."""
        content: dict[str, Any] = {
            "names": list(self.names),
            "colors": list(self.colors),
            "values": [list(values) for values in self.values],
            "ignore_values": list(self.ignore_values),
        }
        if self.color_tolerance:
            content["color_tolerance"] = self.color_tolerance
        if self.fit_masks:
            content["fit_masks"] = True
        if self.vector is not None:
            content["vector"] = self.vector.model_dump(mode="json")
        return content

    @cached_property
    def tables(self) -> ValueTables:
        """The look-up tables of the values."""
        return ValueTables.build(self.values, self.ignore_values)

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
            raw: Values of a mask file, any shape; integers or floats (NaN is nodata). Outside the map's
                ranges floats must be whole.
            source: The file, for messages.
            nodata: A further value that stands for no class, unless the map gives it a class.

        Returns:
            Class indices, of the same shape, with `IGNORE_INDEX` where there is no class.

        Raises:
            DataError: If a value is neither a class's nor ignored.
        """
        indices, unknown = self._encode_numbers(raw, nodata)
        if unknown.any():
            raise DataError(self._unknown_values(raw[unknown], source))
        return indices

    def encode_colors(
        self, bands: NDArray[Any], source: str, nodata: float | None = None, index: NDArray[Any] | None = None
    ) -> NDArray[np.uint8]:
        """Turn the colours of a mask into class indices.

        A pixel's exact colour is looked up first; then its number; then the nearest colour within
        `color_tolerance`.

        Args:
            bands: Red, green and blue, shape (3, ...).
            source: The file, for messages.
            nodata: A number that stands for no class, unless the map gives it one.
            index: The pixels' own numbers where the colours are those of a palette; absent: the value of
                pixels whose three channels are equal.

        Returns:
            Class indices, with `IGNORE_INDEX` where there is no class.

        Raises:
            DataError: If a colour is neither a class's nor ignored; the message counts the colours.
        """
        packed = pack_colors(bands)
        indices, unknown = self.tables.encode_colors(packed)
        if unknown.any():
            numbers = bands[0] if index is None else index
            usable = unknown if index is not None else unknown & (bands[1:] == bands[:1]).all(axis=0)
            found, missing = self._encode_numbers(numbers[usable], nodata)
            indices[usable] = found
            unknown[usable] = missing
        if self.color_tolerance and unknown.any():
            open_pixels = unknown & (packed >= 0)
            colors, inverse = np.unique(packed[open_pixels], return_inverse=True)
            found, missing = self.tables.nearest_colors(colors, self.color_tolerance)
            indices[open_pixels] = found[inverse.reshape(-1)]
            unknown[open_pixels] = missing[inverse.reshape(-1)]
        if unknown.any():
            raise DataError(self._unknown_colors(packed[unknown], source))
        return indices

    @property
    def has_codes(self) -> bool:
        """Whether `decode` has a number for each class: not where one has only colours or text."""
        return None not in self.tables.codes

    @property
    def no_class_code(self) -> int:
        """What `decode` writes for `IGNORE_INDEX`.

        The first number of `ignore_values`, else `IGNORE_INDEX`, unless that number is a class's; then the
        highest one below that is free, else the lowest one above, else -1 or below.

        Raises:
            DataError: If the ranges of the classes leave no number of 16 bits free.
        """
        found = self._free_code()
        if found is None:
            raise DataError(
                f"A number must be free for pixels without a class, but {self._described()}. Fix: give both "
                "ends of the ranges under `data.classes`."
            )
        return found

    def decode(self, indices: NDArray[Any]) -> NDArray[Any]:
        """Turn class indices into mask values.

        Args:
            indices: Class indices or `IGNORE_INDEX`, any shape.

        Returns:
            The first number of each class (of a range its lower end, or its upper end where it has no lower
            one); `no_class_code` for `IGNORE_INDEX`. uint8 where all values fit, else int64. What is decoded
            is encoded to the same indices.

        Raises:
            DataError: If a class has no number, because it stands for colours or text alone; or if none is
                free for pixels without a class, and there are some.
        """
        written = [code for code in self.tables.codes if code is not None]
        if len(written) != self.num_classes:
            names = [name for name, code in zip(self.names, self.tables.codes) if code is None]
            raise DataError(
                f"Each class must have a number that can be written, but {', '.join(names)} "
                f"{'has' if len(names) == 1 else 'have'} colours or text alone. Fix: write class indices, or "
                "add a number to the `values` of each class."
            )
        nothing = self._free_code()
        if nothing is None:
            nothing = self.no_class_code if (np.asarray(indices) == IGNORE_INDEX).any() else written[0]
        fits = all(0 <= value <= 255 for value in [*written, nothing])
        table = np.full(IGNORE_INDEX + 1, nothing, dtype=np.uint8 if fits else np.int64)
        table[: self.num_classes] = written
        return np.asarray(table[indices])

    def as_written(self) -> ClassMap:
        """Return the map that reads masks written with this one: by `decode`, or else as class indices."""
        plain = replace(self, color_tolerance=0, fit_masks=False, vector=None)
        if self.has_codes:
            return plain
        indices = tuple((index,) for index in range(self.num_classes))
        return replace(plain, values=indices, ignore_values=())

    def _free_code(self) -> int | None:
        ignored = [value for value in self.ignore_values if isinstance(value, int)]
        candidates = chain(
            ignored, range(IGNORE_INDEX, -1, -1), range(IGNORE_INDEX + 1, 1 << 16), range(-1, -(1 << 15), -1)
        )
        free = (number for number in candidates if self.tables.of_number(number) in (None, IGNORE_INDEX))
        return next(free, None)

    def _encode_numbers(
        self, raw: NDArray[Any], nodata: float | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Look up numbers; NaN and nodata without a class stand for no class."""
        ignored = np.zeros(raw.shape, dtype=bool)
        skipped = None
        mapped = nodata is None or not np.isfinite(nodata) or self.tables.names_number(nodata)
        if raw.dtype.kind == "f":
            ignored = np.isnan(raw)
            if not mapped:
                with np.errstate(over="ignore"):
                    ignored |= raw == raw.dtype.type(nodata)
            raw = np.where(ignored, 0, raw)
        elif not mapped and float(nodata or 0).is_integer() and abs(nodata or 0) < 2**62:
            skipped = int(nodata or 0)
        indices, unknown = self.tables.encode_numbers(raw, skipped)
        indices[ignored] = IGNORE_INDEX
        return indices, unknown & ~ignored

    def _described(self) -> str:
        classes = ", ".join(f"{name}: {list(values)}" for name, values in zip(self.names, self.values))
        return f"the map has {classes}; ignored: {list(self.ignore_values)}"

    def _unknown_values(self, raw: NDArray[Any], source: str) -> str:
        values = np.unique(raw)
        whole = np.isfinite(values) & (values == np.floor(values))
        if not whole.all():
            return (
                f"{source}: mask values must be whole numbers, but some are not (type {raw.dtype}, such as "
                f"{values[~whole][0]}). Fix: write the mask as an integer raster of class values, or give "
                'ranges under `data.classes` (values: ["<0.5"]).'
            )
        shown = ", ".join(str(int(value)) for value in values[:10]) + (", ..." if len(values) > 10 else "")
        return (
            f"{source}: every mask value must be in the class map, but {shown} is not "
            f"({raw.size} pixels; {self._described()}). "
            "Fix: add the value to a class under `data.classes`, or to `data.ignore_values`; masks with soft "
            'edges need ranges (values: ["0-127"]).'
        )

    def _unknown_colors(self, packed: NDArray[np.int64], source: str) -> str:
        return (
            f"{source}: every colour of a mask must be in the class map, but these are not (pixels): "
            f"{color_counts(packed)} ({self._described()}; tolerance {self.color_tolerance}). Fix: add the "
            "colour to a class under `data.classes`, or to `data.ignore_values`; masks that were compressed "
            "with loss (JPEG) need `data.color_tolerance`."
        )


def _plain_value(value: Any) -> int | str:
    return value if isinstance(value, str) else int(value)
