"""Charts and tables of a sweep: every cell in one place, and looking the same wherever it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qhybrid.cli.sweep import results_tables
from qhybrid.experiments.sweeps.arrays import pack
from qhybrid.report.curves import learning_curves
from qhybrid.report.engine_part import engines_table
from qhybrid.report.facets import labelled, looks, noise_charts_of
from qhybrid.report.labels import failure_label
from qhybrid.report.mitigation_charts import mitigated_noises, mitigation_charts
from qhybrid.report.pictures import chosen_cells, sample_tables
from qhybrid.report.sources import RunSource, SweepSource, read_sweep
from qhybrid.report.sweep_figures import sweep_figures
from qhybrid.report.sweep_part import sweep_part
from qhybrid.report.training_part import training_table

NOISES = ("ideal", "weak", "strong")


def results(layers=("all", "head"), mitigations=("none",), shots=(64, None), runs=1):
    rows = [
        {
            "run": "r", "settings": "{}", "engine": "exact", "profile": profile, "scale": 1.0,
            "shots": count, "mapping": "all_to_all", "mitigation": mitigation, "layers": layer,
            "shots_total": count and count * (3 if "zne" in mitigation else 1), "metric": "accuracy",
            "value": 0.9 - 0.1 * NOISES.index(profile), "standard_error": 0.01 if count else None,
            "runs": runs, "profile_hash": "" if profile == "ideal" else profile,
        }
        for layer in layers
        # Charts need not have the same profiles.
        for profile in NOISES[layers.index(layer) :]
        for mitigation in mitigations
        for count in shots
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"shots": "Int64", "shots_total": "Int64"})


def test_layers_have_charts_with_scales_of_their_own():
    rows = labelled(results(), "accuracy")
    one, two = noise_charts_of(rows)
    assert (one.title, two.title) == ("all layers", "head")
    assert one.facets[0].noises == ["ideal", "weak", "strong"]
    assert two.facets[0].noises == ["weak", "strong"]
    assert one.facets[0].shots == ["64", "infinite"]
    assert one.range == pytest.approx((0.7, 0.9))
    assert two.range == pytest.approx((0.7, 0.8))
    (alone,) = noise_charts_of(labelled(results(layers=("all",)), "accuracy"))
    assert alone.title == ""


def test_settings_of_the_training_are_told_apart(reported):
    """Shots of the training are an axis where cells run as trained, and named where they do not."""
    rows = labelled(read_sweep(reported).results, "accuracy")
    (chart,) = noise_charts_of(rows)
    for facet in chart.facets:
        # One value a place: none is drawn over another.
        assert not facet.table[["noise", "shots"]].duplicated().any(), facet.title
    assert sorted(facet.title for facet in chart.facets) == [
        "as trained", "trained with shots 32, exact", "trained with shots none, exact",
    ]  # fmt: skip
    summary = sweep_part(read_sweep(reported), "s").summary.rows
    assert {row[0] for row in summary} == {
        "tiny_qcq, trained with shots 32", "tiny_qcq, trained with shots none",
    }  # fmt: skip


def test_what_is_equal_does_not_fill_a_chart():
    table = results(layers=("all",)).assign(value=0.5436)
    (chart,) = noise_charts_of(labelled(table, "accuracy"))
    assert chart.range == pytest.approx((0.5386, 0.5486))
    # A single value has no chart beside others.
    one = results(layers=("all", "head")).query("layers == 'head' or (profile == 'ideal' and shots == 64)")
    (chart,) = noise_charts_of(labelled(one, "accuracy"))
    assert len(chart.facets[0].table) == 4


def test_a_noise_looks_the_same_in_every_chart():
    figures = sweep_figures(results(), "accuracy", "x")
    assert len(figures) == 2
    first, second = (str(figure.drawing) for figure in figures)
    look = looks(list(NOISES))
    # The first noise of the second chart is the second of the first one, and keeps its colour.
    assert f"var(--series-{1 + list(look).index('ideal')})" in first
    assert "var(--series-1)" not in second
    assert "var(--series-2)" in second
    assert "var(--series-3)" in second
    twelve = looks([str(number) for number in range(12)])
    assert len({(one.color, one.marker, one.style) for one in twelve.values()}) == 12


def test_captions_say_what_the_error_bars_are():
    (figure,) = sweep_figures(results(layers=("all",)), "accuracy", "x")
    assert "standard errors over seeds of shots" in figure.caption
    assert "Colours from 70.00 % (dark) to 90.00 %" in figure.caption
    (figure,) = sweep_figures(results(layers=("all",), runs=3), "accuracy", "x")
    assert "standard errors over trained runs" in figure.caption
    (figure,) = sweep_figures(results(layers=("all",), shots=(None,)), "accuracy", "x")
    assert figure.caption == "Accuracy, by noise."


def test_mitigation_is_drawn_against_the_shots_it_takes():
    table = results(layers=("all",), mitigations=("none", "readout", "zne"))
    rows = labelled(table, "accuracy")
    # Charts of noise show the cells without mitigation alone.
    (chart,) = noise_charts_of(rows)
    assert len(chart.facets[0].table) == 6
    groups = mitigated_noises(rows)
    assert [title for title, _ in groups] == [("ideal",), ("weak",), ("strong",)]
    look = looks(["no mitigation", "read-out correction", "zero-noise extrapolation"])
    drawing = str(mitigation_charts(groups, "accuracy", "m", look))
    for word in ("strong", "infinite", ">64<", "zero-noise extrapolation", "shots in all"):
        assert word in drawing
    assert mitigated_noises(labelled(results(), "accuracy")) == []
    assert len(sweep_figures(table, "accuracy", "x")) == 2
    # Only mitigated cells: they are what there is to show.
    (only,) = noise_charts_of(labelled(table[table["mitigation"] == "zne"], "accuracy"))
    assert len(only.facets[0].table) == 6


def test_engines_are_compared_where_there_are_several():
    common = {
        "run_folder": "r", "profile": "p", "scale": 1.0, "mapping": "m", "mitigation": "none",
        "layers": "all", "metric": "accuracy",
    }  # fmt: skip
    rows = [
        {**common, "engine": engine, "shots": 8, "seed": seed, "value": value + off}
        for engine, off in (("exact", 0.0), ("aer_density_matrix", 0.001))
        for seed, value in enumerate((0.5, 0.52, 0.54))
    ]
    table = engines_table(pd.DataFrame(rows))
    assert table is not None
    ((engine, *_, verdict),) = table.rows
    assert (engine, verdict) == ("Aer density matrix", "within random variation")
    rows[-1]["value"] = rows[-2]["value"] = rows[-3]["value"] = 0.9
    changed = engines_table(pd.DataFrame(rows))
    assert changed is not None
    assert changed.rows[0][-1] == "they differ"
    assert engines_table(pd.DataFrame(rows[:3])) is None
    single = engines_table(pd.DataFrame([rows[0], rows[3]]))
    assert single is not None
    assert single.rows[0][-1] == "too few seeds"
    exact = pd.DataFrame([rows[0], {**rows[3], "value": 0.5}]).assign(shots=None, seed=None)
    equal = engines_table(exact)
    assert equal is not None
    assert equal.rows[0][-1] == "equal"


def test_trained_runs_stand_beside_each_other(reported):
    sweep = read_sweep(reported)
    table = training_table(sweep, "accuracy")
    assert table is not None
    assert table.heads == (
        "trained with", "seeds", "training accuracy", "validation accuracy", "test accuracy",
    )  # fmt: skip
    assert [row[0] for row in table.rows] == ["shots 32", "shots none"]
    runs = [run for run in sweep.trained if run.settings["engine.shots"] == 32]
    last = pd.Series([run.curves["train_accuracy"].iloc[-1] for run in runs])
    best = pd.Series([run.curves["val_accuracy"].max() for run in runs])
    assert table.rows[0][2] == f"{100 * last.mean():.2f} ± {100 * last.sem():.2f} %"
    assert table.rows[0][3] == f"{100 * best.mean():.2f} ± {100 * best.sem():.2f} %"
    own = sweep.results.query("engine == 'trained' and metric == 'accuracy'").set_index("settings")
    tested = own["value"]['{"engine.shots": 32}']
    assert table.rows[0][4].startswith(f"{100 * tested:.2f} ±")


def test_mitigated_rows_are_compared_with_the_noiseless_cell(reported):
    rows = sweep_part(read_sweep(reported), "s").summary.rows
    without = {row[-3] for row in rows if "mitigation" in row or "extrapolation" in str(row)}
    assert "–" not in without


def sweep_of_metrics():
    """A sweep of one run without noise and under noise, with a headline, an error, a class and an unknown."""
    values = {"miou": (0.8, 0.5), "accuracy": (0.9, 0.7), "cross_entropy": (0.2, 0.9), "theirs": (None, 0.25)}
    values["iou road"] = (0.75, 0.125)
    rows = [
        {
            "run": "r", "settings": "{}", "engine": "exact", "profile": profile, "scale": 1.0, "shots": None,
            "mapping": "all_to_all", "mitigation": "none", "layers": "all", "shots_total": None,
            "metric": metric, "value": pair[place], "standard_error": None, "runs": 1, "seeds": 1,
            "seconds": 1.0, "profile_hash": "" if profile == "ideal" else profile,
            "run_folder": "r", "weights": "w", "seed": None, "key": profile, "count": 100, "split": "test",
            "dataset": "d",
        }
        for place, profile in enumerate(("ideal", "strong"))
        for metric, pair in values.items()
    ]  # fmt: skip
    table = pd.DataFrame(rows).astype({"shots": "Int64", "shots_total": "Int64", "value": "float64"})
    return SweepSource(Path("gone"), "s", "", table, table, {}, [], [])


def test_every_metric_is_shown_with_label_unit_and_direction():
    part = sweep_part(sweep_of_metrics(), "s")
    assert part.summary.heads[1:] == ("metric", "better", "without noise", "worst", "found at")
    assert [row[1:5] for row in part.summary.rows] == [
        ("mIoU", "larger", "0.8000", "0.5000"),
        ("accuracy", "larger", "90.00 %", "70.00 %"),
        # The worst cross-entropy is the highest one.
        ("cross-entropy", "smaller", "0.2000", "0.9000"),
        ("theirs", "larger", "–", "0.2500"),
    ]
    assert {row[5] for row in part.summary.rows} == {"strong, infinite shots"}
    assert part.results.heads == (
        "noise", "shots", "mIoU", "accuracy", "cross-entropy", "theirs", "IoU of road", "seeds",
    )  # fmt: skip
    assert part.results.rows[0] == (
        "ideal", "infinite", "0.8000", "90.00 %", "0.2000", "–", "0.7500", "1",
    )  # fmt: skip
    (remark,) = part.remarks
    assert remark.startswith("theirs is missing in 1 cell:")
    assert part.facts.startswith("2 cells of 1 trained run on the test split of d (100 pixels)")


def test_means_over_several_runs_do_not_call_all_of_their_values_seeds():
    sweep = sweep_of_metrics()
    sweep.results = sweep.results.assign(runs=2, seeds=6)  # three seeds of shots of each
    shown = sweep_part(sweep, "s").results
    assert shown.heads[-2:] == ("runs", "values")
    assert [row[-2:] for row in shown.rows] == [("2", "6"), ("2", "6")]
    assert shown.note.endswith("values: seeds of all runs together; errors are those over runs")
    (printed,) = results_tables(sweep.results)
    assert [one.header for one in printed.columns][-3:] == ["error", "runs", "values"]
    assert printed.caption == "values: seeds of all runs together; errors are those over runs"


@pytest.mark.parametrize("metric", ["miou", "cross_entropy"])
def test_samples_show_the_worst_cell_whatever_direction_is_better(metric):
    sweep = sweep_of_metrics()
    sweep.cells = sweep.cells[sweep.cells["metric"] == metric].assign(profile_hash="x")
    ((_, key),) = chosen_cells(sweep, "w")
    assert key == "strong"


@pytest.mark.parametrize(
    ("kept", "cells", "shown"),
    [
        ("a:0:0:2:2", {"ideal": "a:0:0:2:2", "strong": "a:0:0:2:2"}, 2),
        # Cells of an earlier version show other parts of scenes: they are no predictions of these pictures.
        ("a:0:0:2:2", {"ideal": "a:0:0:2:2", "strong": None}, 1),
        ("a:0:0:2:2", {"ideal": "a:4:4:2:2", "strong": None}, 0),
        (None, {"ideal": None, "strong": None}, 2),
    ],
)
def test_predictions_stand_beside_the_part_of_the_scene_that_they_are_of(kept, cells, shown, monkeypatch):
    sweep = sweep_of_metrics()
    labels = pack(np.array([[0, 1], [1, 0]], dtype=np.uint8))
    sample = {"title": "a", "picture": pack(np.zeros((2, 2, 3), dtype=np.uint8)), "truth": labels}
    content = {"name": "r", "class_names": ["x", "y"], "colors": ["#111111", "#eeeeee"], "folder": "r"}
    sweep.runs = {"w": {**content, "samples": [{**sample, **({"place": kept} if kept else {})}]}}
    found = {
        key: {"shown": [labels], **({"places": [place]} if place else {})} for key, place in cells.items()
    }
    monkeypatch.setattr(SweepSource, "cell", lambda self, key: found[key])
    tables = sample_tables(sweep)
    assert sum(len(table.heads) - 2 for table in tables) == shown


def test_curves_have_the_noiseless_training_as_reference(reported):
    sweep = read_sweep(reported)
    ((caption, drawing),) = learning_curves(sweep.trained)
    assert "trained with 32 shots" in caption
    assert "grey is the noiseless exact training" in caption
    assert "over 2 seeds" in caption
    assert "exact, no noise, no shots" in drawing
    # Runs of the same name from elsewhere have a figure of their own, without it.
    (first, *_) = sweep.trained
    other = RunSource(first.name, first.folder, first.recipe, {}, first.curves)
    alone, _ = learning_curves([other, *sweep.trained])
    assert "grey" not in alone[0]
    infinite = [run for run in sweep.trained if run.settings["engine.shots"] is None]
    ((caption, _),) = learning_curves(infinite)
    assert "infinitely many shots" in caption


def test_curves_tell_engines_by_line_style(reported):
    (first, *_) = read_sweep(reported).trained

    def run(kind):
        settings = {"engine.kind": kind, "engine.noise": "ideal", "engine.shots": 8}
        return RunSource(first.name, first.folder, first.recipe, settings, first.curves)

    ((caption, drawing),) = learning_curves([run("exact"), run("aer")])
    assert "one colour a setting, one line style an engine" in caption
    assert "kind aer, noise ideal" in drawing
    assert "stroke-dasharray" in drawing
    assert "var(--series-2)" not in drawing


def test_training_under_noise_is_no_reference(reported):
    sweep = read_sweep(reported)
    shots = [run for run in sweep.trained if run.settings["engine.shots"] == 32]
    (plain, *_) = [run for run in sweep.trained if run.settings["engine.shots"] is None]

    def run(noise, **settings):
        engine = plain.recipe.engine.model_copy(update={"noise": noise})
        given = {"engine.shots": None, "engine.noise": noise, **settings}
        recipe = plain.recipe.model_copy(update={"engine": engine})
        return RunSource(plain.name, plain.folder, recipe, given, plain.curves)

    found = learning_curves([*shots, run("ideal"), run("depolarizing_0.05_0.1")])
    assert len(found) == 2
    (_, first), (caption, second) = found
    assert "exact, no noise, no shots" in first
    assert "noise depolarizing" not in first
    assert "infinitely many shots" in caption
    assert "grey is the noiseless exact training" in caption
    assert "noise depolarizing_0.05_0.1" in second
    # References that differ in more than their seed are not averaged.
    ((_, drawing),) = learning_curves([*shots, run("ideal", depth=1), run("ideal", depth=2)])
    for depth in (1, 2):
        assert f"exact, no noise, no shots, depth {depth}" in drawing


def test_failures_are_told_without_what_is_usual():
    what = {
        "run": "r", "engine": "exact", "profile": "p", "scale": 1.0, "shots": None, "seed": None,
        "mapping": "all_to_all", "mitigation": "none", "layers": ["a.b", "c"],
    }  # fmt: skip
    assert (
        failure_label({"what": what, "error": "no."}) == "run r, engine exact, profile p, layers a.b c: no."
    )
    more = {**what, "shots": 64, "scale": 2.0, "layers": "all"}
    assert "scale 2.0, shots 64: no." in failure_label({"what": more, "error": "no."})
