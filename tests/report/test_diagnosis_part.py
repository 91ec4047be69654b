"""The chapter "Does the circuit matter?": what evaluations and diagnoses have written, before noise and
shots."""

from __future__ import annotations

import json
import shutil

import pytest
from image_runs import CLASSIFIER

from qhybrid.evaluation import diagnose_run, evaluate_run
from qhybrid.evaluation.diagnosis.wording import show
from qhybrid.report import write_report_page
from qhybrid.report.diagnosis_part import use_part
from qhybrid.report.pictures import Pictures
from qhybrid.report.sources import read_run


@pytest.fixture
def diagnosed(make_image_run, mnist_root, monkeypatch):
    monkeypatch.setattr("qhybrid.evaluation.diagnosis.short.LEAST_SECONDS", 1e9)  # on busy machines too
    folder = make_image_run()
    evaluate_run(folder, "test", data_root=mnist_root, diagnose=True)
    diagnose_run(folder, layers=[CLASSIFIER], samples=8, data_root=mnist_root)
    return folder


def part_of(folder):
    run = read_run(folder)
    return use_part([("a run", run)], Pictures(10**6, 4)), run


def test_the_chapter_has_what_the_files_say(diagnosed):
    part, run = part_of(diagnosed)
    (use,) = [found["circuit_use"] for found in run.evaluations.values()]
    (row,) = part.short.rows
    assert row[:3] == ("a run, test split, exact simulation", "accuracy", show("accuracy", use["trained"]))
    assert row[3] == show("accuracy", use["replaced"]["mean"]["value"])
    assert row[-2:] == (use["kind"], "16 images")
    assert part.sentences == [f"a run, test split, exact simulation: {use['sentence']}"]
    (whole,) = part.diagnoses
    (file,) = diagnosed.glob("diagnosis/*/diagnosis.json")
    content = json.loads(file.read_text())
    assert whole.verdicts == [content["targets"][0]["sentence"]]
    ((label, table),) = whole.tables
    assert label == CLASSIFIER
    assert [cells[0] for cells in table.rows][:4] == ["as trained", "mean", "zero", "permuted"]
    assert [cells[-1] for cells in table.rows][1:] == [
        row["text"] for row in content["targets"][0]["replaced"]
    ]
    assert whole.layers.heads == ("", CLASSIFIER)
    assert whole.layers.rows[0] == ("circuit", "qcq_classifier")
    assert whole.layers.rows[-1][1] == "not recorded"
    assert len(whole.figures) == 1
    assert part.remarks == []


def test_the_page_has_it_before_noise(diagnosed, reported, tmp_path):
    page = write_report_page([diagnosed, reported], tmp_path / "page.html").read_text()
    places = [page.index(f'<section id="{name}"') for name in ("runs", "use", "sweep-1")]
    assert places == sorted(places)
    assert "Does the circuit matter?" in page


def test_a_diagnosis_of_earlier_weights_is_not_shown(diagnosed, make_image_run):
    other = make_image_run("other", seed=1)
    shutil.copy(other / "best" / "weights.safetensors", diagnosed / "best" / "weights.safetensors")
    part, _ = part_of(diagnosed)
    assert part.diagnoses == []
    assert "of other weights" in part.remarks[0]


def test_runs_without_any_have_no_chapter(make_image_run, mnist_root, tmp_path):
    folder = make_image_run()
    evaluate_run(folder, "test", data_root=mnist_root)
    assert part_of(folder)[0] is None
    page = write_report_page([folder], tmp_path / "page.html").read_text()
    assert "Does the circuit matter?" not in page
