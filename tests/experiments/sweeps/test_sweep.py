"""Sweeps from the plan to the tables: each cell once, whatever happens in between."""

from __future__ import annotations

import json
import os

import pandas as pd
import pytest
import torch

from qhybrid.circuits import build_circuit
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.engines import make_engine
from qhybrid.errors import WorkspaceError
from qhybrid.experiments.sweeps import read_cells, read_results, run_sweep
from qhybrid.experiments.sweeps.cells import Conditions
from qhybrid.experiments.sweeps.engines import cell_engine
from qhybrid.models import use_engine
from qhybrid.noise import load_profile
from qhybrid.training.images.run import load_image_run

CLASSIFIER = "head.classifier.circuit"
FILTER = "quanvolution.filter"
NOISY = "depolarizing_0.05_0.1"


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "cells").glob("*.json")}


def test_a_cell_is_what_the_engine_gives(make_image_run, sweep_of, mnist_root, tmp_path):
    run = make_image_run()
    grid = {"profiles": ["ideal", NOISY], "layers": [[CLASSIFIER], "all"]}
    outcome = run_sweep(sweep_of([run], grid), mnist_root, tmp_path / "out", processes=1)
    assert (outcome.cells, outcome.computed, outcome.failures) == (4, 4, [])
    table = read_results(outcome.folder).set_index(["profile", "layers", "metric"])["value"]
    loaded = load_image_run(run)
    arrays = open_image_dataset(loaded.recipe.data, mnist_root).load("test")
    values = set()
    for profile, layers in (("ideal", "all"), (NOISY, CLASSIFIER), (NOISY, "all")):
        use_engine(loaded.model, make_engine("exact"))
        noisy = make_engine("exact", noise=load_profile(profile))
        use_engine(loaded.model, noisy, None if layers == "all" else [layers])
        with torch.no_grad():
            logits = loaded.model(arrays.images)
        expected = float(torch.nn.functional.cross_entropy(logits, arrays.targets))
        assert table[profile, layers, "cross_entropy"] == pytest.approx(expected, rel=1e-5)
        assert table[profile, layers, "accuracy"] == float(
            (logits.argmax(1) == arrays.targets).double().mean()
        )
        values.add(round(expected, 6))
    assert len(values) == 3


