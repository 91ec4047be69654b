"""Figures as files, with names in them as they are written."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.text import Text

from qhybrid.workspace import atomic_path

DPI = 110
MOST_NAMED = 40
"""Classes that a legend names, and that a confusion matrix has numbers of; of more there is no room."""


def save_figure(figure: Figure, output: Path, dpi: int = DPI) -> Path:
    """Write a figure as a PNG file, whole or not at all, and return its path."""
    as_written(figure)
    with atomic_path(output) as temporary:
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
