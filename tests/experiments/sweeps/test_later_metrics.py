"""Metrics that are added after a sweep: computed from kept predictions, or marked as missing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import log_softmax

from qhybrid.engines.aer.engine import AerEngine
from qhybrid.engines.exact.engine import ExactEngine
from qhybrid.experiments.sweeps import read_cells, read_results, run_sweep
from qhybrid.metrics import METRICS, Metric

NOISY = "depolarizing_0.05_0.1"
CLASSIFIER = "head.classifier.circuit"
GRID = {"profiles": ["ideal", NOISY], "layers": [[CLASSIFIER]]}


@pytest.fixture
def no_engine(monkeypatch):
    """Calls of engines, which are all that a circuit is executed by."""
    calls = []
    for kind in (ExactEngine, AerEngine):
        original = kind.expectations

        def counted(self, *arguments, original=original):
            calls.append(1)
            return original(self, *arguments)

        monkeypatch.setattr(kind, "expectations", counted)
    return calls


def entropy(sample):
    """Cross-entropy again, as a plugin would count it."""
    return [-np.log(sample.probabilities[int(sample.truth)]), 1]


def right_pixels(sample):
    counted = sample.truth != 255
    return [(sample.predicted == sample.truth)[counted].sum(), counted.sum()]


def mean(total):
    return float(total[0] / total[1])


LATER = Metric("later", "later", "nat", False, ("classification",), mean, entropy, probabilities=True)


def files(out, suffix):
    return {path.name: path.read_bytes() for path in (out / "cells").glob(f"*.{suffix}")}


def test_a_metric_that_was_added_later_takes_no_circuits(
    make_image_run, sweep_of, mnist_root, tmp_path, no_engine
):
    config, out = sweep_of([make_image_run()], GRID), tmp_path / "out"
    first = run_sweep(config, mnist_root, out, processes=1)
    assert no_engine
    before, kept = read_cells(out), files(out, "predictions")
    assert len(kept) == first.computed == 2
    no_engine.clear()
    with METRICS.temporarily("later", LATER):
        again = run_sweep(config, mnist_root, out, processes=1)
        assert (again.computed, again.measured, again.unknown, again.failures) == (0, 2, {}, [])
        assert run_sweep(config, mnist_root, out, processes=1).measured == 0
    assert not no_engine
    cells = read_cells(out)
    found = cells.pivot(index="key", columns="metric", values="value")
    assert found["later"].to_numpy() == pytest.approx(found["cross_entropy"].to_numpy(), rel=1e-6)
    assert set(read_results(out)["metric"]) == {"accuracy", "cross_entropy", "later"}
    # All that was there is as it was.
    old = cells[cells["metric"] != "later"].reset_index(drop=True)
    assert old.equals(before)
    assert files(out, "predictions") == kept


def test_logits_are_kept_of_classes_and_maps_of_scenes(
    make_image_run, make_run, sweep_of, mnist_root, scenes_root, tmp_path, no_engine
):
    run = run_sweep(sweep_of([make_image_run()], GRID), mnist_root, tmp_path / "images", processes=1).folder
    for name, content in files(run, "json").items():
        cell = json.loads(content)
        with np.load(run / "cells" / name.replace("json", "predictions")) as kept:
            logits = kept["logits"]
        assert logits.shape == (16, 2)
        truth = np.tile([0, 1], 8)
        loss = -log_softmax(logits, axis=1)[np.arange(16), truth].mean()
        assert cell["metrics"]["cross_entropy"] == pytest.approx(loss, rel=1e-5)
    scenes = make_run("scenes", name="hq_unet", grid=2)
    config, out = sweep_of([scenes], {"profiles": [NOISY]}), tmp_path / "scenes"
    run_sweep(config, scenes_root, out, processes=1)
    (file,) = (out / "cells").glob("*.predictions")
    with np.load(file) as kept:
        assert {name: kept[name].shape for name in kept.files} == {"0": (40, 56), "1": (37, 30)}
    no_engine.clear()
    later = Metric("right", "right", tasks=("scenes",), value=mean, count=right_pixels)
    with METRICS.temporarily("right", later):
        assert run_sweep(config, scenes_root, out, processes=1).measured == 1
    assert not no_engine
    values = read_cells(out).set_index("metric")["value"]
    assert values["right"] == pytest.approx(values["accuracy"], rel=1e-12)


def test_cells_without_predictions_say_what_is_missing(
    make_image_run, sweep_of, mnist_root, tmp_path, no_engine
):
    """As cells of earlier versions: they load, and what they cannot tell is missing, not zero."""
    config, out = sweep_of([make_image_run()], GRID), tmp_path / "out"
    run_sweep(config, mnist_root, out, processes=1)
    for file in (out / "cells").iterdir():
        if file.suffix == ".json":
            content = json.loads(file.read_text())
            del content["measured"]
            file.write_text(json.dumps(content))
        else:
            file.unlink()
    no_engine.clear()
    errors = Metric(
        "errors", "errors", tasks=("classification",), larger_is_better=False,
        value=lambda totals: totals.counts.matrix.sum() - np.trace(totals.counts.matrix),
    )  # fmt: skip
    with METRICS.temporarily("later", LATER), METRICS.temporarily("errors", errors):
        found = run_sweep(config, mnist_root, out, processes=1)
        # The confusion matrix is there, and is enough for one of them.
        assert (found.computed, found.measured, found.unknown) == (0, 2, {"later": 2})
        assert not no_engine
        table = read_cells(out).pivot(index="key", columns="metric", values="value")
        assert table["later"].isna().all()
        assert table["errors"].to_numpy() == pytest.approx(16 * (1 - table["accuracy"].to_numpy()))
        results = read_results(out)
        assert results[results["metric"] == "later"]["value"].isna().all()
        # On request they are computed anew, with the same numbers.
        again = run_sweep(config, mnist_root, out, processes=1, recompute=True)
        assert (again.computed, again.unknown) == (2, {})
        assert no_engine
        new = read_cells(out).pivot(index="key", columns="metric", values="value")
    assert new["later"].to_numpy() == pytest.approx(new["cross_entropy"].to_numpy(), rel=1e-6)
    assert new["accuracy"].equals(table["accuracy"])


def test_maps_keep_no_probabilities(make_run, sweep_of, scenes_root, tmp_path):
    config = sweep_of([make_run("scenes", name="hq_unet", grid=2)], {})
    out = run_sweep(config, scenes_root, tmp_path / "out", processes=1).folder
    soft = Metric("soft", "soft", tasks=("scenes",), value=mean, count=right_pixels, probabilities=True)
    with METRICS.temporarily("soft", soft):
        assert run_sweep(config, scenes_root, out, processes=1).unknown == {"soft": 1}


def test_a_failing_metric_is_listed_and_tried_again(make_image_run, sweep_of, mnist_root, tmp_path):
    config, out = sweep_of([make_image_run()], GRID), tmp_path / "out"
    broken = Metric("later", "later", tasks=("classification",), value=mean, count=lambda sample: 1 / 0)
    with METRICS.temporarily("later", broken):
        first = run_sweep(config, mnist_root, out, processes=1)
        assert (first.cells, first.computed) == (2, 2)
        assert [one["metric"] for one in first.failures] == ["later", "later"]
        assert "Metric `later` failed (ZeroDivisionError" in first.failures[0]["error"]
        assert read_cells(out).groupby("metric")["value"].count().to_dict() == {
            "accuracy": 2, "cross_entropy": 2, "later": 0,
        }  # fmt: skip
        again = run_sweep(config, mnist_root, out, processes=1)
        assert (again.computed, again.measured, len(again.failures)) == (0, 0, 2)
    with METRICS.temporarily("later", LATER):
        healed = run_sweep(config, mnist_root, out, processes=1)
        assert (healed.measured, healed.failures) == (2, [])


def test_a_new_version_of_a_plugin_is_measured_again(
    make_image_run, sweep_of, mnist_root, tmp_path, monkeypatch
):
    config, out = sweep_of([make_image_run()], GRID), tmp_path / "out"
    with METRICS.temporarily("later", LATER):
        run_sweep(config, mnist_root, out, processes=1)
        halved = Metric("later", "later", tasks=("classification",), value=lambda total: 0.5, count=entropy)
        with METRICS.temporarily("later", halved), monkeypatch.context() as patch:
            patch.setattr(
                "qhybrid.experiments.sweeps.later_metrics.version_of",
                lambda metric: "mine 2" if metric.key == "later" else "",
            )
            patch.setattr("qhybrid.evaluation.measuring.version_of", lambda metric: "mine 2")
            assert run_sweep(config, mnist_root, out, processes=1).measured == 2
        cells = read_cells(out)
    assert set(cells[cells["metric"] == "later"]["value"]) == {0.5}


def test_damaged_predictions_are_as_good_as_none(make_image_run, sweep_of, mnist_root, tmp_path):
    config, out = sweep_of([make_image_run()], GRID), tmp_path / "out"
    run_sweep(config, mnist_root, out, processes=1)
    file, other = sorted((out / "cells").glob("*.predictions"))
    file.write_bytes(file.read_bytes()[:50])
    content = bytearray(other.read_bytes())
    content[60:90] = bytes(30)
    other.write_bytes(content)
    with METRICS.temporarily("later", LATER):
        found = run_sweep(config, mnist_root, out, processes=1)
        assert found.unknown == {"later": 1}
        (failure,) = found.failures
        assert "kept predictions cannot be read" in failure["error"]
        assert "--recompute" in failure["error"]
        assert found.cells == 2
        assert read_cells(out).groupby("metric")["value"].count()["later"] == 0


def test_predictions_of_another_cell_are_not_measured(
    make_image_run, make_run, sweep_of, mnist_root, scenes_root, tmp_path
):
    """The confusion matrix of a cell tells its predictions from others; the remedy of the message works."""
    images = sweep_of([make_image_run()], GRID), mnist_root, LATER
    right = Metric("later", "later", tasks=("scenes",), value=mean, count=right_pixels)
    scenes = sweep_of([make_run("scenes", name="hq_unet", grid=2)], {}), scenes_root, right
    for number, (config, root, later) in enumerate((images, scenes)):
        out = run_sweep(config, root, tmp_path / str(number), processes=1).folder
        file = min((out / "cells").glob("*.predictions"))
        with np.load(file) as kept:
            arrays = dict(kept)
        wrong = {name: -one if one.ndim == 2 and one.dtype == np.float32 else (one == 0).astype(np.uint8)
                 for name, one in arrays.items()}  # fmt: skip
        with file.open("wb") as target:
            np.savez(target, **wrong)
        with METRICS.temporarily("later", later):
            found = run_sweep(config, root, out, processes=1)
            (failure,) = found.failures
            assert "must have the confusion matrix that was recorded beside them" in failure["error"]
            assert read_cells(out).query("metric == 'later'")["value"].isna().sum() == 1
            file.unlink()
            healed = run_sweep(config, root, out, processes=1, recompute=True)
            assert (healed.computed, healed.unknown, healed.failures) == (1, {}, [])
            assert read_cells(out).query("metric == 'later'")["value"].notna().all()
