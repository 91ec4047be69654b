"""Boundary F1 as a plugin: how well the outlines of segmented classes are met, within a tolerance in pixels.

A boundary pixel of a class is one of its pixels that has a pixel of another class above, below, to the left
or to the right. With a tolerance of t pixels, precision is the share of predicted boundary pixels that have
a true boundary pixel of the same class within the Euclidean distance t, recall the share of true ones that
have a predicted one, and F1 their harmonic mean (Csurka et al., BMVC 2013). Counts are added up over all
images or scenes, and F1 is averaged over the classes that have a boundary.

Pixels without a true label count as no boundary, and neither do their neighbours for their sake.

    qhybrid --plugin docs/examples/boundary_f1/boundary_f1_plugin.py evaluate RUN
    qhybrid --plugin docs/examples/boundary_f1/boundary_f1_plugin.py sweep SWEEP
    qhybrid --plugin docs/examples/boundary_f1/boundary_f1_plugin.py report SWEEP RUN -o report.html

A sweep that is finished already computes it from the predictions that its cells keep.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from qhybrid.evaluation import Sample, register_metric

__version__ = "1.0"
TOLERANCE = 2.0
"""Pixels."""
NOT_LABELLED = 255


def boundary(labels: NDArray[np.integer], number: int) -> NDArray[np.bool_]:
    """Return the boundary pixels of a class, shape (h, w)."""
    found = np.zeros(labels.shape, dtype=bool)
    for axis in (0, 1):
        one = labels[:-1] if axis == 0 else labels[:, :-1]
        two = labels[1:] if axis == 0 else labels[:, 1:]
        differ = (one != two) & (one != NOT_LABELLED) & (two != NOT_LABELLED)
        first, second = (
            (found[:-1], found[1:]) if axis == 0 else (found[:, :-1], found[:, 1:])
        )  # views: what is set in them is set in `found`
        first |= differ
        second |= differ
    return found & (labels == number)


def matched(points: NDArray[np.bool_], others: NDArray[np.bool_], tolerance: float) -> int:
    """Return how many points have one of the others within the tolerance."""
    if not others.any():
        return 0
    return int((distance_transform_edt(~others)[points] <= tolerance).sum())


def count(sample: Sample) -> NDArray[np.float64]:
    """Return matched and all boundary pixels, predicted and true, of each class, shape (K, 4)."""
    counted = sample.truth != NOT_LABELLED
    predicted = np.where(counted, sample.predicted, NOT_LABELLED)
    rows = []
    for number in range(len(sample.class_names)):
        found, true = boundary(predicted, number), boundary(sample.truth, number)
        rows.append(
            (matched(found, true, TOLERANCE), found.sum(), matched(true, found, TOLERANCE), true.sum())
        )
    return np.array(rows, dtype=np.float64)


def value(total: NDArray[np.float64]) -> float:
    """Return the mean F1 of the classes that have a boundary; NaN if none has."""
    scores = []
    for met_found, found, met_true, true in total:
        if found + true:
            precision = met_found / found if found else 0.0
            recall = met_true / true if true else 0.0
            both = precision + recall
            scores.append(2 * precision * recall / both if both else 0.0)
    return float(np.mean(scores)) if scores else float("nan")


register_metric("boundary_f1", label=f"boundary F1 ({TOLERANCE:g} px)", count=count, value=value)
