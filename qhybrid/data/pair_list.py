"""Lists of images and masks: a CSV file with the columns image, mask, split, location and window."""

from __future__ import annotations

import csv
import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qhybrid.data.locations import join_location, local_file
from qhybrid.data.raster import Window
from qhybrid.data.scenes import SPLITS, Scene
from qhybrid.errors import DataError, DatasetNotFoundError

COLUMNS = ("image", "mask", "split", "location", "window")


@dataclass(frozen=True)
class PairList:
    """What a list says.

    Attributes:
        scenes: All scenes, in the order of the lines.
        splits: The split of each; None where the list has no such column.
        locations: The location of each; None where the list has no such column.
    """

    scenes: tuple[Scene, ...]
    splits: tuple[str, ...] | None
    locations: tuple[str, ...] | None


@dataclass(frozen=True)
class _Row:
    """One line: its number, and what it says in the known columns."""

    line: int
    values: dict[str, str]
    image: Path
    mask: Path | None
    window: Window | None


def read_pairs(file: Path, mask: Path | None = None) -> PairList:
    """Read a list of pairs.

    Paths in it are relative to its folder; URLs and `/vsi...` names stand for themselves. A window is
    `row column height width` in pixels, counted from 0. Other columns are passed over.

    Args:
        file: The list: comma, semicolon or tab between columns.
        mask: Labels of all images, where the list has no column `mask`.

    Raises:
        DatasetNotFoundError: If the list is missing.
        DataError: If a column is missing, or a line is wrong; the message has its number.
    """
    columns, lines = _read(file)
    needed = ["image"] if mask is not None else ["image", "mask"]
    missing = [column for column in needed if column not in columns]
    if missing:
        near = difflib.get_close_matches(missing[0], columns, n=1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        raise DataError(
            f"{file}: must have the columns {', '.join(needed)}, but has {', '.join(columns)}.{hint} Fix: "
            f"name the columns in the first line; known are {', '.join(COLUMNS)}."
        )
    rows = [_row(file, line, values, mask) for line, values in lines]
    if not rows:
        raise DataError(f"{file}: must have a line for each image, but has none. Fix: fill it.")
    _check_once(file, rows)
    splits = tuple(_split(file, row) for row in rows) if "split" in columns else None
    locations = tuple(_location(file, row) for row in rows) if "location" in columns else None
    if splits is not None and locations is not None:
        _check_locations(file, rows, splits, locations)
    shown = locations or splits or ("",) * len(rows)
    scenes = tuple(
        Scene(name, row.image, row.mask, location, row.window)
        for name, row, location in zip(_names(rows), rows, shown)
    )
    return PairList(scenes, splits, locations)


def _read(file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the columns, and (line number, values by column) of every line that is not empty."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            header = handle.readline()
            handle.seek(0)
            delimiter = max(",;\t", key=header.count)
            reader = csv.reader(handle, delimiter=delimiter)
            columns = [column.strip().lower() for column in next(reader, [])]
            lines = []
            for values in reader:
                if any(value.strip() for value in values):
                    if len(values) > len(columns):
                        raise DataError(
                            f"{file}, line {reader.line_num}: must have {len(columns)} columns, but has "
                            f"{len(values)}. Fix: put quotes around values with a `{delimiter}` inside."
                        )
                    lines.append((reader.line_num, dict(zip(columns, map(str.strip, values)))))
    except FileNotFoundError as error:
        raise DatasetNotFoundError(
            f"{file}: must be a list of images and masks, but is missing. Fix: check `data.options.pairs`, "
            "`data.root` and --data-root (or QHYBRID_DATA)."
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: must be a CSV file in UTF-8, but cannot be read ({error}).") from error
    twice = [column for column, count in Counter(columns).items() if count > 1 and column in COLUMNS]
    if twice:
        raise DataError(f"{file}: each column must be there once, but not so {twice[0]}.")
    return columns, lines


def _row(file: Path, line: int, values: dict[str, str], mask: Path | None) -> _Row:
    places = {}
    for column in ("image", "mask"):
        if column == "mask" and mask is not None:
            places[column] = mask
            continue
        if not values.get(column):
            raise DataError(f"{file}, line {line}: must name the {column}, but column {column} is empty.")
        places[column] = join_location(file.parent, values[column])
        here = local_file(places[column])
        if here is not None and not here.is_file():
            raise DataError(
                f"{file}, line {line}: {column} {places[column]} must be a file, but is missing. Fix: give "
                f"paths relative to {file.parent}."
            )
    return _Row(line, values, places["image"], places["mask"], _window(file, line, values.get("window", "")))


def _window(file: Path, line: int, text: str) -> Window | None:
    if not text:
        return None
    numbers = [part for part in re.split(r"[\s,;]+", text.strip("()[] ")) if part]
    if len(numbers) != 4 or not all(re.fullmatch(r"\d+", number) for number in numbers):
        raise DataError(f"{file}, line {line}: window must be `row column height width`, but is {text!r}.")
    window = Window(*map(int, numbers))
    if min(window.height, window.width) < 1:
        raise DataError(f"{file}, line {line}: a window must have pixels, but is {text!r}.")
    return window


def _split(file: Path, row: _Row) -> str:
    split = row.values.get("split", "")
    if split not in SPLITS:
        near = difflib.get_close_matches(split, SPLITS, n=1, cutoff=0.4)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        raise DataError(
            f"{file}, line {row.line}: split must be one of {', '.join(SPLITS)}, but is {split!r}.{hint}"
        )
    return split


def _location(file: Path, row: _Row) -> str:
    location = row.values.get("location", "")
    if not location:
        raise DataError(
            f"{file}, line {row.line}: must name the location, but column location is empty. Fix: fill it in "
            "all lines, or leave the column out."
        )
    return location


def _check_once(file: Path, rows: Sequence[_Row]) -> None:
    seen: dict[tuple[Path, Window | None], int] = {}
    for row in rows:
        before = seen.setdefault((row.image, row.window), row.line)
        if before != row.line:
            raise DataError(
                f"{file}, lines {before} and {row.line}: an image must be listed once for each window, but "
                f"both are {row.image}. Fix: remove one."
            )


def _check_locations(
    file: Path, rows: Sequence[_Row], splits: Sequence[str], locations: Sequence[str]
) -> None:
    seen: dict[str, tuple[str, int]] = {}
    for row, split, location in zip(rows, splits, locations):
        before = seen.setdefault(location, (split, row.line))
        if before[0] != split:
            raise DataError(
                f"{file}, lines {before[1]} and {row.line}: location {location} must be in one split, but is "
                f"in {before[0]} and {split}."
            )


def _names(rows: Sequence[_Row]) -> list[str]:
    """Return unique names: those of the images; where several share one, with the window's place or line."""
    names = [row.image.name.split("?")[0].rpartition(".")[0] or row.image.name for row in rows]
    counts = Counter(names)
    names = [
        f"{name}_{row.window.row}_{row.window.col}" if counts[name] > 1 and row.window else name
        for name, row in zip(names, rows)
    ]
    counts = Counter(names)
    return [f"{name}_line{row.line}" if counts[name] > 1 else name for name, row in zip(names, rows)]
