"""Charts as inline SVG whose colours and fonts are the page's, in its light and its dark form."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from qhybrid.data.figures import as_written
from qhybrid.data.fonts import missing_characters_told_once

# Colours that matplotlib draws with, and the page's variables that take their place.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = tuple(f"#0500{index:02x}" for index in range(8))
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "rule", PAPER: "paper"} | {
    color: f"series-{index + 1}" for index, color in enumerate(SERIES)
}
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")


def chart_style() -> AbstractContextManager[None]:
    """Return the settings that charts are drawn with."""
    return mpl.rc_context(
        {
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 9.5,
            "text.color": INK,
            "axes.labelcolor": MUTED,
            "axes.titlecolor": INK,
            "axes.titlesize": 10.5,
            "axes.titlelocation": "left",
            "axes.titlepad": 9,
            "axes.edgecolor": MUTED,
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.facecolor": "none",
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": GRID,
            "grid.linewidth": 0.6,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "lines.linewidth": 1.5,
            "legend.frameon": False,
            "figure.facecolor": "none",
        }
    )


def figure_svg(figure: Figure, name: str, label: str) -> Markup:
    """Return a figure as an `<svg>` element.

    Args:
        figure: The figure, drawn within `chart_style()`.
        name: Unique on the page: it makes the element's ids unique.
        label: What the chart shows, for readers who do not see it.
    """
    text = io.StringIO()
    as_written(figure)
    with missing_characters_told_once():  # the reader's browser has fonts of its own
        figure.savefig(text, format="svg", metadata=_no_metadata())
    return inline_svg(text.getvalue(), name, label)


def _no_metadata() -> dict[str, Any]:
    return dict.fromkeys(("Date", "Creator", "Format", "Type"))


def inline_svg(text: str, name: str, label: str) -> Markup:
    """Return an SVG file's content as an element that can stand in a page beside others."""
    start = text.index("<svg")
    body = re.sub(r"<metadata>.*?</metadata>", "", text[start:], flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    for color, variable in _VARIABLES.items():
        body = body.replace(color, f"var(--{variable})")
    # The page decides on the size; the width in points becomes the largest one.
    width = re.search(r'<svg[^>]*? width="([\d.]+)pt"', body)
    opening = re.sub(r' (width|height)="[\d.]+pt"', "", body[: body.index(">") + 1])
    style = f' style="max-width:{float(width[1]) * 4 / 3:.0f}px"' if width else ""
    opening = opening.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"{style}', 1)
    return Markup(opening + body[body.index(">") + 1 :])  # our own drawing
