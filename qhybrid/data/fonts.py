"""Fonts for names in other scripts: matplotlib's own has no Hangul, no Han and no Devanagari."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

from matplotlib import font_manager, rcParams
from matplotlib.font_manager import FontEntry, FontProperties, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

_REGULAR = (400, "normal", "regular", "book")
_LAST_RESORT = "Last Resort"
"""Begins the name of a font that has a box for every character."""


def with_fonts(texts: Iterable[Text]) -> None:
    """Give texts a font of this machine for the characters that the usual one lacks.

    Warns:
        UserWarning: If no font has a character; the picture has a box in its place.
    """
    shown = [(text, {one for one in text.get_text() if ord(one) > 126}) for text in texts]
    usual = _characters(font_manager.findfont(FontProperties(family=rcParams["font.family"])))
    missing = frozenset().union(*(characters for _, characters in shown)) - usual
    if not missing:
        return
    families = fonts_for(missing)
    for text, characters in shown:
        if characters & missing:
            text.set_fontfamily([*rcParams["font.family"], *families])


@contextmanager
def missing_characters_told_once() -> Iterator[None]:
    """Draw without a warning for each character that the font lacks; `with_fonts` tells of all at once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        yield


@lru_cache(maxsize=64)
def fonts_for(missing: frozenset[str]) -> tuple[str, ...]:
    """Return names of fonts of this machine that have characters, as few as it takes.

    Args:
        missing: The characters; see `with_fonts` for those that no font has.
    """
    left, found = set(missing), []
    for fonts in (_known, _new):
        having = {entry.name: _characters(entry.fname) & left for entry in fonts()}
        while left and (name := max(having, key=lambda one: len(having[one] & left), default="")):
            if not having[name] & left:
                break
            left -= having[name]
            found.append(name)
    if left:
        some = "".join(sorted(left)[:10])
        warnings.warn(
            f"No font of this machine has {some}{' and others' if len(left) > 10 else ''}: pictures show "
            "boxes in their place. Fix: install a font of that script, such as Noto Sans CJK.",
            stacklevel=5,
        )
    return tuple(found)


def _known() -> list[FontEntry]:
    return [
        one
        for one in fontManager.ttflist
        if one.style == "normal" and one.weight in _REGULAR and not one.name.startswith(_LAST_RESORT)
    ]


def _new() -> list[FontEntry]:
    """Return the fonts that were installed since matplotlib listed them."""
    listed = {entry.fname for entry in fontManager.ttflist}
    for file in font_manager.findSystemFonts():
        if file not in listed:
            with suppress(OSError, RuntimeError, ValueError):
                fontManager.addfont(file)
    return [entry for entry in _known() if entry.fname not in listed]


@lru_cache(maxsize=1024)
def _characters(file: str) -> frozenset[str]:
    """Return the characters of a font file; none of one that is damaged or has no outlines, as emoji."""
    try:
        font = FT2Font(file)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()
