"""The test set's own sampling error of every metric: all that is counted is kept unit by unit.

A unit is what may be taken for independent of the others: an image, a block of neighbouring sections, a block
of a scene, a place. Each metric is computed once more without each unit (the jackknife), from the sums that
are left; the accuracy of whole images has Wilson's interval. Memory does not grow with the test set: where
there are more than `MOST_GROUPS` units, so many groups of them are drawn at random, and left out one by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.evaluation.image_scoring import image_samples
from qhybrid.evaluation.measuring import Measured, Tally
from qhybrid.metrics import CLASSIFICATION, SEGMENTATION, Metric, Sample, Totals, entry_of, metrics_of
from qhybrid.metrics.intervals import FEWEST, Interval, Intervals, Units, jackknife, plural, wilson
from qhybrid.metrics.margin import SHARES
from qhybrid.seeding import numpy_generator
from qhybrid.training.images.metrics import class_logits, soft_iou, soft_sums
from qhybrid.training.metrics import SegmentationMetrics

MOST_GROUPS = 1000
IMAGE = "image"
_IMAGES_AT_ONCE = 64


def grouping(count: int) -> NDArray[np.int64]:
    """Return the group of each of `count` units, shape (count,): each its own, or a seeded random one."""
    if count <= MOST_GROUPS:
        return np.arange(count)
    return numpy_generator(0, "groups of units").permutation(count) % MOST_GROUPS


@dataclass(frozen=True)
class SampleUnits:
    """Which unit each image or block of a test set belongs to.

    Attributes:
        kind: What a unit is, as in `image`.
        of: The unit of each sample, from 0, shape (N,).
        within: See `Units`.
        places: See `Units`.
    """

    kind: str
    of: NDArray[np.int64]
    within: str = ""
    places: int | None = None

    @classmethod
    def by_name(cls, names: Sequence[str], kind: str = IMAGE, within: str = "") -> SampleUnits:
        """Return units by name: samples of one name are one unit."""
        _, of = np.unique(np.asarray(names, dtype=str), return_inverse=True)
        return cls(kind, of.astype(np.int64), within)


class UnitTally:
    """Counts what metrics are made of, unit by unit.

    Args:
        task: One of `qhybrid.metrics.TASKS`.
        class_names: Names of the K classes.
        units: Units of the samples that will be added.
    """

    def __init__(self, task: str, class_names: Sequence[str], units: SampleUnits) -> None:
        self.task = task
        self.class_names = tuple(class_names)
        self.units = units
        count = int(units.of.max(initial=-1)) + 1
        self._group = grouping(count)
        self._seen = np.zeros(count, dtype=bool)
        groups, classes = min(count, MOST_GROUPS), len(self.class_names)
        self._matrices = np.zeros((groups, classes, classes), dtype=np.int64)
        self._soft = np.zeros((groups, 3, classes))
        self._ratios = np.zeros((groups, 2))
        self._entropy = np.zeros((groups, 2))
        self._metrics = metrics_of(task)
        self._own = {one.key: one for one in self._metrics if one.count is not None}
        self._sums: dict[str, list[Any]] = {key: [None] * groups for key in self._own}
        self._probabilities = False

    def add_pixels(self, samples: NDArray[Any], labels: NDArray[Any], truth: NDArray[Any]) -> None:
        """Count labels.

        Args:
            samples: Which sample each belongs to.
            labels: Predicted classes of the same shape.
            truth: True classes; 255 does not count.
        """
        known = truth != IGNORE_INDEX
        unit = self.units.of[samples[known]]
        self._seen[np.unique(unit)] = True
        classes = len(self.class_names)
        place = (self._group[unit] * classes + truth[known].astype(np.int64)) * classes + labels[known]
        counts = np.bincount(place, minlength=self._matrices.size)
        self._matrices += counts.reshape(self._matrices.shape)

    def add_all(self, logits: Tensor, targets: Tensor) -> None:
        """Count all whole images, for metrics of plugins too; see `add_logits`."""
        self.add_logits(logits, targets)
        if self._sums:
            each = class_logits(logits.float())
            samples = image_samples(self.class_names, each.argmax(dim=1), targets, each)
            for index, sample in enumerate(samples):
                self.add_sample(index, sample)

    def add_logits(self, logits: Tensor, targets: Tensor) -> None:
        """Count all whole images.

        Args:
            logits: Shape (N, K) or (N, K, h, w); one logit x of two classes stands for (0, x).
            targets: Shape (N,) or (N, h, w).
        """
        self._probabilities = True
        for start in range(0, len(targets), _IMAGES_AT_ONCE):
            part = slice(start, start + _IMAGES_AT_ONCE)
            each, truth = class_logits(logits[part].float()), targets[part]
            samples = np.arange(start, start + len(truth))
            where = np.broadcast_to(samples.reshape(-1, *[1] * (truth.ndim - 1)), tuple(truth.shape))
            self.add_pixels(where, each.argmax(dim=1).numpy(), truth.numpy())
            self._add_probabilities(self._group[self.units.of[samples]], each, truth)

    def _add_probabilities(self, groups: NDArray[np.int64], logits: Tensor, truth: Tensor) -> None:
        losses = F.cross_entropy(logits, truth, ignore_index=IGNORE_INDEX, reduction="none").double()
        counted = (truth != IGNORE_INDEX).double()
        sums = [one.reshape(len(truth), -1).sum(dim=1) for one in (losses, counted)]
        np.add.at(self._entropy, groups, torch.stack(sums, dim=1).numpy())
        if self.task == SEGMENTATION:
            soft = soft_sums(logits.softmax(dim=1), truth)
            np.add.at(self._soft, groups, torch.stack(soft, dim=1).numpy())
            ratio = soft_iou(*soft).numpy()
            known = np.isfinite(ratio)  # images without a label have none
            np.add.at(self._ratios, groups, np.stack([np.where(known, ratio, 0.0), known], axis=1))

    def count_no_samples(self) -> None:
        """Leave out the metrics that look at whole samples: these are larger than a unit."""
        self._sums = {}

    def add_sample(self, index: int, sample: Sample) -> None:
        """Count one sample for the metrics that look at samples; one that fails has no interval."""
        group = int(self._group[self.units.of[index]])
        for key in list(self._sums):
            count = self._own[key].count
            assert count is not None
            try:
                found = np.asarray(count(sample), dtype=np.float64)
                before = self._sums[key][group]
                self._sums[key][group] = found if before is None else before + found
            except Exception:  # code of others: what went wrong is said where the metric itself fails
                del self._sums[key]

    def counts(self) -> NDArray[np.int64]:
        """Return the confusion matrix of each unit, or group of units, that holds something: (U, K, K)."""
        return np.asarray(self._matrices[self._matrices.any(axis=(1, 2))])

    def said(self) -> str:
        """Return what `counts` has one matrix of, in words and in the plural."""
        many = " ".join(filter(None, (plural(self.units.kind), self.units.within)))
        return many if len(self._group) <= MOST_GROUPS else f"random groups of {many}"

    def intervals(self, measured: Measured) -> Intervals:
        """Return the intervals of what was measured on all samples.

        Args:
            measured: Numbers of the whole split, by the same metrics.
        """
        units = self._units()
        found = Intervals(units)
        kept = np.flatnonzero(self._matrices.sum(axis=(1, 2)) > 0)
        if units.count < FEWEST:
            text = f"{units.count} {units.kind}{'' if units.count == 1 else 's'}: fewer than {FEWEST}"
            return replace(found, missing=dict.fromkeys(measured.values, text))
        whole = SegmentationMetrics(self._matrices.sum(axis=0), self.class_names)
        left_out = [self._without(int(group)) for group in kept]
        changing = [name for name, same in zip(self.class_names, self._steady(kept)) if not same]
        for key, value in measured.values.items():
            if (entry := entry_of(key)) is not None and entry.key in self._own.keys() - self._sums.keys():
                found.missing[key] = f"it is not counted by {units.kind}"
                continue
            replicates = np.array([one.get(key, math.nan) for one in left_out])
            found.replicates[key] = replicates
            if key == "accuracy" and self.task == CLASSIFICATION and units.kind == IMAGE:
                found.values[key] = wilson(int(np.trace(whole.matrix)), whole.pixels)
                continue
            if changing and key in ("miou", "iou", "soft_iou") and (key == "miou" or len(whole.matrix) > 2):
                found.missing[key] = f"{', '.join(changing)} occurs in a single {units.kind}"
                continue
            try:
                found.values[key] = jackknife(value, replicates, *_bounds(key))
            except ValueError as error:
                found.missing[key] = str(error)
        return found

    def _units(self) -> Units:
        seen = int(self._seen.sum())
        groups = MOST_GROUPS if len(self._group) > MOST_GROUPS else None
        return Units(self.units.kind, seen, self.units.within, self.units.places, groups)

    def _steady(self, kept: NDArray[np.int64]) -> list[bool]:
        """Return which classes occur, or do not occur, whatever unit is left out."""
        own = self._matrices[kept].sum(axis=1) + self._matrices[kept].sum(axis=2)
        total = own.sum(axis=0)
        steady = (own < total).all(axis=0) | (total == 0)
        return [bool(one) for one in steady]

    def _without(self, group: int) -> dict[str, float]:
        """Return all metrics of the units of the other groups."""
        tally = _Sums(self._metrics, {key: _left(sums, group) for key, sums in self._sums.items()})
        counts = SegmentationMetrics(self._matrices.sum(axis=0) - self._matrices[group], self.class_names)
        if not self._probabilities:
            return tally.measure(Totals(counts)).values
        losses = self._entropy.sum(axis=0) - self._entropy[group]
        entropy = losses[0] / losses[1] if losses[1] else math.nan
        if self.task == CLASSIFICATION:
            return tally.measure(Totals(counts, cross_entropy=entropy)).values
        soft = torch.from_numpy(self._soft.sum(axis=0) - self._soft[group])
        ratio, images = self._ratios.sum(axis=0) - self._ratios[group]
        together = float(soft_iou(*soft[:, None])[0])
        return tally.measure(Totals(counts, together, ratio / images if images else math.nan, entropy)).values


class _Sums(Tally):
    """A tally whose sums are given."""

    def __init__(self, metrics: Sequence[Metric], sums: Mapping[str, Any]) -> None:
        super().__init__([one for one in metrics if one.count is None or one.key in sums])
        self._sums = {key: value for key, value in sums.items() if value is not None}


def _left(sums: Sequence[Any], group: int) -> Any:
    """Return the sum over all groups but one; None where nothing is left."""
    others = [one for index, one in enumerate(sums) if index != group and one is not None]
    return sum(others[1:], others[0]) if others else None


def _bounds(key: str) -> tuple[float, float]:
    """Return the smallest and the largest value that a metric can have, as far as it is ours."""
    if key in SHARES or key.startswith("iou "):
        return 0.0, 1.0
    return (0.0, math.inf) if key == "cross_entropy" else (-math.inf, math.inf)


def accuracy_interval(counts: SegmentationMetrics) -> Interval:
    """Return Wilson's interval of the accuracy of whole images, from their confusion matrix."""
    return wilson(int(np.trace(counts.matrix)), counts.pixels)
