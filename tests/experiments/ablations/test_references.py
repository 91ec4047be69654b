"""Baselines beside an ablation are those of today's code and plugins, computed once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qhybrid.errors import CheckpointError
from qhybrid.evaluation.classical import BASELINES, register_baseline
from qhybrid.experiments.ablations import references


def test_kept_baselines_are_of_the_same_data_code_and_names(tmp_path, monkeypatch):
    calls, data = [], ["first"]
    monkeypatch.setattr(references, "read_record", lambda _: SimpleNamespace(hashes={"test": data[0]}))

    def evaluated(folder, split, root):
        calls.append(folder)
        return {"majority_class": {"accuracy": 0.5 + 0.1 * len(calls)}}

    monkeypatch.setattr(references, "evaluate_baselines", evaluated)

    def found():
        return references.baselines_of({None: [tmp_path / "run"]}, tmp_path, tmp_path)["majority_class"][
            "accuracy"
        ]

    assert [found(), found()] == pytest.approx([0.6, 0.6])
    data[0] = "second"
    assert found() == pytest.approx(0.7)
    monkeypatch.setattr(references, "VERSION", references.VERSION + 1)
    assert [found(), found()] == pytest.approx([0.8, 0.8])
    with BASELINES.restored():
        register_baseline("another", lambda data: data, label="another")
        assert found() == pytest.approx(0.9)


def test_runs_whose_weights_are_gone_cost_no_table(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "read_record", lambda _: None)

    def evaluated(folder, split, root):
        if folder.name != "seed-2":
            raise CheckpointError(f"{folder.name} is missing")
        return {"majority_class": {"accuracy": 0.6}}

    monkeypatch.setattr(references, "evaluate_baselines", evaluated)
    seeds = [tmp_path / f"seed-{seed}" for seed in range(3)]
    found = references.baselines_of({None: seeds}, tmp_path, tmp_path)
    assert found == {"majority_class": {"accuracy": 0.6}}
    with pytest.warns(UserWarning, match="has no references beside its arms: seed-1 is missing"):
        assert references.baselines_of({0: seeds, 1: seeds[:2]}, tmp_path, tmp_path) == {}
