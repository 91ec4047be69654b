"""Which bands of a file are those that a model was trained on: by names where files have them, else by place.

Names are descriptions ("Red", "B08"), else colour interpretations. A description that only numbers the band
("Band 1") tells nothing but an order, and GDAL calls any three bands of 8 bits red, green and blue.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np

from qhybrid.data.raster import RasterInfo
from qhybrid.data.raster_file import BandInfo
from qhybrid.errors import DataError

_SYNONYMS = {
    "r": "red",
    "g": "green",
    "b": "blue",
    "n": "nir",
    "nearinfrared": "nir",
    "infrared": "nir",
    "grey": "gray",
}
_NUMBERED = re.compile(r"(?:band|layer|channel|raster)?0*(\d+)")
_COLORS = ("coastal", "blue", "green", "red", "rededge", "nir", "swir", "mwir", "lwir", "tir", "pan")
"""Colour interpretations that name a part of the spectrum."""
_DEFAULT = ("red", "green", "blue")


@dataclass(frozen=True)
class BandInput:
    """A band as a model was trained on it.

    Attributes:
        number: Its 1-based number in the first training scene.
        name: Its description there; empty if it has none.
        color: Its colour interpretation there.
        dtype: Number type there; None if it is not known.
        scale: Physical value = number * scale + offset, as the first training scene says.
        offset: See `scale`.
        nodata: Its own value for "no data" there.
        inverted: 0 was white there (TIFF's MINISWHITE); None: runs of earlier versions do not say.
        mean: Mean of the training pixels.
        std: Standard deviation of the training pixels.
        low: 0.5th percentile of the training pixels.
        high: 99.5th percentile of the training pixels.
    """

    number: int
    name: str = ""
    color: str = "undefined"
    dtype: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    mean: float = 0.0
    std: float = 0.0
    low: float = 0.0
    high: float = 0.0
    inverted: bool | None = False

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"{self.number} ({self.name})" if self.name else str(self.number)

    def to_dict(self) -> dict[str, Any]:
        """Return the band as plain values for JSON, which has no word for a nodata of NaN: that is text."""
        nodata = self.nodata
        finite = nodata is None or np.isfinite(nodata)
        content = {**asdict(self), "nodata": nodata if finite else str(nodata)}
        if self.inverted is None or not (self.inverted or self._may_be_inverted):
            del content["inverted"]  # earlier versions did not have it
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild a band from `to_dict`; what newer versions say besides is left out."""
        names = {one.name for one in fields(cls)}
        nodata = content["nodata"]
        known = {key: value for key, value in content.items() if key in names}
        band = cls(**{**known, "nodata": None if nodata is None else float(nodata)})
        unknown = "inverted" not in content and band._may_be_inverted
        return replace(band, inverted=None) if unknown else band

    @property
    def _may_be_inverted(self) -> bool:
        """Whether 0 may have been white in a file of which no more is known than this."""
        unsigned = self.dtype is None or np.dtype(self.dtype).kind == "u"
        return self.number == 1 and self.color == "undefined" and unsigned


@dataclass(frozen=True)
class _Labels:
    """What the bands of a file are called, in a form that can be compared.

    Attributes:
        words: Names that tell, by place; None where there is none.
        numbers: Numbers in descriptions such as "Band 3"; None unless all bands have one.
        described: Whether the words are descriptions.
        default: Whether the words are red, green and blue as GDAL calls any three bands of 8 bits.
    """

    words: tuple[str | None, ...]
    numbers: tuple[int, ...] | None
    described: bool
    default: bool


def _plain(text: str) -> str:
    """Return a name without case, spaces, punctuation and leading zeros of numbers."""
    plain = re.sub(r"[\W_]+", "", text.casefold())
    return _SYNONYMS.get(plain, re.sub(r"(?<!\d)0+(?=\d)", "", plain))


def _labels(bands: Sequence[BandInfo | BandInput], alpha: Sequence[int] = ()) -> _Labels:
    texts = [_plain(band.name if isinstance(band, BandInput) else band.description) for band in bands]
    matches = [_NUMBERED.fullmatch(text) for text in texts]
    numbers = tuple(int(match.group(1)) for match in matches if match)
    told = [None if match or not text else text for text, match in zip(texts, matches)]
    times = Counter(told)
    words = [word if times[word] == 1 else None for word in told]
    described = any(words)
    default = False
    if not described:
        colors = [band.color if band.color in _COLORS else None for band in bands]
        times = Counter(colors)
        words = [color if times[color] == 1 else None for color in colors]
        places = [band.number if isinstance(band, BandInput) else at for at, band in enumerate(bands, 1)]
        usual = dict(enumerate(_DEFAULT, 1))
        default = any(words) and all(word in (None, usual.get(at)) for word, at in zip(words, places))
    words = [None if place + 1 in alpha and not described else word for place, word in enumerate(words)]
    return _Labels(tuple(words), numbers if len(numbers) == len(bands) else None, described, default)


def match_bands(
    picture: RasterInfo, wanted: Sequence[BandInput], every: bool, known: bool = True
) -> tuple[int, ...]:
    """Return which bands of a file are those that a model was trained on.

    Args:
        picture: What the file offers as an image (`as_picture`).
        wanted: The bands of the model, in its order.
        every: The model was trained on all bands of its scenes.
        known: Whether names and types of the training bands are known.

    Returns:
        1-based numbers, in the model's order.

    Raises:
        DataError: If bands are missing, or names contradict.
    """
    asked, offered = _labels(wanted), _labels(picture.bands, picture.alpha)
    places = _by_place(picture, wanted, every)
    if places and known and not (asked.described or offered.described):
        by_number = _by_number([band.number for band in wanted], asked, offered)
        if by_number is not None:
            return by_number
    if not known or not (any(asked.words) and any(offered.words)):
        return places or _refuse_count(picture, wanted, every)
    found = [offered.words.index(word) + 1 if word in offered.words else None for word in asked.words]
    complete = tuple(number for word, number in zip(asked.words, found) if word and number)
    weak = (asked.default and offered.described) or (offered.default and asked.described)
    if places is None:
        told = len(complete) == len(wanted) and not (weak and sorted(complete) != list(complete))
        return complete if told else _refuse_count(picture, wanted, every)
    pairs = [(word, offered.words[place - 1]) for word, place in zip(asked.words, places)]
    apart = _at_other_places(asked.words, [offered.words[place - 1] for place in places])
    if not apart and all(word is None or other is None or word == other for word, other in pairs):
        return places
    # A default against descriptions: "blue, green, red" contradicts it, "nir, red, green" tells that nobody
    # set the colours.
    both = [(word, other) for word, other in pairs if word and other]
    if weak and {word for word, _ in both} != {other for _, other in both}:
        return places
    if len(complete) != len(wanted) or weak:
        raise DataError(_contradiction(picture, wanted, places, complete))
    return complete


def swapped_ends(own: Sequence[BandInfo], wanted: Sequence[BandInput]) -> tuple[list[int], list[int]]:
    """Return the places of bands whose 0 is white where training's is black, or the reverse.

    Returns:
        Those whose numbers v become training's as `largest - v`; and those of which that is not sure, because
        training's files are not known or no largest number is.
    """
    sure: list[int] = []
    unsure: list[int] = []
    for place, (here, band) in enumerate(zip(own, wanted)):
        if band.inverted is None:
            unsure += [place] if here.inverted else []
        elif here.inverted != band.inverted:
            (unsure if here.largest is None else sure).append(place)
    return sure, unsure


def _at_other_places(words: Sequence[str | None], others: Sequence[str | None]) -> bool:
    """Return whether a name is that of another band on the other side, beside bands without a name."""
    return any(word and word in others and others.index(word) != at for at, word in enumerate(words))


def _by_place(picture: RasterInfo, wanted: Sequence[BandInput], every: bool) -> tuple[int, ...] | None:
    """Return the bands with the training scenes' numbers; None if the file does not have just these."""
    numbers = tuple(band.number for band in wanted)
    if not every:
        return numbers if max(numbers) <= picture.count else None
    data = picture.data_bands()
    if len(data) == len(wanted):
        return data
    # GDAL calls the fourth band of any 8-bit file alpha.
    return numbers if picture.count == len(wanted) and max(numbers) <= picture.count else None


def _by_number(trained: Sequence[int], asked: _Labels, offered: _Labels) -> tuple[int, ...] | None:
    """Return the bands in the order of their numbered descriptions ("Band 3"), where both files have them."""
    mine, theirs = asked.numbers, offered.numbers
    if mine is None or theirs is None or len(set(theirs)) < len(theirs):
        return None
    if sorted(mine) == sorted(theirs):
        return tuple(theirs.index(number) + 1 for number in mine)
    # Training scenes in the order of their numbers, of which some bands were taken; either may count from 0.
    usual = {name - number for name, number in zip(mine, trained)} in ({0}, {-1})
    if not usual or sorted(theirs) not in (list(range(len(theirs))), list(range(1, len(theirs) + 1))):
        return None
    wanted = [number - 1 + min(theirs) for number in trained]
    if not set(wanted) <= set(theirs):
        return None
    return tuple(theirs.index(number) + 1 for number in wanted)


def _refuse_count(picture: RasterInfo, wanted: Sequence[BandInput], every: bool) -> tuple[int, ...]:
    data = picture.data_bands()
    kept = f" ({len(data)} without alpha)" if every and len(data) != picture.count else ""
    raise DataError(
        f"{picture.path}: the model was trained on band(s) {', '.join(band.shown for band in wanted)}, but "
        f"the scene has {picture.count} band(s){kept}. Fix: use scenes with the bands of the training data, "
        "say which of its bands they are with `--bands`, or train with `data.bands` set to the bands that "
        "all scenes share."
    )


def _contradiction(
    picture: RasterInfo,
    wanted: Sequence[BandInput],
    places: Sequence[int],
    complete: Sequence[int],
) -> str:
    trained = ", ".join(band.name or band.color for band in wanted)
    bands = [picture.bands[place - 1] for place in places]
    here = ", ".join(band.description or band.color for band in bands)
    orders = [",".join(map(str, numbers)) for numbers in (places, complete) if len(numbers) == len(wanted)]
    return (
        f"{picture.path}: bands must be those that the model was trained on, by name: {trained}; but band(s) "
        f"{', '.join(map(str, places))} of this scene are called {here}. Fix: say which bands are meant with "
        f"`--bands` ({' or '.join(orders)}); in a training set, correct the names in the files "
        "(gdal_edit.py) or leave the scene out."
    )


def check_given(picture: RasterInfo, given: Sequence[int], wanted: Sequence[BandInput]) -> tuple[int, ...]:
    """Return the bands that a user chose for a model.

    Raises:
        DataError: If the file lacks one, or the model needs another number of bands.
    """
    numbers = tuple(given)
    wrong = [number for number in numbers if not 1 <= number <= picture.count]
    if len(numbers) != len(wanted) or wrong:
        raise DataError(
            f"{picture.path}: `--bands` must be {len(wanted)} band number(s) from 1 to {picture.count}, one "
            f"for each of the model's bands {', '.join(band.shown for band in wanted)}, but is "
            f"{','.join(map(str, numbers))}. Fix: give as many, in the model's order."
        )
    return numbers


def check_no_mask(
    picture: RasterInfo, numbers: Sequence[int], wanted: Sequence[BandInput], extremes: Any
) -> None:
    """Refuse a mask in place of a band of data.

    Args:
        picture: What the file offers as an image.
        numbers: Its bands, in the model's order.
        wanted: The model's bands.
        extremes: Whether bands have no other values than the smallest and the largest of their type.

    Raises:
        DataError: If a band that is called alpha is all 0 or 255, and the model's band was not.
    """
    for number, band, ends in zip(numbers, wanted, extremes):
        filled = band.low == band.high or (band.low, band.high) == (0, 255)
        if number in picture.alpha and ends and not filled:
            raise DataError(
                f"{picture.path}: band {number} must be data as band {band.shown} of the training scenes "
                f"({band.low:.4g} to {band.high:.4g}), but it is a mask: it is called alpha and has no other "
                "values than 0 and the largest. Fix: use scenes with the bands of the training data, or "
                "choose bands with `--bands`."
            )


def named_places(wanted: Sequence[str], bands: Sequence[BandInput]) -> tuple[int, ...] | None:
    """Return which of a model's bands have some names, from 1.

    Names are descriptions, else colour interpretations that somebody has set: that three bands of 8 bits are
    red, green and blue is GDAL's default and tells nothing.

    Args:
        wanted: Names such as "red" or "B04"; case, spaces and leading zeros do not matter.
        bands: The model's bands.

    Returns:
        None if a name is missing.
    """
    words = _told(bands)
    plain = [_plain(name) for name in wanted]
    return tuple(words.index(name) + 1 for name in plain) if set(plain) <= set(words) else None


def has_names(bands: Sequence[BandInput]) -> bool:
    """Return whether names tell what a band shows: not numbers such as "Band 3", and not GDAL's default."""
    return any(_told(bands))


def _told(bands: Sequence[BandInput]) -> tuple[str | None, ...]:
    labels = _labels(bands)
    return () if labels.default else labels.words
