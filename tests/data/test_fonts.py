"""Names in any script: a font of the machine that has it, or one warning with the remedy."""

import warnings

import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure

from qhybrid.data import fonts
from qhybrid.data.figures import save_figure
from qhybrid.data.fonts import fonts_for

NO_FONT_OF_OURS = "\u1d81"  # DejaVu Sans lacks it, STIXGeneral, which matplotlib brings, has it
NOBODYS = "\U0010abcd"


@pytest.fixture(autouse=True)
def _no_other_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "_new", list)
    fonts_for.cache_clear()
    yield
    fonts_for.cache_clear()


def titled(text):
    figure = Figure(figsize=(2, 1))
    figure.subplots().set_title(text)
    return figure


def test_a_character_that_the_usual_font_lacks_is_drawn_by_another(tmp_path):
    figure = titled(f"b{NO_FONT_OF_OURS}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(figure, tmp_path / "a.png")
    families = figure.axes[0].title.get_fontfamily()
    assert families[: len(rcParams["font.family"])] == list(rcParams["font.family"])
    assert len(families) > len(rcParams["font.family"])


def test_a_character_of_no_font_is_told_once(tmp_path):
    with pytest.warns(UserWarning, match="No font of this machine has .* Fix: install a font"):
        save_figure(titled(f"b{NOBODYS}"), tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(titled(f"b{NOBODYS}"), tmp_path / "b.png")


def test_usual_names_are_left_as_they_are(tmp_path):
    figure = titled("Äcker, 5 µm")
    save_figure(figure, tmp_path / "a.png")
    assert figure.axes[0].title.get_fontfamily() == list(rcParams["font.family"])


def test_fonts_that_are_no_files_or_have_no_outlines_are_passed_over(tmp_path):
    (tmp_path / "a.ttf").write_bytes(b"no font")
    assert fonts._characters(str(tmp_path / "a.ttf")) == frozenset()
