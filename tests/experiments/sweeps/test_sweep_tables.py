"""Means over seeds and their standard errors."""

from __future__ import annotations

import pandas as pd
import pytest

from qhybrid.experiments.sweeps.tables import mean_over_seeds

RUNS = {"a": (0.9, 0.92), "b": (0.8, 0.84), "c": (0.7, 0.7)}


def cells(runs, shots):
    rows = [
        {
            "run": "r", "shots": shots, "metric": "accuracy", "value": value, "run_folder": folder,
            "weights": folder, "epoch": 1, "seed": seed, "training_seed": 0, "seconds": 2.0,
            "cpu_seconds": 1.0, "key": f"{folder}{seed}", "created": "now", "git_commit": folder,
            "git_modified": False,
        }
        for folder, values in runs.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"shots": "Int64"})


def test_shots_of_one_run_are_no_independent_runs():
    table = pd.concat([cells(RUNS, 64), cells(RUNS, pd.NA), cells({"a": RUNS["a"]}, 128)])
    found = mean_over_seeds(table)
    assert found["shots"].isna().tolist() == [False, True, False]
    means = pd.Series([0.91, 0.82, 0.7])
    for row in (found.iloc[0], found.iloc[1]):
        assert row["value"] == pytest.approx(means.mean())
        assert row["standard_error"] == pytest.approx(means.std(ddof=1) / 3**0.5)
        assert (row["seeds"], row["runs"], row["lowest"], row["highest"]) == (6, 3, 0.7, 0.92)
        assert (row["seconds"], row["cpu_seconds"], row["weights"]) == (2.0, 1.0, "a b c")
    alone = found.iloc[2]
    assert alone["standard_error"] == pytest.approx(pd.Series(RUNS["a"]).std(ddof=1) / 2**0.5)
    assert (alone["seeds"], alone["runs"]) == (2, 1)


def test_a_single_cell_has_no_error():
    found = mean_over_seeds(cells({"a": (0.5,)}, 8))
    assert found["standard_error"].isna().all()
    assert mean_over_seeds(pd.DataFrame()).empty


def test_later_versions_join_the_same_mean():
    """A sweep that is extended after an update has one row a condition, which names both versions."""
    table = cells({"a": RUNS["a"]}, 64).assign(qhybrid=["0.1", "0.2"], python="3.11", torch=["2.9", "2.9"])
    found = mean_over_seeds(table)
    assert len(found) == 1
    assert (found["seeds"][0], found["qhybrid"][0], found["torch"][0]) == (2, "0.1 0.2", "2.9")
    assert found["standard_error"].notna().all()
