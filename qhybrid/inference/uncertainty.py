"""How sure a map is, pixel by pixel: entropy, and the spread over draws of shots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.map_bands import MapBands

ENTROPY = "entropy"
SPREAD = ("winner_std", "disagreement")
_MEANING = {
    "entropy": "entropy of the class probabilities in bits, 0 (sure) to log2(number of classes)",
    "winner_std": "standard deviation over the draws of the probability of the map's class",
    "disagreement": "share of the draws whose own class is not the one that most draws have",
}


def uncertainty_bands(draws: int | None) -> MapBands:
    """Return the bands of an uncertainty file: entropy, and with draws their spread; NaN without data."""
    names = (ENTROPY, *SPREAD) if draws is not None else (ENTROPY,)
    tags = {name.upper(): _MEANING[name] for name in names}
    return MapBands(names, "float32", float("nan"), tags=tags)


def entropy(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return -sum_k p_k log2 p_k in bits.

    Args:
        probabilities: Shape (K, h, w); NaN without data.

    Returns:
        Shape (h, w), from 0 to log2 K; NaN without data.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(probabilities == 0, 0, probabilities * np.log2(probabilities))
    # Rounding of a sum near 1 may leave -1e-8.
    return np.asarray(np.abs(terms.sum(axis=0)), dtype=np.float32)


def spread(draws: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how much the draws differ.

    The map's class is the most probable one of the mean over all draws. Ties go to the first class.

    Args:
        draws: Class probabilities of each draw, shape (D, K, h, w), D at least 2; NaN without data.

    Returns:
        Shape (2, h, w): the standard deviation (with D - 1 in the denominator) of the probability of the
        map's class, and the share of draws whose own class is not the one that most draws have; NaN without
        data.
    """
    count, classes = draws.shape[:2]
    empty = ~np.isfinite(draws).all(axis=(0, 1))
    known = np.where(empty, 0, draws)
    winner = known.mean(axis=0).argmax(axis=0)
    chosen = np.take_along_axis(known, winner[None, None], axis=1)[:, 0]
    own = known.argmax(axis=1)
    votes = np.stack([(own == index).sum(axis=0) for index in range(classes)]).max(axis=0)
    found = np.stack([chosen.std(axis=0, ddof=1), 1 - votes / count]).astype(np.float32)
    found[:, empty] = np.nan
    return found


def uncertainty(probabilities: NDArray[np.float32], draws: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return the values of the bands of `uncertainty_bands`, shape (bands, h, w)."""
    bands = entropy(probabilities)[None]
    return bands if draws is None else np.concatenate([bands, spread(draws)])
