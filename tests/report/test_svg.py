"""Charts of the report hold names as text, whatever they are made of."""

import warnings
from xml.sax.saxutils import escape

import pytest
from matplotlib.figure import Figure

from qhybrid.report.svg import chart_style, figure_svg


@pytest.mark.parametrize("name", ["roof $5 and $6", "$x^$", "논 水", "a < b & c"])
def test_names_stand_in_the_chart_as_they_are(name):
    with chart_style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = Figure(figsize=(3, 2))
        figure.subplots().set_title(name)
        text = str(figure_svg(figure, "a", "b"))
    # As a text of its own: comments hold what matplotlib was given, formula or not.
    assert f">{escape(name)}</text>" in text
