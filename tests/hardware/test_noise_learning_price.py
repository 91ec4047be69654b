"""What learning a noise model costs: layers that the client's learner takes, and numbers of executions."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit_ibm_runtime.executor_sampler.utils import find_box_type, find_unique_layers
from qiskit_ibm_runtime.noise_learner_v3.validation import validate_instruction
from qiskit_ibm_runtime.options_models import TwirlingOptions

from qhybrid.devices import load_device
from qhybrid.hardware.services.ibm.learning import learning_instructions
from qhybrid.hardware.settings import LEVELS, HardwareSettings, Learning

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("noise_learning_price")


def test_layers_are_those_that_the_learner_takes(benchmark):
    work = benchmark.Work(benchmark.workload("QCQ-CNN", 1))
    found = benchmark.work_of(work, "fake_torino", Learning())
    target = load_device("fake_torino").target
    for layer, instruction in zip(found.layers, learning_instructions(found.layers, target), strict=True):
        validate_instruction(instruction, target)  # raises where the learner would
        qubits = [qubit for _, pair in layer.gates for qubit in pair]
        assert len(set(qubits)) == len(qubits) > 0
        assert layer.pairs
    assert 1 <= len(found.layers) <= 8


def test_layers_are_those_of_the_clients_own_search(benchmark):
    work = benchmark.Work(benchmark.workload("QCQ-CNN", 1))
    found = benchmark.work_of(work, "fake_torino", Learning())
    settings = HardwareSettings(
        backend="fake_torino", shots=1024, copies=1, layouts=1, mitigation=LEVELS["pea"]
    )
    pubs = []
    for circuit in work.circuits("fake_torino", settings).values():
        measured = circuit.measured(0)
        pubs.append(SamplerPub.coerce((measured, [0.1] * measured.num_parameters), 1024))
    twirling = TwirlingOptions(enable_gates=True, enable_measure=True)
    layers = find_unique_layers(pubs, twirling, None, inject_noise=True)
    theirs = {
        tuple(sorted(qubit._index for qubit in layer.qubits)): [one.name for one in layer.operation.body.data]
        for layer in layers
        if find_box_type(layer) == "gates" and any(len(one.qubits) == 2 for one in layer.operation.body.data)
    }
    assert {layer.qubits for layer in found.layers} == set(theirs)


def test_executions_of_a_layer(benchmark):
    """Nine bases, six depths, 32 random versions of 128 shots: 56 s at 252 us each; 3.5 s with few."""
    assert benchmark.executions_of_a_layer(benchmark.clients_numbers()) == 221_184
    assert benchmark.executions_of_a_layer(Learning()) == 13_824
    assert pytest.approx(55.7, abs=0.1) == 221_184 * 252e-6
