"""Paired comparison of repeated runs: pairing, closed forms, the correction for folds, errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qhybrid.errors import CheckpointError, ConfigError
from qhybrid.experiments.repeats.comparison import (
    compare,
    default_metric,
    labels,
    left_out,
    read_repeats,
    training_differences,
)


def summary(folder, values, *, name="tiny", metric="accuracy", failed=(), model=None, **more):
    """Write a summary of runs {(seed, fold): value}."""
    rows = [
        {"seed": seed, "fold": fold, "error": None, "metrics": {metric: value}, "parameters": 12}
        for (seed, fold), value in values.items()
    ]
    rows += [{"seed": seed, "fold": None, "error": "lost", "metrics": {}} for seed in failed]
    folder.mkdir(exist_ok=True)
    content = {"name": name, "model": {"name": "mlp", **(model or {})}, "metrics": {}, "runs": rows, **more}
    (folder / "summary.json").write_text(json.dumps(content))
    return read_repeats(folder)


@given(st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 2), min_size=2, max_size=10))
def test_seeds_give_the_plain_paired_test(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("runs")
    first = summary(folder / "a", {(seed, None): row[0] for seed, row in enumerate(values)})
    # Another order of the runs, and one more of them, which has no partner.
    second = {(seed, None): row[1] for seed, row in reversed(list(enumerate(values)))}
    found = compare(first, summary(folder / "b", {**second, (99, None): 0.5}), "accuracy")
    d = np.array([row[1] - row[0] for row in values])
    assert (found.pairs, found.better, found.folds) == (len(d), int((d > 0).sum()), 0)
    assert found.mean == pytest.approx(d.mean(), abs=1e-12)
    if d.std() > 1e-6:
        known = stats.ttest_rel([row[1] for row in values], [row[0] for row in values])
        interval = known.confidence_interval(0.95)
        assert found.p_t == pytest.approx(known.pvalue, rel=1e-6)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)


FOLDED = [(seed, fold) for seed in range(3) for fold in range(1, 6)]


@pytest.mark.parametrize(("said", "overlap"), [({}, 1 / 4), ({"test_to_train": 0.3125}, 0.3125)])
def test_folds_are_averaged_over_seeds_and_corrected_for_their_overlap(tmp_path, said, overlap):
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.6, 0.1, 15), rng.normal(0.65, 0.1, 15)
    first, second = (
        summary(tmp_path / name, dict(zip(FOLDED, values)), **said) for name, values in (("a", a), ("b", b))
    )
    found = compare(first, second, "accuracy")
    means = (b - a).reshape(3, 5).mean(axis=0)
    # Nadeau and Bengio: test images to one training image, here 1/5 to 4/5 unless the summary knows better.
    error = math.sqrt((1 / 5 + overlap) * means.var(ddof=1))
    assert (found.pairs, found.folds, found.better) == (15, 5, int((b > a).sum()))
    assert found.mean == pytest.approx((b - a).mean())
    assert found.p_t == pytest.approx(2 * stats.t.sf(abs(means.mean() / error), 4))
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 4) * error)


def test_more_seeds_of_the_same_folds_prove_nothing(tmp_path):
    """What differs between folds alone is as uncertain after ten seeds as after one."""
    by_fold = dict(zip(range(1, 6), (0.01, 0.03, 0.05, 0.02, 0.06)))

    def p(seeds, name):
        pairs = [(seed, fold) for seed in range(seeds) for fold in by_fold]
        first = summary(tmp_path / f"a{name}", dict.fromkeys(pairs, 0.5))
        second = summary(tmp_path / f"b{name}", {pair: 0.5 + by_fold[pair[1]] for pair in pairs})
        return compare(first, second, "accuracy").p_t

    assert p(10, "ten") == pytest.approx(p(1, "one"))


def test_false_alarms_are_as_rare_as_they_say(tmp_path_factory):
    """Folds that differ, seeds that scatter, training sets that overlap, and no difference of the models."""
    rng, alarms, draws = np.random.default_rng(1), 0, 300
    folder = tmp_path_factory.mktemp("draws")
    for _ in range(draws):
        # Differences of folds are correlated, as training sets that share 3/4 of their images make them.
        folds = math.sqrt(0.2) * rng.normal() + math.sqrt(0.8) * rng.normal(size=5)
        seeds = rng.normal(size=(3, 5))
        values = dict(zip(FOLDED, (0.5 + 0.01 * (5 * folds + seeds)).ravel().tolist()))
        first = summary(folder / "a", dict.fromkeys(FOLDED, 0.5))
        alarms += compare(first, summary(folder / "b", values), "accuracy").p_t < 0.05
    assert alarms <= stats.binom.ppf(0.999, draws, 0.05)


def test_a_single_fold_says_nothing(tmp_path):
    values = {(0, 1): 0.5, (1, 1): 0.6}
    better = {pair: value + 0.1 for pair, value in values.items()}
    found = compare(summary(tmp_path / "a", values), summary(tmp_path / "b", better), "accuracy")
    assert (found.pairs, found.folds) == (2, 1)
    assert math.isnan(found.p_t)
    assert found.text() == "not decidable: 2 seeds of a single fold do not say how much folds scatter"


def test_other_data_are_refused_and_other_training_is_said(tmp_path):
    values = {(0, None): 0.5, (1, None): 0.7}
    first = summary(tmp_path / "a", values, data={"options": {"classes": [3, 5]}}, training={"epochs": 3})
    other = summary(tmp_path / "b", values, data={"options": {"classes": [3, 8]}})
    with pytest.raises(ConfigError, match=r"differ in data\.options, so their images are not the same"):
        compare(first, other, "accuracy")
    longer = summary(tmp_path / "c", values, data={"options": {"classes": [3, 5]}}, training={"epochs": 9})
    assert compare(first, longer, "accuracy").mean == 0
    old = summary(tmp_path / "d", values)  # of a version that did not say
    assert compare(first, old, "accuracy").mean == 0
    assert training_differences([first, longer, old]) == ["epochs"]
    assert training_differences([first, old]) == []
    options = {"options": {"classes": [3, 5]}}
    younger = summary(tmp_path / "e", values, data=options, training={"epochs": 3, "keep": "best"})
    other = summary(tmp_path / "f", values, data=options, training={"epochs": 3, "keep": "last"})
    assert training_differences([first, younger]) == []
    assert training_differences([first, other]) == ["keep"]


def test_labels_tell_models_apart(tmp_path):
    def of(folder, **model):
        return summary(tmp_path / folder, {(0, None): 0.5}, model=model)

    runs = [of("a"), of("b", hidden=[8, 4]), of("c", name="qu_net", variant="12_1"), of("d", name="cnn")]
    assert labels(runs) == ["mlp hidden=default", "mlp hidden=8-4", "qu_net 12_1", "cnn"]
    assert labels([runs[0], of("e")]) == ["mlp (a)", "mlp (e)"]


def test_equal_runs_and_single_pairs(tmp_path):
    values = {(0, None): 0.5, (1, None): 0.7}
    same = compare(summary(tmp_path / "a", values), summary(tmp_path / "b", values), "accuracy")
    assert (same.mean, same.p_t, same.better) == (0, 1, 0)
    one = compare(summary(tmp_path / "a", values), summary(tmp_path / "c", {(1, None): 0.8}), "accuracy")
    assert one.mean == pytest.approx(0.1)
    assert math.isnan(one.p_t)
    assert math.isnan(one.std)


def test_failed_runs_do_not_count(tmp_path):
    runs = summary(tmp_path / "a", {(0, None): 0.5}, failed=[1])
    assert list(runs.metrics) == [(0, None)]
    with pytest.raises(CheckpointError, match="no finished run"):
        summary(tmp_path / "b", {}, failed=[0])


def test_runs_that_do_not_count_are_told(tmp_path):
    a = summary(tmp_path / "a", {(0, None): 0.5, (1, None): 0.6, (2, None): 0.7}, failed=[4])
    b = summary(tmp_path / "b", {(0, None): 0.5, (2, None): 0.7, (3, None): 0.9}, failed=[1])
    c = summary(tmp_path / "c", {(0, None): 0.5, (1, None): None, (4, None): 0.6})
    assert left_out(a, {"b": b, "c": c}, "accuracy", "a") == [
        "a: 1 of 4 runs failed, as seed 4 (lost)",
        "b: 1 of 4 runs failed, as seed 1 (lost)",
        "b: in no pair, for want of a, are seed 3",
        "c: no accuracy of seed 1",
        "a: in no pair, for want of c, are seed 2",
    ]
    assert left_out(a, {"same": a}, "accuracy", "a")[1:] == ["same: 1 of 4 runs failed, as seed 4 (lost)"]


def test_recipes_of_other_names_on_the_same_data_are_compared(tmp_path):
    """Recipes of the best trials of a search have names of their own, as a model and its twin may have."""
    data = {"dataset": "digits", "options": {"classes": [0, 1]}}
    a, b = (
        summary(tmp_path / name, {(0, None): 0.5, (1, None): value}, name=name, data=data)
        for name, value in (("plain", 0.4), ("tuned", 0.6))
    )
    assert compare(a, b, "accuracy").mean == pytest.approx(0.1)
    assert labels([a, b]) == ["mlp (plain)", "mlp (tuned)"]
    other = summary(tmp_path / "c", {(0, None): 0.5}, name="tuned", data={**data, "options": {}})
    with pytest.raises(ConfigError, match=r"differ in data\.options, so their images are not the same"):
        compare(a, other, "accuracy")


def test_a_metric_that_is_known_of_no_run_is_not_the_most_important_one(tmp_path):
    unknown = {(seed, None): None for seed in (0, 1)}
    runs = [summary(tmp_path / one, unknown, metric="soft_iou") for one in "ab"]
    for each in runs:
        for row in each.metrics.values():
            row["accuracy"] = 0.5
    assert default_metric(runs) == "accuracy"
    runs[0].metrics[0, None]["soft_iou"] = runs[1].metrics[1, None]["soft_iou"] = 0.5
    assert default_metric(runs) == "soft_iou"


def test_what_cannot_be_compared(tmp_path):
    a = summary(tmp_path / "a", {(0, None): 0.5})
    with pytest.raises(ConfigError, match="of recipe `other`"):
        compare(a, summary(tmp_path / "b", {(0, None): 0.5}, name="other"), "accuracy")
    with pytest.raises(ConfigError, match="no seed and fold in common"):
        compare(a, summary(tmp_path / "c", {(1, None): 0.5}), "accuracy")
    with pytest.raises(ConfigError, match="no metric `iou`. Fix: give one of accuracy"):
        a.values("iou")
    both = {**json.loads((tmp_path / "a" / "summary.json").read_text())}
    both["runs"][0]["metrics"] = {"accuracy": 0.9, "soft_iou": 0.7}
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "summary.json").write_text(json.dumps(both))
    assert default_metric([read_repeats(tmp_path / "both")]) == "soft_iou"
    with pytest.raises(ConfigError, match="no metric is common"):
        default_metric([a, summary(tmp_path / "d", {(0, None): 0.5}, metric="soft_iou")])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_repeats(tmp_path / "nothing")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "summary.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_repeats(tmp_path / "e")


def test_a_folder_is_not_compared_with_itself(tmp_path):
    """Five equal seeds would be called equivalent within any margin."""
    a = summary(tmp_path / "a", {(seed, None): 0.5 + seed / 10 for seed in range(5)})
    same = read_repeats(tmp_path / "a" / ".." / "a")
    with pytest.raises(ConfigError, match="is compared with itself"):
        compare(a, same, "accuracy", 0.005)
