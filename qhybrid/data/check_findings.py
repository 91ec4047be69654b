"""What a check of a data set finds: problems, and what there is in each split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["split", "file", "labels", "leak", "near-copy", "neighbours", "class", "statistics"]
"""What a problem is about: a split that is missing or empty, a file or mask that cannot be used, a split
without labels, one place in two splits, near-copies in two splits, neighbours of one object in two splits, a
class that a split lacks, values far from those of training."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong or worth a look.

    Attributes:
        kind: What it is about.
        splits: The splits it concerns.
        message: What must hold, what was found, and the remedy.
        severe: Whether it is wrong; else it is worth a look.
    """

    kind: Kind
    splits: tuple[str, ...]
    message: str
    severe: bool = True


_OF_ONE_FILE = re.compile(r"\S*/\S+|\(\d[\d,]* pixels")


def told_once(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems for people: of those that differ in the file and its pixels alone, the first one.

    Args:
        problems: All problems.

    Returns:
        The first of each kind, whose message says of how many others the same is true and names some.
    """
    kinds: dict[tuple[object, ...], list[Problem]] = {}
    for one in problems:
        key = (one.kind, one.severe, _OF_ONE_FILE.sub("", one.message))
        kinds.setdefault(key, []).append(one)
    return [_with_others(first, others) for first, *others in kinds.values()]


def _with_others(first: Problem, others: Sequence[Problem]) -> Problem:
    if not others:
        return first
    paths = [one.message.split(": ")[0] for one in (first, *others)]
    names = [Path(path).name for path in paths]
    shown = (names if len(set(names)) == len(names) else paths)[1:]
    text = ", ".join(shown[:3]) + (", ..." if len(others) > 3 else "")
    return replace(first, message=f"{first.message} The same of {len(others)} more: {text}")


@dataclass(frozen=True, eq=False)
class Example:
    """A small copy of an image for the contact sheet.

    Attributes:
        name: Of the scene or image.
        image: Values of up to three bands, shape (C, h, w); NaN where there is no data.
        labels: Class indices, shape (h, w); None without a mask.
        label: Name of the class of a whole image; empty where pixels have classes.
    """

    name: str
    image: NDArray[np.float32]
    labels: NDArray[np.uint8] | None = None
    label: str = ""


class Moments:
    """Mean and standard deviation of each band, by merging blocks (Chan et al.).

    Attributes:
        count: Values of each band so far.
        mean: Their means, shape (C,).
    """

    def __init__(self, bands: int) -> None:
        """Start with no values."""
        self.count = 0
        self.mean = np.zeros(bands)
        self._squares = np.zeros(bands)

    def add(self, values: NDArray[Any]) -> None:
        """Add values, shape (C, n)."""
        if values.shape[1]:
            more = Moments(len(values))
            more.count = values.shape[1]
            more.mean = values.mean(axis=1, dtype=np.float64)
            more._squares = ((values - more.mean[:, None]) ** 2).sum(axis=1)
            self.merge(more)

    def merge(self, more: Moments) -> None:
        """Add the values that other moments were made of."""
        if not more.count:
            return
        delta, total = more.mean - self.mean, self.count + more.count
        self._squares += more._squares + delta**2 * (self.count * more.count / total)
        self.mean = self.mean + delta * (more.count / total)
        self.count = total

    @property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviations, shape (C,)."""
        return np.asarray(np.sqrt(self._squares / max(1, self.count)))


@dataclass
class SplitFindings:
    """What there is in one split.

    Attributes:
        count: Scenes or images that could be looked at.
        pixels: Their pixels.
        valid: Pixels with data; None where images were not read.
        per_class: Labelled pixels of each class, or images of each class in classification; None where labels
            were not read.
        moments: Of the bands; None where images were not read.
        names: Of the scenes or images, one for each of `copies`.
        copies: Small grey copies, by which near-copies are found.
        smallest: The shortest side of an image, in pixels.
        examples: For the contact sheet.
    """

    count: int = 0
    pixels: int = 0
    valid: int | None = None
    per_class: NDArray[np.int64] | None = None
    moments: Moments | None = None
    names: list[str] = field(default_factory=list)
    copies: list[NDArray[np.float32] | None] = field(default_factory=list)
    smallest: int = 1 << 30
    examples: list[Example] = field(default_factory=list)

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return counts and statistics for JSON; what was not read is absent."""
        content: dict[str, Any] = {"count": self.count, "pixels": self.pixels}
        if self.valid is not None:
            content["valid_pixels"] = self.valid
        if self.per_class is not None:
            content["per_class"] = dict(zip(class_names, map(int, self.per_class)))
        if self.moments is not None and self.moments.count:
            content |= {"mean": self.moments.mean.tolist(), "std": self.moments.std.tolist()}
        return content


@dataclass
class DataCheck:
    """The result of a check.

    Attributes:
        unit: What a split consists of: `scenes` or `images`.
        class_names: Names of the classes, by index.
        counted: What `SplitFindings.per_class` counts: `pixels` or `images`.
        colors: Colours of the classes as `#rrggbb`.
        splits: What there is in each split.
        problems: All that is wrong or worth a look.
        overlapping: Names of scenes of two splits that show the same ground.
        near_duplicates: Images of two splits that are near-duplicates: both splits and names, the
            correlation, and whether the one is a mirrored or rotated copy.
    """

    unit: str
    class_names: tuple[str, ...]
    counted: str
    colors: tuple[str, ...]
    splits: dict[str, SplitFindings] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    overlapping: set[tuple[str, str]] = field(default_factory=set)
    near_duplicates: list[dict[str, Any]] = field(default_factory=list)
    _known: set[Problem] = field(default_factory=set, repr=False)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; there may be things worth a look."""
        return not any(problem.severe for problem in self.problems)

    def add(self, kind: Kind, splits: Iterable[str], message: object, *, severe: bool = True) -> None:
        """Record a problem, once."""
        problem = Problem(kind, tuple(splits), str(message), severe)
        if problem not in self._known:  # scenes may share a file
            self._known.add(problem)
            self.problems.append(problem)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the pictures, for JSON."""
        problems = [
            {"kind": one.kind, "splits": list(one.splits), "severe": one.severe, "message": one.message}
            for one in self.problems
        ]
        splits = {name: found.to_dict(self.class_names) for name, found in self.splits.items()}
        return {
            "ok": self.ok,
            "unit": self.unit,
            "counted": self.counted,
            "splits": splits,
            "problems": problems,
            **({"near_duplicates": self.near_duplicates} if self.near_duplicates else {}),
        }
