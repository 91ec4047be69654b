"""Names in pictures are what users wrote; only ticks of logarithmic axes are formulas."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from qhybrid.data.classes import ClassMap
from qhybrid.data.figures import MOST_NAMED, add_class_legend, as_written, save_figure
from qhybrid.training import pictures
from qhybrid.training.pictures import draw_samples


@pytest.mark.parametrize("name", ["roof $5 and $6", "$x^$", r"50\$ and $", "a_b"])
def test_dollar_signs_are_no_formula(name, tmp_path):
    figure = Figure()
    axis = figure.subplots()
    axis.set_xticks([0, 1], [name, "b"])
    axis.set_title(name)
    figure.legend(handles=axis.plot([0, 1], label=name))
    save_figure(figure, tmp_path / "a.png")  # `$x^$` cannot be drawn as a formula
    texts = [text for text in figure.findobj(Text) if text.get_text() == name]
    assert len(texts) >= 3
    assert not any(text.get_parse_math() for text in texts)
    assert matplotlib.image.imread(tmp_path / "a.png").size


def test_powers_of_ten_stay_powers():
    figure = Figure()
    axis = figure.subplots()
    axis.plot([1, 1000], [1, 1000])
    axis.set_xscale("log")
    as_written(figure)
    figure.draw_without_rendering()
    assert all(label.get_parse_math() for label in axis.get_xticklabels())
    assert not any(label.get_parse_math() for label in axis.get_yticklabels())


@pytest.mark.parametrize("longest", [1, 9, 17, 40, 300])
def test_a_legend_of_classes_stays_within_its_figure(longest):
    """Eight columns of long names were cut off at both sides."""
    figure = Figure(figsize=(12.4, 6), layout="constrained")
    figure.subplots()
    add_class_legend(
        figure, [f"{index}" + "w$" * (longest // 2) for index in range(9)], ["red"] * 9, {"no": "k"}
    )
    as_written(figure)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(set(names)) == 10


def test_a_legend_of_many_classes_ends_and_says_so(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, output: figures.append(figure) or output)
    count = MOST_NAMED + 5
    names = tuple(f"c{index}" for index in range(count))
    classes = ClassMap(names, ("#123456",) * count, tuple((index,) for index in range(count)))
    labels = np.zeros((4, 4), np.uint8)
    draw_samples([np.zeros((3, 4, 4))], [labels], [labels], classes, tmp_path / "samples.png")
    shown = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert shown == [*names[:MOST_NAMED], "and 5 more classes", "no data", "wrong"]
