"""Cells of a sweep whose difference from the noiseless value cannot be told from chance."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from qhybrid.experiments.sweeps.arrays import pack
from qhybrid.experiments.sweeps.cells import REPLICATES
from qhybrid.report.resolution import is_below, resolution_text, with_resolution
from qhybrid.report.sweep_figures import sweep_figures

UNITS = 200
PROFILES = {"ideal": 0.0, "weak": 0.004, "strong": 0.2}


def left_out(values):
    return (values.sum() - values) / (len(values) - 1)


def rows_of(seeds=1, runs=1, error=None):
    return pd.DataFrame(
        {
            "run": "r", "settings": "{}", "engine": "exact", "profile": profile, "scale": 1.0, "shots": shots,
            "mapping": "all_to_all", "mitigation": "none", "layers": "all", "metric": "accuracy",
            "value": 0.9 - lost, "standard_error": error, "runs": runs, "seeds": seeds, "count": UNITS,
            "profile_hash": "" if profile == "ideal" else profile, "key": f"{profile}{shots}",
        }
        for profile, lost in PROFILES.items()
        for shots in (64, None)
    ).astype({"shots": "Int64", "standard_error": "float64"})  # fmt: skip


def made(results, replicates=None):
    cells = {
        key: {} if values is None else {REPLICATES: {"accuracy": pack(values)}}
        for key, values in (replicates or {}).items()
    }
    return SimpleNamespace(results=results, cells=results, cell=lambda key: cells.get(key))


def right_answers(seed=0):
    """Answers of a model; under weak noise two of 200 differ, under strong noise fifty."""
    rng = np.random.default_rng(seed)
    ideal = (rng.uniform(size=UNITS) < 0.9).astype(float)
    found = {}
    for profile, flips in (("ideal", 0), ("weak", 2), ("strong", 50)):
        changed = ideal.copy()
        changed[:flips] = 1 - changed[:flips]
        found[profile] = changed
    return found


def test_pairs_decide_where_replicates_were_kept():
    answers, results = right_answers(), rows_of()
    replicates = {f"{name}{shots}": left_out(one) for name, one in answers.items() for shots in (64, None)}
    found = with_resolution(made(results, replicates), "accuracy", True).set_index("key")
    assert math.isnan(found.loc["idealNone", "difference"])
    assert found.loc["strongNone", "difference"] == pytest.approx(-0.2)
    # The paired t-test's smallest difference with 80 % power; scipy's noncentral t as a second opinion.
    least = found.loc["strongNone", "resolvable"]
    error = (answers["strong"] - answers["ideal"]).std(ddof=1) / math.sqrt(UNITS)
    limit = stats.t.ppf(0.975, UNITS - 1)
    power = (
        1 - stats.nct.cdf(limit, UNITS - 1, least / error) + stats.nct.cdf(-limit, UNITS - 1, least / error)
    )
    assert power == pytest.approx(0.8, abs=1e-3)
    assert not is_below(found.loc["strongNone"])
    assert is_below(found.loc["weakNone"])
    assert not is_below(found.loc["idealNone"])


def test_the_spread_over_repeats_is_part_of_it():
    answers = right_answers()
    replicates = {f"{name}{shots}": left_out(one) for name, one in answers.items() for shots in (64, None)}
    alone = with_resolution(made(rows_of(), replicates), "accuracy", True).set_index("key")
    spread = rows_of(runs=4, error=0.05)
    several = with_resolution(made(spread, replicates), "accuracy", True).set_index("key")
    assert several.loc["strongNone", "resolvable"] > 3 * alone.loc["strongNone", "resolvable"]
    assert is_below(several.loc["strongNone"])


def test_earlier_cells_have_the_wider_error_or_none():
    results = rows_of()
    found = with_resolution(made(results), "accuracy", True).set_index("key")
    error = math.sqrt((0.9 * 0.1 + 0.7 * 0.3) / UNITS)
    assert found.loc["strongNone", "resolvable"] == pytest.approx(2.8 * error, rel=0.02)
    pixels = with_resolution(made(results), "accuracy", False)
    assert pixels["resolvable"].isna().all()
    assert not any(is_below(row) for _, row in pixels.iterrows())
    assert resolution_text(pixels, str) == ""


def test_cells_below_are_hatched_and_the_caption_says_so():
    results = with_resolution(made(rows_of()), "accuracy", True)
    (figure,) = sweep_figures(results, "accuracy", "x")
    assert "Hatched, without colour" in figure.caption
    assert "<pattern" in str(figure.drawing)
    plain = results.assign(resolvable=math.nan)
    (figure,) = sweep_figures(plain, "accuracy", "x")
    assert "Hatched" not in figure.caption
    assert "<pattern" not in str(figure.drawing)
