"""Single runs on the page: words, scores of each class, model and training, pictures, size."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imsave
from report_pages import Page, outside_references

from qhybrid.errors import DataError
from qhybrid.evaluation import evaluate_run
from qhybrid.layers import quantum_layers
from qhybrid.report import page as report_page
from qhybrid.report import write_report_page
from qhybrid.report.content import build_content
from qhybrid.report.curves import learning_curves
from qhybrid.report.labels import evaluation_label, time_label
from qhybrid.report.pictures import Pictures, scaled_picture
from qhybrid.report.routing_curves import routing_curves
from qhybrid.report.run_part import NOT_RECORDED, counts_of, evaluation_parts, evaluations_of, training_facts
from qhybrid.report.sources import read_run
from qhybrid.training.run_folder import METRICS, load_run

pytestmark = pytest.mark.pictures

AER = {"kind": "aer", "noise": "fake_torino", "shots": 1024, "options": {}}
ROUTED = {"kind": "routed", "noise": "fake_torino", "shots": None, "options": {"backend": "fake_torino"}}


@pytest.mark.parametrize(
    ("folder", "found", "words"),
    [
        ("test-exact", {"split": "test", "engine": {"kind": "exact"}}, "test split, exact simulation"),
        ("test-exact", {"split": "test", "engine": None}, "test split"),
        ("x", {"split": "test", "engine": AER}, "test split, Aer, noise fake_torino, 1024 shots"),
        ("x", {"split": "val", "engine": ROUTED}, "validation split, routed to fake_torino, its noise"),
        (
            "x",
            {
                "split": "test",
                "engine": {**AER, "noise": "a/b/my.yaml", "options": {"method": "density_matrix"}},
            },
            "test split, Aer density matrix, noise my, 1024 shots",
        ),
        (
            "train-exact-last",
            {"split": "train", "engine": None, "which": "last"},
            "training split, weights of the last epoch",
        ),
        # A run that has last weights alone was not asked for them.
        ("test-exact", {"split": "test", "engine": None, "which": "last"}, "test split"),
        (
            "on-village-test-exact",
            {"split": "test", "engine": None, "on": "village"},
            "other data: village, test split",
        ),
        # Files that do not say what they are of.
        ("test-exact", {}, "test split, exact simulation"),
        ("mine", {}, "mine"),
    ],
)
def test_evaluations_are_named_in_words(folder, found, words):
    assert evaluation_label(folder, found) == words


def test_times_of_trainings():
    assert [time_label(value) for value in (3.21, 90, 7260)] == ["3.2 s", "2 min", "2 h 01 min"]


@pytest.fixture
def evaluated(make_run, scenes_root):
    """A run with a table of epochs and one evaluation."""
    folder = make_run(name="unet")
    (folder / METRICS).write_text(
        "epoch,train_loss,val_loss,val_miou,epoch_seconds\n1,2.0,2.1,0.2,30.5\n2,1.0,1.5,0.4,29.5\n"
    )
    evaluate_run(folder, data_root=scenes_root)
    return folder


def change(folder, name="test-exact", to=None, **keys):
    """Change keys of a metrics.json, or write it for another evaluation."""
    file = folder / "evaluation" / name / "metrics.json"
    content = {**json.loads(file.read_text()), **keys}
    target = folder / "evaluation" / (to or name)
    target.mkdir(exist_ok=True)
    (target / "metrics.json").write_text(json.dumps(content))


def test_scores_of_each_class_are_those_of_the_confusion_matrix(evaluated):
    # 6 of 8 field pixels are found, 2 of 4 forest pixels; nothing is a road, and no road is seen.
    change(evaluated, class_names=["field", "forest", "road"], confusion=[[6, 2, 0], [2, 2, 0], [0, 0, 0]])
    (part,) = build_content([read_run(evaluated)], "").evaluations
    assert part.title == "tiny, test split"
    assert part.classes is not None
    assert part.classes.heads == ("class", "IoU", "precision", "recall", "F1", "true pixels")
    assert part.classes.rows == [
        ("field", "0.6000", "75.00 %", "75.00 %", "0.7500", "8"),
        ("forest", "0.3333", "50.00 %", "50.00 %", "0.5000", "4"),
        ("road", "–", "–", "–", "–", "0"),
    ]
    assert [figure.caption for figure in part.figures] == [
        "tiny, test split: a whole scene of it.",
        "tiny, test split: samples of it.",
    ]


def test_images_have_an_accuracy_for_each_class(evaluated):
    names = {"class_names": ["3", "5"], "confusion": [[3, 1], [0, 4]]}
    change(evaluated, task="classification", images=8, **names)
    (part,) = build_content([read_run(evaluated)], "").evaluations
    assert part.classes is not None
    assert part.classes.heads == ("class", "accuracy (recall)", "precision", "F1", "true images")
    assert part.classes.rows[0] == ("3", "75.00 %", "100.00 %", f"{6 / 7:.4f}", "4")
    assert "8 images" in part.facts


def test_brackets_are_explained_where_there_are_some(evaluated):
    interval = {"low": 0.1, "high": 0.3, "standard_error": 0.05, "method": "jackknife"}
    intervals = {"unit": "block of 128 px", "units": 6, "within": "within these scenes", "places": 2}
    for metrics, note in (
        ({}, ""),
        (
            {"miou": interval},
            "in brackets 95 % over 6 blocks of 128 px, within these scenes; 2 connected places",
        ),
    ):
        change(evaluated, intervals={"level": 0.95, **intervals, "metrics": metrics})
        (part,) = build_content([read_run(evaluated)], "").evaluations
        assert part.metrics is not None
        assert part.metrics.note == note


def test_counts_of_files_of_any_version():
    assert counts_of({"miou": 0.5}) is None
    assert counts_of({"class_names": ["a"], "confusion": [[1, 2], [3, 4]]}) is None
    old = {"classes": {"a": {}, "b": {}}, "confusion_matrix": [[1, 2], [3, 4]]}
    assert counts_of(old).class_names == ("a", "b")


def test_model_and_training(make_run, evaluated, scenes_root):
    change(evaluated, data_root=None, data_hash=None)  # as earlier versions, which did not say
    run = read_run(evaluated)
    run.environment = {"data": {"train": {"scenes": 2, "pixels": 2808}, "val": {"scenes": 1}}}
    parameters = sum(part.numel() for part in load_run(evaluated).model.parameters())
    row = training_facts([("a", run)]).rows[0]
    assert row[:5] == ("a", f"{parameters:,}", "0", "1 min", "2 scenes, 2,808 pixels with data")
    assert row[5:] == (NOT_RECORDED, NOT_RECORDED)
    change(evaluated, data_root="/data", data_hash="0123456789abcdef")
    assert training_facts([("a", read_run(evaluated))]).rows[0][5:] == ("/data", "test 0123456789ab")
    record = {"data_root": "/trained", "splits": {"train": {"hash": "fedcba9876543210", "files": {}}}}
    (evaluated / "data.json").write_text(json.dumps(record))
    assert training_facts([("a", read_run(evaluated))]).rows[0][5:] == ("/trained", "training fedcba987654")

    quantum = make_run("quantum", name="hq_unet")
    layers = quantum_layers(load_run(quantum).model).values()
    angles = sum(layer.spec.num_weights for layer in layers)
    assert angles > 0
    assert training_facts([("b", read_run(quantum))]).rows[0][2:5] == (
        str(angles),
        NOT_RECORDED,
        NOT_RECORDED,
    )


def test_a_sum_of_times_with_a_gap_is_no_training_time(evaluated):
    (evaluated / METRICS).write_text("epoch,train_loss,epoch_seconds\n1,2.0,\n2,1.0,29.5\n")
    assert training_facts([("a", read_run(evaluated))]).rows[0][3] == NOT_RECORDED


def test_other_data_stand_apart(evaluated, tmp_path):
    change(evaluated, to="on-village-test-exact", on="village", miou=0.99, data_root="/data/village")
    content = build_content([read_run(evaluated)], "")
    assert {row[5] for row in content.runs.rows} == {"test split"}
    assert [part.title for part in content.evaluations] == ["tiny, test split"]
    assert [part.title for part in content.elsewhere] == ["tiny, other data: village, test split"]
    text = write_report_page([evaluated], tmp_path / "a.html").read_text()
    page = Page(text)
    assert "On other data" in page.headings
    assert text.index("tiny, test split") < text.index("On other data") < text.index("other data: village")
    assert outside_references(page, text) == []
    assert "Data root: /data/village." in text


def test_two_evaluations_of_the_same_words_are_told_apart(evaluated):
    change(evaluated, to="test-again")
    parts = build_content([read_run(evaluated)], "").evaluations
    assert {part.title for part in parts} == {
        "tiny, test split (test-exact)",
        "tiny, test split (test-again)",
    }


def test_evaluations_before_training_went_on_say_so(evaluated):
    (before,) = (label for _, label, _ in evaluations_of(read_run(evaluated)))
    file = evaluated / "best" / "meta.json"
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({**meta, "epoch": meta["epoch"] + 2}))
    (after,) = (label for _, label, _ in evaluations_of(read_run(evaluated)))
    assert after == f"{before}, weights of epoch {meta['epoch']}, which are no longer there"


def test_models_are_drawn_on_one_scale(evaluated):
    runs = [read_run(evaluated, name) for name in ("one", "two")]
    runs[1].folder = evaluated / "elsewhere"
    ((caption, drawing),) = learning_curves(runs, runs)
    assert caption == "All models on geotiff_folder, on one scale."
    assert "one" in drawing
    assert "two" in drawing
    # One figure a name where they are not to be compared, and on different data.
    assert len(learning_curves(runs)) == 2
    data = runs[1].recipe.data.model_copy(update={"root": "elsewhere"})
    runs[1].recipe = runs[1].recipe.model_copy(update={"data": data})
    assert [caption for caption, _ in learning_curves(runs, runs)] == ["one.", "two."]


def routed(run, entropy, loads):
    columns = {"router_entropy mix.router": entropy}
    columns |= {f"router_load mix.router {name}": values for name, values in loads.items()}
    run.curves = pd.DataFrame(columns, index=pd.Index([1, 2], name="epoch"))
    return run


def test_what_a_router_does_is_drawn_and_said(evaluated):
    """Means over seeds; a router that decides nothing, and an expert that nobody uses, in words."""
    equal = {"first": [0.5, 0.5], "second": [0.5, 0.5]}
    runs = [routed(read_run(evaluated, "one"), [1.0, value], equal) for value in (0.96, 0.98)]
    ((caption, drawing),) = routing_curves(runs)
    assert caption == (
        "one: router `mix.router`; means over 2 seeds. Entropy of an image's probabilities ends at 0.97 of "
        "its largest value: all experts are about equally probable for every image."
    )
    assert "first" in drawing
    alone = {"first": [0.6, 0.995], "second": [0.4, 0.005]}
    ((caption, _),) = routing_curves([routed(read_run(evaluated, "one"), [0.9, 0.03], alone)])
    assert caption.endswith(
        "0.03 of its largest value: one expert is chosen for each image. Hardly used: second."
    )
    assert routing_curves([read_run(evaluated)]) == []
    content = build_content([routed(read_run(evaluated), [0.9, 0.5], equal)], "")
    assert any("router `mix.router`" in figure.caption for figure in content.curves)


def test_runs_of_one_name_that_differ_are_not_averaged(make_run):
    folders = [make_run("a", name="unet"), make_run("b", name="unet", widths=(4, 4, 4, 4, 8))]
    for folder in folders:
        (folder / METRICS).write_text("epoch,train_loss,val_loss,val_miou\n1,2.0,2.1,0.2\n")
    content = build_content([read_run(folder) for folder in folders], "")
    assert [row[0] for row in content.runs.rows] == ["tiny (a)", "tiny (b)"]
    assert [figure.caption for figure in content.curves] == ["All models on geotiff_folder, on one scale."]


def noise_picture(file, side=400):
    """Write a picture that cannot be compressed well."""
    file.parent.mkdir(parents=True, exist_ok=True)
    imsave(file, np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_the_page_stays_below_3_mb(evaluated, tmp_path):
    noise_picture(evaluated / "samples.png")
    for number in range(3):
        change(evaluated, to=f"test-{number}")
        for name in ("map.png", "samples.png"):
            noise_picture(evaluated / "evaluation" / f"test-{number}" / name)
    raw = sum(file.stat().st_size for file in evaluated.rglob("*.png"))
    assert raw > 3e6
    page = write_report_page([evaluated], tmp_path / "a.html")
    assert page.stat().st_size < 3e6
    assert len(re.findall("data:image/webp", page.read_text())) == 9


def test_a_page_that_is_still_too_large_has_smaller_pictures_then_none(evaluated, tmp_path, monkeypatch):
    noise_picture(evaluated / "samples.png")
    whole = write_report_page([evaluated], tmp_path / "a.html").stat().st_size
    monkeypatch.setattr(report_page, "LARGEST", whole - 1000)
    smaller = write_report_page([evaluated], tmp_path / "b.html")
    assert smaller.stat().st_size < whole
    assert "data:image" in smaller.read_text()
    monkeypatch.setattr(report_page, "LARGEST", 1)
    bare = write_report_page([evaluated], tmp_path / "c.html").read_text()
    assert "data:image" not in bare
    assert "more pictures are in the run folders" in bare


def test_pictures_are_scaled_to_their_share(tmp_path):
    file = tmp_path / "a.png"
    noise_picture(file, side=700)
    sizes = [len(scaled_picture(file, largest)) for largest in (10**9, 200_000, 1)]
    assert sizes[0] > 200_000 > sizes[1] > sizes[2]
    file.write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="must be a PNG picture"):
        scaled_picture(file, 1000)


def test_only_some_pictures_are_shown(tmp_path):
    noise_picture(tmp_path / "a.png", side=8)
    pictures = Pictures(10**6, 30)
    shown = [figure for _ in range(30) for figure in pictures.figure(tmp_path / "a.png", "x")]
    assert (len(shown), pictures.left_out) == (24, 6)
    assert pictures.figure(tmp_path / "none.png", "x") == []


def test_an_evaluation_that_says_nothing_is_shown_as_such(evaluated):
    file = evaluated / "evaluation" / "test-exact" / "metrics.json"
    file.write_text('{"miou": 0.25}')
    (part,) = evaluation_parts([("old", read_run(evaluated))], Pictures(0, 0))
    assert part.facts == "Counted: not recorded. Data root: not recorded. Data hash: not recorded."
    assert part.classes is None
    assert part.confusion == []
