"""Engines compared cell by cell: random variation passes, a difference does not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from qhybrid.config import read_yaml, validated
from qhybrid.config.sweeps import SweepConfig
from qhybrid.experiments.sweeps import read_cells, run_sweep
from qhybrid.experiments.sweeps.agreement import compared_cells, engine_agreement
from qhybrid.experiments.sweeps.profiles import ALL_TO_ALL
from qhybrid.training import train
from qhybrid.workspace import starter_root

CONDITIONS = {"run_folder": "r", "scale": 1.0, "mapping": ALL_TO_ALL, "mitigation": "none", "layers": "all"}
SEEDS = 5
CLASSIFIER = "head.classifier.circuit"


def cells(shift=0.0, profiles=40, exact_shift=0.0):
    """Two engines in many cells, random and deterministic; the other one is off by `shift`."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(profiles):
        for engine, off in (("exact", 0.0), ("aer_density_matrix", 1.0)):
            common = {**CONDITIONS, "profile": f"p{number}", "engine": engine, "metric": "cross_entropy"}
            values = 0.3 + 0.01 * number + shift * off + 0.01 * rng.standard_normal(SEEDS)
            rows += [{**common, "shots": 64, "seed": seed, "value": v} for seed, v in enumerate(values)]
            rows.append({**common, "shots": pd.NA, "seed": pd.NA, "value": 0.3 + exact_shift * off})
    table = pd.DataFrame(rows).astype({"shots": "Int64", "seed": "Int64"})
    return pd.concat([table, table.assign(metric="accuracy")])


def test_chance_alone_is_no_difference():
    (found,) = engine_agreement(cells(exact_shift=1e-9))
    assert (found.engine, found.metric, found.cells, found.random) == (
        "aer_density_matrix", "cross_entropy", 80, 40,
    )  # fmt: skip
    assert found.largest_exact == pytest.approx(1e-9, rel=1e-3)
    assert 0.005 < found.largest_random < 0.03
    assert found.corrected_p > 0.01
    assert found.below_5_percent <= 6


def test_p_values_of_equal_engines_are_uniform():
    table = compared_cells(cells(profiles=400), "accuracy")
    p = table["p"].dropna()
    assert len(p) == 400
    # Welch's test at n = 5 is a little conservative.
    assert 0.02 < (p < 0.05).mean() < 0.08
    assert 0.4 < p.mean() < 0.6


def test_a_difference_is_found():
    (found,) = engine_agreement(cells(shift=0.04))
    assert found.corrected_p < 1e-3
    assert found.below_5_percent > 30
    # The same in every seed, yet different.
    table = cells().query("shots.notna()").assign(value=lambda rows: rows["engine"].eq("exact") * 0.1)
    (found,) = engine_agreement(table)
    assert found.corrected_p == 0.0


def test_p_values_are_those_of_scipy():
    table = cells(profiles=3).query("shots.notna() and metric == 'accuracy'")
    rows = compared_cells(table, "accuracy").set_index("profile")
    for profile, group in table.groupby("profile"):
        one, two = (group[group["engine"] == name]["value"] for name in ("exact", "aer_density_matrix"))
        assert rows["p"][profile] == pytest.approx(stats.ttest_ind(one, two, equal_var=False).pvalue)
        first = (group["engine"] == "exact") & (group["seed"] == 0)
        without_chance = group[first].assign(seed=pd.NA)
        alone = compared_cells(pd.concat([without_chance, group[group["engine"] != "exact"]]), "accuracy")
        assert alone["p"][0] == pytest.approx(stats.ttest_1samp(two, one.iloc[0]).pvalue)


def test_trajectories_are_compared_with_the_exact_value():
    table = cells(profiles=8)
    several = (table["engine"] == "exact") & table["shots"].notna() & (table["seed"] > 0)
    table = table[~several & table["shots"].notna()].assign(shots=pd.NA)
    table.loc[table["engine"] == "exact", "seed"] = pd.NA
    rows = compared_cells(table)
    assert rows["p"].between(0, 1).all()
    assert rows["error"].between(1e-4, 0.02).all()


def test_a_single_seed_of_shots_is_no_exact_value():
    """Shots of one seed differ at random, and nothing can be said of how much that is."""
    one = cells(exact_shift=1e-9).query("shots.isna() or seed == 0")
    (found,) = engine_agreement(one)
    assert found.largest_exact == pytest.approx(1e-9, rel=1e-3)
    assert (found.random, found.untested) == (0, 40)
    assert found.largest_random > 1e-3
    # Nor is the single seed of one engine beside several of the other.
    few = cells().query("shots.notna() and (engine != 'exact' or seed == 0)")
    (found,) = engine_agreement(few)
    assert (found.random, found.untested) == (0, 40)
    assert np.isnan(found.largest_exact)


def test_nothing_to_compare():
    assert engine_agreement(pd.DataFrame()) == []
    assert engine_agreement(cells().query("engine == 'exact'")) == []


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_committed_sweep_agrees(shared_data, tmp_path):
    """Every cell of the committed sweep's first grid, on a QCQ-CNN trained for one epoch, all test images."""
    from qhybrid.config import Recipe

    folder = starter_root() / "runs"
    content = read_yaml(folder / "mnist35.yaml")
    content["training"] |= {"epochs": 1, "early_stopping": 0, "progress": False}
    run = train(validated(Recipe, content, "mnist35"), shared_data, tmp_path / "run")
    content = read_yaml(folder / "mnist35_noise.yaml")
    content["sweep"] |= {"runs": [str(run)], "grids": content["sweep"]["grids"][:1]}
    outcome = run_sweep(validated(SweepConfig, content, "mnist35_noise"), shared_data, tmp_path / "out")
    assert (outcome.cells, outcome.failures) == (160, [])
    cells = read_cells(outcome.folder)
    (found,) = engine_agreement(cells)
    assert (found.cells, found.random) == (20, 15)
    assert found.largest_exact < 1e-5
    assert found.corrected_p > 0.01
