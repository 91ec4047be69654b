"""Re-execution: requests by round, NaN where results are missing, angles that must come again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError, HardwareError
from qhybrid.hardware.model.recording import RecordingEngine, fixed_layers, run_pass
from qhybrid.hardware.model.requests import RequestLog
from qhybrid.hardware.model.workload import Samples, Workload
from qhybrid.hardware.plan.prediction import dry_run
from qhybrid.layers import QuantumLayer


class Experts(nn.Module):
    """Two independent layers, then one that needs both; the first is called twice."""

    def __init__(self):
        super().__init__()
        spec = build_circuit("hq_unet_qcnn", grid=1, encoding="y", readout="Z")
        self.first, self.second, self.last = QuantumLayer(spec), QuantumLayer(spec), QuantumLayer(spec)

    def forward(self, images):
        values = images.flatten(1)[:, :1]
        both = self.first(values) + self.first(2 * values) + self.second(values)
        return torch.cat([self.last(both), both], dim=1)


LAYERS = ["first", "second", "last"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Experts().eval()


@pytest.fixture
def images():
    return torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(1))


def answers(log):
    """Give every new request its exact result."""
    engine = make_engine("exact")
    for key, request in log.new.items():
        circuit = log.circuits[request.circuit]
        values = engine.expectations(
            circuit.spec, torch.tensor(request.angles), torch.tensor(circuit.weights)
        )
        log.requests[key], log.results[key] = request, values.detach().numpy()
    log.new = {}


def test_independent_layers_go_out_in_one_round(model, images):
    log = RequestLog()
    assert run_pass(model, images, LAYERS, log) == [None] * 3
    assert sorted(log.new) == sorted(
        (sample, *call) for sample in range(3) for call in [("first", 0), ("first", 1), ("second", 0)]
    )
    answers(log)
    assert run_pass(model, images, LAYERS, log) == [None] * 3
    assert sorted(log.new) == [(sample, "last", 0) for sample in range(3)]
    answers(log)
    outputs = run_pass(model, images, LAYERS, log)
    assert not log.new
    assert torch.allclose(torch.stack(outputs), model(images), atol=1e-6)
    assert not isinstance(model.first.engine, RecordingEngine)


def test_a_missing_result_holds_up_its_own_sample_only(model, images):
    log = RequestLog()
    run_pass(model, images, LAYERS, log)
    answers(log)
    del log.results[(1, "second", 0)]
    run_pass(model, images, LAYERS, log)
    assert sorted(log.new) == [(0, "last", 0), (2, "last", 0)]


def test_layers_may_stay_on_the_simulator(model, images):
    log = RequestLog()
    run_pass(model, images, ["last"], log)
    assert sorted(log.new) == [(sample, "last", 0) for sample in range(3)]


def test_angles_must_come_again(model, images):
    log = RequestLog()
    run_pass(model, images, LAYERS, log)
    answers(log)
    run_pass(model, images + 2e-5, LAYERS, log)
    with pytest.raises(HardwareError, match="reproduce the recorded angles"):
        run_pass(model, images + 1e-3, LAYERS, log)


def test_weights_must_be_those_of_the_plan(model, images):
    log = RequestLog()
    run_pass(model, images, LAYERS, log)
    with torch.no_grad():
        model.second.weight += 0.1
    with pytest.raises(HardwareError, match="execute the circuit that was recorded"):
        run_pass(model, images, LAYERS, log)


@pytest.mark.parametrize("layers", [[], ["third"]])
def test_layers_must_exist(model, images, layers):
    with pytest.raises(ConfigError, match="quantum layers of the model"):
        run_pass(model, images, layers, RequestLog())


def test_dry_run_finds_all_rounds(model, images):
    engine = make_engine("exact")
    circuits = {}

    def answer(key, points):
        circuit = circuits[key]
        found = engine.expectations(circuit.spec, torch.tensor(points), torch.tensor(circuit.weights))
        return found.detach().numpy()

    samples = Samples(images, None, ("a", "b", "c"))
    found = dry_run(
        Workload(model, samples), LAYERS, answer, lambda layer, _: circuits.update({layer.key: layer})
    )
    assert [len(requests) for requests in found.rounds] == [9, 3]
    assert torch.allclose(found.outputs, model(images).detach(), atol=1e-6)


def test_fixed_filters_are_found():
    from qhybrid.models import build_model

    model = build_model({"name": "qcq_cnn", "in_channels": 1, "num_classes": 2, "image_size": [8, 8]}).eval()
    names = fixed_layers(model, torch.rand(1, 8, 8))
    assert len(names) == 1
    assert "quanvolution" in names[0]
    assert fixed_layers(Experts(), torch.rand(1, 2, 2)) == []


def test_workloads_need_samples_and_quantum_layers(model, images):
    with pytest.raises(HardwareError, match="at least one sample"):
        Workload(model, Samples(images[:0], None, ()))
    with pytest.raises(HardwareError, match="quantum layers"):
        Workload(nn.Flatten(), Samples(images, None, ("a", "b", "c")))


def test_rows_of_an_empty_call_need_no_device(model):
    log = RequestLog()
    engine = RecordingEngine("first", log)
    values = engine.expectations(model.first.spec, torch.zeros(0, 1), torch.zeros(8))
    assert values.shape == (0, 1)
    assert not log.new
    assert np.isfinite(values.numpy()).all()
