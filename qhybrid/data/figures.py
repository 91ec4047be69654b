"""Figures as files, with names in them as they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.textpath import TextPath

from qhybrid.data.fonts import missing_characters_told_once, with_fonts
from qhybrid.workspace import atomic_path

DPI = 110
MOST_NAMED = 40
"""Classes that a legend names, and that a confusion matrix has numbers of; of more there is no room."""
_LONGEST = 40
"""Letters of a name in a legend."""


def add_class_legend(
    figure: Figure,
    names: Sequence[str],
    colors: Sequence[Any],
    others: Mapping[str, Any],
    fontsize: float = 11,
    most: int = MOST_NAMED,
) -> None:
    """Put a legend of classes below a figure, in as many columns as its width has room for.

    Args:
        figure: The figure, of layout "constrained".
        names: Names of the classes.
        colors: Their colours.
        others: Colours of what is no class, by its name.
        fontsize: Of the names, in points.
        most: Classes that are named; how many more there are is said.
    """
    entries = [*zip(map(_short, names), colors)][:most]
    if (more := len(names) - len(entries)) > 0:
        entries.append((f"and {more} more classes", "none"))
    entries += others.items()
    patches = [
        Patch(facecolor=color, edgecolor="none" if color == "none" else "#555555", linewidth=0.5, label=name)
        for name, color in entries
    ]
    # Patch and gaps take five times the height of the font.
    wide = 5 * fontsize + max(_width(name, fontsize) for name, _ in entries)
    columns = max(1, min(len(entries), 8, int(72 * figure.get_figwidth() / wide)))
    figure.legend(
        handles=patches, loc="outside lower center", ncols=columns, frameon=False, fontsize=fontsize
    )


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 16]}...{name[-13:]}"


def _width(name: str, fontsize: float) -> float:
    """Return how wide a name is in points."""
    return float(TextPath((0, 0), name.replace("$", r"\$"), size=fontsize).get_extents().width)


def save_figure(figure: Figure, output: Path, dpi: int = DPI) -> Path:
    """Write a figure as a PNG file, whole or not at all, and return its path."""
    as_written(figure)
    with_fonts(figure.findobj(Text))
    with atomic_path(output) as temporary, missing_characters_told_once():
        figure.savefig(temporary, dpi=dpi, facecolor="white", format="png")
    return output


def as_written(figure: Figure) -> None:
    """Let texts of a figure be what they say: two dollar signs in a class name are no formula.

    Powers at the ticks of logarithmic axes stay what they are.
    """
    powers = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        if axis.get_scale() == "log"
        for label in axis.get_ticklabels(which="both")
    }
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in powers:
            text.set_parse_math(False)
