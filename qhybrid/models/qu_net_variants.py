"""Names of Qu-Net variants, and the explicit keys they stand for.

Three ways of naming are about:

- the authors' code, <qubits>_<filters>[_<maps>]: 4_1, 6_2, 8_1_2, 12_1_3;
- the authors' logs, <positions>_<filters>_<maps>, positions being pixels of a patch: 4_1_2 is 8_1_2;
- the paper, <qubits>-<maps>-<filters>: 12-2-1.
"""

from __future__ import annotations

import re

from pydantic import Field

from qhybrid.config import StrictModel
from qhybrid.errors import ConfigError

PATCHES = {4: (2, 2), 6: (3, 2), 12: (3, 4)}
"""Height and width of a patch by its number of pixels, as in the authors' code."""

KNOWN = ("4_1", "4_2", "6_1", "6_2", "8_1_2", "8_2_2", "12_1", "12_2", "12_1_3", "12-2-1")


class Variant(StrictModel):
    """What a name stands for.

    Attributes:
        patch: Height and width of a patch.
        maps: Feature maps that share a patch.
        filters: Number of filters.
    """

    patch: tuple[int, int]
    maps: int = Field(ge=1)
    filters: int = Field(ge=1, le=2)


def parse_variant(name: str) -> Variant:
    """Read a variant's name.

    A name of three numbers with underscores is read by the authors' code where that gives a patch of theirs,
    else by their logs.

    Raises:
        ConfigError: If the name is of no known form, or ambiguous.
    """
    if name == "6_1_2":
        raise ConfigError(
            "`6_1_2` is ambiguous: the authors' log of that name ran 8_1_2. Fix: give `patch`, `maps` and "
            "`filters`."
        )
    paper = re.fullmatch(r"(\d+)-(\d+)-(\d+)", name)
    code = re.fullmatch(r"(\d+)_(\d+)(?:_(\d+))?", name)
    if paper is not None:
        qubits, maps, filters = (int(number) for number in paper.groups())
        found = _variant(qubits, maps, filters)
    elif code is not None:
        first, filters, maps = int(code[1]), int(code[2]), int(code[3] or 1)
        found = _variant(first, maps, filters) or _variant(first * maps, maps, filters)
    else:
        found = None
    if found is None:
        raise ConfigError(
            f"Key `variant` must be a known name, such as {', '.join(KNOWN)}, but is {name!r}. Fix: give "
            "`patch`, `maps` and `filters` instead."
        )
    return found


def _variant(qubits: int, maps: int, filters: int) -> Variant | None:
    if maps < 1 or filters not in (1, 2) or qubits % maps or qubits // maps not in PATCHES:
        return None
    return Variant(patch=PATCHES[qubits // maps], maps=maps, filters=filters)
