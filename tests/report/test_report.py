"""The report: whole, self-contained, and true to the tables."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile

import matplotlib.image
import numpy as np
import pytest
from report_pages import Page, outside_references

from qhybrid.errors import DataError
from qhybrid.experiments.sweeps import read_results
from qhybrid.metrics import show_metric
from qhybrid.report import write_report_page
from qhybrid.report.content import build_content
from qhybrid.report.labels import (
    noise_label,
    seconds_label,
    settings_label,
    shots_label,
)
from qhybrid.report.sources import read_run
from qhybrid.report.svg import inline_svg
from qhybrid.training.run_folder import read_recipe


@pytest.fixture(scope="session")
def page_file(reported, tmp_path_factory):
    run = sorted((reported / "trained").iterdir())[0]
    return write_report_page([reported, run], tmp_path_factory.mktemp("page") / "report.html", "Two & more")


def test_the_page_is_whole_and_needs_nothing_from_outside(page_file):
    text = page_file.read_text()
    page = Page(text)
    assert outside_references(page, text) == []
    assert len(set(page.ids)) == len(page.ids)
    assert "script" not in page.tags
    for heading in ("Two & more", "Noise and shots", "Confusion", "Samples", "Learning curves", "Circuits"):
        assert heading in page.headings
    assert {"Provenance", "All results"} <= set(page.headings)
    assert "A &lt;tiny&gt; sweep." in text
    assert page.tags["svg"] >= 6


def test_the_numbers_are_those_of_the_table(page_file, reported):
    text = page_file.read_text()
    table = read_results(reported)
    table = table[table["metric"] == "accuracy"]
    assert len(table) > 10
    for _, row in table.iterrows():
        assert show_metric("accuracy", row["value"], row["standard_error"]) in text
        assert noise_label(row) in text
    assert "fake_torino" in text
    assert "128" not in text.split("<style>")[0]


def test_runs_alone(reported, tmp_path):
    run = sorted((reported / "trained").iterdir())[0]
    page = Page(write_report_page([run], tmp_path / "a.html").read_text())
    assert "Noise and shots" not in page.headings
    assert "Learning curves" in page.headings
    assert "tiny_qcq" in page.headings


def test_runs_of_one_name_are_told_by_their_seeds(reported, tmp_path):
    runs = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(runs):
        trained = {run: read_recipe(run) for run in (reported / "trained").iterdir()}
        source = next(run for run, one in trained.items() if one.seed == seed and one.engine.shots is None)
        shutil.copytree(source, folder)
        evaluation = folder / "evaluation" / "test-exact"
        evaluation.mkdir(parents=True)
        found = {"accuracy": 0.5, "class_names": ["3", "5"], "confusion": [[1, 1], [1, 1]]}
        (evaluation / "metrics.json").write_text(json.dumps(found))
    both = write_report_page(runs, tmp_path / "both.html").read_text()
    assert "tiny_qcq, seed 0, test split, exact simulation" in both
    assert "tiny_qcq, seed 1, test split, exact simulation" in both
    alone = write_report_page(runs[:1], tmp_path / "alone.html").read_text()
    assert "tiny_qcq, test split, exact simulation" in alone


def test_a_run_shows_all_metrics_of_files_of_any_version(reported, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(sorted((reported / "trained").iterdir())[0], folder)
    old = {"miou": 0.41234, "overall_accuracy": 0.7, "classes": {"road": {"iou": 0.125}}}
    new = {"metrics": {"miou": 0.5, "boundary_f1": 0.625, "accuracy": 0.75}, "miou": 0.5}
    for name, content in (("validation split, old", old), ("test split, new", new)):
        (folder / "evaluation" / name).mkdir(parents=True)
        (folder / "evaluation" / name / "metrics.json").write_text(json.dumps(content))
    table = build_content([read_run(folder)], "").runs
    assert table is not None
    assert table.heads[5:] == ("evaluation", "metric", "better", "value")
    assert [row[5:] for row in table.rows] == [
        ("test split, new", "mIoU", "larger", "0.5000"),
        ("test split, new", "boundary f1", "larger", "0.6250"),
        ("test split, new", "accuracy", "larger", "75.00 %"),
        ("validation split, old", "mIoU", "larger", "0.4123"),
        ("validation split, old", "accuracy", "larger", "70.00 %"),
        ("validation split, old", "IoU of road", "larger", "0.1250"),
    ]


def test_what_a_killed_process_left_is_not_read(reported, tmp_path):
    killed = tmp_path / "sweep"
    shutil.copytree(reported, killed)
    (killed / "runs" / ".0123.json.abc.part.json").write_text('{"format": 1, "na')
    page = Page(write_report_page([killed], tmp_path / "a.html").read_text())
    assert "Circuits" in page.headings


def test_run_folders_that_moved_away_are_left_out(reported, tmp_path):
    moved = tmp_path / "sweep"
    shutil.copytree(reported, moved)
    for file in (moved / "runs").glob("*.json"):
        kept = json.loads(file.read_text())
        kept["folder"] = str(tmp_path / "gone")
        file.write_text(json.dumps(kept))
    page = Page(write_report_page([moved], tmp_path / "a.html").read_text())
    assert "Noise and shots" in page.headings
    assert "Circuits" not in page.headings


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "results.parquet").write_bytes(b"PAR1"), "results.parquet"),
        (lambda folder: (folder / "sweep.yaml").unlink(), "must be a run folder or a sweep folder"),
        (lambda folder: next((folder / "runs").glob("*")).write_text("{"), "must be JSON"),
    ],
)
def test_damaged_sources(break_it, message, reported, tmp_path):
    folder = tmp_path / "sweep"
    shutil.copytree(reported, folder)
    break_it(folder)
    with pytest.raises(DataError, match=message):
        write_report_page([folder], tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_no_source(tmp_path):
    with pytest.raises(DataError, match="at least one"):
        write_report_page([], tmp_path / "a.html")


def test_labels():
    row = {"profile": "noise/mine.yaml", "scale": 0.5, "mapping": "fake_fez"}
    assert noise_label(row) == "mine x 0.5 on fake_fez"
    assert noise_label({"profile": "fake_fez", "scale": 1, "mapping": "fake_fez"}) == "fake_fez"
    assert (shots_label(None), shots_label(1024)) == ("infinite", "1,024")
    assert settings_label({"engine.shots": None, "model.reps": 2}) == "shots none, reps 2"
    assert [seconds_label(value) for value in (0.0371, 5.44, 540.4)] == ["0.037 s", "5.4 s", "540 s"]
    engine = {"kind": "routed", "options": {"backend": "fake_fez", "scale": 20}}
    assert settings_label({"engine": engine}) == "engine routed, fake_fez, scale 20"


def test_svg_takes_colours_and_ids_of_the_page():
    drawing = '<g id="a" style="fill: #010101"/><use href="#a"/>'
    text = f'<?xml version="1.0"?><svg width="72pt" height="9pt">{drawing}</svg>'
    found = inline_svg(text, "x", 'a "label"')
    assert 'id="x-a"' in found
    assert 'href="#x-a"' in found
    assert "var(--ink)" in found
    assert 'width="72pt"' not in found
    assert "max-width:96px" in found


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_looks_right_in_a_browser(page_file, tmp_path, scheme):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed (Debian package `chromium`)")
    picture = tmp_path / "page.png"
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--hide-scrollbars", f"--user-data-dir={profile}", "--window-size=1100,5000",
                f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
                f"--screenshot={picture}", page_file.as_uri(),
            ],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
    pixels = matplotlib.image.imread(picture)[..., :3]
    assert pixels.shape == (5000, 1100, 3)
    paper = pixels[5, 5]
    assert (paper.mean() < 0.2) if scheme == "dark" else (paper.mean() > 0.9)
    drawn = np.abs(pixels - paper).max(axis=2) > 0.2
    # Nothing runs over the right margin, and there is something all the way down.
    assert not drawn[:, 1085:].any()
    assert all(band.any() for band in np.array_split(drawn[:4500], 20))
    # Blue and orange of the charts are there.
    assert np.unique((pixels.reshape(-1, 3) * 8).round(), axis=0).shape[0] > 20
