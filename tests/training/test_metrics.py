"""Metrics against hand-computed values and scikit-learn."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from qhybrid.errors import DataError
from qhybrid.training.metrics import ConfusionMatrix, SegmentationMetrics


def test_hand_computed_values():
    # Class 2 occurs nowhere; class 1 is predicted once rightly and once wrongly, and missed once.
    metrics = SegmentationMetrics(np.array([[2, 1, 0], [1, 1, 0], [0, 0, 0]]), ("a", "b", "c"))
    np.testing.assert_allclose(metrics.iou, [2 / 4, 1 / 3, math.nan])
    np.testing.assert_allclose(metrics.precision, [2 / 3, 1 / 2, math.nan])
    np.testing.assert_allclose(metrics.recall, [2 / 3, 1 / 2, math.nan])
    np.testing.assert_allclose(metrics.f1, [4 / 6, 2 / 4, math.nan])
    assert metrics.miou == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert metrics.overall_accuracy == pytest.approx(3 / 5)
    assert metrics.pixels == 5
    assert metrics.support.tolist() == [3, 2, 0]


def test_rows_are_truth_and_columns_prediction():
    confusion = ConfusionMatrix(2)
    confusion.update(torch.tensor([1, 1, 1]), torch.tensor([0, 0, 1]))
    assert confusion.matrix.tolist() == [[0, 2], [0, 1]]


def test_a_class_predicted_but_not_in_truth_counts_as_zero():
    metrics = SegmentationMetrics(np.array([[3, 1], [0, 0]]))
    assert metrics.iou.tolist() == [0.75, 0.0]
    assert metrics.miou == pytest.approx(0.375)
    assert math.isnan(metrics.recall[1])
    assert metrics.precision[1] == 0


def test_nothing_counted():
    metrics = ConfusionMatrix(3).compute()
    assert math.isnan(metrics.miou)
    assert math.isnan(metrics.overall_accuracy)
    assert metrics.to_dict()["miou"] is None
    assert np.isnan(metrics.iou).all()


def test_dictionary_is_json_and_comes_back():
    metrics = SegmentationMetrics(np.array([[5, 0, 1], [2, 3, 0], [0, 0, 0]]), ("field", "forest", "road"))
    text = json.dumps(metrics.to_dict(), allow_nan=False)
    content = json.loads(text)
    assert content["classes"]["forest"]["iou"] == pytest.approx(3 / 5)
    assert content["classes"]["road"]["recall"] is None
    again = SegmentationMetrics.from_dict(content)
    assert again.class_names == metrics.class_names
    np.testing.assert_array_equal(again.matrix, metrics.matrix)


def test_rows_have_one_entry_a_class():
    rows = SegmentationMetrics(np.eye(2, dtype=np.int64), ("x", "y")).rows()
    assert rows[1] == {"class": "y", "iou": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0, "pixels": 1}


@pytest.mark.filterwarnings("ignore:A single label")
@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(1, 6), size=st.integers(1, 60), batches=st.integers(1, 3), seed=st.integers(0, 10**6)
)
def test_against_scikit_learn(classes, size, batches, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (batches, size))
    prediction = rng.integers(0, classes, (batches, size))
    ignored = rng.random((batches, size)) < 0.3
    labels = np.where(ignored, 255, truth)
    confusion = ConfusionMatrix(classes)
    for row in range(batches):
        confusion.update(torch.from_numpy(prediction[row]), torch.from_numpy(labels[row]))
    metrics = confusion.compute()
    kept_truth, kept_prediction = truth[~ignored], prediction[~ignored]
    if not kept_truth.size:
        assert metrics.pixels == 0
        return
    kept = kept_truth, kept_prediction
    every = list(range(classes))
    expected = reference.confusion_matrix(kept_truth, kept_prediction, labels=every)
    np.testing.assert_array_equal(metrics.matrix, expected)
    assert metrics.overall_accuracy == pytest.approx(reference.accuracy_score(kept_truth, kept_prediction))
    options = {"labels": every, "average": None, "zero_division": np.nan}
    np.testing.assert_allclose(metrics.precision, reference.precision_score(*kept, **options))
    np.testing.assert_allclose(metrics.recall, reference.recall_score(*kept, **options))
    present = sorted(set(kept_truth) | set(kept_prediction))
    jaccard = reference.jaccard_score(kept_truth, kept_prediction, labels=present, average=None)
    np.testing.assert_allclose(metrics.iou[present], jaccard)
    assert metrics.miou == pytest.approx(jaccard.mean())


def test_logits_and_indices_count_the_same():
    logits = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(1))
    targets = torch.randint(0, 4, (2, 5, 3), generator=torch.Generator().manual_seed(2))
    targets[0, 0] = 255
    from_logits, from_indices = ConfusionMatrix(4), ConfusionMatrix(4)
    from_logits.update(logits, targets)
    from_indices.update(logits.argmax(1).to(torch.uint8), targets.to(torch.uint8))
    assert torch.equal(from_logits.matrix, from_indices.matrix)
    assert from_logits.compute().pixels == 2 * 5 * 3 - 3


def test_reset_and_matrix_is_a_copy():
    confusion = ConfusionMatrix(2)
    confusion.update(torch.tensor([1]), torch.tensor([1]))
    confusion.matrix.fill_(7)
    assert confusion.matrix.sum() == 1
    confusion.reset()
    assert confusion.matrix.sum() == 0


def test_large_counts_do_not_overflow():
    metrics = SegmentationMetrics(np.array([[2**40, 1], [0, 2**40]]))
    assert metrics.f1[0] == pytest.approx(1.0)


@pytest.mark.gpu
def test_on_gpu():
    confusion = ConfusionMatrix(3)
    confusion.update(torch.tensor([0, 1, 2]).cuda(), torch.tensor([0, 1, 255]).cuda())
    confusion.update(torch.tensor([2]), torch.tensor([2]))
    assert confusion.compute().matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("predictions", "targets", "message"),
    [
        (torch.tensor([0, 3]), torch.tensor([0, 1]), "`predictions` must be class indices"),
        (torch.tensor([0, 1]), torch.tensor([0, 7]), "`targets` must be class indices"),
        (torch.tensor([0, 1]), torch.tensor([0, -1]), "from -1 to 0"),
        (torch.tensor([0, 1, 1]), torch.tensor([0, 1]), "of shape"),
        (torch.rand(2, 4, 3), torch.zeros(2, 3, dtype=torch.int64), "scores of shape"),
    ],
)
def test_bad_batches(predictions, targets, message):
    with pytest.raises(DataError, match=message):
        ConfusionMatrix(3).update(predictions, targets)


@pytest.mark.parametrize(
    ("matrix", "names", "message"),
    [
        (np.zeros((2, 3), dtype=np.int64), (), "shape"),
        (np.zeros((0, 0), dtype=np.int64), (), "shape"),
        (np.zeros((2, 2)), (), "integer counts"),
        (np.full((2, 2), -1), (), "integer counts"),
        (np.zeros((2, 2), dtype=np.int64), ("a",), "2 names"),
    ],
)
def test_bad_matrices(matrix, names, message):
    with pytest.raises(DataError, match=message):
        SegmentationMetrics(matrix, names)


def test_bad_accumulators():
    with pytest.raises(DataError, match="at least 1"):
        ConfusionMatrix(0)
    with pytest.raises(DataError, match="3 names"):
        ConfusionMatrix(3, ("a",))
