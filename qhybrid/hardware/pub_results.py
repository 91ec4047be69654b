"""Results of a job in a form that belongs to no service: one array of bits for each measured circuit.

A service whose own answers have another form gives a reader with its rules (`ServiceRules.read`). One that
answers in the texts of this module needs none.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEANS_FORMAT = "qhybrid-means-1"
"""Results of simulators that give means of strings instead of bits."""
BITS_FORMAT = "qhybrid-bits-1"
"""Results as packed bits."""

Bits = NDArray[np.bool_]
PubResult = Bits | Mapping[str, Any]
"""What came back for one measured circuit: bits of shape (parameter sets, shots, classical bits), bit i of
the circuit's register at place i; or {"means": one array of shape (parameter sets, strings) a copy}."""


def bits_text(pubs: Sequence[Bits], mark: str = "") -> str:
    """Return a result as a text that `read_neutral` reads.

    Args:
        pubs: For every measured circuit bits of shape (parameter sets, shots, classical bits).
        mark: The mark of the job's request.
    """
    packed = [
        {
            "shape": list(bits.shape),
            "bits": base64.b64encode(np.packbits(bits.astype(bool).reshape(-1)).tobytes()).decode(),
        }
        for bits in pubs
    ]
    return json.dumps({"format": BITS_FORMAT, "pubs": packed, "mark": mark})


def means_text(pubs: Sequence[Sequence[NDArray[np.float64]]], mark: str = "") -> str:
    """Return the means of strings as a text that `read_neutral` reads.

    Args:
        pubs: For every measured circuit one array of shape (parameter sets, strings) for every copy.
        mark: The mark of the job's request.
    """
    content = [{"means": [means.tolist() for means in copies]} for copies in pubs]
    return json.dumps({"format": MEANS_FORMAT, "pubs": content, "mark": mark})


def read_neutral(raw: str) -> list[PubResult] | None:
    """Return what came back for every measured circuit; None if a text is in none of the neutral forms.

    Args:
        raw: A result as it was sent.

    Raises:
        ValueError: If it is in one of these forms, but damaged.
    """
    content = json.loads(raw)
    form = content.get("format") if isinstance(content, dict) else None
    if form == MEANS_FORMAT:
        return list(content["pubs"])
    if form != BITS_FORMAT:
        return None
    return [_unpacked(one) for one in content["pubs"]]


def _unpacked(one: Mapping[str, Any]) -> Bits:
    shape = tuple(int(size) for size in one["shape"])
    found = np.frombuffer(base64.b64decode(one["bits"], validate=True), dtype=np.uint8)
    count = int(np.prod(shape))
    if len(shape) != 3 or min(shape) < 0 or len(found) != -(-count // 8):
        raise ValueError(f"{len(found)} bytes came back for bits of shape {list(shape)}")
    return np.unpackbits(found, count=count).astype(bool).reshape(shape)
