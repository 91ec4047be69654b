"""Reference results that need no training worth the name: the majority class, and colour alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene
from qhybrid.errors import DataError
from qhybrid.evaluation.color_baseline import ColorClassifier, fit_color_classifier
from qhybrid.evaluation.scoring import open_labelled
from qhybrid.inference import SceneModel
from qhybrid.training.metrics import ConfusionMatrix, SegmentationMetrics

MAJORITY = "majority_class"
COLOR = "color_classifier"
LABELS = {MAJORITY: "majority class", COLOR: "colour alone"}
"""What readers see."""
_ROWS = 256


def score_baselines(
    run: SceneModel, training_scenes: Sequence[Scene], scenes: Sequence[Scene]
) -> dict[str, SegmentationMetrics]:
    """Evaluate both baselines on the pixels that the model is evaluated on.

    Args:
        run: The trained model, for its classes, bands and statistics; the model itself is not used.
        training_scenes: Scenes of the training split, which the baselines are fitted to.
        scenes: Scenes to evaluate on.

    Returns:
        Metrics of `majority_class` and `color_classifier`.

    Raises:
        DataError: If a file is unusable, or the training scenes have no labels.
    """
    classifier = fit_color_classifier(training_scenes, run.classes, run.statistics, run.recipe.data.nodata)
    by_color = _score_classifier(run, classifier, scenes)
    return {MAJORITY: majority_metrics(run, by_color), COLOR: by_color}


def majority_metrics(run: SceneModel, reference: SegmentationMetrics) -> SegmentationMetrics:
    """Return the metrics of a map that shows the most frequent class of the training split everywhere.

    Args:
        run: The trained model, for the class frequencies of its training split.
        reference: Metrics of any map on the same pixels, for their true classes.

    Raises:
        DataError: If the run does not know the class frequencies.
    """
    counts = run.statistics.pixels_per_class
    if len(counts) != reference.num_classes:
        raise DataError(
            f"The majority class needs pixel counts of {reference.num_classes} classes, but the statistics "
            f"of the run have {len(counts)}."
        )
    matrix = np.zeros_like(reference.matrix)
    matrix[:, int(np.argmax(counts))] = reference.support
    return SegmentationMetrics(matrix, reference.class_names)


def _score_classifier(
    run: SceneModel, classifier: ColorClassifier, scenes: Sequence[Scene]
) -> SegmentationMetrics:
    confusion = ConfusionMatrix(run.classes.num_classes, run.classes.names)
    for scene in scenes:
        reader = open_labelled(run, scene)
        height, width = reader.shape
        for row in range(0, height, _ROWS):
            window = Window(row, 0, min(_ROWS, height - row), width)
            raw, valid = reader.read(window)
            truth = reader.read_labels(window)
            truth[~valid] = IGNORE_INDEX
            confusion.update(torch.from_numpy(classifier.predict(raw, valid)), torch.from_numpy(truth))
        reader.close()
    return confusion.compute()
