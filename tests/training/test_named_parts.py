"""What a recipe names counts by its content: files that change make trainings incomparable."""

from __future__ import annotations

import os

import pytest
from turned_circuit import builder_with

from qhybrid.circuits import CIRCUITS, register_circuit
from qhybrid.config import Recipe, validated
from qhybrid.data.identity import DataIdentity
from qhybrid.errors import ConfigError
from qhybrid.experiments.repeats.schedule import RepeatSchedule
from qhybrid.experiments.sweeps.training import _run
from qhybrid.training.named_parts import named_parts

QASM = """OPENQASM 3.0;
include "stdgates.inc";
input float x_0; input float x_1; input float w_0;
qubit[2] q;
ry(x_0) q[0]; ry(x_1) q[1]; crx(w_0) q[0], q[1];
"""
DEFINITION = "file: own.qasm\ninputs: [x_*]\nweights: [w_*]\nobservables: [Z0, Z1]\n"


@pytest.fixture
def circuits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "circuits"
    folder.mkdir()
    (folder / "own.yaml").write_text(DEFINITION)
    (folder / "own.qasm").write_text(QASM)
    return folder


def recipe(model):
    return validated(Recipe, {"name": "r", "data": {"dataset": "synthetic"}, "model": model}, "test")


OWN = {"name": "unet", "widths": [4, 4, 8], "bottleneck": {"circuit": "own"}}


def test_a_circuit_of_the_workspace_counts_by_its_content(circuits):
    before = named_parts(recipe(OWN))
    assert set(before) == {"circuits of model"}
    (circuits / "own.yaml").write_text(f"description: other words\n{DEFINITION}")
    assert named_parts(recipe(OWN)) == before
    (circuits / "own.qasm").write_text(QASM.replace("crx", "cry"))
    assert named_parts(recipe(OWN)) != before


def test_a_definition_that_says_what_the_model_has_anyway_does_not_count(circuits):
    named = recipe({"name": "hq_unet", "widths": [4, 4, 8]})
    assert named_parts(named) == {}
    definition = circuits / "hq_unet_qcnn.yaml"
    definition.write_text("builder: hq_unet_qcnn\narguments: {grid: 4, reps: 1}\n")
    assert named_parts(named) == {}
    definition.write_text("builder: hq_unet_qcnn\narguments: {grid: 4, reps: 2}\n")
    assert set(named_parts(named)) == {"circuits of model"}


def test_a_sweep_trains_anew_after_its_circuit_has_changed(circuits, tmp_path):
    data = DataIdentity([], {}, 0.0)
    before = _run(recipe(OWN), {}, tmp_path, "key", data)
    assert _run(recipe(OWN), {}, tmp_path, "key", data).folder == before.folder
    (circuits / "own.qasm").write_text(QASM.replace("crx", "cry"))
    os.utime(circuits / "own.qasm", (1, 1))
    assert _run(recipe(OWN), {}, tmp_path, "key", data).folder != before.folder


def test_repeats_do_not_go_on_with_another_circuit(circuits, tmp_path):
    schedule = RepeatSchedule.make(recipe(OWN), [0, 1])
    schedule.write(tmp_path)
    schedule.check_named(tmp_path)
    (circuits / "own.qasm").write_text(QASM.replace("crx", "cry"))
    with pytest.raises(ConfigError, match="have changed: circuits of model"):
        schedule.check_named(tmp_path)
    schedule.write(tmp_path)  # what the finished runs had is not forgotten
    with pytest.raises(ConfigError, match="have changed: circuits of model"):
        RepeatSchedule.read(tmp_path).check_named(tmp_path)


def test_a_builder_of_others_counts_by_its_gates(circuits):
    """A plugin or script that changes its circuit keeps the builder's name."""

    named = recipe({"name": "unet", "widths": [4, 4, 8], "bottleneck": {"circuit": "turned"}})
    hashes = []
    with CIRCUITS.restored():
        for gate in ("rx", "ry", "rx"):
            register_circuit("turned", builder_with(gate), "a circuit of a script", replace=True)
            hashes.append(named_parts(named)["circuits of model"])
    assert hashes[0] == hashes[2] != hashes[1]
