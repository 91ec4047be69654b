"""Predictions of a whole split in a few bytes, from which metrics can be computed later.

A zip file of arrays: `logits` of classified images, float32 of shape (N, K), or one label map a sample,
uint8 of shape (h, w), named by its number. Samples are read one by one.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import DataError

LOGITS = "logits"
REMEDY = "Fix: delete the file, and compute its cell anew: qhybrid sweep NAME --recompute."


class PredictionWriter:
    """Collects predictions, compressed."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._file = zipfile.ZipFile(self._buffer, "w", zipfile.ZIP_DEFLATED)
        self._count = 0

    def add_map(self, labels: NDArray[Any]) -> None:
        """Add the label map of the next sample, class indices of shape (h, w)."""
        self._add(str(self._count), labels.astype(np.uint8))
        self._count += 1

    def add_logits(self, logits: NDArray[Any]) -> None:
        """Add the logits of all images, shape (N, K)."""
        self._add(LOGITS, logits.astype(np.float32))

    def content(self) -> bytes:
        """Return the whole file; nothing can be added any more."""
        self._file.close()
        return self._buffer.getvalue()

    def _add(self, name: str, values: NDArray[Any]) -> None:
        data = io.BytesIO()
        np.save(data, np.ascontiguousarray(values), allow_pickle=False)
        # A fixed date: the same predictions are the same bytes.
        self._file.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue(), zipfile.ZIP_DEFLATED)


class KeptPredictions:
    """Reads what `PredictionWriter` wrote.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def logits(self) -> NDArray[np.float32]:
        """Return the logits of all images, shape (N, K).

        Raises:
            DataError: If the file is missing or damaged.
        """
        (found,) = self._read([LOGITS])
        return found

    def maps(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the label maps of the samples.

        Args:
            count: Number of samples there must be.

        Raises:
            DataError: If the file is missing or damaged, or has another number of samples.
        """
        yield from self._read([str(index) for index in range(count)])

    def check_shape(self, labels: NDArray[Any], shape: tuple[int, ...]) -> None:
        """Check the shape (h, w) of a label map.

        Raises:
            DataError: If it is another one.
        """
        if labels.shape != shape:
            raise DataError(f"{self.file}: holds other samples than the test set has. {REMEDY}")

    def check(self, found: NDArray[np.int64], recorded: NDArray[np.int64]) -> None:
        """Check that these are the predictions whose confusion matrix was recorded.

        Args:
            found: Confusion matrix of the predictions in the file, shape (K, K).
            recorded: That of the evaluation they are said to be of.

        Raises:
            DataError: If they differ.
        """
        if not np.array_equal(found, recorded):
            raise DataError(
                f"{self.file}: kept predictions must have the confusion matrix that was recorded beside "
                f"them, but have another one. {REMEDY}"
            )

    def _read(self, names: list[str]) -> Iterator[NDArray[Any]]:
        try:
            with np.load(self.file, allow_pickle=False) as content:
                if sorted(content.files) != sorted(names):
                    raise DataError(f"{self.file}: holds other samples than the test set has. {REMEDY}")
                for name in names:
                    yield content[name]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self.file}: kept predictions cannot be read ({error}). {REMEDY}") from error
