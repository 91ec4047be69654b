"""The idx format of the MNIST family: a magic number, the sizes, and bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import DataError

_UNSIGNED_BYTE = 0x08


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the file of that name, plain or with .gz; None if there is neither."""
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def read_idx(path: Path, dimensions: int) -> NDArray[Any]:
    """Read an idx file of unsigned bytes.

    Layout: two zero bytes, the type (8), the number of dimensions, each size as a big-endian 32-bit
    integer, then the values, the last dimension fastest.

    Args:
        path: The file; compressed if its name ends in .gz.
        dimensions: How many the array must have.

    Returns:
        The array, uint8.

    Raises:
        DataError: If the file is damaged, short or too long, or of another type.
    """
    content = _content(path)
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != magic or len(content) < header:
        raise DataError(
            f"{path}: must be an idx file of bytes with {dimensions} dimension(s) (magic number "
            f"{magic.hex()}), but begins with {content[:4].hex() or 'nothing'}. Fix: fetch the file again."
        )
    sizes = [int(size) for size in np.frombuffer(content[4:header], dtype=">u4")]
    if len(content) - header != math.prod(sizes):
        raise DataError(
            f"{path}: its header promises {math.prod(sizes)} values ({' x '.join(map(str, sizes))}), but "
            f"{len(content) - header} follow. Fix: fetch the file again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(sizes)


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}). Fix: fetch the file again.") from error
