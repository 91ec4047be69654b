"""Metrics of confusion matrices counted unit by unit: intervals, and paired verdicts between models.

mIoU is no mean over blocks: it is computed of the sum of their confusion matrices. Its intervals are those of
`qhybrid.metrics.intervals`, and differences are judged by the jackknife's pseudo-values, whose t-tests
(`qhybrid.metrics.verdict`: difference, equivalence, Holm, detectable difference) are those of the jackknife
variance. Of the accuracy over images the pseudo-values are the images' own differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.config import Recipe
from qhybrid.config.sections import AblationConfig
from qhybrid.metrics import CLASSIFICATION, OTHER_NAMES, SCENES
from qhybrid.metrics.intervals import jackknife, pseudo_values, wilson
from qhybrid.metrics.verdict import Verdict, judge_all

Counts = NDArray[np.int64]
"""Confusion matrices, rows = truth: shape (..., K, K)."""
Floats = NDArray[np.float64]
MetricOf = Callable[[Counts], Floats]
"""Maps confusion matrices (..., K, K) to numbers (...)."""

MARGIN = AblationConfig().margin
"""Differences up to it do not matter unless something else is said: 0.005 mIoU, 0.5 points of accuracy."""

STEADY = 1e-3
"""Part of the distance between two largest logits that answers are not sensitive to."""


def stated_margin(recipe: Recipe, key: str) -> float:
    """Return the margin that a recipe states for its ablation; `MARGIN` where that is of another metric.

    Args:
        recipe: The recipe of the run.
        key: The metric that is judged here. The soft IoU's margin is taken for the IoU too.
    """
    stated = recipe.ablation
    chosen = OTHER_NAMES.get(stated.metric, stated.metric) if stated.metric else key
    same = chosen == key or {chosen, key} == {"soft_iou", "iou"}
    return stated.margin if same else MARGIN


def headline(task: str) -> tuple[str, MetricOf]:
    """Return the key of the metric that a task is judged by here, and how counts become its number.

    Args:
        task: Of `qhybrid.metrics.TASKS`: accuracy of classified images, mIoU of scenes; of segmented images
            the IoU (of the foreground of two classes), because the soft IoU mixes in confidence.
    """
    if task == CLASSIFICATION:
        return "accuracy", accuracy
    return ("miou", mean_iou) if task == SCENES else ("iou", foreground_iou)


def accuracy(counts: Counts) -> Floats:
    """Return the share that is right; NaN where nothing was counted."""
    hits, total = np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1))
    return np.asarray(np.divide(hits, total, out=np.full(total.shape, np.nan), where=total > 0))


def class_iou(counts: Counts) -> Floats:
    """Return the IoU of each class, shape (..., K); NaN where it is in neither truth nor prediction."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(axis=-1) + counts.sum(axis=-2) - hits
    return np.asarray(np.divide(hits, union, out=np.full(union.shape, np.nan), where=union > 0))


def mean_iou(counts: Counts) -> Floats:
    """Return the mean IoU over the classes that occur in truth or prediction; NaN where there is none."""
    each = class_iou(counts)
    there = ~np.isnan(each)
    total, number = np.where(there, each, 0).sum(axis=-1), there.sum(axis=-1)
    return np.asarray(np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0))


def foreground_iou(counts: Counts) -> Floats:
    """Return the IoU of class 1 of two classes, of more the mean."""
    return class_iou(counts)[..., 1] if counts.shape[-1] == 2 else mean_iou(counts)


@dataclass(frozen=True)
class Measured:
    """A metric with its interval over units.

    Attributes:
        value: Of all units together.
        low: Lower end of the 95 % interval; NaN where the units cannot say how sure the value is.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def measure(counts: Sequence[Counts], metric: MetricOf) -> Measured:
    """Return a metric and its interval: Wilson's of the accuracy of single images, else the jackknife's.

    Args:
        counts: Confusion matrices of the units, shape (n, K, K), one array for each draw; the metric is the
            mean over draws.
        metric: The metric, from 0 to 1.
    """
    value, *without = _mean_over_draws(counts, metric)
    if len(counts) == 1 and metric is accuracy and bool((counts[0].sum(axis=(1, 2)) == 1).all()):
        found = wilson(int(np.trace(counts[0].sum(axis=0))), len(counts[0]))
        return Measured(float(value), found.low, found.high)
    try:
        found = jackknife(float(value), without, 0.0, 1.0)
    except ValueError:
        return Measured(float(value), math.nan, math.nan)
    return Measured(float(value), found.low, found.high)


def judge_replaced(
    trained: Counts,
    replaced: Mapping[str, Sequence[Counts]],
    metric: MetricOf,
    margin: float,
    steady: Collection[str] = (),
) -> dict[str, Verdict]:
    """Judge what replacing outputs does to a metric: replaced - trained, paired over units.

    Args:
        trained: Confusion matrices of the trained model, shape (n, K, K).
        replaced: Those of each replacement, one array for each draw; p-values are corrected by Holm over
            them.
        metric: The metric.
        margin: Differences up to it do not matter.
        steady: Replacements that hardly move the logits (`are_steady`): that no answer differs is no chance.
    """
    base = _mean_over_draws([trained], metric)
    differences = {
        name: pseudo_values(_mean_over_draws(counts, metric) - base) for name, counts in replaced.items()
    }
    # Images are right or wrong, so that few of them may hide a change; a scene's metric sums over pixels.
    answers = {name: None if name in steady else 1.0 for name in replaced} if metric is accuracy else None
    return judge_all({name: values.tolist() for name, values in differences.items()}, margin, largest=answers)


def are_steady(trained: Tensor, replaced: Tensor) -> bool:
    """Return whether logits move by so little that answers change on far fewer images than any margin.

    By at most a thousandth of the median distance between an image's two largest logits: about two in a
    thousand images are so near to another answer.

    Args:
        trained: Logits of the trained model, shape (N, K), K > 1.
        replaced: Those with outputs replaced.
    """
    first, second = trained.topk(2, dim=1).values.unbind(dim=1)
    moved = (replaced - trained) - (replaced - trained).mean(dim=1, keepdim=True)
    return bool(2 * moved.abs().max() <= STEADY * (first - second).median())


def _mean_over_draws(counts: Sequence[Counts], metric: MetricOf) -> Floats:
    """Return the metric of all units, then without each, shape (1 + n,)."""
    each = []
    for units in counts:
        total = units.sum(axis=0)
        each.append(metric(np.concatenate([total[None], total - units])))
    return np.asarray(np.mean(each, axis=0))
