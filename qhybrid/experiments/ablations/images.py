"""The same difference over test images: what other images would have given to the networks as trained."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qhybrid.evaluation.sampling_error import IMAGE
from qhybrid.metrics.intervals import pseudo_values
from qhybrid.metrics.verdict import judge

PREDICTIONS = "predictions.csv"
Values = Mapping[str, float]
"""Metric of each image, by its name."""


@dataclass(frozen=True)
class ImageInterval:
    """A paired difference over test images.

    Attributes:
        count: Images, or units of them.
        mean: Mean of (arm - as it is) over images, each the mean over its runs.
        low: Lower end of the 95 % confidence interval: the t-interval over units; where no answer differs,
            the exact bound of the share that may.
        high: Upper end.
        unit: What is independent of each other, as in `group of near-duplicates`.
    """

    count: int
    mean: float
    low: float
    high: float
    unit: str = IMAGE

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; the unit where it is another one than the image."""
        content = asdict(self)
        return content if self.unit != IMAGE else {k: v for k, v in content.items() if k != "unit"}


def image_values(file: Path, metric: str) -> dict[str, float] | None:
    """Return the metric of each image of an evaluation; None where it was not kept.

    Args:
        file: The predictions.csv that an evaluation of whole images leaves.
        metric: `accuracy`, or a metric that has a column.
    """
    rows = _rows(file)
    if not rows:
        return None
    if metric == "accuracy" and {"truth", "prediction"} <= rows[0].keys():
        return {row["id"]: float(row["truth"] == row["prediction"]) for row in rows}
    if metric not in rows[0]:
        return None
    found = {row["id"]: float(row[metric]) for row in rows}
    return found if all(math.isfinite(value) for value in found.values()) else None


def image_units(file: Path) -> dict[str, str]:
    """Return the unit of each image of an evaluation; each its own where nothing else was kept."""
    return {row["id"]: row.get("unit", f"{IMAGE}: {row['id']}") for row in _rows(file)}


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def over_images(pairs: Sequence[tuple[Path, Path]], metric: str) -> ImageInterval | None:
    """Return the difference over test images with an interval.

    Args:
        pairs: Files of the predictions of the model as it is and of the arm, one pair a run: the same seed,
            fold and images.
        metric: What is compared; of segmentation the image's own.

    Returns:
        None where predictions were not kept for all runs, two runs have other images, or images do not say
        how sure the difference is.
    """
    differences: dict[str, list[float]] = {}
    units: dict[str, str] = {}
    for first, second in pairs:
        one, two = image_values(first, metric), image_values(second, metric)
        if one is None or two is None or one.keys() != two.keys():
            return None
        units |= image_units(first)
        for name, value in one.items():
            differences.setdefault(name, []).append(two[name] - value)
    means = np.array([np.mean(values) for values in differences.values()])
    _, of = np.unique([units[name] for name in differences], return_inverse=True)
    count = int(of.max(initial=-1)) + 1
    if count < 2:
        return None
    # The mean over images without each unit: units of several images are left out as a whole.
    sums, sizes = np.bincount(of, means), np.bincount(of)
    left_out = (means.sum() - sums) / (len(means) - sizes)
    # Answers of which none differs bound the share that may; of other metrics an error of zero is unknown.
    found = judge(
        pseudo_values([means.mean(), *left_out]).tolist(), largest=1.0 if metric == "accuracy" else None
    )
    if not found.std and metric != "accuracy":
        return None
    kinds = {units[name].partition(": ")[0] for name in differences}
    unit = kinds.pop() if count < len(means) and len(kinds) == 1 else IMAGE
    return ImageInterval(count, found.mean, found.low, found.high, unit)