def test_seeds_are_used_where_there_is_chance_and_only_there(make_image_run, sweep_of, mnist_root, tmp_path):
    grid = {
        "profiles": ["ideal", NOISY],
        "shots": ["infinite", 64],
        "seeds": [0, 1, 2],
        "engines": ["exact", "aer_trajectories"],
        "layers": [[CLASSIFIER]],
    }
    config = sweep_of([make_image_run()], grid, samples=4, trajectories=50)
    outcome = run_sweep(config, mnist_root, tmp_path / "out", processes=1)
    cells = read_cells(outcome.folder)
    counts = cells[cells["metric"] == "accuracy"].groupby(["engine", "profile", "shots"], dropna=False).size()
    for profile in ("ideal", NOISY):
        assert counts["exact", profile, 64] == counts["aer_trajectories", profile, 64] == 3
    shown = {key[:2]: count for key, count in counts.items() if pd.isna(key[2])}
    # Random trajectories are averaged over only where there is noise.
    assert shown == {
        ("aer_trajectories", "ideal"): 1,
        ("aer_trajectories", NOISY): 3,
        ("exact", "ideal"): 1,
        ("exact", NOISY): 1,
    }
    assert cells["seed"].isna().sum() == 3 * (len(cells) // cells["key"].nunique())
    results = read_results(outcome.folder)
    chosen = (cells["shots"] == 64) & (cells["engine"] == "exact") & (cells["profile"] == NOISY)
    values = cells[chosen & (cells["metric"] == "cross_entropy")]["value"]
    row = results[
        (results["shots"] == 64)
        & (results["engine"] == "exact")
        & (results["profile"] == NOISY)
        & (results["metric"] == "cross_entropy")
    ].iloc[0]
    assert row["value"] == pytest.approx(values.mean())
    assert row["standard_error"] == pytest.approx(values.std(ddof=1) / 3**0.5)
    assert row["seeds"] == 3
    assert values.nunique() == 3


def test_runs_draw_shots_of_their_own(make_image_run, sweep_of, mnist_root, tmp_path):
    """Alike circuits with one seed have nearly the same outcomes: runs would not be independent."""
    conditions = Conditions("exact", "ideal", shots=16, seed=0)
    spec = build_circuit("hq_unet_qcnn", grid=2)
    angles = torch.linspace(0, 3, 50 * spec.num_inputs).reshape(50, spec.num_inputs)
    weights = torch.linspace(0, 1, spec.num_weights)

    def noise(run):
        drawn = cell_engine(conditions, None, {}, run).expectations(spec, angles, weights)
        return (drawn - make_engine("exact").expectations(spec, angles, weights)).flatten()

    assert torch.equal(noise("a"), noise("a"))
    assert abs(float(torch.corrcoef(torch.stack([noise("a"), noise("b")]))[0, 1])) < 0.2
    # Through the whole sweep: copies of a run are the same cells, other weights other shots.
    grid = {"shots": [4], "layers": [[CLASSIFIER]]}
    config = sweep_of([make_image_run(), make_image_run("other", seed=1)], grid)
    out = run_sweep(config, mnist_root, tmp_path / "out", processes=1).folder
    cells = read_cells(out)
    assert cells["key"].nunique() == 2
    assert set(cells["seed"]) == {0}


def test_shots_in_all_count_what_is_run(make_image_run, sweep_of, mnist_root, tmp_path):
    """Without noise there is nothing to extrapolate, and nothing is run three times."""
    grid = {"profiles": ["ideal", NOISY], "shots": [8], "mitigations": ["none", "zne"]}
    config = sweep_of([make_image_run()], grid | {"layers": [[CLASSIFIER]]}, samples=2)
    cells = read_cells(run_sweep(config, mnist_root, tmp_path / "out", processes=1).folder)
    found = cells.groupby(["profile", "mitigation"])["shots_total"].first().to_dict()
    assert found == {
        ("ideal", "none"): 8, ("ideal", "zne"): 8, (NOISY, "none"): 8, (NOISY, "zne"): 24,
    }  # fmt: skip


def test_rows_carry_their_provenance(make_image_run, sweep_of, mnist_root, tmp_path):
    run = make_image_run()
    grid = {"profiles": [NOISY], "scales": [1, 0.5], "mitigations": ["none", "zne"], "shots": [32]}
    config = sweep_of([run], grid | {"layers": [[CLASSIFIER]]}, samples=2)
    cells = read_cells(run_sweep(config, mnist_root, tmp_path / "out", processes=1).folder)
    assert cells["profile_hash"].nunique() == 2
    assert load_profile(NOISY).fingerprint in set(cells["profile_hash"])
    assert set(cells[cells["mitigation"] == "zne"]["shots_total"]) == {96}
    assert set(cells[cells["mitigation"] == "none"]["shots_total"]) == {32}
    for column in (
        "run_folder",
        "weights",
        "qhybrid",
        "torch",
        "qiskit",
        "qiskit_aer",
        "git_commit",
        "created",
    ):
        assert cells[column].notna().all(), column
    assert set(cells["weights"].str.len()) == {64}


def test_finished_cells_are_never_computed_again(make_image_run, sweep_of, mnist_root, tmp_path):
    run, out = make_image_run(), tmp_path / "out"
    grid = {"profiles": ["ideal", NOISY], "layers": [[CLASSIFIER]]}
    first = run_sweep(sweep_of([run], grid, samples=4), mnist_root, out, processes=1)
    kept = files(out)
    again = run_sweep(sweep_of([run], grid, samples=4), mnist_root, out, processes=1)
    assert (first.computed, again.computed, again.cells) == (2, 0, 2)
    # A profile of the same content under another name is the same cell; an extended sweep computes the rest.
    copy = tmp_path / "copy.yaml"
    load_profile(NOISY).save(copy)
    grid["profiles"] = ["ideal", NOISY, str(copy), "readout"]
    more = run_sweep(sweep_of([run], grid, samples=4), mnist_root, out, processes=1)
    assert (more.computed, more.cells) == (1, 4)
    assert files(out).items() >= kept.items()
    table = read_results(out)
    values = table[table["metric"] == "cross_entropy"].set_index("profile")["value"]
    assert values[str(copy)] == values[NOISY]
    # Other weights are other cells.
    other = make_image_run("other", seed=1)
    assert run_sweep(sweep_of([other], grid, samples=4), mnist_root, out, processes=1).computed == 3


def test_a_damaged_cell_is_computed_again(make_image_run, sweep_of, mnist_root, tmp_path):
    config = sweep_of([make_image_run()], {"layers": [[CLASSIFIER]]}, samples=2)
    out = run_sweep(config, mnist_root, tmp_path / "out", processes=1).folder
    (cell,) = (out / "cells").glob("*.json")
    cell.write_text(cell.read_text()[:100])
    assert run_sweep(config, mnist_root, out, processes=1).computed == 1
    json.loads(cell.read_text())


def test_a_failed_cell_is_reported_and_stops_no_other(
    make_image_run, sweep_of, mnist_root, tmp_path, monkeypatch
):
    grid = {"engines": ["exact", "aer_density_matrix"], "layers": [[CLASSIFIER]]}
    config = sweep_of([make_image_run()], grid, samples=2)
    with monkeypatch.context() as patch:
        patch.setattr("qhybrid.engines.aer.engine.memory_limit", lambda device: 1)
        outcome = run_sweep(config, mnist_root, tmp_path / "out", processes=1)
    (failure,) = outcome.failures
    assert "Aer's method `density_matrix` must hold the state" in failure["error"]
    assert failure["what"]["engine"] == "aer_density_matrix"
    assert json.loads((outcome.folder / "failures.json").read_text()) == outcome.failures
    assert (outcome.cells, set(read_results(outcome.folder)["engine"])) == (1, {"exact"})
    healed = run_sweep(config, mnist_root, outcome.folder, processes=1)
    assert (healed.computed, healed.failures, healed.cells) == (1, [], 2)


def test_a_full_disk_stops_the_sweep_and_keeps_what_is_there(
    make_image_run, sweep_of, mnist_root, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    config = sweep_of([make_image_run()], {"profiles": ["ideal", NOISY], "layers": [[CLASSIFIER]]}, samples=2)
    whole = os.fsync
    written = []

    def fill_up(handle):
        written.append(handle)
        if len(written) > 4:  # sweep.yaml, the run's facts, and predictions and numbers of one cell
            raise OSError(28, "No space left on device")
        whole(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_up)
        with pytest.raises(WorkspaceError, match="disk is full"):
            run_sweep(config, mnist_root, out, processes=1)
    kept = files(out)
    assert len(kept) == 1
    assert run_sweep(config, mnist_root, out, processes=1).computed == 1
    assert files(out).items() >= kept.items()


def test_engines_agree_cell_by_cell(make_image_run, sweep_of, mnist_root, tmp_path):
    grid = {
        "profiles": ["ideal", NOISY, "readout", "thermal", "fake_torino"],
        "shots": ["infinite", 256],
        "seeds": [0, 1, 2, 3, 4],
        "engines": ["exact", "aer_density_matrix"],
        "mitigations": ["none", "readout"],
        "layers": [[CLASSIFIER]],
    }
    outcome = run_sweep(sweep_of([make_image_run()], grid), mnist_root, tmp_path / "out", processes=1)
    table = read_results(outcome.folder)
    table = (
        table[table["metric"] == "cross_entropy"].set_index(["profile", "shots", "mitigation"]).sort_index()
    )
    exact = table[table["engine"] == "exact"]
    aer = table[table["engine"] == "aer_density_matrix"]
    assert len(exact) == len(aer) == 20
    for place in exact.index:
        one, two = exact.loc[place], aer.loc[place]
        one, two = (value.iloc[0] if isinstance(value, pd.DataFrame) else value for value in (one, two))
        if pd.isna(place[1]):
            assert one["value"] == pytest.approx(two["value"], abs=1e-6)
        else:
            spread = (one["standard_error"] ** 2 + two["standard_error"] ** 2) ** 0.5
            assert abs(one["value"] - two["value"]) < 5 * spread
