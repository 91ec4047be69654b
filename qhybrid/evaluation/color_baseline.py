"""A classifier that sees one pixel's colour and nothing else: what a model must beat to have learned more.

Quadratic discriminant analysis: the band values x of class k are Gaussian, so that

    score_k(x) = log prior_k - 1/2 log det S_k - 1/2 (x - m_k)^T S_k^-1 (x - m_k),

with mean m_k, covariance S_k and prior_k from training pixels; the largest score wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.contract import InputContract, ReadOptions
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.data.statistics import BandStatistics
from qhybrid.errors import DataError
from qhybrid.seeding import numpy_generator

Floats = NDArray[np.float64]

MAX_PIXELS = 4_000_000
_WINDOW = 256
_RIDGE = 1e-6
"""Added to variances, in units of the bands' own: a class of one colour has no invertible covariance."""


@dataclass(frozen=True, eq=False)
class ColorClassifier:
    """Gaussian class models of standardised band values.

    Attributes:
        statistics: What standardises raw values.
        means: Shape (K, C).
        inverses: Inverse covariances, shape (K, C, C).
        offsets: log prior - 1/2 log det S, shape (K,); -inf for a class without training pixels.
    """

    statistics: BandStatistics
    means: Floats
    inverses: Floats
    offsets: Floats

    def predict(self, raw: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return class indices, shape (h, w), 255 where a pixel holds no data.

        Args:
            raw: Raw values, shape (C, h, w).
            valid: Which pixels hold data, shape (h, w).
        """
        pixels = self.statistics.standardise(raw, valid)[:, valid].T.astype(np.float64)
        scores = np.empty((len(self.offsets), len(pixels)))
        for index, (mean, inverse, offset) in enumerate(zip(self.means, self.inverses, self.offsets)):
            centred = pixels - mean
            scores[index] = offset - 0.5 * np.einsum("nc,cd,nd->n", centred, inverse, centred, optimize=True)
        labels = np.full(valid.shape, IGNORE_INDEX, dtype=np.uint8)
        labels[valid] = scores.argmax(axis=0)
        return labels


class _Moments:
    """Counts, sums and sums of products of each class: all that a Gaussian needs."""

    def __init__(self, num_classes: int, bands: int) -> None:
        self.counts = np.zeros(num_classes)
        self.sums = np.zeros((num_classes, bands))
        self.products = np.zeros((num_classes, bands, bands))

    def add(self, pixels: Floats, labels: NDArray[np.uint8]) -> None:
        for index in range(len(self.counts)):
            own = pixels[labels == index]
            self.counts[index] += len(own)
            self.sums[index] += own.sum(axis=0)
            self.products[index] += own.T @ own


def fit_color_classifier(
    scenes: Sequence[Scene],
    classes: ClassMap,
    statistics: BandStatistics,
    nodata: float | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
) -> ColorClassifier:
    """Fit the classifier to labelled pixels of the training scenes.

    Args:
        scenes: The training scenes.
        classes: The K classes.
        statistics: The contract that scenes are read for, and what standardises them.
        nodata: Image value that means "no data", where the statistics have no contract; absent: what each
            file says.
        max_pixels: Larger sets are represented by random windows with about this many pixels.
        seed: Of the choice of windows.

    Raises:
        DataError: If no pixel has a label, or a file is unusable.
    """
    contract = statistics.contract
    if contract is None:
        options = ReadOptions(nodata=nodata)
        contract = InputContract.unknown(statistics.bands, statistics, False, options)
    moments = _Moments(classes.num_classes, len(statistics.bands))
    readers = []
    for scene in scenes:
        readers.append(SceneReader(scene, classes, contract))
        readers[-1].close()  # reading opens it again: there may be more scenes than files may be open
    for reader, windows in _choose_windows(readers, max_pixels, seed):
        for window in windows:
            raw, valid = reader.read(window)
            labels = reader.read_labels(window)
            counted = valid & (labels != IGNORE_INDEX)
            pixels = statistics.standardise(raw, valid)[:, counted].T.astype(np.float64)
            moments.add(pixels, labels[counted])
        reader.close()
    if not moments.counts.sum():
        raise DataError(
            "The colour classifier needs labelled training pixels, but the windows read have none."
        )
    return _classifier(moments, statistics)


def _choose_windows(
    readers: Sequence[SceneReader], max_pixels: int, seed: int
) -> list[tuple[SceneReader, list[Window]]]:
    """Return windows side by side over each scene, or a random part of all of them."""
    plans = [
        [
            Window(row, col, min(_WINDOW, height - row), min(_WINDOW, width - col))
            for row in range(0, height, _WINDOW)
            for col in range(0, width, _WINDOW)
        ]
        for height, width in (reader.shape for reader in readers)
    ]
    pixels = sum(reader.shape[0] * reader.shape[1] for reader in readers)
    count = sum(map(len, plans))
    kept = np.ones(count, dtype=bool)
    if pixels > max_pixels:
        chosen = numpy_generator(seed, "colour classifier").permutation(count)
        kept[chosen[max(1, round(count * max_pixels / pixels)) :]] = False
    flags = iter(kept)
    return [(reader, [window for window in plan if next(flags)]) for reader, plan in zip(readers, plans)]


def _classifier(moments: _Moments, statistics: BandStatistics) -> ColorClassifier:
    count = np.maximum(moments.counts, 1)[:, None]
    means = moments.sums / count
    centred = moments.products / count[:, None] - means[:, :, None] * means[:, None, :]
    covariances = centred + _RIDGE * np.eye(means.shape[1])
    with np.errstate(divide="ignore"):
        priors = np.log(moments.counts / moments.counts.sum())
    offsets: Floats = priors - 0.5 * np.linalg.slogdet(covariances)[1]
    inverses: Floats = np.linalg.inv(covariances).astype(np.float64)
    return ColorClassifier(statistics, means, inverses, offsets)
