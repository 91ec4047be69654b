"""Tables and figures as the page lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass
class Table:
    """A table of text: `numeric` columns are set right."""

    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: tuple[int, ...] = ()
    note: str = ""


@dataclass
class Figure:
    """A drawing or picture with its caption."""

    caption: str
    drawing: Markup = field(default_factory=Markup)
    image: str = ""
    plate: bool = False


def without_constant(table: Table, keep: tuple[int, ...]) -> Table:
    """Leave out columns that say the same in every row, and say it once in the note."""
    said, kept = [], []
    for index, head in enumerate(table.heads):
        values = {row[index] for row in table.rows}
        if index not in keep and len(values) == 1:
            said.append(f"{head}: {values.pop()}")
        else:
            kept.append(index)
    return Table(
        tuple(table.heads[index] for index in kept),
        [tuple(row[index] for index in kept) for row in table.rows],
        tuple(place for place, index in enumerate(kept) if index in table.numeric),
        "; ".join(said),
    )
