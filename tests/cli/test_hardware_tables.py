"""What `qhybrid hardware` prints: units, numbers with their nouns, and circuits that can be told apart."""

from __future__ import annotations

import json

import pytest

from qhybrid.cli.hardware_tables import print_outcome, print_plan
from qhybrid.hardware.plan.plan_files import circuit_names
from qhybrid.report.labels import counted

METRICS = {"miou": 0.51234, "accuracy": 0.9}
PREDICTED = {"exact": METRICS, "device": METRICS, "device_and_shots": METRICS, "same_class_as_exact": 1.0}
CIRCUIT = {
    "name": "qufex", "qubits": 4, "bases": ["Z"], "copies": 1, "two_qubit_gates": 3, "two_qubit_depth": 2,
    "microseconds": 1.0, "parity": 1e-12,
}  # fmt: skip


def rows(text):
    table = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in table}


def test_numbers_have_the_units_of_all_other_tables(capsys):
    """Plans of earlier versions have no more metrics than these; what came out may have more."""
    outcome = {
        "predicted": PREDICTED, "obtained": {**METRICS, "accuracy": None, "cross_entropy": 0.7},
        "same_class_as_exact": 1.0, "observable_deviation_rms": 0.0, "observable_error_rms": 0.0,
        "duplicates": [],
    }  # fmt: skip
    print_outcome(outcome)
    found = rows(capsys.readouterr().out)
    assert found["mIoU"] == ["0.5123"] * 4
    assert found["accuracy"] == ["90.00 %"] * 3 + ["–"]
    print_outcome({**outcome, "samples": 7, "input": {"known": True}})
    assert capsys.readouterr().out.startswith("7 windows, not blended")


@pytest.mark.parametrize(("number", "text"), [(0, "0 jobs"), (1, "1 job"), (2000, "2,000 jobs")])
def test_one_and_many(number, text):
    assert counted(number, "job") == text


def test_circuits_of_one_name_are_told_by_their_layers(tmp_path, capsys):
    one, two = {**CIRCUIT, "layers": ["skip1.core"]}, {**CIRCUIT, "layers": ["skip2.core", "skip3.core"]}
    content = {
        "samples": ["a"], "settings": {"shots": 100, "backend": "aer"}, "account": "",
        "layers": ["skip1.core"], "circuits": {"x": one, "y": two},
        "rounds": [], "qpu_seconds": 0, "fixed_filters": None, "predicted": PREDICTED,
    }  # fmt: skip
    assert circuit_names(content) == ["qufex (skip1.core)", "qufex (skip2.core, skip3.core)"]
    (tmp_path / "plan.json").write_text(json.dumps(content))
    print_plan(tmp_path)
    out = capsys.readouterr().out
    assert out.startswith("1 sample, 100 shots, aer")
    # Scenes are cut into windows, whose metrics are not those of `evaluate`, which blends them.
    (tmp_path / "plan.json").write_text(json.dumps({**content, "origin": {"data": {"input": {}}}}))
    print_plan(tmp_path)
    assert capsys.readouterr().out.startswith("1 window, not blended, 100 shots, aer")
    assert "qufex (skip1.core)" in out
    assert circuit_names({"circuits": {"x": one, "y": {**two, "name": "other"}}}) == ["qufex", "other"]
    # Plans of earlier versions do not say.
    assert circuit_names({"circuits": {"x": CIRCUIT, "y": CIRCUIT}}) == ["qufex", "qufex"]
