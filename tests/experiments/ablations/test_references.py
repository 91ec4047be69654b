"""Baselines beside an ablation are those of today's code and plugins, computed once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

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
        return references.baselines_of({None: tmp_path / "run"}, tmp_path, tmp_path)["majority_class"][
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
