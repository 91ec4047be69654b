"""The colour classifier against scikit-learn's quadratic discriminant analysis."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import SceneReader
from qhybrid.data.statistics import compute_statistics
from qhybrid.errors import DataError
from qhybrid.evaluation import color_baseline
from qhybrid.evaluation.color_baseline import fit_color_classifier


@pytest.fixture(scope="module")
def dataset(data_config, scenes_root):
    return open_dataset(data_config, scenes_root)


@pytest.fixture(scope="module")
def statistics(dataset):
    return compute_statistics(dataset.scenes("train"), None, dataset.classes)


def pixels_of(scenes, classes):
    """Read everything at once: values (n, C), labels (n,)."""
    values, labels = [], []
    for scene in scenes:
        reader = SceneReader(scene, classes)
        raw, valid = reader.read((0, 0, *reader.shape))
        truth = reader.read_labels((0, 0, *reader.shape))
        counted = valid & (truth != IGNORE_INDEX)
        values.append(raw[:, counted].T.astype(float))
        labels.append(truth[counted])
    return np.concatenate(values), np.concatenate(labels)


def test_against_scikit_learn(dataset, statistics):
    classifier = fit_color_classifier(dataset.scenes("train"), dataset.classes, statistics)
    reference = QuadraticDiscriminantAnalysis().fit(*pixels_of(dataset.scenes("train"), dataset.classes))
    reader = SceneReader(dataset.scenes("test")[0], dataset.classes)
    raw, valid = reader.read((0, 0, *reader.shape))
    found = classifier.predict(raw, valid)
    assert (found[~valid] == IGNORE_INDEX).all()
    expected = reference.predict(raw[:, valid].T.astype(float))
    # Covariances are divided by n here and by n - 1 there: a pixel or two on the border may differ.
    assert (found[valid] == expected).mean() > 0.998
    assert len(set(found[valid])) == 3


def test_a_class_without_pixels_is_never_predicted(dataset, statistics):
    names, colors, values = (
        (*dataset.classes.names, "lake"),
        (*dataset.classes.colors, "#0000ff"),
        (
            *dataset.classes.values,
            (7,),
        ),
    )
    more = ClassMap(names, colors, values, (99,))
    classifier = fit_color_classifier(dataset.scenes("train"), more, statistics)
    raw = np.random.default_rng(0).integers(0, 256, (3, 20, 20), dtype=np.uint8)
    assert 3 not in classifier.predict(raw, np.ones((20, 20), dtype=bool))


def test_a_class_of_one_colour(dataset, statistics, monkeypatch):
    monkeypatch.setattr(
        statistics.__class__, "standardise", lambda self, raw, valid: np.ones(raw.shape, dtype=np.float32)
    )
    classifier = fit_color_classifier(dataset.scenes("train"), dataset.classes, statistics)
    assert np.isfinite(classifier.inverses).all()
    labels = classifier.predict(np.ones((3, 2, 2), dtype=np.uint8), np.ones((2, 2), dtype=bool))
    assert (labels == 0).all()  # all alike: the prior decides


def test_large_sets_are_sampled_the_same_way_each_time(dataset, statistics, monkeypatch):
    monkeypatch.setattr(color_baseline, "_WINDOW", 8)
    arguments = dataset.scenes("train"), dataset.classes, statistics
    every = fit_color_classifier(*arguments)
    first = fit_color_classifier(*arguments, max_pixels=1500)
    second = fit_color_classifier(*arguments, max_pixels=1500)
    other = fit_color_classifier(*arguments, max_pixels=1500, seed=1)
    np.testing.assert_array_equal(first.means, second.means)
    assert not np.array_equal(first.means, other.means)
    assert not np.array_equal(first.means, every.means)
    np.testing.assert_allclose(first.means, every.means, atol=0.3)


def test_no_labels(dataset, statistics, monkeypatch):
    nothing = ClassMap(("void",), ("#000000",), ((7,),), (10, 20, 30, 99))
    with pytest.raises(DataError, match="labelled training pixels"):
        fit_color_classifier(dataset.scenes("train"), nothing, statistics)
