"""The confusion picture says what the matrix says."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from qhybrid.evaluation import pictures
from qhybrid.evaluation.pictures import draw_confusion
from qhybrid.training.metrics import SegmentationMetrics


@pytest.fixture
def drawn(monkeypatch):
    """Keep the figures instead of their pixels."""
    figures: list[Figure] = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, output: figures.append(figure) or output)
    return figures


def test_cells_are_percent_of_the_true_class(drawn, tmp_path):
    metrics = SegmentationMetrics(np.array([[3, 1, 0], [0, 0, 0], [1, 1, 2]]), ("a", "b", "c"))
    draw_confusion(metrics, tmp_path / "confusion.png", "title")
    axis = drawn[0].axes[0]
    assert [text.get_text() for text in axis.texts] == [
        "75.0",
        "25.0",
        "0.0",
        "–",
        "–",
        "–",
        "25.0",
        "25.0",
        "50.0",
    ]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert axis.get_yticklabels()[0].get_text() == "a\nIoU 0.600"
    assert axis.get_xlabel() == "prediction"
    assert axis.get_title() == "title\nmIoU 0.3667   overall accuracy 62.50 %"


@pytest.mark.parametrize("classes", [1, 12])
def test_few_and_many_classes_give_a_file(tmp_path, classes):
    metrics = SegmentationMetrics(np.eye(classes, dtype=np.int64))
    assert draw_confusion(metrics, tmp_path / "confusion.png").stat().st_size > 1000


def test_hundreds_of_classes_have_colours_and_some_names(drawn, tmp_path):
    """Cells of a fixed size gave a picture of 24,000 pixels, and above 650 classes none at all."""
    names = tuple(f"class {index}" for index in range(700))
    draw_confusion(SegmentationMetrics(np.eye(700, dtype=np.int64), names), tmp_path / "confusion.png")
    axis = drawn[0].axes[0]
    assert not axis.texts
    assert max(drawn[0].get_size_inches()) < 30
    assert [label.get_text() for label in axis.get_xticklabels()[:2]] == ["class 0", "class 18"]
    assert axis.get_yticklabels()[1].get_text() == "class 18, IoU 1.000"
    assert axis.get_xticks()[1] == 18
