"""What the bands of a map mean: classes by index or by mask value, probabilities, uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.errors import ConfigError

CODE_TYPES = ("uint8", "uint16", "int16", "int32")
"""Number types of maps of mask values, in the order in which they are tried."""

_MOST_TRIED = 1 << 12
"""Numbers that are tried for nodata, from the largest of a type."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class MapBands:
    """The bands of one map file.

    Attributes:
        names: Description of each band.
        dtype: Number type.
        nodata: Value of pixels without data; NaN in float files.
        values: Value, name and colour of each class in a map of classes; empty for measured quantities.
        tags: Metadata that says what the values are.
    """

    names: tuple[str, ...]
    dtype: str
    nodata: float
    values: tuple[tuple[int, str, Colour], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def categorical(self) -> bool:
        """Whether values are classes, which cannot be averaged."""
        return bool(self.values)

    def colormap(self) -> dict[int, tuple[int, int, int, int]] | None:
        """Return GDAL's colour table, nodata transparent; None where the number type can have none."""
        if not self.categorical or self.dtype not in ("uint8", "uint16"):
            return None
        table = {value: (*colour, 255) for value, _, colour in self.values}
        return {**table, int(self.nodata): (0, 0, 0, 0)}

    def sidecar(self) -> str | None:
        """Return GDAL's auxiliary file with the names of the classes; a GeoTIFF has no place for them.

        Names are a list by value where the values are 0, 1, 2, ...; else an attribute table with values,
        names and colours.
        """
        if not self.categorical:
            return None
        numbered = [value for value, _, _ in self.values] == list(range(len(self.values)))
        return _pam(_category_names(self.values) if numbered else _attribute_table(self.values))


def class_bands(classes: ClassMap, codes: bool = False) -> MapBands:
    """Return the band of a map of classes.

    Args:
        classes: The classes.
        codes: Write the first number of each class (of a range its lower end) in place of its index.

    Raises:
        ConfigError: If a class has no mask value, as where masks show classes as colours.
    """
    colours: list[Colour] = [(int(r), int(g), int(b)) for r, g, b in classes.palette()]
    numbers = list(range(classes.num_classes))
    dtype, nodata = "uint8", IGNORE_INDEX
    if codes:
        numbers = _codes(classes)
        dtype, nodata = _code_type(numbers, classes)
    names = {f"CLASS_{number}": name for number, name in zip(numbers, classes.names)}
    values = tuple(zip(numbers, classes.names, colours))
    return MapBands(("class",), dtype, nodata, values, names)


def probability_bands(classes: ClassMap) -> MapBands:
    """Return the bands of the class probabilities: one a class, NaN without data."""
    names = {f"CLASS_{index}": name for index, name in enumerate(classes.names)}
    return MapBands(classes.names, "float32", float("nan"), tags=names)


def code_table(bands: MapBands) -> NDArray[Any]:
    """Return the value on the map for each label, shape (256,): class indices and `IGNORE_INDEX`."""
    table = np.full(IGNORE_INDEX + 1, bands.nodata, dtype=bands.dtype)
    table[: len(bands.values)] = [value for value, _, _ in bands.values]
    return table


def _codes(classes: ClassMap) -> list[int]:
    codes = []
    for name, values, code in zip(classes.names, classes.values, classes.tables.codes):
        if code is None:
            shown = "none" if not values else repr(values[0])
            raise ConfigError(
                f"A map of mask values needs a number for each class, but class {name} has {shown}: a colour "
                "or a text cannot be the value of a pixel. Fix: leave `--codes` away; the map then holds "
                "class indices, with names and colours beside them."
            )
        codes.append(code)
    return codes


def _code_type(codes: list[int], classes: ClassMap) -> tuple[str, int]:
    """Return the smallest number type that holds all codes and a value for nodata, and that value.

    Nodata is the first ignored mask value if there is one, else 255, 0, or the type's largest free number:
    one that stands for no class, else one that only lies in a range with an open end, which does not name
    it; never the value of a class, nor in a range of one that has both ends.
    """
    tables = classes.tables

    def unused(value: int) -> bool:
        return tables.of_number(value) in (None, IGNORE_INDEX)

    def unnamed(value: int) -> bool:
        return value not in codes and not tables.names_number(value)

    ignored = [int(value) for value in classes.ignore_values[:1] if isinstance(value, int | np.integer)]
    for dtype in CODE_TYPES:
        limits = np.iinfo(dtype)
        if min(codes) < limits.min or max(codes) > limits.max:
            continue
        largest = range(limits.max, max(limits.min, limits.max - _MOST_TRIED) - 1, -1)
        for free in (unused, unnamed):
            for value in chain([*ignored, IGNORE_INDEX, 0], largest):
                if limits.min <= value <= limits.max and free(value):
                    return dtype, value
    raise ConfigError(
        "Mask values on a map must be 32-bit integers, with one left for pixels without data, but reach "
        f"from {min(codes)} to {max(codes)}. Fix: leave `--codes` away; the map then holds class indices."
    )


def _category_names(values: tuple[tuple[int, str, Colour], ...]) -> str:
    names = "".join(f"      <Category>{escape(name)}</Category>\n" for _, name, _ in values)
    return f"    <CategoryNames>\n{names}    </CategoryNames>\n"


def _attribute_table(values: tuple[tuple[int, str, Colour], ...]) -> str:
    # Types and usages by GDAL's numbers: integer 0, text 2; name 2, class value 5, red 6, green 7, blue 8.
    columns = (("value", 0, 5), ("class", 2, 2), ("red", 0, 6), ("green", 0, 7), ("blue", 0, 8))
    fields = "".join(
        f'      <FieldDefn index="{index}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage>'
        "</FieldDefn>\n"
        for index, (name, kind, usage) in enumerate(columns)
    )
    rows = "".join(
        f'      <Row index="{index}">'
        + "".join(f"<F>{escape(str(cell))}</F>" for cell in (value, name, *colour))
        + "</Row>\n"
        for index, (value, name, colour) in enumerate(values)
    )
    tag = "GDALRasterAttributeTable"
    return f'    <{tag} tableType="thematic">\n{fields}{rows}    </{tag}>\n'


def _pam(content: str) -> str:
    return f'<PAMDataset>\n  <PAMRasterBand band="1">\n{content}  </PAMRasterBand>\n</PAMDataset>\n'
