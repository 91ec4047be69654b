"""The same difference over test images: what other images would have given to the networks as trained."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

PREDICTIONS = "predictions.csv"
Values = Mapping[str, float]
"""Metric of each image, by its name."""


@dataclass(frozen=True)
class ImageInterval:
    """A paired difference over test images.

    Attributes:
        count: Images.
        mean: Mean of (arm - as it is) over images, each the mean over its runs.
        low: Lower end of the 95 % confidence interval (t-interval over images).
        high: Upper end.
    """

    count: int
    mean: float
    low: float
    high: float


def image_values(file: Path, metric: str) -> dict[str, float] | None:
    """Return the metric of each image of an evaluation; None where it was not kept.

    Args:
        file: The predictions.csv that an evaluation of whole images leaves.
        metric: `accuracy`, or a metric that has a column.
    """
    if not file.is_file():
        return None
    with file.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    if not rows:
        return None
    if metric == "accuracy" and {"truth", "prediction"} <= rows[0].keys():
        return {row["id"]: float(row["truth"] == row["prediction"]) for row in rows}
    if metric not in rows[0]:
        return None
    found = {row["id"]: float(row[metric]) for row in rows}
    return found if all(math.isfinite(value) for value in found.values()) else None


def over_images(pairs: Sequence[tuple[Path, Path]], metric: str) -> ImageInterval | None:
    """Return the difference over test images with an interval.

    Args:
        pairs: Files of the predictions of the model as it is and of the arm, one pair a run: the same seed,
            fold and images.
        metric: What is compared; of segmentation the image's own.

    Returns:
        None where predictions were not kept for all runs, or two runs have other images.
    """
    differences: dict[str, list[float]] = {}
    for first, second in pairs:
        one, two = image_values(first, metric), image_values(second, metric)
        if one is None or two is None or one.keys() != two.keys():
            return None
        for name, value in one.items():
            differences.setdefault(name, []).append(two[name] - value)
    if len(differences) < 2:
        return None
    means = np.array([np.mean(values) for values in differences.values()])
    count, mean = len(means), float(means.mean())
    half = float(stats.t.ppf(0.975, count - 1) * means.std(ddof=1) / math.sqrt(count))
    return ImageInterval(count, mean, mean - half, mean + half)
