"""What learning a noise model would cost: layers that the client's learner takes, at its own numbers."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from qiskit_ibm_runtime.noise_learner_v3.validation import validate_instruction

from qhybrid.devices import load_device

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("noise_learning_price")


def test_layers_are_those_that_the_learner_takes(benchmark):
    work = benchmark.Work(benchmark.workload("QCQ-CNN", 1))
    layers = benchmark.layers_of(work, "fake_torino")
    target = load_device("fake_torino").target
    for layer in layers:
        validate_instruction(layer, target)  # raises where the learner would
        gates = [one for one in layer.operation.body.data if len(one.qubits) == 2 and one.name == "cz"]
        qubits = [qubit for one in gates for qubit in one.qubits]
        assert gates
        assert len(set(qubits)) == len(qubits)
    assert 1 <= len(layers) <= 8


def test_executions_of_a_layer(benchmark):
    """Nine bases, six depths, 32 random versions of 128 shots: 56 s at 252 us each."""
    assert benchmark.executions_of_a_layer() == 221_184
    assert benchmark.executions_of_a_layer() * 252e-6 == pytest.approx(55.7, abs=0.1)
