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
from qhybrid.evaluation.comparison import compare, default_metric, read_repeats


def summary(folder, values, *, name="tiny", metric="accuracy", failed=()):
    """Write a summary of runs {(seed, fold): value}."""
    rows = [
        {"seed": seed, "fold": fold, "error": None, "metrics": {metric: value}, "parameters": 12}
        for (seed, fold), value in values.items()
    ]
    rows += [{"seed": seed, "fold": None, "error": "lost", "metrics": {}} for seed in failed]
    folder.mkdir(exist_ok=True)
    content = {"name": name, "model": {"name": "mlp"}, "metrics": {}, "runs": rows}
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
    assert (found.pairs, found.better, found.corrected) == (len(d), int((d > 0).sum()), False)
    assert found.mean == pytest.approx(d.mean(), abs=1e-12)
    if d.std() > 1e-6:
        known = stats.ttest_rel([row[1] for row in values], [row[0] for row in values])
        interval = known.confidence_interval(0.95)
        assert found.p_t == pytest.approx(known.pvalue, rel=1e-6)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)


def test_folds_widen_the_interval_by_the_overlap_of_training_sets(tmp_path):
    rng = np.random.default_rng(0)
    pairs = [(seed, fold) for seed in range(3) for fold in range(1, 6)]
    a, b = rng.normal(0.6, 0.1, 15), rng.normal(0.65, 0.1, 15)
    found = compare(
        summary(tmp_path / "a", dict(zip(pairs, a))), summary(tmp_path / "b", dict(zip(pairs, b))), "accuracy"
    )
    d = b - a
    # Nadeau and Bengio: test share 1/5, training share 4/5.
    t = d.mean() / math.sqrt((1 / 15 + (1 / 5) / (4 / 5)) * d.var(ddof=1))
    assert found.corrected
    assert found.p_t == pytest.approx(2 * stats.t.sf(abs(t), 14))
    plain = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert found.high - found.low == pytest.approx((plain.high - plain.low) * math.sqrt(1 + 15 / 4))
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(b, a).pvalue)


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


def test_what_cannot_be_compared(tmp_path):
    a = summary(tmp_path / "a", {(0, None): 0.5})
    with pytest.raises(ConfigError, match="of recipe `other`"):
        compare(a, summary(tmp_path / "b", {(0, None): 0.5}, name="other"), "accuracy")
    with pytest.raises(ConfigError, match="no seed and fold in common"):
        compare(a, summary(tmp_path / "c", {(1, None): 0.5}), "accuracy")
    with pytest.raises(ConfigError, match="no metric `iou`. Fix: give one of accuracy"):
        a.values("iou")
    with pytest.raises(ConfigError, match="no metric is common"):
        default_metric([a, summary(tmp_path / "d", {(0, None): 0.5}, metric="soft_iou")])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_repeats(tmp_path / "nothing")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "summary.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_repeats(tmp_path / "e")
