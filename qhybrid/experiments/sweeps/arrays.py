"""Small arrays inside JSON files: zlib-compressed bytes as text."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import DataError


def pack(values: NDArray[Any]) -> dict[str, Any]:
    """Return an array as plain values."""
    data = zlib.compress(np.ascontiguousarray(values).tobytes())
    return {
        "dtype": str(values.dtype),
        "shape": list(values.shape),
        "data": base64.b64encode(data).decode("ascii"),
    }


def unpack(content: Mapping[str, Any]) -> NDArray[Any]:
    """Return the array that `pack` packed.

    Raises:
        DataError: If the content is damaged.
    """
    try:
        data = zlib.decompress(base64.b64decode(content["data"]))
        return np.frombuffer(data, dtype=np.dtype(content["dtype"])).reshape(content["shape"])
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise DataError(f"A packed array is damaged: {error}.") from error
